// One user: the path, its sessions on a time line, and every session in a table.

import { h, fill } from "../dom.js";
import { panel, poll } from "../panel.js";
import { pathChart } from "../charts/desire.js";
import { timeline } from "../charts/timeline.js";
import { FEATURES } from "../charts/scatter.js";
import { address, get } from "../api.js";
import { linkTo } from "../router.js";
import { clusterClass } from "../fold.js";
import { num, compact, fixed, span, stamp, time, plural } from "../format.js";
import { lay, facts, table } from "./common.js";

const LIMIT = 500, EVERY_MS = 5000;

export function mount(root, params) {
	const source_id = params.get("source"), user_id = params.get("id");
	const journeyApi = () => address("api/journeys", { source_id, user_id }), sessionsApi = () => address("api/sessions", { source_id, user_id, limit: LIMIT });
	const path = panel({ title: "Path", unit: "views and carts so far; large dots: sessions with a purchase", width: "w8", api: journeyApi, polls: true });
	const features = panel({ title: "Features", unit: "whole history", width: "w4", api: journeyApi, polls: true });
	const line = panel({ title: "Sessions on a time line", unit: "height: events; width: duration; pale: sealed; dot: purchase", api: sessionsApi, polls: true });
	const list = panel({ title: "Sessions", api: sessionsApi, polls: true });
	const chart = pathChart(), times = timeline(), featureBox = h("div"), tableBox = h("div.tall");

	const journey = poll(path, async (signal) => {
		const { journeys: [one], as_of } = await get(journeyApi(), signal);
		features.asOf = as_of;
		if (!one) {
			path.empty("Nobody with exactly this id is known in this source (any more).");
			features.empty("Nothing is known.");
			return as_of;
		}
		path.ready(chart.el);
		chart.update(one);
		features.ready(featureBox);
		fill(featureBox, facts([["cluster", [h(`span.swatch.${clusterClass(one.cluster_id)}`), one.cluster_id === null ? "none yet" : `cluster ${one.cluster_id}`]], ...FEATURES.map((name, i) => [name, compact(one.features[i])])]));
		return as_of;
	}, () => EVERY_MS);

	const sessions = poll(line, async (signal) => {
		const { sessions: rows, as_of, next_cursor } = await get(sessionsApi(), signal);
		list.asOf = as_of;
		if (!rows.length) {
			for (const p of [line, list]) p.empty("No sessions.");
			return as_of;
		}
		line.ready(times.el);
		times.update(rows);
		list.ready(tableBox);
		list.unit(`${plural(rows.length, "session")}${next_cursor ? ", the first ones" : ""}; value in the source's own unit`);
		fill(tableBox, table("Sessions", ["#session", "start", "#duration", "#events", "#views", "#carts", "#purchases", "#value", "state"], rows.map((r) => [num(r.session_number), stamp(time(r.start)), span(time(r.end) - time(r.start)), num(r.event_count), num(r.views), num(r.carts), num(r.transactions), fixed(r.value), r.sealed ? "sealed" : "open"])));
		return as_of;
	}, () => EVERY_MS);

	const unmount = lay(root, `User ${user_id}`, h("a", { href: linkTo("journeys", { source: source_id }) }, `← all journeys of source ${source_id}`), [path, features, line, list], [journey, sessions, chart, times]);
	return { unmount, update: () => {} };
}
