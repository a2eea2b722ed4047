// What every chart shares: an SVG as wide as its place, axes, and walking its shapes by keyboard.

import { attrs, h, s, hideTip, showTip } from "../dom.js";

/** Calls `draw(width)` when shown, resized, or asked to. */
export function frame(height, draw, more = {}) {
	const svg = s("svg.chart", { height, ...more }), el = h("div", svg);
	const redraw = () => {
		if (!el.isConnected || !el.clientWidth) return;
		const width = Math.max(200, el.clientWidth);
		attrs(svg, { viewBox: `0 0 ${width} ${height}` });
		draw(width);
	};
	const watch = new ResizeObserver(redraw);
	watch.observe(el);
	return { svg, el, redraw, stop: () => watch.disconnect() };
}

/** Grid, tick words and axis names. `xs` and `ys` are `[place, words]`; the first y is the base line. */
export const axes = (xs, ys, left, right, bottom, names = []) => [
	ys.map(([y, words], i) => [s(i ? "line.grid-line" : "line.axis-line", { x1: left, x2: right, y1: y, y2: y }), s("text", { x: left - 7, y: y + 4, "text-anchor": "end" }, words)]),
	xs.map(([x, words]) => s("text", { x, y: bottom + 15, "text-anchor": "middle" }, words)),
	names[0] && s("text", { x: right, y: bottom + 32, "text-anchor": "end" }, `${names[0]} →`),
	names[1] && s("text", { x: 6, y: 9 }, `↑ ${names[1]}`),
];

/** Every nth grid value, about `count` of them, as `[index, value]`. */
export const some = (grid, count) => grid.map((v, i) => [i, v]).filter(([i]) => i % Math.max(1, Math.ceil((grid.length - 1) / count)) === 0);

/** Diamonds with their names, the centroids of clusters: `[x, y, class, id]`. A name gives way to those before it. */
export function diamonds(places, width) {
	const taken = [];
	return places.map(([x, y, c, id]) => {
		const left = x > width - 90, at = left ? x - 11 : x + 11, from = left ? at - 56 : at;
		const free = (d) => taken.every(([u, v]) => Math.abs(u - from) > 58 || Math.abs(v - y - d) > 13)
			&& places.every(([u, v]) => u < from - 8 || u > from + 62 || Math.abs(v + 4 - y - d) > 11);
		const down = [4, -10, 18, -24, 32, -38].find(free) ?? 4;
		taken.push([from, y + down]);
		return [s(`path.centroid.${c}`, { d: `M${x} ${y - 7}l7 7l-7 7l-7 -7z` }), s("text.label.halo", { x: at, y: y + down, "text-anchor": left ? "end" : "start" }, `cluster ${id}`)];
	});
}

/**
 * Pointer and keyboard on shapes that can be chosen: arrow keys walk them in order, Enter chooses. `words(i)` gives the
 * tooltip. The nodes are given anew after each drawing by `use(nodes)`.
 */
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
