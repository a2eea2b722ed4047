// What every chart shares: an SVG as wide as its place, axes, and walking its shapes by keyboard.

import { attrs, h, s, hideTip, showTip, DAY, MINUTE, clock, stamp } from "../kit.js";

/** Calls `draw(data, width)` when it has data and is shown, resized or updated. */
export function frame(height, draw, more = {}) {
	const svg = s("svg.chart", { height, ...more }), el = h("div", svg);
	let data = null;
	const redraw = () => {
		if (!data || !el.clientWidth) return;
		const width = Math.max(200, el.clientWidth), tall = draw(data, width) || height;
		attrs(svg, { viewBox: `0 0 ${width} ${tall}`, height: tall });
	};
	const watch = new ResizeObserver(redraw);
	watch.observe(el);
	return {
		svg,
		el,
		update(next) {
			data = next;
			redraw();
		},
		stop: () => watch.disconnect(),
	};
}

/** Grid, tick words and axis names. `xs` and `ys` are `[place, words]`; the first y is the base line. */
export const axes = (xs, ys, left, right, bottom, names = []) => [
	ys.map(([y, words], i) => [s(i ? "line.grid-line" : "line.axis-line", { x1: left, x2: right, y1: y, y2: y }), s("text", { x: left - 7, y: y + 4, "text-anchor": "end" }, words)]),
	xs.map(([x, words]) => s("text", { x, y: bottom + 15, "text-anchor": "middle" }, words)),
	names[0] && s("text", { x: right, y: bottom + 32, "text-anchor": "end" }, `${names[0]} →`),
	names[1] && s("text", { x: 6, y: 9 }, `↑ ${names[1]}`),
];

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 14400].map((m) => m * 60000);

/** About `count` round times of a range with their words: `[ms, words]`, on the hours and days of the reader's zone. */
export function timeTicks([from, to], count) {
	const gap = STEPS.find((one) => (to - from) / one <= count) || STEPS[14], zone = new Date(from).getTimezoneOffset() * MINUTE, out = [];
	for (let t = Math.ceil((from - zone) / gap) * gap + zone; t < to; t += gap) out.push([t, gap < DAY ? clock(t, 2) : stamp(t).slice(5, 10)]);
	return out;
}

/** Every nth grid value, about `count` of them, as `[index, value]`. */
export const some = (grid, count) => grid.map((v, i) => [i, v]).filter(([i]) => i % Math.max(1, Math.ceil((grid.length - 1) / count)) === 0);

/** Centroids as diamonds, `[x, y, class, id]`; a name gives way to diamonds and to the names before it. */
export function diamonds(places, width) {
	const taken = places.map(([x, y]) => [x - 7, x + 7, y]);
	return places.map(([x, y, c, id]) => {
		const left = x > width - 90, at = x + (left ? -11 : 11), from = left ? at - 56 : at, to = from + 56;
		const down = [0, -14, 14, -28, 28].find((d) => taken.every(([a, b, v]) => b < from || a > to || Math.abs(v - y - d) > 12)) ?? 0;
		taken.push([from, to, y + down]);
		return [s(`path.centroid.${c}`, { d: `M${x} ${y - 7}l7 7l-7 7l-7 -7z` }), s("text.label.halo", { x: at, y: y + down + 4, "text-anchor": left ? "end" : "start" }, `cluster ${id}`)];
	});
}

/** Pointer and keyboard on shapes: arrow keys walk them, Enter chooses; `words(i)` is the tooltip; `use(nodes)` after each drawing. */
export function walker(svg, words, choose) {
	let nodes = [], at = -1;
	const mark = (i) => {
		at = i;
		nodes.forEach((node, k) => node.classList.toggle("on", k === i));
	};
	const pick = (i) => {
		mark(i);
		choose(i);
	};
	attrs(svg, {
		onkeydown: (e) => {
			if (e.key === "Enter" && at >= 0) return pick(at);
			const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
			if (!step || !nodes.length) return;
			e.preventDefault();
			mark(Math.max(0, Math.min(nodes.length - 1, at + step)));
			const box = nodes[at].getBoundingClientRect();
			showTip(box.right, box.top, ...words(at), "Enter lists them", true);
		},
		onblur: hideTip,
		onpointerleave: hideTip,
	});
	return {
		use(next) {
			nodes = next;
			nodes.forEach((node, i) => attrs(node, { onpointermove: (e) => showTip(e.clientX, e.clientY, ...words(i)), onpointerleave: hideTip, onclick: () => pick(i) }));
			mark(Math.min(at, nodes.length - 1));
		},
		reset: () => (at = -1),
	};
}
