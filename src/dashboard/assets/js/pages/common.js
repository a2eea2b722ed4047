import { h, fill, keyed, flash, text, panel, post, forget, store, minuteDomain, liveDomain, address, curlEvent, brushTo, MINUTE, under, clamp, num, clock, stamp, time, sum, steps, shownSources, timeChart, add } from "../kit.js";

export function lay(root, title, words, panels, ends, draws, columns) {
	root.append(h("div.page-head", h("h1", title), h("p", words)), h("div.grid", columns || panels.map((p) => p.el)));
	return {
		unmount() {
			forget(panels);
			ends.forEach((one) => one.stop());
		},
		update: (kinds) => Object.keys(draws).forEach((kind) => concerns(kinds, kind) && draws[kind]()),
	};
}

export const concerns = (kinds, ...names) => ["all", "shown", "filter", ...names].some((name) => kinds.has(name));

export function choice(label, options, value, change) {
	const box = h("select", { "aria-label": label, onchange: () => change(box.value) }, options.map(([key, words]) => h("option", { value: key }, words)));
	box.value = value;
	return h("label", label, box);
}

export const table = (label, heads, rows) => h("div.scroll", h("table", { "aria-label": label }, h("thead", h("tr", heads.map((c) => h(c[0] === "#" ? "th.num" : "th", { scope: "col" }, c.replace("#", ""))))), Array.isArray(rows) ? h("tbody", rows.map((cells) => h("tr", cells.map((c, i) => h(heads[i][0] === "#" ? "td.num" : "td", c))))) : rows));

export const facts = (list) => h("dl.facts", list.map(([name, value, tone = "plain"]) => h("div", h("dt", name), h(`dd.${tone}`, value))));

export function meter(share, words, color = "c1") {
	const bar = h(`i.${color}`);
	bar.style.width = `${100 * clamp(share, 0, 1)}%`;
	return h("div", h("div.meter", bar), h("span.quiet", words));
}

// Sends, with the button at rest and what goes wrong said beside it; undefined when it did.
export async function perform(button, said, url, body, refused = ({ message }) => text(said, message)) {
	button.disabled = true;
	fill(said);
	try {
		return await post(url, body);
	} catch (error) {
		if (error.status === 403) text(said, "This needs a token with the scope admin.");
		else refused(error);
	} finally {
		button.disabled = false;
	}
}

// A type keeps its colour for as long as the page is open; beyond six, grey.
const colours = new Map();
export const typeColour = (type) => under(colours, type, () => (colours.size < 6 ? `c${colours.size + 1}` : "c0"));

export function liveChart(title, api, unit, { width, height, kind = "line" }) {
	const p = panel(title, api, { width }), chart = timeChart({ kind, label: title, unit, step: 1000, height });
	return {
		...chart,
		p,
		draw(words, lines) {
			const points = store.history, x = points.map((one) => one.t);
			p.draw(chart, { domain: liveDomain(), x, series: lines.map((line) => ({ ...line, y: points.map(line.y) })) }, `${words}; watched since ${clock(x[0], 2)}`);
		},
	};
}

export const minutesApi = () => address("api/metrics/aggregates", { minutes: 60, source_id: store.filter.source });

export function eventsPanel(width) {
	const p = panel("Events per minute", minutesApi, { width }), chart = timeChart({ kind: "area", label: "Events by type", unit: "events", height: 230, brush: brushTo });
	return {
		...chart,
		p,
		draw(data, words) {
			if (data.total) p.draw(chart, { domain: minuteDomain(), ...data }, `events${words}`);
			else p.empty(emptyWords(), store.filter.page ? null : curlEvent());
		},
	};
}

export function minuteSeries() {
	// A snapshot that was cut begins later, maybe within a minute: what is not known is not drawn.
	const [from, to] = minuteDomain(), first = store.truncated ? Math.max(from, Math.min(...store.minutes.buckets.keys()) + MINUTE) : from;
	const x = steps(first, to, MINUTE), sums = x.map((t) => store.minutes.sums(t, store.filter)), totals = new Map();
	for (const one of sums) for (const [type, count] of one?.types || []) add(totals, type, count);
	const ranked = [...totals].sort((a, b) => b[1] - a[1]).map(([type]) => type), named = ranked.slice(0, ranked.length > 6 ? 5 : 6);
	const series = named.map((type) => ({ label: type || "(none)", color: typeColour(type), y: sums.map((one) => one?.types.get(type) || 0) }));
	if (ranked.length > named.length) series.push({ label: "other types", color: "c0", y: sums.map((one) => (one ? named.reduce((rest, type) => rest - (one.types.get(type) || 0), one.count) : 0)) });
	const total = sum(sums, (one) => one?.count || 0), period = first > from ? `since ${clock(first, 2)} (too many cells before)` : "in the last 60 min";
	return {
		x, series, total, period, revenue: sums.map((one) => one?.revenue || 0), summary: `${num(total)} ${period}, ${num(sums.at(-1)?.count || 0)} in the running minute.`,
		marks: sums.flatMap((one, i) => (one?.fixedAt && one.before !== one.count ? [{ t: x[i], y: one.count, text: fixWords(one.before, one.count) }] : [])),
	};
}

export const fixWords = (before, after) => `corrected: ${num(before)} before, ${num(after)} after`;

function emptyWords() {
	const newest = Math.max(...shownSources().map((one) => time(one.watermark) ?? 0), 0);
	if (store.filter.page) return "No events on this page in the last 60 minutes; remove the filter above.";
	if (store.status && !store.status.ready) return "The server is replaying its log; numbers appear when it has caught up.";
	return newest ? `No events in the last 60 minutes; the watermark stands at ${stamp(newest)}. Journeys show the whole history. Or send an event of now:` : "No events yet. Send one:";
}

export function feed(p, otherwise) {
	const list = h("ul.feed");
	return (rows) => {
		if (!rows.length) return p.empty(otherwise);
		p.ready(list);
		keyed(list, rows, (r) => r.key, (r) => {
			const li = h("li", h("span.quiet", clock(r.at, 2)), h("span.name", { title: r.name }, r.name), h("span.num", h("span.fix", r.words), h("span.quiet", r.more)));
			setTimeout(flash, 0, li);
			return li;
		});
	};
}
