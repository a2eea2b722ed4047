// What several pages share: their frame, tables, and the series of the minutes view under the filters.

import { h } from "../dom.js";
import { forget } from "../panel.js";
import { store, minuteDomain, shownSources } from "../state.js";
import { MINUTE } from "../fold.js";
import { num, clock, stamp, time } from "../format.js";

/** Puts a page together. `ends`: charts and polls, which have a `stop()`. Returns the way to take it apart. */
export function lay(root, title, words, panels, ends, columns) {
	root.append(h("div.page-head", h("h1", title), h("p", words)), h("div.grid", columns || panels.map((p) => p.el)));
	return () => {
		forget(panels);
		ends.forEach((one) => one.stop());
	};
}

/** Whether an update concerns a drawing: always when the page is new, shown again or filtered anew. */
export const concerns = (kinds, ...names) => ["all", "shown", "filter", ...names].some((name) => kinds.has(name));

/** A labelled select for a panel's head. */
export function choice(label, options, value, change) {
	const box = h("select", { "aria-label": label, onchange: () => change(box.value) }, options.map(([key, words]) => h("option", { value: key }, words)));
	box.value = value;
	return h("label", label, box);
}

/** A table; heads that begin with `#` stand over numbers. Rows are lists of strings or nodes, or finished rows. */
export function table(label, heads, rows) {
	const right = (i) => (heads[i].startsWith("#") ? "td.num" : "td");
	return h("div.scroll", h("table", { "aria-label": label }, h("thead", h("tr", heads.map((c) => h(c.startsWith("#") ? "th.num" : "th", { scope: "col" }, c.replace("#", ""))))), Array.isArray(rows) ? h("tbody", rows.map((cells) => h("tr", cells.map((c, i) => h(right(i), c))))) : rows));
}

/** Named values: `[name, words or node, tone?]`. */
export const facts = (list) => h("dl.facts", list.map(([name, value, tone]) => h("div", h("dt", name), h(tone ? `dd.${tone}` : "dd", value))));

const colours = new Map();

/** A type keeps its colour for as long as the page is open; beyond six, grey. */
export function typeColour(type) {
	if (!colours.has(type)) colours.set(type, colours.size < 6 ? `c${colours.size + 1}` : "c0");
	return colours.get(type);
}

/** The last 60 minutes, complete with zeros: counts by type, revenue, and marks for corrected minutes. */
export function minuteSeries() {
	// A snapshot that was cut begins later than the axis, and its first minute may be incomplete: what is not known is not drawn.
	const [from, to] = minuteDomain(), first = store.truncated ? Math.max(from, Math.min(...store.minutes.buckets.keys()) + MINUTE) : from;
	const x = Array.from({ length: (to - first) / MINUTE }, (_, i) => first + i * MINUTE), sums = x.map((t) => store.minutes.sums(t, store.filter));
	const totals = new Map(), marks = [];
	sums.forEach((one, i) => {
		if (!one) return;
		for (const [type, count] of one.types) totals.set(type, (totals.get(type) || 0) + count);
		if (one.fixedAt && one.before !== one.count) marks.push({ t: x[i], y: one.count, text: `corrected: ${num(one.before)} before, ${num(one.count)} after` });
	});
	const ranked = [...totals].sort((a, b) => b[1] - a[1]).map(([type]) => type), named = ranked.slice(0, ranked.length > 6 ? 5 : 6);
	const series = named.map((type) => ({ label: type || "(none)", color: typeColour(type), y: sums.map((one) => one?.types.get(type) || 0) }));
	if (ranked.length > named.length) series.push({ label: "other types", color: "c0", y: sums.map((one) => one ? [...one.types].reduce((sum, [type, count]) => sum + (named.includes(type) ? 0 : count), 0) : 0) });
	const total = [...totals.values()].reduce((a, b) => a + b, 0);
	const period = first > from ? `since ${clock(first, 2)} (too many cells before)` : "in the last 60 min";
	return { x, series, marks, total, period, revenue: sums.map((one) => one?.revenue || 0), summary: `${num(total)} ${period}, ${num(sums[sums.length - 1]?.count || 0)} in the running minute.` };
}

/** Why there is nothing to show, and what to do. */
export function emptyWords() {
	const newest = Math.max(...shownSources().map((one) => time(one.watermark) ?? 0), 0);
	if (store.filter.page) return "No events on this page in the last 60 minutes. Remove the filter above to see all pages.";
	if (store.status && !store.status.ready) return "The server is replaying its log. Numbers appear as soon as it has caught up.";
	return newest ? `No events in the last 60 minutes; the watermark stands at ${stamp(newest)}. Journeys show the whole history. Or send an event of now:` : "No events yet. Send one:";
}
