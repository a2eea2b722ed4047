import { attrs, h, fill, flash, keyed, fixed, conflicted } from "../kit.js";

export function matrixChart(classOf) {
	const head = h("tr"), body = h("tbody"), el = h("div.tall", { tabindex: 0, role: "group", "aria-label": "Votes: entities by labelling functions" }, h("table.matrix", h("thead", head), body));
	let heads = "";

	function set(tr, row, names) {
		if (tr.key === (tr.key = JSON.stringify([row.votes, row.label, row.probabilities, names]))) return;
		const { row: was } = tr, fighting = conflicted(row.votes), { color, name } = classOf(row.label), label = h("td", h(`span.swatch.${color}`), row.label === -1 ? "none" : name);
		fill(tr, h("th.mono", { scope: "row" }, row.key), label, h("td.num", row.label === -1 || !row.probabilities.length ? "–" : `${fixed(100 * Math.max(...row.probabilities), 0)} %`), row.votes.map((vote, i) => {
			const { name, color, short } = classOf(vote), td = h(`td.vote.${color}${fighting && vote !== -1 && vote !== row.label ? ".odd" : ""}`, { title: `${names[i]}: ${name}` }, short);
			if (was && was.votes[i] !== vote) setTimeout(flash, 0, td);
			return td;
		}));
		if (was && was.label !== row.label) setTimeout(flash, 0, label);
		tr.row = row;
	}

	return {
		el,
		update({ names, rows }) {
			if (heads !== (heads = names.join("\n"))) fill(head, ["entity", "label", "sure", ...names].map((name, i) => h(i > 2 ? "th.turn" : "th", { scope: "col", title: name }, h("span", name))));
			keyed(body, rows, (row) => row.key, () => h("tr"), (tr, row) => set(tr, row, names));
		},
	};
}
