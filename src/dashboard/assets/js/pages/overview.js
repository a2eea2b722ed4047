// Overview: what is going on, and can these numbers be trusted?

import { h, keyed, text, flash } from "../dom.js";
import { panel } from "../panel.js";
import { timeChart } from "../charts/time.js";
import { store, shownSources, minuteDomain, liveDomain } from "../state.js";
import { address, curlEvent } from "../api.js";
import { brushTo } from "../router.js";
import { num, rate, fixed, compact, clock, span, plural } from "../format.js";
import { lay, concerns, minuteSeries, emptyWords } from "./common.js";
import { drawSourceCards } from "./source_card.js";

const TILES = [["Throughput", "events/s", "mean of the last minute"], ["Latency p50", "ms", "last minute"], ["Latency p99", "ms", "last minute"], ["Sessions open", "sessions"], ["Users", "users"], ["Corrections", "per min", "late minutes, all sources"]];

/** 0: nothing was measured. */
const latency = (ms) => fixed(ms || NaN, 1);

export function mount(root) {
	const status = () => address("api/status"), minutes = () => address("api/metrics/aggregates", { minutes: 60, source_id: store.filter.source });
	const tiles = panel({ title: "Now", unit: "sessions and users of the chosen sources, the rest of the server", api: status });
	const events = panel({ title: "Events per minute", width: "w8", api: minutes });
	const fixes = panel({ title: "Late corrections", unit: "minute, what happened, events before → after", width: "w4", api: minutes });
	const flow = panel({ title: "Throughput", width: "w6", api: status });
	const delay = panel({ title: "Latency from ingest to visible", width: "w6", api: status });
	const health = panel({ title: "Sources", unit: "rows since the source began; every row received is accounted for", api: status });

	const eventChart = timeChart({ kind: "area", label: "Events per minute by event type", unit: "events", height: 230, brush: brushTo });
	const flowChart = timeChart({ kind: "line", label: "Throughput", unit: "events/s", step: 1000 });
	const delayChart = timeChart({ kind: "line", label: "Latency", unit: "ms", step: 1000 });
	const tileEls = TILES.map(([label, unit, note]) => {
		const value = h("span"), noteEl = h("div.note", note);
		return { el: h("div", h("div.label", label), h("div.value", value, " ", h("small", unit)), noteEl), value, noteEl };
	});
	const tileBox = h("div.tiles", tileEls.map((t) => t.el)), feed = h("ul.feed"), list = h("div");
	const unmount = lay(root, "Overview", "Is everything arriving, and can the numbers be trusted?", [tiles, events, fixes, flow, delay, health], [eventChart, flowChart, delayChart]);

	function drawStatus() {
		const s = store.status;
		if (!s) return [tiles, flow, delay, health].forEach((p) => p.loading());
		const points = store.history, sources = shownSources(), sum = (key) => sources.reduce((total, one) => total + one[key], 0);
		const values = [rate(s.events_per_second), latency(s.latency_p50_ms), latency(s.latency_p99_ms), num(sum("open_sessions")), compact(sum("users")), num(store.correctionsPerMinute)];
		tiles.ready(tileBox);
		tileEls.forEach((t, i) => text(t.value, values[i]));
		text(tileEls[3].noteEl, `now; ${compact(sum("sealed_sessions"))} more are sealed`);
		text(tileEls[4].noteEl, `known now, in ${plural(sources.length, "source")}`);

		const x = points.map((p) => p.t), domain = liveDomain(), ms = (v) => fixed(v, 1), line = (label, color, key, more) => ({ label, color, y: points.map((p) => p[key]), ...more });
		flow.ready(flowChart.el);
		flow.unit(`events per second, mean of a minute; watched since ${clock(x[0], 2)}`);
		flowChart.update({ domain, x, series: [line("events per second", "c1", "eps", { format: rate })] });
		if (points.some((p) => p.p99)) delay.ready(delayChart.el);
		else delay.empty("Nothing was measured yet.");
		delay.unit(`ms, of the minute before; watched since ${clock(x[0], 2)}`);
		delayChart.update({ domain, x, series: [line("p50", "c1", "p50", { format: ms, unit: "ms" }), line("p99", "c2", "p99", { format: ms, unit: "ms" })] });
		if (!sources.length) return health.empty("No source has sent anything yet. Send an event:", curlEvent());
		health.ready(list);
		drawSourceCards(list, sources.slice(0, 20));
	}

	function drawMinutes() {
		if (!store.minutesSeen) return [events, fixes].forEach((p) => p.loading());
		const data = minuteSeries(), { source, page } = store.filter;
		if (data.total) {
			events.ready(eventChart.el);
			events.unit(`events by the minute they happened in; ${num(data.total)} ${data.period}`);
			eventChart.update({ domain: minuteDomain(), ...data });
		} else events.empty(emptyWords(), page ? null : curlEvent());
		drawFixes(store.corrections.filter((c) => (source === null || c.source === source) && (!page || c.page === page)).slice(0, 8));
	}

	function drawFixes(rows) {
		if (!rows.length) return fixes.empty("None since this page was opened. An event that arrives late corrects the minute it belongs to, and shows here.");
		fixes.ready(feed);
		keyed(feed, rows, (r) => `${r.source} ${r.page} ${r.type} ${r.t} ${r.at}`, (r) => {
			const li = h("li", h("span.quiet", clock(r.t, 2)), h("span.name", { title: r.page }, `${r.type} ${r.page}`), h("span.num", h("span.fix", `${num(r.before)} → ${num(r.after)}`), h("span.quiet", `, ${span(r.at - r.t)} late`)));
			setTimeout(flash, 0, li);
			return li;
		}, () => {});
	}

	return {
		unmount,
		update(kinds) {
			if (concerns(kinds, "status")) drawStatus();
			if (concerns(kinds, "minutes")) drawMinutes();
		},
	};
}
