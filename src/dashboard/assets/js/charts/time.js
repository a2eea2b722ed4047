import { attrs, h, s, fill, keyed, showTip, hideTip, MINUTE, ticks, clock, compact, store, now, touch, subscribe, sum, clamp, frame, axes, timeTicks, binWords } from "../kit.js";

export function timeChart({ kind, label, unit, height = 190, step = MINUTE, brush = null, format = compact }) {
	const live = step < MINUTE, left = 42, top = 12, bottom = height - 20, back = s("g"), front = s("g"), band = s("rect.brush"), line = s("line.cursor"), hit = s("rect.hit", { tabindex: 0, role: "img" }), legend = h("ul.legend");
	let data = null, drag = null, right = 600, middle = live ? 0 : step / 2;

	const chart = frame(height, draw), xOf = (t) => left + ((t - data.domain[0]) / (data.domain[1] - data.domain[0])) * (right - left);
	chart.svg.append(back, band, line, front, hit);
	chart.el.append(legend);
	const under = (e) => data.domain[0] + ((e.clientX - chart.svg.getBoundingClientRect().left - left) / (right - left)) * (data.domain[1] - data.domain[0]);
	const nearest = (t) => data.x.reduce((best, x) => (best === null || Math.abs(x + middle - t) < Math.abs(best + middle - t) ? x : best), null);

	function draw(next, width) {
		data = next;
		step = data.step || step;
		middle = live ? 0 : step / 2;
		const { x, series, limit, band: usual } = data, stacked = kind === "area", narrow = width < 460, named = series.filter((one) => one.y.some((v) => v)), direct = !narrow && named.length > 1, base = x.map(() => 0);
		right = width - (direct ? 116 : 10);
		const layers = series.map((one) => x.map((t, i) => {
			const low = base[i], v = low + Math.max(0, one.y[i] || 0);
			if (stacked) base[i] = v;
			return [t, v, low];
		}));
		const most = Math.max(0, ...layers.flat().map((p) => p[1]), ...(usual ? usual[1] : [])), levels = ticks(limit?.y < 2 * most ? Math.max(most, limit.y) : most, height < 160 ? 3 : 4), max = levels.at(-1), yOf = (v) => top + (1 - v / max) * (bottom - top);
		const times = timeTicks(data.domain, narrow ? 4 : 7).map(([t, words]) => [xOf(t), words]).filter(([at]) => at > left + 16 && at < right - 12), running = !live && x.at(-1) + step > now();
		const shape = (points, c, pale = "", filled = stacked) => {
			const run = (k) => points.map((p) => `${xOf(p[0] + middle).toFixed(1)} ${yOf(p[k]).toFixed(1)}`);
			return points.length > 0 && s(`path.${filled ? "area" : "line"}.${c}${pale}`, { d: `M${run(1).join("L")}${filled ? `L${run(2).reverse().join("L")}Z` : ""}` });
		};
		fill(back, axes(times, levels.map((v) => [yOf(v), format(v)]), left, right, bottom), usual && shape(x.map((t, i) => [t, usual[1][i], usual[0][i]]), "c0", ".now", true), layers.map((points, i) => {
			const c = series[i].color;
			return running ? [shape(points.slice(0, -1), c), shape(points.slice(-2), c, ".now")] : shape(points, c);
		}));
		fill(front, limit?.y <= max && [s("line.over", { x1: left, x2: right, y1: yOf(limit.y), y2: yOf(limit.y) }), s("text.label.halo", { x: left + 6, y: yOf(limit.y) - 5 }, limit.text)],
			data.marks?.map((m) => s("path.mark", { d: `M${xOf(m.t + middle)} ${yOf(m.y) - 4}l-4 -6h8z` })), data.notes?.map((m) => note(xOf(m.t + middle), yOf(m.y), m.text)), direct && labels(layers, (p) => yOf(stacked ? (p[1] + p[2]) / 2 : p[1])));
		legend.hidden = direct || named.length < 2;
		keyed(legend, legend.hidden ? [] : named, (one) => one.label, (one) => h("li", h(`span.swatch.${one.color}`), one.label));
		attrs(hit, { x: left, y: 0, width: Math.max(0, right - left), height: bottom, "aria-label": `${label}, ${unit}. ${data.summary || ""} Arrow keys read the values${brush ? ", shift and arrow keys choose a range, Escape clears it" : ""}.` });
		overlay();
	}

	function note(x, y, words) {
		const end = x > (left + right) / 2;
		return [s("circle.ring", { cx: x, cy: y, r: 4 }), s("text.label.halo", { x: x + (end ? -9 : 9), y: Math.max(top, y) + 3, "text-anchor": end ? "end" : "start" }, words)];
	}

	// At the right end, pushed apart where they would overlap.
	function labels(layers, place) {
		const ends = layers.map((points, i) => ({ one: data.series[i], p: points.at(live ? -1 : -2) || points[0] })).filter((e) => e.p && e.one.y.some((v) => v)).map((e) => ({ ...e, y: place(e.p) })).sort((a, b) => b.y - a.y);
		let floor = bottom + 13;
		for (const e of ends) e.y = floor = Math.min(e.y, floor - 13);
		return ends.map(({ one, y }) => [s(`rect.dot.${one.color}`, { x: right + 8, y: y - 4, width: 8, height: 8, rx: 2 }), s("text.label", { x: right + 20, y: y + 4 }, one.label.length > 15 ? `${one.label.slice(0, 14)}…` : one.label)]);
	}

	// The cursor and the brush move without a redraw.
	function overlay() {
		const { cursor, filter } = store, at = cursor?.live === live ? Math.floor(cursor.t / step) * step : NaN, x = xOf(at + middle), place = (el, is, more) => attrs(el, is ? { visibility: null, ...more } : { visibility: "hidden" });
		place(line, at >= data.domain[0] && at < data.domain[1], { x1: x, x2: x, y1: top, y2: bottom });
		const range = drag?.to ? [drag.from, drag.to].sort((a, b) => a - b) : brush && filter.from !== null ? [filter.from, filter.to] : [0, 0], a = Math.max(left, xOf(range[0])), b = Math.min(right, xOf(range[1]));
		place(band, b > a && b - a < right - left - 1, { x: a, width: b - a, y: top, height: bottom - top });
	}

	function tell(t, x, y, aloud) {
		const i = data.x.indexOf(t), { series, band: usual } = data;
		const rows = series.filter((one) => one.y[i] || series.length < 3).map((one) => [one.label, `${(one.format || format)(one.y[i])} ${one.unit || ""}`, one.color]);
		if (kind === "area" && series.length > 1) rows.push(["all", format(sum(series, (one) => one.y[i]))]);
		if (usual) rows.push(["usually", `${format(usual[0][i])} to ${format(usual[1][i])}`, "c0"]);
		showTip(x, y, `${live ? clock(t) : binWords(t, step)} · ${unit}`, rows, data.marks?.find((m) => m.t === t)?.text, aloud);
	}

	function point(t) {
		store.cursor = t === null ? null : { live, t };
		touch("cursor");
		if (t === null) hideTip();
	}

	attrs(hit, {
		onpointermove(e) {
			const t = under(e), at = nearest(t);
			if (drag) drag.to = Math.round(t / step) * step;
			if (at === null) return;
			point(at);
			tell(at, e.clientX, e.clientY);
		},
		onpointerleave: () => drag || point(null),
		onpointerdown(e) {
			if (!brush || e.button) return;
			drag = { from: Math.floor(under(e) / step) * step, to: 0 };
			hit.setPointerCapture(e.pointerId);
		},
		onpointerup() {
			if (!drag) return;
			const { from, to } = drag;
			drag = null;
			if (to && to !== from) brush(Math.min(from, to), Math.max(from, to));
			else brush(null, null);
		},
		onpointercancel: () => (drag = null),
		onblur: () => point(null),
		onkeydown(e) {
			if (e.key === "Escape" && brush) return brush(null, null);
			const move = { ArrowLeft: -1, ArrowRight: 1 }[e.key], { x } = data;
			if (!move || !x.length) return;
			e.preventDefault();
			const here = store.cursor?.live === live ? x.indexOf(store.cursor.t) : x.length, t = x[clamp(here + move, 0, x.length - 1)];
			if (e.shiftKey && brush) {
				const { from, to } = store.filter, a = from !== null ? (move > 0 ? from : to) : (x[here] ?? t), b = move > 0 ? t + step : t;
				if (a !== b) brush(Math.min(a, b), Math.max(a, b));
			}
			point(t);
			const box = hit.getBoundingClientRect();
			tell(t, box.left + xOf(t) - left, box.top + box.height / 2, true);
		},
	});

	const off = subscribe((kinds) => data && (kinds.has("cursor") || kinds.has("filter")) && overlay());
	return {
		...chart,
		stop() {
			chart.stop();
			off();
		},
	};
}
