// System: the log, the queue, memory, how far views and projections lag, and what the views hold.

import { h, fill } from "../dom.js";
import { panel } from "../panel.js";
import { timeChart } from "../charts/time.js";
import { store, liveDomain, now } from "../state.js";
import { address } from "../api.js";
import { num, bytes, clock, span, stamp, time, fixed, plural } from "../format.js";
import { lay, concerns, facts, table } from "./common.js";

const MIB = 1048576;
const CHARTS = [["Views behind the log", "ms", "c4", "lag"], ["Queue", "rows", "c2", "queue"], ["Memory", "MiB", "c1", "memory"]];

export function mount(root) {
	const api = () => address("api/status");
	const state = panel({ title: "Server", unit: "now", api }), outs = panel({ title: "Projections", unit: "now", api: () => address("api/projections") }), log = panel({ title: "Log", unit: "now", width: "w6", api }), views = panel({ title: "Views and cold parts", api });
	const graphs = CHARTS.map(([title, unit, color, key]) => ({ key, unit, color, p: panel({ title, width: "w6", api }), chart: timeChart({ kind: "line", label: title, unit, step: 1000, height: 150 }) }));
	const stateBox = h("div"), logBox = h("div"), viewBox = h("div"), outBox = h("div"), panels = [state, ...graphs.map((g) => g.p), log, outs, views];
	const unmount = lay(root, "System", "The log, the engine and what they cost.", panels, graphs.map((g) => g.chart));

	function draw() {
		const s = store.status;
		if (!s) return panels.forEach((p) => p.loading());
		const behind = span(Math.max(0, s.committed - s.as_of)), points = store.history, x = points.map((p) => p.t);
		state.ready(stateBox);
		fill(stateBox, facts([
			["state", s.ready ? (s.catching_up ? "ready, catching up" : "ready") : `replaying the log, ${fixed(100 * s.replay_progress, 0)} %`, s.ready ? "good" : "warn"],
			["up for", span(now() - time(s.started_at))], ["version", s.version], ["worker threads", num(s.workers)], ["as of", stamp(s.as_of)], 
			["queue", `${num(s.queue_depth)} of ${num(s.queue_capacity)} rows`, s.queue_depth > 0.8 * s.queue_capacity && "warn"],
		]));
		const notes = { lag: `ms from the last commit back to as_of; now ${behind}`, queue: `rows waiting for the views, at most ${num(s.queue_capacity)}`, memory: `MiB resident; now ${bytes(s.memory_bytes)}` };
		for (const { key, unit, color, p, chart } of graphs) {
			p.ready(chart.el);
			p.unit(`${notes[key]}; watched since ${clock(x[0], 2)}`);
			chart.update({ domain: liveDomain(), x, series: [{ label: unit, color, y: points.map((one) => (key === "memory" ? one.memory / MIB : one[key])) }] });
		}
		log.ready(logBox);
		fill(logBox, facts([["segments", num(s.log.segments)], ["size", bytes(s.log.bytes)], ["last logical time", s.log.last_time ? stamp(s.log.last_time) : "nothing committed yet"], ["writer's epoch", num(s.log.epoch)], ["writable", s.log.writable ? "yes" : `no: ${s.log.error || "the reason is not known"}`, s.log.writable ? "good" : "bad"]]));
		const all = s.projections || [];
		if (!all.length) outs.empty("Nothing follows the views.");
		else {
			outs.ready(outBox);
			fill(outBox, table("Projections", ["target", "state", "#behind", "#waiting", "#rows applied", "#refused", "trouble"], all.map((p) => [p.name, p.state.replace("_", " "), p.lag_ms == null ? "–" : span(p.lag_ms), num(p.lag_rows), num(p.rows_applied), num(p.rows_refused), p.error || "none"])));
		}
		if (!s.sources.length) return views.empty("No source yet.");
		views.ready(viewBox);
		views.unit(`rows held now; ${plural(s.sources.length, "source")}${s.sources.length > 100 ? ", the first 100 shown" : ""}`);
		fill(viewBox, table("Views per source", ["source", "#users", "#open sessions", "#open events", "#sealed sessions", "sealed before", "#cold parts", "#cold rows", "#cold size", "#lag (rows)", "#model version"], s.sources.slice(0, 100).map((one) => {
			const c = one.cold_parts, lags = one.partitions.map((p) => p.lag).filter(Number.isFinite);
			return [one.name, num(one.users), num(one.open_sessions), num(one.open_events), num(one.sealed_sessions), stamp(time(one.sealed_before), 2), num(c.parts), num(c.rows), bytes(c.bytes), lags.length ? num(lags.reduce((a, b) => a + b, 0)) : "–", num(one.model_version)];
		})));
	}

	return { unmount, update: (kinds) => concerns(kinds, "status") && draw() };
}
