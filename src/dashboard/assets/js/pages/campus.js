import { h, fill, text, panel, poll, store, now, address, get, curlPost, linkHere, setParams, param, route, brushTo, Watch, treeRows, hourOfWeek, DAY, num, span, stamp, time, plural, lay, concerns, choice, feed, fixWords, steps, timeChart, heatChart, bars } from "../kit.js";

const WIDTHS = { 900: "15 min", 1800: "30 min", 3600: "1 h", 7200: "2 h", 14400: "4 h", 28800: "8 h", 86400: "1 day" }, RANGES = { 24: "24 hours", 168: "7 days", 672: "28 days", 2160: "90 days", 8760: "1 year" };
const BINS_MAX = 700, ROWS_MAX = 60, watch = new Watch();

const nameOf = (one) => one.space_name || `space ${one.space_id}`, told = (n) => (n == null ? "withheld" : num(n)), iso = (ms) => new Date(ms).toISOString();

export function mount(root) {
	let first, usual = {}, known = 0, was = "";
	const find = (id) => store.spaces.find((one) => one.space_id === id) || { space_id: id }, name = (id) => (id === null ? "elsewhere" : nameOf(find(id)));
	const chosen = () => Number(route().params.get("space") ?? first), here = () => name(chosen());
	const to = (space) => linkHere({ space }), open = (id) => (location.hash = to(id)), range = () => param("range", Object.keys(RANGES), "24"), width = () => param("interval", Object.keys(WIDTHS), "3600");

	// The bins asked for, or the narrowest that are not too many.
	function bins() {
		const { from, to } = store.filter, wide = from === null ? range() * 3600e3 : to - from;
		const seconds = Object.keys(WIDTHS).map(Number).find((one) => one >= width() && wide / one / 1000 <= BINS_MAX) || 86400, step = seconds * 1000, end = Math.ceil((from === null ? now() : to) / step) * step;
		return { step, seconds, words: WIDTHS[seconds], from: from === null ? end - wide : Math.floor(from / step) * step, to: end };
	}
	const asks = (path, more) => () => {
		const b = bins();
		return known > 0 && address(`api/${path}`, { space_id: chosen(), from: iso(b.from), to: iso(b.to), ...more(b) });
	};

	const half = { width: "w6" }, nowApi = () => address("api/occupancy/now"), binned = ({ seconds }) => ({ interval_seconds: seconds });
	const pick = (label, words, key, value) => choice(label, Object.entries(words), value, (v) => (setParams({ [key]: v, ...(key === "range" && { from: null, to: null }) }), again())), widths = pick("Bins", WIDTHS, "interval", width()), ranges = pick("Range", RANGES, "range", range());
	const tree = panel("Spaces", nowApi), heat = panel("Heat map", asks("occupancy/heat", binned));
	const line = panel("Devices", asks("occupancy", binned), { tools: [ranges, widths] });
	const visits = panel("Visits and dwell", asks("visits", ({ from, to }) => ({ from: iso(Math.min(from, to - 14 * DAY)) })), half);
	const flows = panel("Flows", asks("flows", () => ({ per: "range" })), half), alerts = panel("Alerts and corrections", nowApi, { unit: "since this page was opened" });

	const lineChart = timeChart({ kind: "line", label: "Devices", unit: "devices", height: 240, step: DAY, brush: brushTo }), grid = heatChart((row) => open(row.space_id));
	const crumbs = h("span"), title = h("span", "Campus"), note = h("p.more"), flowBars = bars({ unit: "moves", many: "flows" }), visitBars = bars({ unit: "visits", many: "days", limit: 15 }), alertFeed = feed(alerts, "None yet: no space crossed a share of its capacity, and no late row corrected a bin.");
	const treeBars = bars({ unit: "devices", many: "spaces", limit: 300, pick: open, chosen, color: (row) => (row.of && row.count > row.of ? "c4" : "c1") }), treeBox = h("div", h("div.tall", treeBars.el), note);

	const askTree = poll(tree, ({ spaces, interval_seconds }) => {
		store.spaces = spaces;
		if (!spaces.length) return [tree, line, heat, visits, flows].forEach((p, i) => p.empty(i ? "No spaces yet." : "No spaces yet. Say which there are:", i ? null : curlPost("api/spaces", { spaces: [{ space_id: 1, space_name: "Library" }, { space_id: 2, space_name: "Room", parent_space_id: 1, capacity: 30 }] }, "PUT")));
		first = treeRows(spaces).rows[0].space_id;
		const { rows, way } = treeRows(spaces, chosen()), orphans = rows.filter((one) => one.orphan).length;
		tree.ready(treeBox, `devices in the running ${WIDTHS[interval_seconds]}, against the one before; ${plural(spaces.length, "space")}`);
		treeBars.update(rows.map((one) => {
			const { number_connections: n, previous: p, capacity: of, depth } = one, trend = n === null || p === null ? "" : n === p ? "=" : `${n > p ? "▲" : "▼"} ${num(Math.abs(n - p))}`;
			return { key: one.space_id, depth, name: `${nameOf(one)}${one.orphan ? ` (orphan of ${one.parent_space_id})` : ""}`, count: n, of, words: `${told(n)}${of ? ` / ${num(of)}` : ""} ${trend}`, tip: [["in the bin before", told(p)], ["spaces below", num(one.children)]] };
		}));
		const { unknown_space: lost, pending } = store.status?.wifi || {};
		text(note, [orphans && `${plural(orphans, "space")} with a parent that is not known: counted as roots.`, lost && `${plural(lost, "session")} in spaces that are not known: counted once they are.`, pending && `${plural(pending, "row")} of sealed days at work.`].filter(Boolean).join(" "));
		text(title, here());
		fill(crumbs, way.map((one) => [h("a", { href: to(one.space_id) }, nameOf(one)), " › "]).slice(0, -1), here());
		if (known !== (known = spaces.length)) again();
	});

	// Only bins that are over can be corrected.
	const look = (id, step, t, n, as_of) => (t + step > as_of ? undefined : watch.look(`${id} ${step} ${t}`, n, now()));

	const askLine = poll(line, async ({ rows, withheld, as_of }, signal) => {
		const { step, seconds, words, from, to } = bins(), id = chosen(), { capacity } = find(id), found = new Map(rows.map((row) => [time(row.interval_begin_time), row.number_connections]));
		if (seconds === 3600 && (usual.id !== id || now() - usual.at > 600e3)) usual = { ...(await get(address("api/occupancy/typical", { space_id: id, weeks: 8 }), signal)), id, at: now() };
		const x = steps(from, Math.min(to, now()), step), y = x.map((t) => found.get(t) || 0), top = Math.max(...y), peak = x[y.indexOf(top)], peakWords = `peak ${num(top)}, ${stamp(peak, 2)}`;
		const hours = seconds === 3600 && usual.hours, usually = (key) => x.map((t) => hours[hourOfWeek(t)]?.[key] ?? 0);
		widths.lastChild.value = seconds;
		if (!(top > 0)) return line.empty(`No sessions in ${here()} in this range. Send one:`, curlPost("api/wifi-sessions", { sessions: [{ mac_address: "00:00:5e:00:53:01", space_id: id, start_time: iso(now() - 600e3) }] }));
		line.draw(lineChart, {
			domain: [from, to], x, step, series: [...(hours ? [{ label: "usual median", color: "c0", y: usually("median") }] : []), { label: "devices", color: "c1", y }], band: hours && [usually("p10"), usually("p90")], summary: peakWords, notes: [{ t: peak, y: top, text: peakWords }], limit: capacity && seconds <= 3600 && { y: capacity, text: `capacity ${num(capacity)}` },
			marks: x.flatMap((t, i) => [look(id, step, t, y[i], as_of)].filter(Boolean).map((fix) => ({ t, y: y[i], text: fixWords(fix.before, fix.after) }))),
		}, `in ${here()}, per bin of ${words}${withheld ? `; ${plural(withheld, "bin")} withheld` : ""}; ${hours ? `grey: usual for the hour of the week (p10 to p90 of ${plural(usual.weeks, "week")})` : "what is usual is known for bins of 1 h"}`);
		drawFeed();
	});

	const askHeat = poll(heat, ({ begin_times, spaces, as_of }) => {
		// The space itself comes first; it is shown alone where nothing lies below it.
		const { step, seconds, words, from, to } = bins(), x = begin_times.map(time), below = spaces.slice(spaces.length > 1);
		heat.draw(grid, { domain: [from, to], x, step, rows: below.slice(0, ROWS_MAX).map((one) => ({ ...one, name: nameOf(one), capacity: seconds <= 3600 && one.capacity, fixes: one.numbers.map((n, i) => look(one.space_id, step, x[i], n, as_of)) })) }, `${plural(below.length, "space")}${spaces.length > 1 ? ` below ${here()}` : ""}, devices per bin of ${words}; choose a row to go there${below.length > ROWS_MAX ? `; the first ${ROWS_MAX} shown` : ""}`);
		drawFeed();
	});

	const askVisits = poll(visits, ({ days }) => {
		if (!days.length) return visits.empty("No visits in this range.");
		const long = ({ dwell_seconds: d }, key) => span(d ? d[key] * 1000 : NaN);
		visits.draw(visitBars, days.reverse().map((one) => ({ key: one.date, count: one.visits, words: `${told(one.visits)} · ${long(one, "mean")}`, tip: [["devices", told(one.visitors)], ...["mean", "median", "p90"].map((key) => [`dwell, ${key}`, long(one, key)])] })), "by day (UTC), with the mean dwell");
	}, () => 15000);

	const askFlows = poll(flows, ({ flows: rows }) => {
		if (!rows.length) return flows.empty("Nobody moved between these spaces.");
		flows.draw(flowBars, rows.map(({ from_space_id, to_space_id, count }) => ({ key: `${name(from_space_id)} → ${name(to_space_id)}`, count, words: told(count) })), "devices that moved between the spaces below");
	}, () => 15000);

	function drawFeed() {
		alertFeed([...store.alerts.map((one) => ({ key: `${one.at} ${one.space_id}`, at: one.at, name: nameOf(one), words: `${one.direction === "up" ? "▲ above" : "▼ below"} ${one.threshold_percent} %: ${told(one.number_connections)} / ${num(one.capacity)}` })), ...[...watch.fixes].map(([key, fix]) => {
			const [id, , t] = key.split(" ").map(Number);
			return { key: `${key} ${fix.after}`, at: fix.at, name: `${name(id)}, ${stamp(t, 2)}`, words: `${num(fix.before)} → ${num(fix.after)}`, more: " late" };
		})].sort((a, b) => b.at - a.at).slice(0, 12));
	}

	const asked = [askLine, askHeat, askVisits, askFlows], again = () => asked.forEach((one) => one.again());
	return {
		...lay(root, title, crumbs, [tree, line, heat, visits, flows, alerts], [askTree, ...asked, lineChart, grid], {}, [h("div.w4.stack", tree.el, alerts.el), h("div.w8.stack", line.el, heat.el, h("div.grid", visits.el, flows.el))]),
		update(kinds) {
			const key = [chosen(), bins().step, range(), store.filter.from, store.filter.to].join();
			if (was && key !== was) {
				again();
				askTree.soon();
			}
			was = key;
			ranges.lastChild.value = range();
			if (concerns(kinds, "occupancy", "occupancy_change")) drawFeed();
			if (kinds.has("occupancy")) for (const one of [askTree, askLine, askHeat]) one.nudge();
		},
	};
}
