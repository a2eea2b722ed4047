// Desire lines: right by views, up by carts; a stretch has the colour of most of its walkers.

import { s, fill, tips, desireLines, placeOn, clusterClass, num, plural } from "../kit.js";
import { frame, axes, some, diamonds, walker } from "./frame.js";

const LEFT = 44, BASE = 38, NAMES = ["views so far", "carts so far"];

/** Places on the page for grid indices. */
function places(xs, ys, width, height) {
	const X = (i) => LEFT + (i * (width - LEFT - 18)) / Math.max(1, xs.length - 1), Y = (j) => height - BASE - (j * (height - BASE - 16)) / Math.max(1, ys.length - 1);
	const grid = () => axes(some(xs, width < 460 ? 5 : 9).map(([i, v]) => [X(i), num(v)]), some(ys, 6).map(([j, v]) => [Y(j), num(v)]), LEFT, width - 18, height - BASE, NAMES);
	return { X, Y, grid };
}

/** `pick(stretch, words)` is told which stretch was chosen. */
export function desireChart(pick) {
	const height = 430;
	let journeys = [], lines = null, shown = [];
	const chart = frame(height, draw, { tabindex: 0, role: "group", "aria-label": "Desire lines: journeys by views and carts. Arrow keys walk the stretches from the most used on, Enter lists the users." });
	const walk = walker(chart.svg, (i) => [`${plural(shown[i].users.length, "user")}: ${words(shown[i])}`, tally(shown[i].users)], (i) => pick(shown[i], words(shown[i])));

	function words({ x0, y0, x1, y1 }) {
		const { xs, ys } = lines;
		return y0 === y1 ? `${num(xs[x0])} to ${num(xs[x1])} views with ${plural(ys[y0], "cart")}` : `${num(ys[y0])} to ${plural(ys[y1], "cart")} after ${plural(xs[x0], "view")}`;
	}

	function tally(users) {
		const out = new Map();
		for (const u of users) out.set(journeys[u].cluster_id ?? -1, (out.get(journeys[u].cluster_id ?? -1) || 0) + 1);
		return [...out].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([c, n]) => [c < 0 ? "no cluster" : `cluster ${c}`, num(n), clusterClass(c)]);
	}

	function draw(centroids, width) {
		const { xs, ys, stretches, buys } = lines, { X, Y, grid } = places(xs, ys, width, height);
		const most = Math.max(1, ...stretches.map((one) => one.users.length)), mostBuys = Math.max(1, ...buys.map((b) => b.users.length));
		const widest = Math.max(3, Math.min(14, 1.1 * Math.min(X(1) - X(0), Y(0) - Y(1))));
		// Drawn with the most used last, on top; walked with the most used first.
		const nodes = stretches.map((one) => s(`path.stretch.${clusterClass(one.cluster)}`, {
			d: `M${X(one.x0).toFixed(1)} ${Y(one.y0).toFixed(1)}L${X(one.x1).toFixed(1)} ${Y(one.y1).toFixed(1)}`,
			"stroke-width": (1.2 + (widest - 1.2) * Math.sqrt(one.users.length / most)).toFixed(2), opacity: (0.3 + (0.7 * Math.log1p(one.users.length)) / Math.log1p(most)).toFixed(2),
		}));
		fill(chart.svg, grid(), nodes,
			buys.map((b) => s(`circle.buy.${clusterClass(b.cluster)}`, { cx: X(b.x), cy: Y(b.y), r: (1.8 + 3 * Math.sqrt(b.users.length / mostBuys)).toFixed(1) })),
			diamonds(centroids.map((c) => [X(placeOn(xs, c.centroid[0])), Y(placeOn(ys, c.centroid[1])), clusterClass(c.cluster_id), c.cluster_id]), width));
		shown = [...stretches].reverse();
		walk.use(nodes.reverse());
	}

	return {
		...chart,
		/** Without `rows` only the centroids have moved. */
		update(rows, centroids) {
			if (rows) {
				journeys = rows;
				lines = desireLines(rows, 64, 28);
				walk.reset();
			}
			chart.update(centroids);
		},
	};
}

/** One user's cumulative path; a dot per session, larger with a purchase. */
export function pathChart() {
	const height = 260;
	const chart = frame(height, draw, { role: "group" });
	function draw(journey, width) {
		const { xs, ys } = desireLines([journey], 200, 100), { X, Y, grid } = places(xs, ys, width, height), c = clusterClass(journey.cluster_id);
		const x = (v) => X(placeOn(xs, v)).toFixed(1), y = (v) => Y(placeOn(ys, v)).toFixed(1);
		let views = 0, carts = 0, d = `M${x(0)} ${y(0)}`;
		const stops = journey.paths.map((step, i) => {
			d += `H${x((views += step[0]))}V${y((carts += step[1]))}`;
			return { views, carts, step, i };
		});
		const every = Math.ceil(stops.length / 60);
		fill(chart.svg, grid(), s(`path.line.${c}`, { d }), stops.filter((p) => p.step[2] > 0 || p.i % every === 0 || p.i === stops.length - 1).map((p) => tips(
			s(`circle.${p.step[2] > 0 ? "buy" : "dot"}.${c}`, { cx: x(p.views), cy: y(p.carts), r: p.step[2] > 0 ? 6 : 3.5, tabindex: 0, role: "img", "aria-label": `after session ${p.i + 1}: ${plural(p.views, "view")}, ${plural(p.carts, "cart")}` }),
			() => [`after session ${p.i + 1}`, [["views so far", num(p.views)], ["carts so far", num(p.carts)], ["in this session", `${plural(p.step[0], "view")}, ${plural(p.step[1], "cart")}`], ["purchases (count or value)", num(p.step[2])]]])));
		chart.svg.setAttribute("aria-label", `Path over ${plural(stops.length, "session")}, ending at ${plural(views, "view")} and ${plural(carts, "cart")}`);
	}
	return chart;
}
