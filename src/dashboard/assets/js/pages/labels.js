import { h, fill, text, panel, poll, now, address, get, curlPost, linkHere, linkTo, route, under, STEPS, pipeline, pipelineChart, stateWords, STATES, matrixChart, editor, num, fixed, span, stamp, plural, lay, choice, facts, table, bars, meter, perform } from "../kit.js";

const PAGE = 50, JOBS = 5, NEW = "lf-new", counted = new Map(), started = new Map();
const percent = (n) => `${fixed(100 * n, 1)} %`;

export function mount(root) {
	let first, values = [], data = {}, graph = new Map(), shown, names, plans, pages = [["", 0]], next, only = false;
	const id = () => route().id ?? first, at = (path, query) => address(`concepts/${encodeURIComponent(id())}/${path}`, query), wanted = () => route().params.get("node"), chosen = () => graph.get(wanted()), pathOf = (node) => at(`${STEPS[node.kind][0]}/${node.id}`);
	const open = (node) => (location.hash = linkHere({ node })), pick = (key) => open(key === wanted() ? "" : key), finished = (kind) => (chosen()?.kind === kind ? [chosen().item] : data[kind] || []).find((one) => one.status === "COMPLETED");
	const live = () => data.index?.some((one) => one.conn_id === 0) && at("labels/live", { index_id: chosen()?.item.conn_id === 0 ? chosen().id : null, limit: PAGE, cursor: pages.at(-1)[0], conflicts_only: only || null });

	function classOf(cv) {
		const i = values.findIndex((one) => one.cv_id === cv), name = values[i]?.name ?? (cv === -1 ? "abstains" : `class ${cv}`);
		return { name, short: cv === -1 ? "·" : name.slice(0, 2), color: cv === -1 ? "none" : i < 6 ? `c${i + 1}` : "c0" };
	}

	const button = (words, onclick) => h("button.small", { onclick }, words), alert = () => h("span.bad", { role: "alert" });
	const concepts = choice("Concept", [], "", (v) => (location.hash = linkTo(`labels/${v}`))), title = h("span", "Labels"), lede = h("span"), half = { width: "w6" };
	const pipe = panel("Pipeline", () => address("concepts", { limit: 1000 }), { tools: [concepts] }), one = panel("Details", () => chosen() && pathOf(chosen()), { polls: pipe });
	const grid = panel("Label matrix", live, { width: "w8", tools: [h("label", h("input.box", { type: "checkbox", onchange: (e) => turn([["", 0]], (only = e.target.checked)) }), "conflicts only")] });
	const classes = panel("Labels now", live, { width: "w4", polls: grid }), votes = panel("Labelling functions", () => live() || at(STEPS.lf[0]), { ...half, polls: pipe }), ranking = panel("Classifiers", () => finished("bank") && at(`classifiers/jobs/${finished("bank").job_id}/results`), half);
	const chart = pipelineChart(pick, chosen), matrix = matrixChart(classOf), edit = editor({ at, values: () => values, rules: () => data.rule, saved: (lf) => (ask.soon(), open(`lf-${lf.lf_id}`)) });
	const said = alert(), chartBox = h("div", chart.el, h("p.buttons", button("New labelling function", () => open(NEW)), button("Train a label model", trainModel), button("Train classifiers", trainBank), said));
	const act = h("button.primary", { onclick: change }), refused = alert(), what = h("div"), oneBox = h("div", what, h("p.buttons", act, refused));
	const counts = bars({ unit: "entities", many: "classes", limit: 20, color: (row) => row.color }), model = h("div"), classBox = h("div", counts.el, model);
	const back = button("Previous", () => turn(pages.slice(0, -1))), forth = button("Next", () => turn([...pages, next])), gridBox = h("div", matrix.el, h("p.buttons", back, forth));
	const scores = bars({ limit: 60 }), drops = bars({ many: "features", color: () => "c3" }), failures = h("div"), rankBox = h("div", h("div.tall", scores.el), failures, h("h3", "Feature importances of the first: accuracy lost without it"), drops.el);

	function turn(to) {
		pages = to;
		askLive.soon();
	}

	const ask = poll(pipe, async (list, signal) => {
		first ??= list[0]?.c_id;
		const mine = list.find((c) => `${c.c_id}` === `${id()}`);
		concepts.hidden = list.length < 2;
		if (!mine) {
			one.el.hidden = edit.p.el.hidden = true;
			return [pipe, classes, grid, votes, ranking].forEach((p, i) => p.empty(i ? "Nothing to label." : first ? "There is no such concept (any more)." : "No concepts yet. A concept is a question about things, and its values are the answers. Make one:", !i && !first && curlPost("concepts", { name: "device_classification" })));
		}
		const kinds = Object.entries(STEPS), [answers, { runs }, ...lists] = await Promise.all([at("values"), address("dagster/runs", { limit: 100 }), ...kinds.map(([, [path]]) => at(path, { limit: 1000 }))].map((url) => get(url, signal)));
		values = answers;
		data = Object.fromEntries(kinds.map(([kind], i) => [kind, lists[i]]));
		for (const kind of ["index", "rule", "feature"]) for (const item of data[kind]) item.dagster_run_id = started.get(`${id()} ${kind}-${item[STEPS[kind][1]]}`) ?? item.dagster_run_id;
		graph = pipeline({ ...data, lf: data.lf.filter((lf) => !lf.deprecated_at || wanted() === `lf-${lf.lf_id}`), model: data.model.slice(0, JOBS), bank: data.bank.slice(0, JOBS) }, new Map(runs.map((run) => [run.run_id, run])));
		text(title, mine.name);
		text(lede, mine.description ?? "");
		if (names !== (names = list.map((c) => c.name).join("\n"))) fill(concepts.lastChild, list.map((c) => h("option", { value: c.c_id }, c.name)));
		concepts.lastChild.value = id();
		pipe.draw({ ...chart, el: chartBox }, graph, `classes: ${values.map((one) => one.name).join(", ") || "none yet"}`);
		drawChosen();
		if (live()) askLive.nudge();
		else {
			[classes, grid].forEach((p) => p.empty("No index of this concept reads the connection live (conn_id 0): its votes are counted when a label model is trained."));
			drawVotes(data.lf.filter((lf) => lf.is_active).map((lf) => ({ ...lf, conflicts: null, learned_weight: lf.estimated_accuracy })), "at the last training");
		}
		if (finished("bank")) askRank.nudge();
		else ranking.empty("No classifiers yet: train them on a label model and features.");
	}, () => ([...graph.values()].some((node) => node.state === "running") ? 1500 : 5000));

	function action({ kind, state, item }) {
		if (item.status) return state === "running" ? ["Cancel", "cancel"] : [];
		if (kind === "lf") return item.requires_approval ? ["Approve", "approve"] : [item.is_active ? "Deactivate" : "Activate", "toggle"];
		return [item.is_materialized ? "Materialise again" : "Materialise", "materialize"];
	}

	async function change() {
		const node = chosen(), got = await perform(act, refused, `${pathOf(node)}/${action(node)[1]}`);
		if (got?.dagster_run_id) started.set(`${id()} ${node.key}`, got.dagster_run_id);
		ask.soon();
	}

	function drawChosen() {
		const node = chosen(), { item, run, state, kind, key } = node || {}, seen = JSON.stringify([key, state, item, run, plans]);
		one.el.hidden = !node;
		edit.show(wanted() === NEW ? {} : kind === "lf" ? item : null);
		if (!node || seen === shown) return;
		if (!shown?.startsWith(`["${key}"`)) text(refused, "");
		shown = seen;
		const [words] = action(node), plan = plans?.find((one) => one.kind === kind && one.id === node.id), wrong = item.error_message || (state === "failed" && run?.error_message);
		one.ready(oneBox, `${node.name}: ${stateWords(node)}`);
		act.hidden = !words || (state === "running" && words !== "Cancel");
		text(act, words || "");
		fill(what, wrong && h("p.bad", wrong), state === "stale" && h("p.warn", "What it is made from has changed since."), plan && h("p.lede", plan.reason),
			facts([["state", stateWords(node), STATES[state][1]], ...(run ? [["run", h("a", { href: linkTo("runs", { run: run.run_id }) }, run.status.toLowerCase())], ["took", span(Date.parse(run.end_time) - Date.parse(run.start_time))]] : []), ...Object.entries(item).filter(([name, value]) => !/^(c_id|name|sql_query|error_message|dagster_run_id)$/.test(name) && typeof value !== "object").map(([name, value]) => [name.replaceAll("_", " "), /_at$/.test(name) ? stamp(value) : typeof value === "number" ? fixed(value, Number.isInteger(value) ? 0 : 2) : String(value)])]), item.sql_query && h("pre", item.sql_query));
	}

	const askLive = poll(grid, ({ matrix: { lf_ids }, totals: { rows: all, labelled }, lfs, model: fit, rows, state, reason, next_cursor, plans: found }) => {
		const t = now(), before = pages.at(-1)[1];
		plans = found;
		next = [next_cursor, before + rows.length];
		if (!labelled) classes.empty("The votes are too various to count labels by class.");
		else classes.draw({ ...counts, el: classBox }, [...values.map((one) => one.cv_id), -1].map((cv) => {
			const { name, color } = classOf(cv), count = labelled[cv] || 0, seen = under(counted, `${id()} ${cv}`, () => ({ count }));
			if (seen.count !== count) Object.assign(seen, { before: seen.count, count, at: t });
			return { key: cv, name: cv === -1 ? "no label" : name, color: cv === -1 ? "c0" : color, count, before: seen.before, fixedAt: t - seen.at < 60e3 ? seen.at : 0 };
		}), `of ${num(all)} entities`);
		fill(model, facts([["votes", `${state.replace("_", " ")}${reason ? `: ${reason}` : ""}`, { current: "good", paused: "bad" }[state] || "warn"], ["label model", fit ? `version ${fit.version}, ${stamp(fit.trained_at)}` : "none yet"]]));
		drawVotes(lfs, "of all entities, now");
		back.disabled = pages.length < 2;
		forth.disabled = !next_cursor;
		if (!rows.length && !before) return grid.empty(only ? "No two functions contradict each other." : "No entity has votes yet.");
		grid.draw({ ...matrix, el: gridBox }, { names: lf_ids.map((lf) => lfs.find((one) => one.lf_id === lf)?.name ?? `function ${lf}`), rows }, `entities ${num(before + 1)} to ${num(before + rows.length)} of ${only ? "those in conflict" : num(all)}; outlined: against the label`);
	}, () => 2000);

	function drawVotes(lfs, words) {
		const share = (n, color) => (n == null ? "–" : meter(n, percent(n), color));
		if (!lfs.length) votes.empty("No function is active yet: approve one.");
		else votes.fill(h("div.tall", table("Labelling functions", ["function", "#coverage", "#overlaps", "#conflicts", "#weight"], lfs.map((lf) => [h("a", { href: linkHere({ node: `lf-${lf.lf_id}` }) }, lf.name), share(lf.coverage), share(lf.overlaps, "c6"), share(lf.conflicts, "c4"), share(lf.learned_weight, "c3")]))), words);
	}

	const askRank = poll(ranking, ({ model_scores: models, failed_models: failed = [], feature_importances: lost = [], filtering_stats: kept, threshold_used, message }) => {
		if (!models) return ranking.empty(message);
		fill(failures, failed.length > 0 && h("details", h("summary", `${plural(failed.length, "model")} failed`), failed.map((one) => h("p.more", `${one.Model}: ${one.error}`))));
		drops.update(lost.map(({ feature, importance: n }) => ({ key: feature, count: Math.max(0, n), words: percent(n), tip: [] })));
		ranking.draw({ ...scores, el: rankBox }, models.map(({ Model: key, ...m }) => ({ key, count: m.Accuracy, of: 1, mark: m["Balanced Accuracy"], words: `${percent(m.Accuracy)} · ${span(1000 * m["Time Taken"])}`, tip: Object.entries(m).map(([name, n]) => [name, fixed(n)]) })), `accuracy, line: balanced; ${num(kept.samples_after_filter)} of ${num(kept.samples_before_filter)} samples, threshold ${fixed(threshold_used)}`);
	}, () => 10000);

	async function train(e, path, body, kind) {
		const job = await perform(e.target, said, at(path), body);
		if (job) open(`${kind}-${job.job_id}`, await ask.soon());
	}

	function trainModel(e) {
		const active = data.lf.filter((lf) => lf.is_active), rules = [...new Set(active.map((lf) => lf.rule_id))], of = data.rule.find((rule) => rule.r_id === rules[0]);
		if (of) train(e, "snorkel/run", { selectedIndex: of.index_id, selectedRules: rules, selectedLFs: active.map((lf) => lf.lf_id), snorkel: {} }, "model");
		else text(said, "No labelling function is active: approve one first.");
	}

	function trainBank(e) {
		const from = finished("model"), features = data.feature.filter((one) => one.is_materialized && one.index_id === from?.index_id).map((one) => one.feature_id);
		if (features.length) train(e, "classifiers/run", { snorkel_job_id: from.job_id, feature_ids: features, config: {} }, "bank");
		else text(said, `First ${from ? "materialise a feature" : "train a label model"}.`);
	}

	return {
		...lay(root, title, lede, [pipe, one, edit.p, classes, grid, votes, ranking], [ask, askLive, askRank, chart]),
		update(kinds) {
			if (!graph.size || !kinds.has("params")) return;
			drawChosen();
			chart.draw();
			askRank.soon();
			turn([["", 0]]);
		},
	};
}
