// Overview: what is going on, and can these numbers be trusted?

import { h, text, panel, store, shownSources, address, curlEvent, num, rate, fixed, compact, span, plural, lay, concerns, minuteSeries, eventsPanel, liveChart, minutesApi, feed } from "../kit.js";
import { drawSourceCards } from "./source_card.js";

const TILES = [["Throughput", "events/s", "mean of the last minute"], ["Latency p50", "ms", "last minute"], ["Latency p99", "ms", "last minute"], ["Sessions open", "sessions"], ["Users", "users"], ["Corrections", "per min", "late minutes, all sources"]];

/** 0: nothing was measured. */
const latency = (ms) => fixed(ms || NaN, 1);

export function mount(root) {
	const status = () => address("api/status"), half = { width: "w6" };
	const tiles = panel("Now", status, { unit: "sessions and users of the chosen sources, the rest of the server" });
	const events = eventsPanel("w8"), flow = liveChart("Throughput", status, "events/s", half), delay = liveChart("Latency from ingest to visible", status, "ms", half);
	const fixes = panel("Late corrections", minutesApi, { unit: "minute, what happened, events before → after", width: "w4" });
	const health = panel("Sources", status, { unit: "rows since the source began; every row received is accounted for" });
	const tileEls = TILES.map(([label, unit, note]) => {
		const value = h("span"), noteEl = h("div.note", note);
		return { el: h("div", h("div.label", label), h("div.value", value, " ", h("small", unit)), noteEl), value, noteEl };
	});
	const tileBox = h("div.tiles", tileEls.map((t) => t.el)), fixFeed = feed(fixes, "None since this page was opened. An event that arrives late corrects the minute it belongs to, and shows here."), list = h("div");
	const unmount = lay(root, "Overview", "Is everything arriving, and can the numbers be trusted?", [tiles, events.p, fixes, flow.p, delay.p, health], [events, flow, delay]);

	function drawStatus() {
		const s = store.status;
		if (!s) return [tiles, flow.p, delay.p, health].forEach((p) => p.loading());
		const sources = shownSources(), sum = (key) => sources.reduce((total, one) => total + one[key], 0), ms = { format: (v) => fixed(v, 1), unit: "ms" };
		const values = [rate(s.events_per_second), latency(s.latency_p50_ms), latency(s.latency_p99_ms), num(sum("open_sessions")), compact(sum("users")), num(store.correctionsPerMinute)];
		tiles.ready(tileBox);
		tileEls.forEach((t, i) => text(t.value, values[i]));
		text(tileEls[3].noteEl, `now; ${compact(sum("sealed_sessions"))} more are sealed`);
		text(tileEls[4].noteEl, `known now, in ${plural(sources.length, "source")}`);
		flow.draw("events per second, mean of a minute", [{ label: "events per second", color: "c1", y: (p) => p.events_per_second, format: rate }]);
		if (!store.history.some((p) => p.latency_p99_ms)) delay.p.empty("Nothing was measured yet.");
		else delay.draw("ms, of the minute before", [{ label: "p50", color: "c1", y: (p) => p.latency_p50_ms, ...ms }, { label: "p99", color: "c2", y: (p) => p.latency_p99_ms, ...ms }]);
		if (!sources.length) return health.empty("No source has sent anything yet. Send an event:", curlEvent());
		health.ready(list);
		drawSourceCards(list, sources.slice(0, 20));
	}

	function drawMinutes() {
		if (!store.minutesSeen) return [events.p, fixes].forEach((p) => p.loading());
		const data = minuteSeries(), { source, page } = store.filter;
		events.draw(data, ` by the minute they happened in; ${num(data.total)} ${data.period}`);
		fixFeed(store.corrections.filter((c) => (source ?? c.source) === c.source && (page || c.page) === c.page).slice(0, 8).map((r) => ({ key: `${r.source} ${r.page} ${r.type} ${r.t} ${r.at}`, at: r.t, name: `${r.type} ${r.page}`, words: `${num(r.before)} → ${num(r.after)}`, more: `, ${span(r.at - r.t)} late` })));
	}

	return {
		unmount,
		update(kinds) {
			if (concerns(kinds, "status")) drawStatus();
			if (concerns(kinds, "minutes")) drawMinutes();
		},
	};
}
