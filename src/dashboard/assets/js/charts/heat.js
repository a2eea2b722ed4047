// Bins × spaces: the stronger the colour, the more devices. One path per shade, however many bins there are.

import { attrs, h, s, fill, showTip, hideTip, ticks, num, fixWords, stamp, clock, DAY, store, touch } from "../kit.js";
import { frame, timeTicks } from "./frame.js";

const ROW = 22;

/** `pick(row)` is told which space was chosen. Data: `{domain, x: [ms], step, unit, rows: [{name, capacity, numbers: [n or null], fixes: [fix]}]}`. */
export function heatChart(pick) {
	const chart = frame(0, draw, { tabindex: 0, role: "group", "aria-label": "Bins by spaces. Arrow keys read the values, Enter opens the space." }), legend = h("ul.legend");
	const ring = s("rect.ring", { height: ROW - 2, visibility: "hidden" });
	let data = null, left = 0, wide = 1, at = null;
	chart.el.append(legend);

	const X = (t) => left + (t - data.domain[0]) * wide;

	function draw(next, width) {
		data = next;
		const { rows, x, step, domain } = data, bottom = rows.length * ROW;
		left = Math.min(170, width * 0.34);
		wide = (width - left - 4) / (domain[1] - domain[0]);
		const levels = ticks(rows.reduce((max, row) => row.numbers.reduce((a, b) => Math.max(a, b), max), 0), 5), shades = levels.map(() => ""), w = wide * step;
		let over = "", hidden = "", marks = "";
		rows.forEach((row, j) => row.numbers.forEach((n, i) => {
			const place = `M${X(x[i]).toFixed(1)} ${j * ROW}`;
			if (n === null) hidden += `${place}m${w * 0.3} ${ROW / 2}h${w * 0.4}`;
			else if (n > 0) shades[levels.findIndex((level) => n <= level)] += `${place}h${w.toFixed(2)}v${ROW - 2}h-${w.toFixed(2)}z`;
			if (row.capacity && n > row.capacity) over += `${place}m0 ${ROW - 3}h${w}`;
			if (row.fixes[i]) marks += `${place}h8l-8 8z`;
		}));
		fill(chart.svg, s("rect.ground", { x: left, width: width - left - 4, height: bottom }), shades.map((d, k) => s("path.dot.c1", { d, opacity: k / (levels.length - 1) })), s("path.hidden", { d: hidden }), s("path.over", { d: over }), s("path.mark", { d: marks }),
			rows.map((row, j) => s("text.label", { x: left - 8, y: j * ROW + 15, "text-anchor": "end" }, row.name.length * 6.2 > left ? `${row.name.slice(0, left / 6.2 - 2)}…` : row.name)),
			timeTicks(domain, width < 460 ? 3 : 7).filter(([t]) => X(t) < width - 14).map(([t, words]) => s("text", { x: X(t), y: bottom + 14, "text-anchor": "middle" }, words)), ring);
		fill(legend, h("li", `${data.unit}: blank 0`), levels.slice(1).map((top, k) => {
			const swatch = h("span.swatch.c1");
			swatch.style.opacity = (k + 1) / (levels.length - 1);
			return h("li", swatch, `${num(levels[k] + 1)} to ${num(top)}`);
		}), over && h("li.bad", "▁ above capacity"), hidden && h("li", "– withheld, too few to show"), marks && h("li.bad", "◤ corrected late"));
		if (at) mark(Math.min(at[0], x.length - 1), Math.min(at[1], rows.length - 1));
		return bottom + 20;
	}

	function mark(i, j) {
		at = [i, j];
		attrs(ring, { x: X(data.x[i]), y: j * ROW, width: wide * data.step, visibility: null });
	}

	function tell(px, py, aloud) {
		const [i, j] = at, row = data.rows[j], n = row.numbers[i], t = data.x[i], fix = row.fixes[i];
		if (n === undefined) return hideTip();
		store.cursor = { live: false, t };
		touch("cursor");
		showTip(px, py, row.name, [[`${stamp(t, 2)} to ${(data.step < DAY ? clock : stamp)(t + data.step, 2)}`, `${n === null ? "withheld" : num(n)} ${data.unit}`, "c1"], ...(row.capacity ? [["of its capacity", n === null ? "–" : `${num((100 * n) / row.capacity)} % of ${num(row.capacity)}`]] : [])], fix && fixWords(fix.before, fix.after), aloud);
	}

	const rest = () => {
		hideTip();
		attrs(ring, { visibility: "hidden" });
	};
	attrs(chart.svg, {
		onpointermove(e) {
			const box = chart.svg.getBoundingClientRect(), i = Math.floor((e.clientX - box.left - left) / wide / data.step), j = Math.floor((e.clientY - box.top) / ROW);
			if (!data.rows[j]) return rest();
			at = [i, j];
			if (data.x[i] === undefined) return rest();
			mark(i, j);
			tell(e.clientX, e.clientY);
		},
		onclick: () => at && data.rows[at[1]] && pick(data.rows[at[1]]),
		onpointerleave: rest,
		onblur: rest,
		onkeydown(e) {
			if (e.key === "Enter" && at) return pick(data.rows[at[1]]);
			const [i, j] = at || [data.x.length - 1, 0], [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key] || [];
			if (dx === undefined || !data.rows.length) return;
			e.preventDefault();
			mark(Math.max(0, Math.min(data.x.length - 1, i + dx)), Math.max(0, Math.min(data.rows.length - 1, j + dy)));
			const box = ring.getBoundingClientRect();
			tell(box.right, box.top, true);
		},
	});
	return chart;
}
