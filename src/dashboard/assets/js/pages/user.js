import { h, panel, poll, address, linkTo, clusterClass, num, compact, fixed, span, stamp, time, plural, lay, facts, table, pathChart, timeline, FEATURES } from "../kit.js";

export function mount(root, params) {
	const source_id = params.get("source"), user_id = params.get("id");
	const journeyApi = () => address("api/journeys", { source_id, user_id }), sessionsApi = () => address("api/sessions", { source_id, user_id, limit: 500 });
	const path = panel("Path", journeyApi, { unit: "views and carts so far; large dots: sessions with a purchase", width: "w8" });
	const features = panel("Features", journeyApi, { unit: "whole history", width: "w4", polls: path });
	const line = panel("Sessions on a time line", sessionsApi, { unit: "height: events; width: duration; pale: sealed; dot: purchase" });
	const list = panel("Sessions", sessionsApi, { tall: true, polls: line });
	const chart = pathChart(), times = timeline();

	const journey = poll(path, ({ journeys: [one] }) => {
		if (!one) {
			path.empty("Nobody with exactly this id is known in this source (any more).");
			return features.empty("Nothing is known.");
		}
		path.draw(chart, one);
		features.fill(facts([["cluster", [h(`span.swatch.${clusterClass(one.cluster_id)}`), one.cluster_id === null ? "none yet" : `cluster ${one.cluster_id}`]], ...FEATURES.map((name, i) => [name, compact(one.features[i])])]));
	});

	const sessions = poll(line, ({ sessions: rows, next_cursor }) => {
		if (!rows.length) return [line, list].forEach((p) => p.empty("No sessions."));
		line.draw(times, rows);
		list.fill(table("Sessions", ["#session", "start", "#duration", "#events", "#views", "#carts", "#purchases", "#value", "state"], rows.map((r) => [num(r.session_number), stamp(r.start), span(time(r.end) - time(r.start)), num(r.event_count), num(r.views), num(r.carts), num(r.transactions), fixed(r.value), r.sealed ? "sealed" : "open"])), `${plural(rows.length, "session")}${next_cursor ? ", the first ones" : ""}; value in the source's own unit`);
	});

	return lay(root, `User ${user_id}`, h("a", { href: linkTo("journeys", { source: source_id }) }, `← all journeys of source ${source_id}`), [path, features, line, list], [journey, sessions, chart, times], {});
}
