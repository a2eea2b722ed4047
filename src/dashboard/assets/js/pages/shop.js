import { h, panel, store, minuteDomain, minuteRange, shownSources, now, address, brushTo, setParams, num, fixed, clock, lay, minuteSeries, typeColour, eventsPanel, liveChart, minutesApi, sum, timeChart, bars } from "../kit.js";

export function mount(root) {
	const events = eventsPanel(), [types, revenue, pages] = ["Event types", "Revenue per minute", "Top pages"].map((title) => panel(title, minutesApi));
	const sessions = liveChart("Sessions open", () => address("api/sessions", { source_id: store.filter.source, limit: 100 }), "sessions", { kind: "area", height: 150 });
	const revenueChart = timeChart({ kind: "line", label: "Revenue per minute", unit: "value", height: 170, brush: brushTo });
	const typeBars = bars({ unit: "events", many: "types", limit: 8, color: (r) => typeColour(r.key) });
	const pageBars = bars({ unit: "events", many: "pages", limit: 12, pick: (page) => setParams({ page: store.filter.page === page ? null : page }), chosen: () => store.filter.page });
	const panels = [events.p, types, revenue, pages], columns = [h("div.w8.stack", events.p.el, revenue.el, sessions.p.el), h("div.w4.stack", types.el, pages.el)];

	function draw() {
		if (!store.minutesSeen) return panels.forEach((p) => p.loading());
		const { source } = store.filter, data = minuteSeries(), [from, to] = minuteRange(), period = store.filter.from === null ? data.period : `from ${clock(from, 2)} to ${clock(to, 2)}`;
		const within = (y) => sum(y.filter((_, i) => data.x[i] >= from && data.x[i] < to), (v) => v);
		events.draw(data, `; ${num(sum(data.series, (one) => within(one.y)))} ${period}`);
		if (data.total) {
			revenue.draw(revenueChart, { domain: minuteDomain(), x: data.x, series: [{ label: "revenue", color: "c3", y: data.revenue, format: fixed }] }, `sum of transaction values; ${fixed(within(data.revenue))} ${period}`);
			types.draw(typeBars, store.minutes.ranking("type", store.filter, from, to, now()), `events ${period}`);
		} else for (const p of [types, revenue]) p.empty("Nothing in this period.");
		const ranked = store.minutes.ranking("page", { source }, from, to, now());
		if (!ranked.length) return pages.empty("Nothing in this period.");
		pages.draw(pageBars, ranked.map((r) => ({ ...r, extra: [["revenue", fixed(r.revenue)]] })), `events ${period}`);
	}

	function drawSessions() {
		if (!store.status) return sessions.p.loading();
		const sources = shownSources(), ranked = [...sources].sort((a, b) => b.open_sessions - a.open_sessions), open = (list) => (p) => sum(list, (one) => p.sessions.get(one.source_id) || 0);
		sessions.draw(`sessions not yet sealed; ${num(sum(sources, (one) => one.open_sessions))} now`, [...ranked.slice(0, 5).map((one) => ({ label: one.name, color: `c${(sources.indexOf(one) % 6) + 1}`, y: open([one]) })), { label: "other sources", color: "c0", y: open(ranked.slice(5)) }]);
	}

	return lay(root, "Shop", "Drag over a chart for a time range; choose a page to see it alone.", [...panels, sessions.p], [events, revenueChart, sessions], { minutes: draw, status: drawSessions }, columns);
}
