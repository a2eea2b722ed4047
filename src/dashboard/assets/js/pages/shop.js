// Shop: events per minute, revenue, sessions, top pages, event types; one time axis, and a brush that filters the rankings.

import { h } from "../dom.js";
import { panel, forget } from "../panel.js";
import { timeChart } from "../charts/time.js";
import { bars } from "../charts/bars.js";
import { store, minuteDomain, minuteRange, liveDomain, shownSources, now } from "../state.js";
import { address, curlFirstEvent } from "../api.js";
import { brushTo, setParams } from "../router.js";
import { num, fixed, compact, clock } from "../format.js";
import { minuteSeries, marksOf, pageHead, emptyWords, typeColour } from "./common.js";

export function mount(root) {
  const minutesApi = () => address("api/metrics/aggregates", { minutes: 60, source_id: store.filter.source });
  const events = panel({ title: "Events per minute", unit: "", width: "w8", api: minutesApi });
  const types = panel({ title: "Event types", unit: "", width: "w4", api: minutesApi });
  const revenue = panel({ title: "Revenue per minute", unit: "", width: "w8", api: minutesApi });
  const pages = panel({ title: "Top pages", unit: "", width: "w4", api: minutesApi });
  const sessions = panel({ title: "Sessions open", unit: "sessions, last 10 min", width: "w8", api: () => address("api/sessions", { source_id: store.filter.source, limit: 100 }) });
  const panels = [events, types, revenue, pages, sessions];

  const eventChart = timeChart({ kind: "area", label: "Events per minute by event type", unit: "events", height: 230, brush: brushTo });
  const revenueChart = timeChart({ kind: "line", label: "Revenue per minute", unit: "value", height: 170, brush: brushTo });
  const sessionChart = timeChart({ kind: "area", label: "Sessions open", unit: "sessions", height: 150, axis: "live", step: 1000 });
  const typeBars = bars({ unit: "events", many: "types", limit: 8, color: (r) => typeColour(r.key) });
  const pageBars = bars({ unit: "events", many: "pages", limit: 12, pick: (page) => setParams({ page: store.filter.page === page ? null : page }), chosen: () => store.filter.page });
  const left = h("div", { class: "w8 stack" }, events.el, revenue.el, sessions.el), right = h("div", { class: "w4 stack" }, types.el, pages.el);
  root.append(pageHead("Shop", "Drag over a chart to choose a time range; choose a page to see it alone."), h("div", { class: "grid" }, left, right));

  function period() {
    const { from, to } = store.filter;
    return from === null ? "last 60 min" : `${clock(from, 2)} to ${clock(to, 2)}`;
  }

  function draw() {
    if (!store.minutesSeen) return panels.slice(0, 4).forEach((p) => p.loading());
    const counts = minuteSeries("count"), money = minuteSeries("revenue");
    if (!counts.total) {
      events.empty(emptyWords(), store.filter.page ? null : curlFirstEvent());
      for (const p of [types, revenue, pages]) p.empty("Nothing in this period.");
      return;
    }
    events.ready(eventChart.el);
    revenue.ready(revenueChart.el);
    types.ready(typeBars.el);
    pages.ready(pageBars.el);
    const domain = minuteDomain(), [from, to] = minuteRange();
    const within = (data) => data.x.reduce((sum, t, i) => sum + (t >= from && t < to ? data.series.reduce((all, one) => all + one.y[i], 0) : 0), 0);
    events.unit(`events; ${num(within(counts))} in the period ${period()}`);
    revenue.unit(`sum of transaction values; ${fixed(within(money), 2)} in the period ${period()}`);
    eventChart.update({ domain, ...counts, marks: marksOf(counts.x) });
    revenueChart.update({ domain, ...money, series: money.series.map((one) => ({ ...one, format: (v) => fixed(v, 2) })), summary: `${fixed(money.total, 2)} in the last 60 minutes.` });
    types.unit(`events, ${period()}`);
    typeBars.update(store.minutes.ranking("type", store.filter, from, to, now()));
    pages.unit(`events, ${period()}`);
    const ranked = store.minutes.ranking("page", { source: store.filter.source, page: null }, from, to, now());
    pageBars.update(ranked.map((r) => ({ ...r, extra: [["revenue", fixed(r.revenue, 2)]] })));
  }

  function drawSessions() {
    if (!store.status) return sessions.loading();
    sessions.ready(sessionChart.el);
    const sources = shownSources();
    const top = [...sources].sort((a, b) => b.open_sessions - a.open_sessions).slice(0, 5);
    const colour = (s) => `c${(sources.indexOf(s) % 6) + 1}`;
    sessions.unit(`sessions not yet sealed; now ${compact(sources.reduce((sum, s) => sum + s.open_sessions, 0))}; last 10 min, watched since this page was opened`);
    sessionChart.update({ domain: liveDomain(), x: store.history.map((p) => p.t), series: top.map((s) => ({ label: s.name, color: colour(s), y: store.history.map((p) => p.sessions.get(s.source_id) || 0) })) });
  }

  return {
    update(kinds) {
      const any = (...names) => kinds.has("all") || kinds.has("shown") || kinds.has("filter") || names.some((n) => kinds.has(n));
      if (any("minutes")) draw();
      if (any("status")) drawSessions();
    },
    unmount() {
      forget(panels);
      for (const chart of [eventChart, revenueChart, sessionChart]) chart.stop();
    },
  };
}
