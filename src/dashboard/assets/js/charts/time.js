// A chart over time: stacked areas for volumes, lines for rates.
// Arrow keys move a cursor that all charts share; dragging, or shift with the arrows, brushes a range. A corrected bin has
// a mark and says what it was; the running bin is pale.

import { attrs, h, s, fill, keyed, showTip, hideTip, MINUTE, DAY, ticks, clock, stamp, compact, store, now, touch, subscribe } from "../kit.js";
import { frame, axes, timeTicks } from "./frame.js";

/** `kind`: "area" (stacked) or "line". `step`: ms between points. `brush(from, to)` is called with a range, or nulls. */
export function timeChart({ kind, label, unit, height = 190, step = MINUTE, brush = null, format = compact }) {
	const live = step < MINUTE, left = 42, top = 12, bottom = height - 20;
	let middle = live ? 0 : step / 2;
	const back = s("g"), front = s("g"), band = s("rect.brush"), line = s("line.cursor"), hit = s("rect.hit", { tabindex: 0, role: "img" });
	const legend = h("ul.legend");
	let data = null, drag = null, right = 600;

	const xOf = (t) => left + ((t - data.domain[0]) / (data.domain[1] - data.domain[0])) * (right - left);
	const chart = frame(height, draw);
	chart.svg.append(back, band, line, front, hit);
	chart.el.append(legend);
	/** The time under the pointer, and the nearest point to it. */
	const under = (e) => data.domain[0] + ((e.clientX - chart.svg.getBoundingClientRect().left - left) / (right - left)) * (data.domain[1] - data.domain[0]);
	const nearest = (t) => data.x.reduce((best, x) => (best === null || Math.abs(x + middle - t) < Math.abs(best + middle - t) ? x : best), null);

	function draw(next, width) {
		data = next;
		step = data.step || step;
		middle = live ? 0 : step / 2;
		const narrow = width < 460, named = data.series.filter((one) => one.y.some((v) => v)), direct = !narrow && named.length > 1;
		right = width - (direct ? 116 : 10);
		const base = data.x.map(() => 0);
		const layers = data.series.map((one) => data.x.map((t, i) => {
			const v = Math.max(0, one.y[i] || 0), low = kind === "area" ? base[i] : 0;
			if (kind === "area") base[i] += v;
			return [t, low + v, low];
		}));
		const band = data.band && data.x.map((t, i) => [t, data.band[1][i], data.band[0][i]]);
		const most = Math.max(0, ...[...layers, band || []].flat().map((p) => p[1])), levels = ticks(data.limit?.y < 2 * most ? Math.max(most, data.limit.y) : most, height < 160 ? 3 : 4), max = levels[levels.length - 1];
		const { limit } = data, yOf = (v) => top + (1 - v / max) * (bottom - top);
		const times = timeTicks(data.domain, narrow ? 4 : 7).map(([t, words]) => [xOf(t), words]).filter(([x]) => x > left + 16 && x < right - 12);
		const running = !live && data.x[data.x.length - 1] + step > now();
		const shape = (points, c, pale, area = kind === "area") => {
			if (!points.length) return null;
			const run = (k) => points.map((p) => `${xOf(p[0] + middle).toFixed(1)} ${yOf(p[k]).toFixed(1)}`);
			if (!area) return s(`path.line.${c}${pale}`, { d: `M${run(1).join("L")}` });
			return s(`path.area.${c}${pale}`, { d: `M${run(1).join("L")}L${run(2).reverse().join("L")}Z` });
		};
		fill(back, axes(times, levels.map((v) => [yOf(v), format(v)]), left, right, bottom), band && shape(band, "c0", ".now", true), layers.map((points, i) => {
			const c = data.series[i].color;
			return !running ? shape(points, c, "") : [shape(points.slice(0, -1), c, ""), shape(points.slice(-2), c, ".now")];
		}));
		fill(front, limit?.y <= max && [s("line.over", { x1: left, x2: right, y1: yOf(limit.y), y2: yOf(limit.y) }), s("text.label.halo", { x: left + 6, y: yOf(limit.y) - 5 }, limit.text)], (data.marks || []).map((m) => s("path.mark", { d: `M${xOf(m.t + middle)} ${yOf(m.y) - 4}l-4 -6h8z` })), (data.notes || []).map((m) => note(xOf(m.t + middle), yOf(m.y), m.text)), direct && labels(layers, yOf));
		legend.hidden = direct || named.length < 2;
		keyed(legend, legend.hidden ? [] : named, (one) => one.label, (one) => h("li", h(`span.swatch.${one.color}`), one.label), () => {});
		attrs(hit, { x: left, y: 0, width: Math.max(0, right - left), height: bottom, "aria-label": `${label}, ${unit}. ${data.summary || ""} Arrow keys read the values${brush ? ", shift and arrow keys choose a range, Escape clears it" : ""}.` });
		overlay();
	}

	/** A ring around a point, with words beside it. */
	function note(x, y, words) {
		const end = x > (left + right) / 2;
		return [s("circle.ring", { cx: x, cy: y, r: 4 }), s("text.label.halo", { x: x + (end ? -9 : 9), y: Math.max(top, y) + 3, "text-anchor": end ? "end" : "start" }, words)];
	}

	/** Direct labels at the right end, pushed apart where they would overlap. */
	function labels(layers, yOf) {
		const ends = layers.map((points, i) => ({ one: data.series[i], p: points[points.length - (live ? 1 : 2)] || points[0] })).filter((e) => e.p && e.one.y.some((v) => v));
		for (const e of ends) e.y = yOf(kind === "area" ? (e.p[1] + e.p[2]) / 2 : e.p[1]);
		ends.sort((a, b) => b.y - a.y);
		let floor = bottom + 13;
		for (const e of ends) e.y = floor = Math.min(e.y, floor - 13);
		return ends.map(({ one, y }) => [s(`rect.dot.${one.color}`, { x: right + 8, y: y - 4, width: 8, height: 8, rx: 2 }), s("text.label", { x: right + 20, y: y + 4 }, one.label.length > 15 ? `${one.label.slice(0, 14)}…` : one.label)]);
	}

	/** The cursor and the brush, which move without a redraw. */
	function overlay() {
		const at = store.cursor?.live === live ? Math.floor(store.cursor.t / step) * step : null, shown = at !== null && at >= data.domain[0] && at < data.domain[1];
		attrs(line, shown ? { visibility: null, x1: xOf(at + middle), x2: xOf(at + middle), y1: top, y2: bottom } : { visibility: "hidden" });
		const range = drag?.to ? [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)] : brush && store.filter.from !== null ? [store.filter.from, store.filter.to] : null;
		const a = range && Math.max(left, xOf(range[0])), b = range && Math.min(right, xOf(range[1]));
		attrs(band, range && b > a ? { visibility: null, x: a, width: b - a, y: top, height: bottom - top } : { visibility: "hidden" });
	}

	function tell(t, x, y, aloud) {
		const i = data.x.indexOf(t);
		const rows = data.series.filter((one) => one.y[i] || data.series.length < 3).map((one) => [one.label, `${(one.format || format)(one.y[i])}${one.unit ? ` ${one.unit}` : ""}`, one.color]);
		if (kind === "area" && data.series.length > 1) rows.push(["all", format(data.series.reduce((sum, one) => sum + one.y[i], 0))]);
		if (data.band) rows.push(["usually", `${format(data.band[0][i])} to ${format(data.band[1][i])}`, "c0"]);
		const when = step > 5 * MINUTE ? stamp : clock;
		showTip(x, y, `${live ? clock(t) : `${when(t, 2)} to ${(step < DAY ? clock : stamp)(t + step, 2)}`} · ${unit}`, rows, data.marks?.find((m) => m.t === t)?.text, aloud);
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
			const { from, to } = drag || {};
			if (!drag) return;
			drag = null;
			if (to && to !== from) brush(Math.min(from, to), Math.max(from, to));
			else brush(null, null);
		},
		onpointercancel: () => (drag = null),
		onblur: () => point(null),
		onkeydown(e) {
			if (e.key === "Escape" && brush) return brush(null, null);
			const move = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
			if (!move || !data.x.length) return;
			e.preventDefault();
			const here = store.cursor?.live === live ? data.x.indexOf(store.cursor.t) : data.x.length;
			const t = data.x[Math.max(0, Math.min(data.x.length - 1, here + move))];
			if (e.shiftKey && brush) {
				const { from, to } = store.filter;
				const a = from !== null ? (move > 0 ? from : to) : (data.x[here] ?? t), b = move > 0 ? t + step : t;
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
		/** `{domain:[from,to), x:[ms], series:[{label,color,y:[n],format?,unit?}], marks:[{t,y,text}], notes:[{t,y,text}], limit:{y,text}, band:[low,high], step, summary}` */
		update: chart.update,
		stop() {
			chart.stop();
			off();
		},
	};
}
