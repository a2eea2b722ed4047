import { s, fill, under, clusterClass, compact, plural, frame, axes, diamonds, walker } from "../kit.js";

export const FEATURES = ["views", "carts", "purchases (count or value)", "sessions", "views per session", "purchase ratio"];

const scale = (v) => Math.log1p(Math.max(0, v));
const ROUND = [0, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6, 1e7, 1e8];

export function scatterChart(pick) {
	let pair = [0, 3], dots = [];
	const height = 360, chart = frame(height, draw, { tabindex: 0, role: "group", "aria-label": "Users by two features. Arrow keys walk the dots from the largest on, Enter lists the users." });
	const walk = walker(chart.svg, (i) => {
		const { x, y, cluster, users } = dots[i];
		return [users.length === 1 ? `user ${users[0].user_id}` : plural(users.length, "user"), [[FEATURES[pair[0]], compact(x)], [FEATURES[pair[1]], compact(y)], ["cluster", cluster < 0 ? "none" : String(cluster), clusterClass(cluster)]]];
	}, (i) => pick(dots[i].users, `${FEATURES[pair[0]]} ${compact(dots[i].x)}, ${FEATURES[pair[1]]} ${compact(dots[i].y)}`));

	function logTicks(max, place, gap = 0.1) {
		let last = -1;
		return ROUND.filter((v) => scale(v) <= max && (last < 0 || (scale(v) - last) / max > gap) && ((last = scale(v)), true)).map((v) => [place(v), compact(v)]);
	}

	function draw([journeys, centroids], width) {
		const merged = new Map();
		for (const j of journeys) {
			const x = j.features[pair[0]], y = j.features[pair[1]], cluster = j.cluster_id ?? -1, key = `${Math.round(20 * scale(x))} ${Math.round(20 * scale(y))} ${cluster}`;
			under(merged, key, () => ({ x, y, cluster, users: [] })).users.push(j);
		}
		dots = [...merged.values()].sort((a, b) => b.users.length - a.users.length);
		const centre = centroids.map((c) => ({ x: c.centroid[pair[0]], y: c.centroid[pair[1]], id: c.cluster_id }));
		const far = (k) => scale(Math.max(0.1, ...dots.map((d) => d[k]), ...centre.map((c) => c[k]))) * 1.04, maxX = far("x"), maxY = far("y");
		const X = (v) => 44 + (scale(v) / maxX) * (width - 62), Y = (v) => height - 38 - (scale(v) / maxY) * (height - 54);
		const nodes = dots.map((dot) => s(`circle.point.${clusterClass(dot.cluster)}`, { cx: X(dot.x), cy: Y(dot.y), r: Math.min(14, 3 + 0.8 * Math.sqrt(dot.users.length - 1)) }));
		fill(chart.svg, axes(logTicks(maxX, X, 46 / (width - 62)), logTicks(maxY, Y), 44, width - 18, height - 38, pair.map((k) => FEATURES[k])), nodes, diamonds(centre.map((c) => [X(c.x), Y(c.y), clusterClass(c.id), c.id]), width));
		walk.use(nodes);
	}

	return {
		...chart,
		update(rows, clusters, features) {
			pair = features;
			walk.reset();
			chart.update([rows, clusters]);
		},
	};
}
