import { s, fill, tips, desireLines, tally, placeOn, clusterClass, num, plural, frame, axes, some, diamonds, walker } from "../kit.js";

const LEFT = 44, BASE = 38, NAMES = ["views so far", "carts so far"];

function places(xs, ys, width, height) {
	const X = (i) => LEFT + (i * (width - LEFT - 18)) / Math.max(1, xs.length - 1), Y = (j) => height - BASE - (j * (height - BASE - 16)) / Math.max(1, ys.length - 1);
	const grid = () => axes(some(xs, width < 460 ? 5 : 9).map(([i, v]) => [X(i), num(v)]), some(ys, 6).map(([j, v]) => [Y(j), num(v)]), LEFT, width - 18, height - BASE, NAMES);
	return { X, Y, grid };
}

export function desireChart(pick) {
	const height = 430;
	let journeys = [], lines = null, shown = [];
	const chart = frame(height, draw, { tabindex: 0, role: "group", "aria-label": "Desire lines: journeys by views and carts. Arrow keys walk the stretches from the most used on, Enter lists the users." });
	const walk = walker(chart.svg, (i) => [`${plural(shown[i].users.length, "user")}: ${words(shown[i])}`, tally(journeys, shown[i].users).slice(0, 6).map(([c, n]) => [c < 0 ? "no cluster" : `cluster ${c}`, num(n), clusterClass(c)])], (i) => pick(shown[i], words(shown[i])));

	function words({ x0, y0, x1, y1 }) {
		const { xs, ys } = lines;
		return y0 === y1 ? `${num(xs[x0])} to ${num(xs[x1])} views with ${plural(ys[y0], "cart")}` : `${num(ys[y0])} to ${plural(ys[y1], "cart")} after ${plural(xs[x0], "view")}`;
	}

	function draw(centroids, width) {
		const { xs, ys, stretches, buys } = lines, { X, Y, grid } = places(xs, ys, width, height);
		const most = Math.max(1, ...stretches.map((one) => one.users.length)), mostBuys = Math.max(1, ...buys.map((b) => b.users.length));
		const widest = Math.max(3, Math.min(14, 1.1 * Math.min(X(1) - X(0), Y(0) - Y(1))));
		// Drawn with the most used last, on top; walked with the most used first.
		const nodes = stretches.map((one) => s(`path.stretch.${clusterClass(one.cluster)}`, {
			d: `M${X(one.x0)} ${Y(one.y0)}L${X(one.x1)} ${Y(one.y1)}`, "stroke-width": 1.2 + (widest - 1.2) * Math.sqrt(one.users.length / most), opacity: 0.3 + (0.7 * Math.log1p(one.users.length)) / Math.log1p(most),
		}));
		fill(chart.svg, grid(), nodes,
			buys.map((b) => s(`circle.buy.${clusterClass(b.cluster)}`, { cx: X(b.x), cy: Y(b.y), r: 1.8 + 3 * Math.sqrt(b.users.length / mostBuys) })),
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

export function pathChart() {
	const chart = frame(260, draw, { role: "group" });
	function draw(journey, width) {
		const { xs, ys } = desireLines([journey], 200, 100), { X, Y, grid } = places(xs, ys, width, 260), c = clusterClass(journey.cluster_id);
		const x = (v) => X(placeOn(xs, v)), y = (v) => Y(placeOn(ys, v));
		let views = 0, carts = 0, d = `M${x(0)} ${y(0)}`;
		const stops = journey.paths.map((step, i) => {
			d += `H${x((views += step[0]))}V${y((carts += step[1]))}`;
			return { views, carts, step, i };
		});
		const every = Math.ceil(stops.length / 60);
		fill(chart.svg, grid(), s(`path.line.${c}`, { d }), stops.filter((p) => p.step[2] > 0 || p.i % every === 0 || p.i === stops.length - 1).map(({ views, carts, step: [v, k, bought], i }) => {
			const title = `after session ${i + 1}`;
			return tips(s(`circle.${bought > 0 ? "buy" : "dot"}.${c}`, { cx: x(views), cy: y(carts), r: bought > 0 ? 6 : 3.5 }),
				() => [title, [["views so far", num(views)], ["carts so far", num(carts)], ["in this session", `${plural(v, "view")}, ${plural(k, "cart")}`], ["purchases (count or value)", num(bought)]]], `${title}: ${plural(views, "view")}, ${plural(carts, "cart")}`);
		}));
		chart.svg.setAttribute("aria-label", `Path over ${plural(stops.length, "session")}, ending at ${plural(views, "view")} and ${plural(carts, "cart")}`);
	}
	return chart;
}
