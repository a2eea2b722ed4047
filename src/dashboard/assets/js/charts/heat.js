import { attrs, h, s, fill, showTip, hideTip, ticks, num, store, touch, fixWords, clamp, frame, timeTicks, binWords } from "../kit.js";

const ROW = 22;

export function heatChart(pick) {
	const chart = frame(0, draw, { tabindex: 0, role: "group", "aria-label": "Bins by spaces. Arrow keys read the values, Enter opens the space." }), legend = h("ul.legend"), ring = s("rect.ring", { height: ROW - 2 });
	let data = null, left = 0, wide = 1, at = null;
	const X = (t) => left + (t - data.domain[0]) * wide;
	chart.el.append(legend);

	function draw(next, width) {
		data = next;
		const { rows, x, step, domain } = data, bottom = rows.length * ROW, levels = ticks(rows.reduce((max, row) => row.numbers.reduce((a, b) => Math.max(a, b), max), 0), 5), shades = levels.map(() => ""), strength = (k) => k / (levels.length - 1);
		left = Math.min(170, width * 0.34);
		wide = (width - left - 4) / (domain[1] - domain[0]);
		const w = wide * step;
		let over = "", hidden = "", marks = "";
		rows.forEach((row, j) => row.numbers.forEach((n, i) => {
			const place = `M${X(x[i]).toFixed(1)} ${j * ROW}`;
			if (n === null) hidden += `${place}m${w * 0.3} 11h${w * 0.4}`;
			else if (n > 0) shades[levels.findIndex((level) => n <= level)] += `${place}h${w.toFixed(2)}v20h-${w.toFixed(2)}z`;
			if (row.capacity && n > row.capacity) over += `${place}m0 19h${w}`;
			if (row.fixes[i]) marks += `${place}h8l-8 8z`;
		}));
		fill(chart.svg, s("rect.ground", { x: left, width: width - left - 4, height: bottom }), shades.map((d, k) => s("path.dot.c1", { d, opacity: strength(k) })), s("path.hidden", { d: hidden }), s("path.over", { d: over }), s("path.mark", { d: marks }),
			rows.map(({ name }, j) => s("text.label", { x: left - 8, y: j * ROW + 15, "text-anchor": "end" }, name.length * 6.2 > left ? `${name.slice(0, left / 6.2 - 2)}…` : name)),
			timeTicks(domain, width < 460 ? 3 : 7).filter(([t]) => X(t) < width - 14).map(([t, words]) => s("text", { x: X(t), y: bottom + 14, "text-anchor": "middle" }, words)), ring);
		fill(legend, h("li", "devices: blank 0"), levels.slice(1).map((top, k) => {
			const swatch = h("span.swatch.c1");
			swatch.style.opacity = strength(k + 1);
			return h("li", swatch, levels[k] + 1 < top && `${num(levels[k] + 1)} to `, num(top));
		}), over && h("li.bad", "▁ above capacity"), hidden && h("li", "– withheld, too few to show"), marks && h("li.bad", "◤ corrected late"));
		return bottom + 20;
	}

	function rest() {
		hideTip();
		attrs(ring, { visibility: "hidden" });
	}

	function tell(i, j, px, py) {
		const row = data.rows[j], n = row?.numbers[i], t = data.x[i], fix = row?.fixes[i];
		if (n === undefined) return rest();
		at = [i, j];
		attrs(ring, { x: X(t), y: j * ROW, width: wide * data.step, visibility: null });
		store.cursor = { live: false, t };
		touch("cursor");
		const box = ring.getBoundingClientRect();
		showTip(px ?? box.right, py ?? box.top, row.name, [[binWords(t, data.step), n === null ? "withheld" : `${num(n)} devices`, "c1"], ...(row.capacity ? [["of its capacity", `${num((100 * n) / row.capacity)} % of ${num(row.capacity)}`]] : [])], fix && fixWords(fix.before, fix.after), px === undefined);
	}

	attrs(chart.svg, {
		onpointermove(e) {
			const box = chart.svg.getBoundingClientRect();
			at = null;
			tell(Math.floor((e.clientX - box.left - left) / wide / data.step), Math.floor((e.clientY - box.top) / ROW), e.clientX, e.clientY);
		},
		onclick(e) {
			const row = data.rows[Math.floor((e.clientY - chart.svg.getBoundingClientRect().top) / ROW)];
			if (row) pick(row);
		},
		onpointerleave: rest,
		onblur: rest,
		onkeydown(e) {
			if (e.key === "Enter" && at) return pick(data.rows[at[1]]);
			const { x, rows } = data, [i, j] = at || [x.length, 0], [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key] || [];
			if (dx === undefined) return;
			e.preventDefault();
			tell(clamp(i + dx, 0, x.length - 1), clamp(j + dy, 0, rows.length - 1));
		},
	});
	return chart;
}
