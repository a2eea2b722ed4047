// Overview: what is going on, and can these numbers be trusted?

import { h, keyed, text, flash } from "../dom.js";
import { panel, forget } from "../panel.js";
import { timeChart, spark } from "../charts/time.js";
import { store, shownSources, minuteDomain, liveDomain, now } from "../state.js";
import { address, curlFirstEvent } from "../api.js";
import { brushTo } from "../router.js";
import { num, rate, fixed, compact, clock, span, plural } from "../format.js";
import { MINUTE } from "../fold.js";
import { minuteSeries, marksOf, pageHead, emptyWords } from "./common.js";
import { sourceCard } from "./source_card.js";

export function mount(root) {
  const status = () => address("api/status");
  const tiles = panel({ title: "Now", unit: "of the sources chosen above; rates and latency of the whole server", width: "w12", api: status });
  const events = panel({ title: "Events per minute", unit: "events, by the minute they happened in; last 60 min", width: "w8", api: () => address("api/metrics/aggregates", { minutes: 60, source_id: store.filter.source }) });
  const fixes = panel({ title: "Late corrections", unit: "minutes whose count changed after the fact", width: "w4", api: () => address("api/metrics/aggregates", { minutes: 60, source_id: store.filter.source }) });
  const flow = panel({ title: "Throughput", unit: "events per second, last 10 min", width: "w6", api: status });
  const delay = panel({ title: "Latency, from ingest to visible", unit: "ms, p50 and p99 of the last minute; last 10 min", width: "w6", api: status });
  const health = panel({ title: "Sources", unit: "every row received is accounted for: received = applied + duplicate + late + pending + quarantined + rejected; rows since the source began", width: "w12", api: status });
  const panels = [tiles, events, fixes, flow, delay, health];

  const eventChart = timeChart({ kind: "area", label: "Events per minute by event type", unit: "events", height: 220, brush: brushTo });
  const flowChart = timeChart({ kind: "line", label: "Throughput", unit: "events/s", axis: "live", step: 1000 });
  const delayChart = timeChart({ kind: "line", label: "Latency", unit: "ms", axis: "live", step: 1000 });
  const tileEls = ["Throughput", "Latency p50", "Latency p99", "Sessions open", "Users", "Corrections"].map((label) => {
    const line = spark(), value = h("div", { class: "value" }), note = h("div", { class: "note" });
    return { el: h("div", { class: "tile" }, h("div", { class: "label", text: label }), value, line.el, note), value, note, line, last: null };
  });
  const tileBox = h("div", { class: "tiles" }, tileEls.map((t) => t.el));
  const feed = h("ul", { class: "feed" });
  const feedHead = h("p", { class: "lede" });
  const feedBox = h("div", null, feedHead, feed);
  const list = h("div");
  root.append(pageHead("Overview", "Is everything arriving, and can the numbers be trusted?"), h("div", { class: "grid" }, panels.map((p) => p.el)));

  function tile(i, value, unit, note, points) {
    const t = tileEls[i];
    const shown = `${value} ${unit}`;
    if (t.last !== shown) {
      t.value.replaceChildren(value, " ", h("small", { text: unit }));
      t.last = shown;
    }
    text(t.note, note);
    t.line.update(points);
  }

  function drawTiles() {
    if (!store.status) return tiles.loading();
    tiles.ready(tileBox);
    const s = store.status, points = store.history, sources = shownSources();
    const sum = (pick) => sources.reduce((total, one) => total + pick(one), 0);
    const open = (p) => sources.reduce((total, one) => total + (p.sessions.get(one.source_id) || 0), 0);
    tile(0, rate(s.events_per_second), "events/s", "average of the last minute", points.map((p) => p.eps));
    tile(1, fixed(s.latency_p50_ms, 1), "ms", "ingest to visible, last minute", points.map((p) => p.p50));
    tile(2, fixed(s.latency_p99_ms, 1), "ms", "ingest to visible, last minute", points.map((p) => p.p99));
    tile(3, num(sum((one) => one.open_sessions)), "sessions", `now; ${compact(sum((one) => one.sealed_sessions))} sealed`, points.map(open));
    tile(4, compact(sum((one) => one.users)), "users", `known now, in ${plural(sources.length, "source")}`, []);
    const before = tileEls[5].count;
    tileEls[5].count = store.correctionsPerMinute ?? 0;
    tile(5, num(tileEls[5].count), "per min", "minute counts changed, all sources", correctionPoints());
    if (before !== undefined && tileEls[5].count > before) flash(tileEls[5].value);
  }

  function correctionPoints() {
    const end = Math.floor(now() / MINUTE) * MINUTE;
    return Array.from({ length: 10 }, (_, i) => store.correctionCounts.get(end - (9 - i) * MINUTE) || 0);
  }

  function drawEvents() {
    if (!store.minutesSeen) return events.loading();
    const data = minuteSeries("count");
    if (!data.total) return events.empty(emptyWords(), store.filter.page ? null : curlFirstEvent());
    events.ready(eventChart.el);
    events.unit(`events, by the minute they happened in; last 60 min: ${num(data.total)}${store.truncated ? " (newest cells only)" : ""}`);
    eventChart.update({ domain: minuteDomain(), ...data, marks: marksOf(data.x) });
  }

  function drawFixes() {
    if (!store.minutesSeen) return fixes.loading();
    const { source, page } = store.filter;
    const rows = store.corrections.filter((c) => (source === null || c.source === source) && (!page || c.page === page)).slice(0, 8);
    if (!rows.length) return fixes.empty("None since this page was opened. When an event arrives late, the minute it belongs to is corrected here, with its count before and after.");
    fixes.ready(feedBox);
    text(feedHead, `${plural(store.corrections.length, "correction")}${store.corrections.length >= 200 ? " or more" : ""} since this page was opened`);
    keyed(feed, rows, (r) => `${r.source} ${r.page} ${r.type} ${r.t} ${r.at}`, (r) => {
      const when = h("span", { class: "quiet nowrap" });
      const li = h("li", null, h("span", { class: "quiet", text: clock(r.t, 2) }), h("span", { class: "name", title: `${r.type} ${r.page}`, text: `${r.type} ${r.page || ""}` }), h("span", { class: "nowrap" }, h("span", { class: "fix", text: `${num(r.before)} → ${num(r.after)}` }), " ", when));
      li.when = when;
      setTimeout(() => flash(li));
      return li;
    }, (li, r) => text(li.when, `${span(Math.max(0, now() - r.at)).replace(/\.\d/, "")} ago`));
  }

  function drawLive() {
    if (!store.status) return [flow, delay].forEach((p) => p.loading());
    flow.ready(flowChart.el);
    delay.ready(delayChart.el);
    const x = store.history.map((p) => p.t), domain = liveDomain();
    const since = x.length ? `since ${clock(x[0], 2)}` : "";
    flow.unit(`events per second, last 10 min${x.length < 590 ? `, watched ${since}` : ""}`);
    flowChart.update({ domain, x, series: [{ label: "events per second", color: "c1", y: store.history.map((p) => p.eps), format: rate }] });
    delayChart.update({ domain, x, series: [{ label: "p50", color: "c1", y: store.history.map((p) => p.p50), format: (v) => fixed(v, 1), unit: "ms" }, { label: "p99", color: "c2", y: store.history.map((p) => p.p99), format: (v) => fixed(v, 1), unit: "ms" }] });
  }

  function drawHealth() {
    if (!store.status) return health.loading();
    const sources = shownSources();
    if (!sources.length) return health.empty("No source has sent anything yet. Sources appear here with their first event; send one:", curlFirstEvent());
    health.ready(list);
    keyed(list, sources.slice(0, 20), (s) => s.source_id, () => sourceCard(), (el, s) => el.set(s));
  }

  return {
    update(kinds) {
      const any = (...names) => kinds.has("all") || kinds.has("shown") || kinds.has("filter") || names.some((n) => kinds.has(n));
      if (any("status", "minutes")) drawTiles();
      if (any("minutes")) drawEvents();
      if (any("minutes", "corrections", "status")) drawFixes();
      if (any("status")) {
        drawLive();
        drawHealth();
      }
    },
    unmount() {
      forget(panels);
      for (const chart of [eventChart, flowChart, delayChart]) chart.stop();
    },
  };
}

