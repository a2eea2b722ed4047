import { attrs, h, fill, text, panel, get, typed, perform, num, fixed, plural, facts, table, bars, choice, compact } from "../kit.js";

const MODULES = ["re", "datetime", "math", "statistics"], drafts = new Map();

export function editor({ at, values, rules, saved }) {
	let lf = null, place, leaving = false;
	const path = (tail) => at(`labeling-functions${lf.lf_id ? `/${lf.lf_id}/versions` : tail}`), p = panel("Labelling function", () => lf && path(`/template?${values().map((one) => `applicable_cv_ids=${one.cv_id}`).join("&")}`));
	const code = h("textarea", { wrap: "off", spellcheck: "false", autocapitalize: "off", "aria-label": "Code of the labelling function. Tab indents; Escape, then Tab, leaves.", oninput, onkeydown }), gutter = h("ol.gutter", { "aria-hidden": "true" });
	const name = h("input", { "aria-label": "Name", placeholder: "name" }), rule = choice("Rule", [], ""), boxes = h("div.tools"), imports = h("div.tools"), said = h("div.bad", { role: "alert" }), result = h("div", { "aria-live": "polite" });
	const test = h("button", { onclick: run }, "Test run"), save = h("button.primary", { onclick: keep }), found = bars({ unit: "rows", color: (row) => row.color });
	const box = h("div", h("div.tools", rule, boxes, imports), h("div.code", gutter, code), h("p.buttons", test, name, save), said, result);

	const ticks = (where, list) => fill(where, list.map(([value, words, on]) => h("label", h("input.box", { type: "checkbox", value, checked: on, disabled: where === boxes && !!lf.lf_id }), words)));
	const ticked = (where) => [...where.querySelectorAll(":checked")].map((one) => one.value);

	function lines(marks = new Map()) {
		const list = code.value.split("\n");
		attrs(code, { rows: Math.max(10, list.length) });
		fill(gutter, list.map((_, i) => h(marks.has(i + 1) ? "li.bad" : "li", { title: marks.get(i + 1) }, String(i + 1))));
	}

	function tell(errors) {
		lines(new Map(errors.map((one) => [one.line, one.message])));
		fill(said, errors.map(({ line, message, rows }) => h("p", line > 0 && h("button.small", { onclick: () => jump(line) }, `line ${line}`), ` ${message}${rows ? ` (${plural(rows, "row")})` : ""}`)));
	}

	function jump(line) {
		const list = code.value.split("\n"), from = list.slice(0, line - 1).join("\n").length + (line > 1);
		code.focus();
		code.setSelectionRange(from, from + list[line - 1]?.length);
	}

	function oninput() {
		drafts.set(place, code.value);
		lines();
	}

	function onkeydown(e) {
		const plain = !(e.ctrlKey || e.metaKey || e.altKey || (leaving && e.key === "Tab"));
		if (e.key !== "Shift") leaving = e.key === "Escape";
		if (!plain || (e.key !== "Tab" && e.key !== "Enter")) return;
		e.preventDefault();
		const { from, to, words, block } = typed(code.value, code.selectionStart, code.selectionEnd, e.shiftKey ? "Untab" : e.key);
		code.setSelectionRange(from, to);
		// Unlike setting the value, this can be undone.
		document.execCommand("insertText", false, words);
		if (block) code.setSelectionRange(from, from + words.length);
	}

	const body = () => ({ rule_id: Number(rule.lastChild.value), applicable_cv_ids: ticked(boxes).map(Number), code: code.value, allowed_imports: ticked(imports) });
	const refused = ({ message }) => tell([{ line: Number(/line (\d+)/.exec(message)?.[1]), message }]);

	async function run() {
		fill(result);
		const got = await perform(test, said, at("labeling-functions/test"), body(), refused);
		if (!got) return;
		const { votes, errors, sample, rows, runtime, reason, line } = got, columns = Object.keys(sample[0]?.row || {}).slice(0, 6), order = (key) => values().findIndex((one) => one.cv_id === key || one.name === key);
		tell(errors);
		found.update(Object.entries(votes).map(([key, count]) => ({ key, count, of: rows, color: order(key) < 0 ? "c0" : `c${(order(key) % 6) + 1}` })));
		fill(result, facts([["runs", `${runtime}${reason ? `: ${reason}, line ${line}` : ""}`, runtime === "compiled" ? "good" : "warn"], ["coverage", `${fixed(100 * got.coverage, 1)} %`], ["rows", num(rows)], ["speed", `${compact(got.rows_per_second)} rows/s`]]), found.el, h("details", h("summary", `${plural(sample.length, "row")} with their votes`), table("Sample", ["entity", "vote", ...columns], sample.map(({ key, vote, row }) => [h("span.mono", String(key)), values()[order(vote)]?.name ?? "abstains", ...columns.map((c) => String(row[c]))]))));
	}

	async function keep() {
		const { code, allowed_imports, ...rest } = body(), named = name.value.trim() && { name: name.value.trim() };
		const got = await perform(save, said, path(""), { ...named, ...(lf.lf_id ? { lf_config: { code, allowed_imports } } : { ...rest, code, allowed_imports }) }, refused);
		if (!got) return;
		drafts.delete(place);
		name.value = "";
		saved(got);
	}

	async function show(next) {
		const same = lf && next && place === at(next.lf_id);
		p.el.hidden = !next;
		lf = next;
		if (!next || same) return;
		const { lf_id, version, applicable_cv_ids: may, lf_config: { code: old, allowed_imports } = {} } = lf, mine = (place = at(lf_id));
		fill(said);
		fill(result);
		p.ready(box, lf_id ? `version ${version}; a change becomes a new version, which waits for approval` : "new: it waits for approval");
		text(save, lf_id ? "Save as new version" : "Save");
		fill(rule.lastChild, rules().map((one) => h("option", { value: one.r_id, selected: one.r_id === lf.rule_id }, one.name)));
		rule.lastChild.disabled = !!lf_id;
		ticks(boxes, values().map((one) => [one.cv_id, one.name, !lf_id || may.includes(one.cv_id)]));
		ticks(imports, MODULES.map((word) => [word, `import ${word}`, allowed_imports?.includes(word)]));
		code.value = drafts.get(place) ?? old ?? "";
		lines();
		if (code.value || lf_id) return;
		const made = await get(p.api()).catch(({ message }) => ({ code: `# ${message}\n` }));
		if (place !== mine || code.value) return;
		code.value = made.code;
		lines();
	}

	return { p, show };
}
