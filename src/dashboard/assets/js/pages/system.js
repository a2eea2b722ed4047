// System: the log, the queue, memory, how far the views lag the log, and what each source's views hold.

import { h, fill } from "../dom.js";
import { panel, forget } from "../panel.js";
import { timeChart } from "../charts/time.js";
import { store, liveDomain, now } from "../state.js";
import { address } from "../api.js";
import { num, bytes, span, stamp, time, fixed, plural } from "../format.js";
import { pageHead, row, table } from "./common.js";

export function mount(root) {
  const status = () => address("api/status");
  const state = panel({ title: "Server", unit: "now", width: "w12", api: status });
  const lag = panel({ title: "Views behind the log", unit: "ms between the last commit and as_of, last 10 min", width: "w6", api: status });
  const queue = panel({ title: "Queue", unit: "rows waiting for the views, last 10 min", width: "w6", api: status });
  const memory = panel({ title: "Memory", unit: "resident bytes, last 10 min", width: "w6", api: status });
  const log = panel({ title: "Log", unit: "of the whole server, now", width: "w6", api: status });
  const views = panel({ title: "Views and cold parts", unit: "rows held per source, now", width: "w12", api: status });
  const panels = [state, lag, queue, memory, log, views];
  const charts = {
    lag: timeChart({ kind: "line", label: "Views behind the log", unit: "ms", axis: "live", step: 1000, height: 150 }),
    queue: timeChart({ kind: "line", label: "Queue", unit: "rows", axis: "live", step: 1000, height: 150 }),
    memory: timeChart({ kind: "line", label: "Memory", unit: "bytes", axis: "live", step: 1000, height: 150, format: (v) => bytes(v).replace(".00", "").replace(" ", "\u00a0") }),
  };
  const facts = h("dl", { class: "facts" }), logFacts = h("dl", { class: "facts" }), viewBox = h("div");
  root.append(pageHead("System", "The log, the engine and what they cost."), h("div", { class: "grid" }, panels.map((p) => p.el)));

  const items = (list) => list.map(([k, v, tone]) => h("div", null, h("dt", { text: k }), h("dd", { class: tone, text: v })));

  function draw() {
    const s = store.status;
    if (!s) return panels.forEach((p) => p.loading());
    state.ready(facts);
    const started = time(s.started_at);
    fill(facts, items([
      ["state", s.ready ? (s.catching_up ? "ready, catching up" : "ready") : `replaying the log, ${fixed(100 * s.replay_progress, 0)} %`, s.ready ? "good" : "warn"],
      ["up for", started === null ? "–" : span(now() - started)], ["version", s.version || "–"], ["worker threads", num(s.workers)],
      ["throughput, last minute", `${fixed(s.events_per_second, 1)} events/s`], ["latency, last minute", `p50 ${fixed(s.latency_p50_ms, 1)} ms, p99 ${fixed(s.latency_p99_ms, 1)} ms`],
      ["resident memory", bytes(s.memory_bytes)], ["queue", `${num(s.queue_depth)} of ${num(s.queue_capacity)} rows`, s.queue_depth > 0.8 * s.queue_capacity ? "warn" : null],
      ["views behind the log", span(Math.max(0, s.committed - s.as_of))], ["as of", stamp(s.as_of)],
    ]));
    const x = store.history.map((p) => p.t), domain = liveDomain();
    for (const [p, chart, key, label, color] of [[lag, charts.lag, "lag", "behind", "c4"], [queue, charts.queue, "queue", "rows waiting", "c2"], [memory, charts.memory, "memory", "resident", "c1"]]) {
      p.ready(chart.el);
      chart.update({ domain, x, series: [{ label, color, y: store.history.map((one) => one[key]), format: key === "memory" ? bytes : key === "lag" ? span : num }] });
    }
    lag.unit(`ms between the last commit and as_of; now ${span(Math.max(0, s.committed - s.as_of))}; last 10 min, watched since this page was opened`);
    queue.unit(`rows waiting for the views, of at most ${num(s.queue_capacity)}; last 10 min, watched since this page was opened`);
    memory.unit(`resident; now ${bytes(s.memory_bytes)}; last 10 min, watched since this page was opened`);
    log.ready(logFacts);
    fill(logFacts, items([["segments", num(s.log.segments)], ["size", bytes(s.log.bytes)], ["last logical time", s.log.last_time ? stamp(s.log.last_time) : "nothing committed yet"], ["writer's epoch", num(s.log.epoch)], ["writable", s.log.writable ? "yes" : `no: ${s.log.error || "unknown reason"}`, s.log.writable ? "good" : "bad"]]));
    if (!s.sources.length) return views.empty("No source yet.");
    views.ready(viewBox);
    const cold = (c) => (Array.isArray(c) ? { parts: c.length, rows: c.reduce((t, p) => t + p.rows, 0), bytes: c.reduce((t, p) => t + p.bytes, 0) } : c || { parts: 0, rows: 0, bytes: 0 });
    views.unit(`rows held per source, now; ${plural(s.sources.length, "source")}${s.sources.length > 100 ? ", the first 100 shown" : ""}`);
    fill(viewBox, table(["source", "#users", "#open sessions", "#open events", "#sealed sessions", "sealed before", "#cold parts", "#cold rows", "#cold size", "#lag (rows)", "#model version"], s.sources.slice(0, 100).map((one) => {
      const c = cold(one.cold_parts);
      const lags = one.partitions.map((p) => p.lag).filter((v) => v !== null);
      return row([one.name, { num: num(one.users) }, { num: num(one.open_sessions) }, { num: num(one.open_events) }, { num: num(one.sealed_sessions) }, one.sealed_before ? stamp(time(one.sealed_before)) : "–", { num: num(c.parts) }, { num: num(c.rows) }, { num: bytes(c.bytes) }, { num: lags.length ? num(lags.reduce((a, b) => a + b, 0)) : "–" }, { num: num(one.model_version) }]);
    }), "Views per source"));
  }

  return {
    update: (kinds) => (kinds.has("all") || kinds.has("status") || kinds.has("shown")) && draw(),
    unmount() {
      forget(panels);
      Object.values(charts).forEach((chart) => chart.stop());
    },
  };
}
