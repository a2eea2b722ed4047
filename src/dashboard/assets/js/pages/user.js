// One user: the path, its sessions on a time line, and every session in a table.

import { h, fill, panel, poll, address, linkTo, clusterClass, num, compact, fixed, span, stamp, time, plural, lay, facts, table } from "../kit.js";
import { pathChart } from "../charts/desire.js";
import { timeline } from "../charts/timeline.js";
import { FEATURES } from "../charts/scatter.js";

const EVERY_MS = 5000;

export function mount(root, params) {
	const source_id = params.get("source"), user_id = params.get("id");
	const journeyApi = () => address("api/journeys", { source_id, user_id }), sessionsApi = () => address("api/sessions", { source_id, user_id, limit: 500 });
	const path = panel("Path", journeyApi, { unit: "views and carts so far; large dots: sessions with a purchase", width: "w8", polls: true });
	const features = panel("Features", journeyApi, { unit: "whole history", width: "w4", polls: path });
	const line = panel("Sessions on a time line", sessionsApi, { unit: "height: events; width: duration; pale: sealed; dot: purchase", polls: true });
	const list = panel("Sessions", sessionsApi, { polls: line });
	const chart = pathChart(), times = timeline(), tableBox = h("div.tall");

	const journey = poll(path, ({ journeys: [one] }) => {
		if (!one) {
			path.empty("Nobody with exactly this id is known in this source (any more).");
			return features.empty("Nothing is known.");
		}
		path.ready(chart.el);
		chart.update(one);
		features.fill(facts([["cluster", [h(`span.swatch.${clusterClass(one.cluster_id)}`), one.cluster_id === null ? "none yet" : `cluster ${one.cluster_id}`]], ...FEATURES.map((name, i) => [name, compact(one.features[i])])]));
	}, () => EVERY_MS);

	const sessions = poll(line, ({ sessions: rows, next_cursor }) => {
		if (!rows.length) return [line, list].forEach((p) => p.empty("No sessions."));
		line.ready(times.el);
		times.update(rows);
		list.ready(tableBox);
		list.unit(`${plural(rows.length, "session")}${next_cursor ? ", the first ones" : ""}; value in the source's own unit`);
		fill(tableBox, table("Sessions", ["#session", "start", "#duration", "#events", "#views", "#carts", "#purchases", "#value", "state"], rows.map((r) => [num(r.session_number), stamp(time(r.start)), span(time(r.end) - time(r.start)), num(r.event_count), num(r.views), num(r.carts), num(r.transactions), fixed(r.value), r.sealed ? "sealed" : "open"])));
	}, () => EVERY_MS);

	return { unmount: lay(root, `User ${user_id}`, h("a", { href: linkTo("journeys", { source: source_id }) }, `← all journeys of source ${source_id}`), [path, features, line, list], [journey, sessions, chart, times]), update: () => {} };
}
