// Pure functions of concepts: the pipeline as a graph, rows of votes, keys in an editor of code.

const STATE_OF = { PENDING: "running", STARTED: "running", RUNNING: "running", FAILURE: "failed", FAILED: "failed", CANCELLED: "off" };
const at = (time) => Date.parse(time) || 0, ofIndex = (one) => [`index-${one.index_id}`];

// Per kind: where the API has it, its number, and what it is made from.
export const STEPS = {
	index: ["indexes", "index_id", () => []],
	rule: ["rules", "r_id", ofIndex],
	feature: ["features", "feature_id", ofIndex],
	lf: ["labeling-functions", "lf_id", (one) => [`rule-${one.rule_id}`]],
	model: ["snorkel/jobs", "job_id", (one) => one.lf_ids.map((id) => `lf-${id}`)],
	bank: ["classifiers/jobs", "job_id", (one) => [`model-${one.snorkel_job_id}`, ...one.feature_ids.map((id) => `feature-${id}`)]],
};

function stateOf({ kind, item, run, made }, from) {
	if (kind === "lf") return item.is_active ? "ready" : item.deprecated_at || !item.requires_approval ? "off" : "waiting";
	const job = item.status, state = STATE_OF[job ?? (made <= at(run?.end_time ?? run?.created_at) && run?.status)];
	if (state && (job || state !== "off")) return state;
	if (!job && !item.is_materialized) return "waiting";
	return from.some((one) => one.made > made || /stale|off/.test(one.state)) ? "stale" : "ready";
}

export function pipeline(lists, runs) {
	const nodes = new Map();
	for (const [kind, [, key, sources]] of Object.entries(STEPS)) for (const item of lists[kind]) {
		const from = sources(item).map((one) => nodes.get(one)).filter(Boolean), node = { key: `${kind}-${item[key]}`, kind, id: item[key], item, run: runs.get(item.dagster_run_id), name: item.name ?? `job ${item[key]}`, from: from.map((one) => one.key) };
		// A function is as new as the rows it reads.
		node.made = kind === "lf" ? Math.max(0, ...from.map((one) => one.made)) : at(item.materialized_at ?? item.completed_at);
		node.state = stateOf(node, from);
		nodes.set(node.key, node);
	}
	return nodes;
}

export const conflicted = (votes) => new Set(votes.filter((vote) => vote !== -1)).size > 1;

export function typed(text, from, to, key) {
	const start = text.lastIndexOf("\n", from - 1) + 1, before = text.slice(start, from);
	if (key === "Enter") return { from, to, words: `\n${/^\s*/.exec(before)[0]}${/:\s*$/.test(before) ? "    " : ""}` };
	if (key === "Tab" && from === to) return { from, to, words: " ".repeat(4 - (before.length % 4)) };
	const end = `${text}\n`.indexOf("\n", Math.max(from, to - 1)), block = text.slice(start, end);
	return { from: start, to: end, block: true, words: key === "Tab" ? block.replace(/^(?=.)/gm, "    ") : block.replace(/^ {1,4}/gm, "") };
}
