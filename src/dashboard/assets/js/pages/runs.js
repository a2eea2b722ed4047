import { h, fill, keyed, text, panel, poll, now, address, get, perform, curlPost, linkTo, setParams, param, route, num, span, stamp, time, plural, lay, choice, facts, table } from "../kit.js";

const TONES = { PENDING: "quiet", STARTED: "warn", SUCCESS: "good", FAILURE: "bad", CANCELLED: "quiet" }, LINES = 500;
const unfinished = (run) => ["PENDING", "STARTED"].includes(run.status);

function progress(run) {
	const p = run.progress, share = Math.min(1, p?.done / p?.total), bar = h("i");
	if (!p?.total) return p?.done ? `${num(p.done)} ${p.unit} so far` : { PENDING: "waiting", STARTED: "working" }[run.status] || "";
	bar.style.width = `${share * 100}%`;
	return h("div", h("div.meter", { role: "progressbar", "aria-valuenow": Math.round(share * 100) }, bar), h("span.quiet", `${Math.floor(share * 100)} %, ${num(p.done)} of ${num(p.total)} ${p.unit}`));
}

const took = (run) => (run.start_time ? span((time(run.end_time) ?? now()) - time(run.start_time)) : "–");

export function mount(root) {
	const state = () => param("status", Object.keys(TONES)), chosen = () => route().params.get("run") || "";
	const api = () => address("dagster/runs", { limit: 100, status_filter: state() }), runApi = (tail, query) => address(`dagster/runs/${encodeURIComponent(chosen())}${tail}`, query);
	const runs = panel("Runs", api, { tools: [choice("State", [["", "all"], ...Object.keys(TONES).map((word) => [word, word.toLowerCase()])], state(), (v) => (setParams({ status: v }), ask.again()))] });
	const one = panel("Run", () => chosen() && runApi("/logs", { limit: LINES }));
	const body = h("tbody"), listBox = h("div.tall", table("Runs", ["state", "job", "run", "started", "took", "progress"], body)), head = h("div"), log = h("div.tall", { tabindex: 0, "aria-label": "Log of the run" }), said = h("span.bad", { role: "alert" }), cancel = h("button", { onclick: stop }, "Cancel this run");
	const oneBox = h("div", head, h("p.buttons", cancel, said), log);
	let listed = [], detail = null, shown = null;

	const ask = poll(runs, (answer) => {
		listed = answer.runs;
		if (!listed.length) return runs.empty(state() ? `No run is ${state().toLowerCase()}.` : "No runs yet. Load a file that lies in an allowed folder of the server:", state() ? null : curlPost("trigger", { source_id: 1, events_path: "events.csv", is_initial_flow: true }));
		runs.ready(listBox, `${plural(listed.length, "run")}, newest first${listed.length >= 100 ? ", older ones left out" : ""}; ${num(listed.filter(unfinished).length)} at work or waiting`);
		keyed(body, listed, (run) => run.run_id, () => h("tr"), (tr, run) => {
			const key = JSON.stringify([run, unfinished(run) && took(run), chosen()]), focused = tr.contains(document.activeElement), link = h("a", { href: linkTo("runs", { run: run.run_id, status: state() }) }, run.job_name);
			if (tr.key === key) return;
			tr.key = key;
			tr.className = run.run_id === chosen() ? "on" : "";
			fill(tr, [h(`span.tag.${TONES[run.status]}`, run.status.toLowerCase()), link, h("span.mono", run.run_id), h("span.nowrap", stamp(run.start_time)), h("span.nowrap", took(run)), progress(run)].map((c) => h("td", c)));
			if (focused) link.focus({ preventScroll: true });
		});
	}, () => (listed.some(unfinished) ? 1500 : 5000));

	const askOne = poll(one, async ({ logs }, signal) => {
		const run = (detail = await get(runApi(""), signal));
		one.ready(oneBox, `${run.run_id}; ${plural(logs.length, "log line")}${logs.length >= LINES ? ", older ones left out" : ""}`);
		fill(head, facts([["job", run.job_name], ["state", run.status.toLowerCase()], ["attempts", num(run.attempt)], ["started", stamp(run.start_time)], ["ended", stamp(run.end_time)], ["took", took(run)]]), run.error_message && h("p.bad", run.error_message), progress(run));
		cancel.hidden = !unfinished(run);
		const bottom = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
		fill(log, table("Log", ["time", "level", "step", "message"], logs.map((l) => [h("span.mono.nowrap", stamp(l.timestamp, 4)), h(`span.${l.level === "ERROR" ? "bad" : l.level.startsWith("WARN") ? "warn" : "quiet"}`, l.level), h("span.mono", l.step_key || ""), l.message])));
		if (bottom) log.scrollTop = log.scrollHeight;
	}, () => (!detail || unfinished(detail) ? 1500 : 10000));

	async function stop() {
		await perform(cancel, said, runApi("/cancel"));
		askOne.soon();
		ask.soon();
	}

	return {
		...lay(root, "Runs", "Work with a beginning and an end: bulk loads, trainings, erasures.", [runs, one], [ask, askOne]),
		update() {
			if (shown === chosen()) return;
			const first = shown === null;
			shown = chosen();
			one.el.hidden = !shown;
			detail = null;
			text(said, "");
			if (first) return;
			askOne.again();
			ask.soon();
			one.el.scrollIntoView({ block: "nearest" });
		},
	};
}
