import { s, fill, tips, num, span, stamp, fixed, time, frame } from "../kit.js";

export function timeline() {
	const height = 150, floor = height - 24;
	const chart = frame(height, draw, { role: "group", "aria-label": "Sessions on a time line" });

	function draw(rows, width) {
		const all = rows.map((row) => ({ row, a: time(row.start), b: time(row.end) })), room = 1800e3;
		const first = Math.min(...all.map((one) => one.a)) - room, last = Math.max(...all.map((one) => one.b)) + room;
		const X = (t) => 12 + ((t - first) / (last - first)) * (width - 24), most = Math.max(...all.map((one) => one.row.event_count));
		fill(chart.svg, s("line.axis-line", { x1: 12, x2: width - 12, y1: floor, y2: floor }),
			[0, 1, 2].map((k) => s("text", { x: 12 + (k * (width - 24)) / 2, y: height - 6, "text-anchor": ["start", "middle", "end"][k] }, stamp(first + (k * (last - first)) / 2, 2))),
			all.map(({ row, a, b }) => {
				const tall = 10 + (floor - 26) * Math.sqrt(row.event_count / most), w = Math.max(4, X(b) - X(a));
				const bar = s("rect.dot.c1", { x: X(a), y: floor - tall, width: w, height: tall, rx: 2, opacity: row.sealed ? 0.45 : 1 });
				tips(bar, () => [`session ${row.session_number}${row.sealed ? " (sealed)" : ""}`, [["start", stamp(a)], ["duration", span(b - a)], ["events", num(row.event_count)], ["views, carts, purchases", `${num(row.views)}, ${num(row.carts)}, ${num(row.transactions)}`], ["value", fixed(row.value)]]], `session ${row.session_number}, ${stamp(a)}, ${num(row.event_count)} events`);
				return [bar, row.transactions > 0 && s("circle.buy.c4", { cx: X(a) + w / 2, cy: floor - tall - 8, r: 4 })];
			}));
	}
	return chart;
}
