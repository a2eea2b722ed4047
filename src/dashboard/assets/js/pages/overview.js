import { h, text, keyed, panel, store, shownSources, num, rate, fixed, compact, span, plural, lay, minuteSeries, eventsPanel, liveChart, minutesApi, feed, sum, sourcesPanel, statusApi } from "../kit.js";

/** 0: nothing was measured. */
const latency = (ms) => fixed(ms || NaN, 1);

export function mount(root) {
	const half = { width: "w6" };
	const tiles = panel("Now", statusApi, { unit: "sessions and users of the chosen sources, the rest of the server" });
	const events = eventsPanel("w8"), flow = liveChart("Throughput", statusApi, "events/s", half), delay = liveChart("Latency from ingest to visible", statusApi, "ms", half);
	const fixes = panel("Late corrections", minutesApi, { unit: "minute, what happened, events before → after", width: "w4" }), health = sourcesPanel(20);
	const tileBox = h("div.tiles"), fixFeed = feed(fixes, "None since this page was opened. An event that arrives late corrects the minute it belongs to, and shows here.");
	function drawStatus() {
		const s = store.status;
		if (!s) return [tiles, flow.p, delay.p, health].forEach((p) => p.loading());
		const sources = shownSources(), all = (key) => sum(sources, (one) => one[key]), ms = { format: (v) => fixed(v, 1), unit: "ms" };
		tiles.ready(tileBox);
		keyed(tileBox, [
			["Throughput", "events/s", rate(s.events_per_second), "mean of the last minute"], ["Latency p50", "ms", latency(s.latency_p50_ms), "last minute"], ["Latency p99", "ms", latency(s.latency_p99_ms), "last minute"],
			["Sessions open", "sessions", num(all("open_sessions")), `now; ${compact(all("sealed_sessions"))} more are sealed`], ["Users", "users", compact(all("users")), `known now, in ${plural(sources.length, "source")}`], ["Corrections", "per min", num(store.correctionsPerMinute), "late minutes, all sources"],
		], (row) => row[0], ([label, unit]) => {
			const value = h("span"), note = h("div.note");
			return Object.assign(h("div", h("div.label", label), h("div.value", value, " ", h("small", unit)), note), { value, note });
		}, (el, row) => [el.value, el.note].forEach((node, i) => text(node, row[2 + i])));
		flow.draw("events per second, mean of a minute", [{ label: "events per second", color: "c1", y: (p) => p.events_per_second, format: rate }]);
		if (!store.history.some((p) => p.latency_p99_ms)) delay.p.empty("Nothing was measured yet.");
		else delay.draw("ms, of the minute before", [{ label: "p50", color: "c1", y: (p) => p.latency_p50_ms, ...ms }, { label: "p99", color: "c2", y: (p) => p.latency_p99_ms, ...ms }]);
		health.show(sources);
	}

	function drawMinutes() {
		if (!store.minutesSeen) return [events.p, fixes].forEach((p) => p.loading());
		const data = minuteSeries(), { source, page } = store.filter;
		events.draw(data, ` by the minute they happened in; ${num(data.total)} ${data.period}`);
		fixFeed(store.corrections.filter((c) => (source ?? c.source) === c.source && (page || c.page) === c.page).slice(0, 8).map((r) => ({ key: `${r.source} ${r.page} ${r.type} ${r.t} ${r.at}`, at: r.t, name: `${r.type} ${r.page}`, words: `${num(r.before)} → ${num(r.after)}`, more: `, ${span(r.at - r.t)} late` })));
	}

	return lay(root, "Overview", "Is everything arriving, and can the numbers be trusted?", [tiles, events.p, fixes, flow.p, delay.p, health], [events, flow, delay], { status: drawStatus, minutes: drawMinutes });
}
