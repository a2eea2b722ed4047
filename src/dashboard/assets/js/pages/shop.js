// Shop: charts on one time axis, whose brush filters the rankings.

import { h } from "../dom.js";
import { panel } from "../panel.js";
import { timeChart } from "../charts/time.js";
import { bars } from "../charts/bars.js";
import { store, minuteDomain, minuteRange, liveDomain, shownSources, now } from "../state.js";
import { address, curlEvent } from "../api.js";
import { brushTo, setParams } from "../router.js";
import { num, fixed, clock } from "../format.js";
import { lay, concerns, minuteSeries, emptyWords, typeColour } from "./common.js";

export function mount(root) {
	const api = () => address("api/metrics/aggregates", { minutes: 60, source_id: store.filter.source });
	const [events, types, revenue, pages] = ["Events per minute", "Event types", "Revenue per minute", "Top pages"].map((title) => panel({ title, api }));
	const sessions = panel({ title: "Sessions open", api: () => address("api/sessions", { source_id: store.filter.source, limit: 100 }) });

	const eventChart = timeChart({ kind: "area", label: "Events per minute by event type", unit: "events", height: 230, brush: brushTo });
	const revenueChart = timeChart({ kind: "line", label: "Revenue per minute", unit: "value", height: 170, brush: brushTo });
	const sessionChart = timeChart({ kind: "area", label: "Sessions open", unit: "sessions", height: 150, step: 1000 });
	const typeBars = bars({ unit: "events", many: "types", limit: 8, color: (r) => typeColour(r.key) });
	const pageBars = bars({ unit: "events", many: "pages", limit: 12, pick: (page) => setParams({ page: store.filter.page === page ? null : page }), chosen: () => store.filter.page });
	const columns = [h("div.w8.stack", events.el, revenue.el, sessions.el), h("div.w4.stack", types.el, pages.el)];
	const unmount = lay(root, "Shop", "Drag over a chart for a time range; choose a page to see it alone.", [events, types, revenue, pages, sessions], [eventChart, revenueChart, sessionChart], columns);

	function draw() {
		if (!store.minutesSeen) return [events, types, revenue, pages].forEach((p) => p.loading());
		const { source, page } = store.filter, data = minuteSeries(), domain = minuteDomain(), [from, to] = minuteRange();
		const period = store.filter.from === null ? data.period : `from ${clock(from, 2)} to ${clock(to, 2)}`;
		if (data.total) {
			const within = (y) => data.x.reduce((sum, t, i) => sum + (t >= from && t < to ? y[i] : 0), 0);
			for (const [p, node] of [[events, eventChart.el], [revenue, revenueChart.el], [types, typeBars.el]]) p.ready(node);
			events.unit(`events; ${num(data.series.reduce((sum, one) => sum + within(one.y), 0))} ${period}`);
			eventChart.update({ domain, ...data });
			revenue.unit(`sum of transaction values; ${fixed(within(data.revenue))} ${period}`);
			revenueChart.update({ domain, x: data.x, series: [{ label: "revenue", color: "c3", y: data.revenue, format: fixed }] });
			types.unit(`events ${period}`);
			typeBars.update(store.minutes.ranking("type", store.filter, from, to, now()));
		} else {
			events.empty(emptyWords(), page ? null : curlEvent());
			for (const p of [types, revenue]) p.empty("Nothing in this period.");
		}
		const ranked = store.minutes.ranking("page", { source }, from, to, now());
		if (!ranked.length) return pages.empty("Nothing in this period.");
		pages.ready(pageBars.el);
		pages.unit(`events ${period}`);
		pageBars.update(ranked.map((r) => ({ ...r, extra: [["revenue", fixed(r.revenue)]] })));
	}

	function drawSessions() {
		if (!store.status) return sessions.loading();
		const sources = shownSources(), points = store.history, ranked = [...sources].sort((a, b) => b.open_sessions - a.open_sessions), open = (list) => points.map((p) => list.reduce((sum, one) => sum + (p.sessions.get(one.source_id) || 0), 0));
		sessions.ready(sessionChart.el);
		sessions.unit(`sessions not yet sealed; ${num(sources.reduce((sum, one) => sum + one.open_sessions, 0))} now; watched since ${clock(points[0].t, 2)}`);
		sessionChart.update({ domain: liveDomain(), x: points.map((p) => p.t), series: [...ranked.slice(0, 5).map((one) => ({ label: one.name, color: `c${(sources.indexOf(one) % 6) + 1}`, y: open([one]) })), { label: "other sources", color: "c0", y: open(ranked.slice(5)) }] });
	}

	return {
		unmount,
		update(kinds) {
			if (concerns(kinds, "minutes")) draw();
			if (concerns(kinds, "status")) drawSessions();
		},
	};
}
