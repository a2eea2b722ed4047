import { h, panel, poll, store, allSources, mainSource, sourceName, address, curlEvent, linkTo, setParams, param, clusterClass, num, compact, fixed, plural, lay, concerns, choice, table, sum, desireChart, scatterChart, FEATURES } from "../kit.js";

const SAMPLES = ["200", "1000", "3000"], LISTED = 300;

export function mount(root) {
	const sample = () => param("users", SAMPLES, "1000"), numbers = Object.keys(FEATURES), pair = () => [+param("x", numbers, "0"), +param("y", numbers, "3")];
	const api = () => mainSource() !== null && address("api/journeys", { source_id: mainSource(), limit: sample() });
	const axis = (name, i) => choice(name, FEATURES.map((label, k) => [String(k), label]), String(pair()[i]), (v) => (setParams({ [name]: v }), drawDots()));
	const paths = panel("Desire lines", api, { tools: [choice("Users", SAMPLES.map((n) => [n, num(+n)]), sample(), (v) => (setParams({ users: v }), ask.soon()))] });
	const listed = panel("Users on the chosen line", api, { polls: paths });
	const clusters = panel("Clusters", () => address("api/clusters", { source_id: mainSource() }), { width: "w8" });
	const dots = panel("Users by two features", api, { unit: "dots grow with the users on them", width: "w4", polls: paths, tools: [axis("x", 0), axis("y", 1)] });
	let rows = [], asked = null;

	const desire = desireChart((stretch, words) => choose(stretch.users.map((i) => rows[i]), words)), scatter = scatterChart(choose);
	const desireBox = h("div", h("p.lede", "Each session takes a journey right by its views, then up by its carts. Stretches walked by many are thicker, in the colour of their main cluster; choose one for its users."), desire.el,
		h("ul.legend", h("li", h("span.swatch.round"), "sessions with a purchase"), h("li", h("span.swatch.diamond"), "centroid of a cluster"), h("li", h("span.swatch.c0"), "no cluster yet")));
	const ask = poll(paths, take, () => 15000);
	listed.el.hidden = true;

	function choose(users, words) {
		listed.el.hidden = false;
		listed.state = "";
		listed.ready(h("div.users", users.slice(0, LISTED).map((j) => h("a", { href: linkTo("user", { source: j.source_id, id: j.user_id }) }, h(`span.swatch.${clusterClass(j.cluster_id)}`), String(j.user_id))), users.length > LISTED && h("span.quiet", `and ${num(users.length - LISTED)} more`)), `${plural(users.length, "user")} of the sample: ${words}`);
		listed.el.scrollIntoView({ block: "nearest" });
	}

	const centroids = () => store.clusters.get(mainSource())?.clusters || [];

	function drawDots() {
		if (!rows.length) return dots.empty("No journeys yet.");
		dots.ready(scatter.el);
		scatter.update(rows, centroids(), pair());
	}

	function take({ journeys }) {
		const source = mainSource(), total = allSources().find((one) => one.source_id === source)?.users;
		rows = journeys;
		if (rows.length) {
			paths.ready(desireBox, `${num(rows.length)}${total ? ` of ${num(total)}` : ""} users of ${sourceName(source)}, whole history; steps widen along both axes`);
			desire.update(rows, centroids());
		} else paths.empty("No journeys yet. Send an event:", curlEvent());
		drawDots();
	}

	function drawClusters() {
		const source = mainSource(), one = store.clusters.get(source);
		if (!store.status || (!store.clustersSeen && source !== null)) return clusters.loading();
		if (!one?.clusters.length) return clusters.empty("No clusters yet. They are trained by themselves once enough journeys are known, or by POST /trigger.");
		const assigned = sum(one.clusters, (c) => c.users);
		clusters.fill(table("Clusters", ["cluster", "#users", "#share", "#views", "#carts", "#purchases", "#sessions", "#views per session", "#purchase ratio"], one.clusters.map((c) => [h("span.nowrap", h(`span.swatch.${clusterClass(c.cluster_id)}`), `cluster ${c.cluster_id}`), num(c.users), `${fixed((100 * c.users) / (assigned || 1), 1)} %`, ...c.centroid.map((v) => compact(Math.round(v * 100) / 100))])), `${num(assigned)} of ${num(one.users)} users assigned now; model version ${num(one.model_version)}; centroids are means per user, whole history`);
		if (rows.length) desire.update(null, one.clusters);
	}

	return {
		...lay(root, "Journeys and clusters", "The paths people wear into the ground.", [paths, listed, clusters, dots], [ask, desire, scatter]),
		update(kinds) {
			if (store.status && mainSource() === null) take({ journeys: [] });
			else if (mainSource() !== asked) {
				asked = mainSource();
				listed.el.hidden = true;
				ask.again();
			}
			if (concerns(kinds, "clusters") || clusters.state === "loading") drawClusters();
		},
	};
}
