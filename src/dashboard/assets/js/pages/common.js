// What several pages share: the series of the minutes view under the filters, its correction marks, and words.

import { h } from "../dom.js";
import { store, minuteDomain, shownSources } from "../state.js";
import { MINUTE } from "../fold.js";
import { num, stamp, time } from "../format.js";

export const pageHead = (title, words) => h("div", { class: "page-head" }, h("h1", { text: title }), h("p", { text: words }));

const colours = new Map();
const OTHER = "other types";

/** A type keeps its colour for as long as the page is open; the sixth colour is the last, the rest is grey. */
export function typeColour(type) {
  if (!colours.has(type)) colours.set(type, colours.size < 6 ? `c${colours.size + 1}` : "c0");
  return colours.get(type);
}

/** The last 60 minutes, complete with zeros. `what`: "count" by type, or "revenue". */
export function minuteSeries(what) {
  const [from, to] = minuteDomain();
  const x = [];
  for (let t = from; t < to; t += MINUTE) x.push(t);
  const sums = x.map((t) => store.minutes.sums(t, store.filter));
  if (what === "revenue") {
    const y = sums.map((one) => one?.revenue || 0);
    return { x, series: [{ label: "revenue", color: "c3", y }], total: y.reduce((a, b) => a + b, 0) };
  }
  const totals = new Map();
  for (const one of sums) if (one) for (const [type, count] of one.types) totals.set(type, (totals.get(type) || 0) + count);
  const ranked = [...totals].sort((a, b) => b[1] - a[1]);
  const named = ranked.slice(0, ranked.length > 6 ? 5 : 6).map(([type]) => type);
  const series = named.map((type) => ({ label: type || "(none)", color: typeColour(type), y: sums.map((one) => one?.types.get(type) || 0) }));
  if (ranked.length > named.length) series.push({ label: OTHER, color: "c0", y: sums.map((one) => (one ? [...one.types].reduce((sum, [type, count]) => sum + (named.includes(type) ? 0 : count), 0) : 0)) });
  const total = [...totals.values()].reduce((a, b) => a + b, 0);
  const last = sums[sums.length - 1]?.count || 0;
  return { x, series, total, summary: `${num(total)} events in the last 60 minutes, ${num(last)} in the running minute.` };
}

/** A mark for every corrected minute: what its total was before. */
export function marksOf(x) {
  const out = [];
  for (const t of x) {
    const one = store.minutes.sums(t, store.filter);
    if (one?.fixedAt && one.before !== one.count) out.push({ t, y: one.count, text: `corrected: ${num(one.before)} before, ${num(one.count)} after` });
  }
  return out;
}

/** Why there is nothing to show, and what to do. */
export function emptyWords() {
  const sources = shownSources();
  if (store.filter.page) return "No events on this page in the last 60 minutes. Remove the filter above to see all pages.";
  if (store.status && !store.status.ready) return "The server is replaying its log. Numbers appear as soon as it has caught up.";
  const newest = Math.max(...sources.map((s) => time(s.watermark) ?? -Infinity));
  if (sources.some((s) => s.counters.applied > 0) && Number.isFinite(newest)) return `No events happened in the last 60 minutes; the newest known event time is ${stamp(newest)}. Journeys and sessions show the whole history. Or send an event of now:`;
  return "No events yet. Send one:";
}

/** A labelled select for a panel's head. */
export function choice(label, options, value, change) {
  const box = h("select", { "aria-label": label, onchange: (e) => change(e.target.value) }, options.map(([key, words]) => h("option", { value: key, text: words })));
  box.value = value;
  return h("label", null, h("span", { text: label }), box);
}

/** Table cells from strings, numbers or nodes; numbers stand right. */
export const row = (cells, attrs) => h("tr", attrs, cells.map((c) => (c && typeof c === "object" && "num" in c ? h("td", { class: "num", text: c.num }) : h("td", null, c))));
export const table = (heads, rows, label) => h("div", { class: "scroll" }, h("table", { "aria-label": label }, h("thead", null, h("tr", null, heads.map((c) => (c.startsWith("#") ? h("th", { class: "num", scope: "col", text: c.slice(1) }) : h("th", { scope: "col", text: c }))))), h("tbody", null, rows)));
