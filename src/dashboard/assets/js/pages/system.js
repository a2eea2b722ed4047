import { panel, store, now, address, num, bytes, span, stamp, time, fixed, plural, lay, facts, table, liveChart, sum } from "../kit.js";

export function mount(root) {
	const api = () => address("api/status"), half = { width: "w6", height: 150 };
	const state = panel("Server", api, { unit: "now" }), outs = panel("Projections", () => address("api/projections"), { unit: "now" }), log = panel("Log", api, { unit: "now", width: "w6" }), views = panel("Views and cold parts", api);
	const lag = liveChart("Views behind the log", api, "ms", half), queue = liveChart("Queue", api, "rows", half), memory = liveChart("Memory", api, "MiB", half), graphs = [lag, queue, memory], panels = [state, ...graphs.map((g) => g.p), log, outs, views];

	function draw() {
		const s = store.status;
		if (!s) return panels.forEach((p) => p.loading());
		state.fill(facts([
			["state", s.ready ? (s.catching_up ? "ready, catching up" : "ready") : `replaying the log, ${fixed(100 * s.replay_progress, 0)} %`, s.ready ? "good" : "warn"],
			["up for", span(now() - time(s.started_at))], ["version", s.version], ["worker threads", num(s.workers)], ["as of", stamp(s.as_of)],
			["queue", `${num(s.queue_depth)} of ${num(s.queue_capacity)} rows`, s.queue_depth > 0.8 * s.queue_capacity ? "warn" : undefined],
		]));
		lag.draw(`ms from the last commit back to as_of; now ${span(Math.max(0, s.committed - s.as_of))}`, [{ label: "ms", color: "c4", y: (p) => p.lag }]);
		queue.draw(`rows waiting for the views, at most ${num(s.queue_capacity)}`, [{ label: "rows", color: "c2", y: (p) => p.queue_depth }]);
		memory.draw(`MiB resident; now ${bytes(s.memory_bytes)}`, [{ label: "MiB", color: "c1", y: (p) => p.memory_bytes / 1048576 }]);
		log.fill(facts([["segments", num(s.log.segments)], ["size", bytes(s.log.bytes)], ["last logical time", s.log.last_time ? stamp(s.log.last_time) : "nothing committed yet"], ["writer's epoch", num(s.log.epoch)], ["writable", s.log.writable ? "yes" : `no: ${s.log.error || "the reason is not known"}`, s.log.writable ? "good" : "bad"]]));
		if (!s.projections?.length) outs.empty("Nothing follows the views.");
		else outs.fill(table("Projections", ["target", "state", "#behind", "#waiting", "#rows applied", "#refused", "trouble"], s.projections.map((p) => [p.name, p.state.replace("_", " "), span(p.lag_ms), num(p.lag_rows), num(p.rows_applied), num(p.rows_refused), p.error || "none"])));
		if (!s.sources.length) return views.empty("No source yet.");
		views.fill(table("Views per source", ["source", "#users", "#open sessions", "#open events", "#sealed sessions", "sealed before", "#cold parts", "#cold rows", "#cold size", "#lag (rows)", "#model version"], s.sources.slice(0, 100).map((one) => {
			const c = one.cold_parts, lags = one.partitions.map((p) => p.lag).filter(Number.isFinite);
			return [one.name, num(one.users), num(one.open_sessions), num(one.open_events), num(one.sealed_sessions), stamp(one.sealed_before, 2), num(c.parts), num(c.rows), bytes(c.bytes), lags.length ? num(sum(lags, (n) => n)) : "–", num(one.model_version)];
		})), `rows held now; ${plural(s.sources.length, "source")}${s.sources.length > 100 ? ", the first 100 shown" : ""}`);
	}

	return lay(root, "System", "The log, the engine and what they cost.", panels, graphs, { status: draw });
}
