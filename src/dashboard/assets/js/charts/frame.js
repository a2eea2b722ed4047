import { attrs, h, s, hideTip, showTip, DAY, MINUTE, clock, stamp, clamp, steps } from "../kit.js";

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
	return { svg, el, update: (next) => redraw((data = next)), stop: () => watch.disconnect() };
}

export const axes = (xs, ys, left, right, bottom, names = []) => [
	ys.map(([y, words], i) => [s(i ? "line.grid-line" : "line.axis-line", { x1: left, x2: right, y1: y, y2: y }), s("text", { x: left - 7, y: y + 4, "text-anchor": "end" }, words)]),
	xs.map(([x, words]) => s("text", { x, y: bottom + 15, "text-anchor": "middle" }, words)),
	names[0] && s("text", { x: right, y: bottom + 32, "text-anchor": "end" }, `${names[0]} →`),
	names[1] && s("text", { x: 6, y: 9 }, `↑ ${names[1]}`),
];

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 14400].map((m) => m * 60000);

export function timeTicks([from, to], count) {
	const gap = STEPS.find((one) => (to - from) / one <= count) || STEPS[14], zone = new Date(from).getTimezoneOffset() * MINUTE;
	return steps(Math.ceil((from - zone) / gap) * gap + zone, to, gap).map((t) => [t, gap < DAY ? clock(t, 2) : stamp(t).slice(5, 10)]);
}

export const some = (grid, count) => grid.map((v, i) => [i, v]).filter(([i]) => i % Math.max(1, Math.ceil((grid.length - 1) / count)) === 0);

export function diamonds(places, width) {
	const taken = places.map(([x, y]) => [x - 7, x + 7, y]);
	return places.map(([x, y, c, id]) => {
		const left = x > width - 90, at = x + (left ? -11 : 11), from = left ? at - 56 : at, to = from + 56;
		const down = [0, -14, 14, -28, 28].find((d) => taken.every(([a, b, v]) => b < from || a > to || Math.abs(v - y - d) > 12)) ?? 0;
		taken.push([from, to, y + down]);
		return [s(`path.centroid.${c}`, { d: `M${x} ${y - 7}l7 7l-7 7l-7 -7z` }), s("text.label.halo", { x: at, y: y + down + 4, "text-anchor": left ? "end" : "start" }, `cluster ${id}`)];
	});
}

export function walker(svg, words, choose) {
	let nodes = [], at = -1;
	const mark = (i) => {
		at = i;
		nodes.forEach((node, k) => node.classList.toggle("on", k === i));
	};
	const pick = (i) => [mark(i), choose(i)];
	attrs(svg, {
		onkeydown: (e) => {
			if (e.key === "Enter" && at >= 0) return pick(at);
			const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
			if (!step || !nodes.length) return;
			e.preventDefault();
			mark(clamp(at + step, 0, nodes.length - 1));
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
