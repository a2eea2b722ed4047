// Campus: the space tree, how many devices are where, what is usual there, and who moves where.

import { h, fill, text, panel, poll, store, now, address, get, curlPost, linkHere, setParams, param, route, brushTo, Watch, treeRows, hourOfWeek, DAY, num, stamp, time, plural, lay, concerns, choice, feed, fixWords } from "../kit.js";
import { timeChart } from "../charts/time.js";
import { heatChart } from "../charts/heat.js";
import { bars } from "../charts/bars.js";

const INTERVALS = { 900: "15 min", 1800: "30 min", 3600: "1 h", 7200: "2 h", 14400: "4 h", 28800: "8 h", 86400: "1 day" }, RANGES = { 24: "24 hours", 168: "7 days", 672: "28 days", 2160: "90 days", 8760: "1 year" };
const BINS_MAX = 700, ROWS_MAX = 60, EVERY_MS = 5000;
const watch = new Watch();

export const nameOf = (one) => one?.space_name || `space ${one?.space_id}`;
const told = (n) => (n === null ? "withheld" : num(n)), iso = (ms) => new Date(ms).toISOString();

export function mount(root) {
	const chosen = () => Number(route().params.get("space")) || treeRows(store.spaces).rows[0]?.space_id;
	const find = (id) => store.spaces.find((one) => one.space_id === id) || { space_id: id }, nameAt = (id) => nameOf(find(id)), here = () => nameAt(chosen());
	const to = (space) => linkHere({ space }), open = (id) => (location.hash = to(id));
	/** The range and the bins: those asked for, or the narrowest that are not too many. */
	function bins() {
		const { from, to } = store.filter, wide = from === null ? param("range", Object.keys(RANGES), "24") * 3600e3 : to - from;
		const seconds = Object.keys(INTERVALS).map(Number).find((one) => one >= param("interval", Object.keys(INTERVALS), "3600") && wide / one / 1000 <= BINS_MAX) || 86400, step = seconds * 1000;
		const end = Math.ceil((from === null ? now() : to) / step) * step;
		return { step, seconds, from: from === null ? end - wide : Math.floor(from / step) * step, to: end };
	}
	const asks = (path, more) => () => {
		const { from, to, seconds } = bins();
		return store.spaces.length > 0 && address(`api/${path}`, { space_id: chosen(), from: iso(from), to: iso(to), ...more({ interval_seconds: seconds }, from, to) });
	};
	const binned = (query) => query, days = (_, from, to) => ({ from: iso(Math.floor(Math.min(from, to - 14 * DAY) / DAY) * DAY) });

	const pickers = [choice("Range", Object.entries(RANGES), param("range", Object.keys(RANGES), "24"), (range) => (setParams({ range, from: null, to: null }), again())), choice("Bins", Object.entries(INTERVALS), String(bins().seconds), (interval) => (setParams({ interval }), again()))];
	const half = { width: "w6" }, tree = panel("Spaces", () => address("api/occupancy/now"), { polls: true });
	const line = panel("Devices", asks("occupancy", binned), { polls: true, tools: pickers });
	const heat = panel("Heat map", asks("occupancy/heat", binned), { polls: true });
	const visits = panel("Visits per day", asks("visits", days), { ...half, polls: true }), dwell = panel("Dwell", visits.api, { ...half, polls: visits });
	const flows = panel("Flows", asks("flows", () => ({ per: "range" })), { ...half, polls: true });
	const alerts = panel("Alerts and corrections", () => address("api/occupancy/now"), { ...half, unit: "since this page was opened" });

	const lineChart = timeChart({ kind: "line", label: "Devices", unit: "devices", height: 240, step: DAY, brush: brushTo, format: num });
	const visitChart = timeChart({ kind: "area", label: "Visits per day", unit: "visits", height: 150, step: DAY, format: num }), dwellChart = timeChart({ kind: "line", label: "Mean dwell", unit: "minutes", height: 150, step: DAY });
	const grid = heatChart((row) => open(row.space_id)), crumbs = h("span"), title = h("span", "Campus");
	const treeBars = bars({ unit: "devices", many: "spaces", limit: 300, pick: open, chosen, color: (row) => (row.of && row.count > row.of ? "c4" : "c1") }), treeNote = h("p.more"), treeBox = h("div", h("div.tall", treeBars.el), treeNote);
	const alertFeed = feed(alerts, "None yet. A space that crosses a share of its capacity, and a bin that a late row corrects, show here."), flowBars = bars({ unit: "moves", many: "flows", limit: 12 });


	const askTree = poll(tree, (answer) => {
		store.spaces = answer.spaces;
		if (!answer.spaces.length) return [tree, line, heat, visits, dwell, flows].forEach((p, i) => p.empty(i ? "Nothing before the first space." : "No spaces yet. Say which there are:", i ? null : curlPost("api/spaces", { spaces: [{ space_id: 1, space_name: "Library", capacity: 800 }, { space_id: 2, space_name: "Reading room", parent_space_id: 1 }] }, "PUT")));
		drawTree(answer);
		if (known !== (known = store.spaces.length)) again();
	}, () => EVERY_MS);

	function drawTree({ interval_seconds }) {
		const { rows, way } = treeRows(store.spaces, chosen()), orphans = rows.filter((one) => one.orphan).length;
		tree.ready(treeBox);
		tree.unit(`devices in the running ${INTERVALS[interval_seconds]}, against the one before; ${plural(store.spaces.length, "space")}`);
		treeBars.update(rows.map((one) => {
			const { number_connections: n, previous: p, capacity: of } = one, trend = n === null || p === null ? "" : n === p ? "=" : `${n > p ? "▲" : "▼"} ${num(Math.abs(n - p))}`;
			return { key: one.space_id, depth: one.depth, name: `${nameOf(one)}${one.orphan ? ` (orphan of ${one.parent_space_id})` : ""}`, count: n, of, words: `${told(n)}${of ? ` / ${num(of)}` : ""} ${trend}`, tip: [["now", `${told(n)} devices`], ["bin before", `${told(p)} devices`], ["capacity", of ? `${num(of)} devices` : "not set"], ["spaces below", num(one.children)]] };
		}));
		text(treeNote, orphans ? `${plural(orphans, "space")} with a parent that is not known: counted as roots.` : "");
		text(title, here());
		fill(crumbs, way.slice(0, -1).map((one) => [h("a", { href: to(one.space_id) }, nameOf(one)), " › "]), here());
	}

	/** What a bin says and whether it was corrected; only bins that were over can be. */
	const look = (id, step, t, n, as_of) => (t + step > as_of ? undefined : watch.look(`${id} ${step} ${t}`, n, now()));

	let usual = {}, known = 0;
	async function usualHours(signal) {
		const id = chosen();
		if (usual.id !== id || now() - usual.at > 600e3) usual = { ...(await get(address("api/occupancy/typical", { space_id: id, weeks: 8 }), signal)), id, at: now() };
		return usual.hours;
	}

	const askLine = poll(line, async ({ rows, withheld, as_of }, signal) => {
		const { step, seconds, from, to } = bins(), hours = seconds === 3600 && (await usualHours(signal)), id = chosen(), space = find(id), found = new Map(rows.map((row) => [time(row.interval_begin_time), row.number_connections]));
		const x = Array.from({ length: Math.ceil((Math.min(to, now()) - from) / step) }, (_, i) => from + i * step), y = x.map((t) => found.get(t) || 0), fixes = x.map((t, i) => look(id, step, t, y[i], as_of)), top = Math.max(...y), peak = y.indexOf(top);
		pickers[1].lastChild.value = seconds;
		line.unit(`in ${here()}, per bin of ${INTERVALS[seconds]}${withheld ? `; ${plural(withheld, "bin")} withheld` : ""}${hours ? "; grey: usual for the hour of the week (p10 to p90 of 8 weeks)" : seconds === 3600 ? "" : "; what is usual is known for bins of 1 h"}`);
		if (!(top > 0)) return line.empty(`No sessions in ${here()} in this range. Send one:`, curlPost("api/wifi-sessions", { sessions: [{ mac_address: "00:00:5e:00:53:01", space_id: id, start_time: iso(now() - 600e3) }] }));
		line.ready(lineChart.el);
		const usually = (key) => x.map((t) => hours[hourOfWeek(t)]?.[key] ?? 0);
		lineChart.update({
			domain: [from, to], x, step, series: [...(hours ? [{ label: "usual median", color: "c0", y: usually("median") }] : []), { label: "devices", color: "c1", y }], band: hours && [usually("p10"), usually("p90")],
			marks: fixes.map((fix, i) => fix && { t: x[i], y: y[i], text: fixWords(fix.before, fix.after) }).filter(Boolean), notes: [{ t: x[peak], y: top, text: `peak ${num(top)}, ${stamp(x[peak], 2)}` }], limit: space.capacity && { y: space.capacity, text: `capacity ${num(space.capacity)}` }, summary: `Peak ${num(top)} at ${stamp(x[peak], 2)}.`,
		});
		drawFeed();
	}, () => EVERY_MS);

	const askHeat = poll(heat, ({ begin_times, spaces, as_of }) => {
		// The space itself comes first; it is shown alone where nothing lies below it.
		const { step, seconds, from, to } = bins(), x = begin_times.map(time), below = spaces.slice(spaces.length > 1 ? 1 : 0);
		heat.unit(`${plural(below.length, "space")}${spaces.length > 1 ? ` below ${here()}` : ""}, devices per bin of ${INTERVALS[seconds]}; choose a row to go there${below.length > ROWS_MAX ? `; the first ${ROWS_MAX} shown` : ""}`);
		heat.ready(grid.el);
		grid.update({ domain: [from, to], x, step, unit: "devices", rows: below.slice(0, ROWS_MAX).map((one) => ({ ...one, name: nameOf(one), fixes: one.numbers.map((n, i) => look(one.space_id, step, x[i], n, as_of)) })) });
		drawFeed();
	}, () => EVERY_MS);

	const askVisits = poll(visits, ({ days }) => {
		if (!days.length) return [visits, dwell].forEach((p) => p.empty("No visits in this range."));
		const first = Math.floor(Math.min(bins().from, bins().to - 14 * DAY) / DAY) * DAY, domain = [first, Math.ceil(bins().to / DAY) * DAY], x = [], found = new Map(days.map((one) => [Date.parse(one.date), one]));
		for (let t = first; t < domain[1]; t += DAY) x.push(t);
		const minutes = (label, color, key) => ({ label, color, y: x.map((t) => (found.get(t)?.dwell_seconds?.[key] || 0) / 60) });
		visits.ready(visitChart.el);
		visits.unit("visits, by the day (UTC)");
		visitChart.update({ domain, x, series: [{ label: "visits", color: "c1", y: x.map((t) => found.get(t)?.visits || 0) }] });
		dwell.ready(dwellChart.el);
		dwell.unit("minutes of a visit, by the day (UTC)");
		dwellChart.update({ domain, x, series: [minutes("p90", "c6", "p90"), minutes("mean", "c3", "mean"), minutes("median", "c1", "median")] });
	}, () => 3 * EVERY_MS);

	const askFlows = poll(flows, ({ flows: rows }) => {
		const name = (id) => (id === null ? "elsewhere" : nameAt(id));
		flows.unit("devices that moved between the spaces below, in this range");
		if (!rows.length) return flows.empty("Nobody moved between these spaces in this range.");
		flows.ready(flowBars.el);
		flowBars.update(rows.map((one) => ({ key: `${name(one.from_space_id)} → ${name(one.to_space_id)}`, count: one.count, words: told(one.count) })));
	}, () => 3 * EVERY_MS);

	function drawFeed() {
		alertFeed([...store.alerts.map((one) => ({ key: `${one.at} ${one.space_id}`, at: one.at, name: nameOf(one), words: `${num(one.previous)} → ${num(one.number)} of ${num(one.capacity)}` })), ...[...watch.fixes].map(([key, fix]) => {
			const [id, , t] = key.split(" ").map(Number);
			return { key: `${key} ${fix.after}`, at: fix.at, name: `${nameAt(id)}, ${stamp(t, 2)}`, words: `${num(fix.before)} → ${num(fix.after)}`, more: " late" };
		})].sort((a, b) => b.at - a.at).slice(0, 12));
	}

	dwell.loading();
	const asked = [askLine, askHeat, askVisits, askFlows], again = () => asked.forEach((one) => one.again());
	const unmount = lay(root, title, crumbs, [tree, line, heat, visits, dwell, flows, alerts], [askTree, ...asked, lineChart, grid, visitChart, dwellChart], [h("div.w4", tree.el), h("div.w8.stack", line.el, heat.el, h("div.grid", [visits, dwell, flows, alerts].map((p) => p.el)))]);
	let shown = "", soon = 0;
	return {
		unmount,
		update(kinds) {
			const key = JSON.stringify([chosen(), bins().step, store.filter.from, store.filter.to]);
			if (shown && key !== shown) {
				again();
				askTree.soon();
			}
			shown = key;
			if (concerns(kinds, "occupancy")) drawFeed();
			if (kinds.has("occupancy") && Date.now() > soon) {
				soon = Date.now() + 1000;
				for (const one of [askTree, askLine, askHeat]) one.nudge();
			}
		},
	};
}
