import { attrs, h, s, fill, keyed, text, now, num, span } from "../kit.js";

const COLUMNS = [[["index", "Indexes"]], [["rule", "Rules"], ["feature", "Features"]], [["lf", "Labelling functions"]], [["model", "Label models"]], [["bank", "Classifiers"]]], SHOWN = 8;
export const STATES = { ready: ["●", "good"], stale: ["◐", "warn"], running: ["◌", "warn"], failed: ["✕", "bad"], waiting: ["○", "quiet"], off: ["–", "quiet"] };

export function stateWords({ kind, state, item, run }) {
	const p = run?.progress, of = { ready: { lf: "active" }[kind] || (item.status ? "trained" : "materialised"), waiting: kind === "lf" ? "to approve" : "not materialised", off: item.deprecated_at ? "replaced" : item.status ? "cancelled" : "inactive", running: p?.total && `running, ${Math.floor((100 * p.done) / p.total)} %` };
	return of[state] || state;
}

export function pipelineChart(pick, chosen) {
	const lines = s("svg.edges", { "aria-hidden": "true" }), open = new Set();
	let nodes = new Map(), places;

	const groups = [], el = h("div.pipe", lines, h("div.flow", COLUMNS.map((column) => h("div", column.map(([kind, title]) => {
		const count = h("small"), list = h("ol"), more = h("button.small", { onclick: () => (open.delete(kind) || open.add(kind), draw()) });
		groups.push({ kind, count, list, more });
		return [h("h3", title, count), list, more];
	})))));

	function draw() {
		const mine = chosen();
		places = new Map();
		for (const { kind, count, list, more } of groups) {
			const all = [...nodes.values()].filter((node) => node.kind === kind);
			text(count, num(all.length));
			more.hidden = all.length <= SHOWN;
			text(more, open.has(kind) ? "show fewer" : `show all ${all.length}`);
			keyed(list, open.has(kind) ? all : all.slice(0, SHOWN), (node) => node.key, (node) => h("li", h("button.node", { onclick: () => pick(node.key) }, h("span"), h("span.name"), h("small"))), ({ firstChild: box }, node) => {
				const [sign, tone] = STATES[node.state], rows = node.item.row_count, [mark, name, words] = box.children;
				places.set(node.key, box);
				text(mark, sign);
				mark.className = tone;
				text(name, node.name);
				text(words, [(node.state !== "ready" || rows == null) && stateWords(node), rows != null && `${num(rows)} rows`, kind !== "lf" && node.made > 0 && `${span(Math.max(0, now() - node.made))} ago`].filter(Boolean).join(" · "));
				attrs(box, { "aria-pressed": String(node === mine), title: node.name });
			});
		}
		trace();
	}

	function trace() {
		const base = el.getBoundingClientRect(), mine = chosen()?.key;
		fill(lines, [...places].map(([key, place]) => nodes.get(key).from.map((source) => {
			const a = places.get(source)?.getBoundingClientRect(), b = place.getBoundingClientRect();
			if (!a || a.right > b.left) return null;
			const x = a.right - base.left, X = b.left - base.left, half = (x + X) / 2, y = (a.top + a.bottom) / 2 - base.top, Y = (b.top + b.bottom) / 2 - base.top;
			return s(`path.edge${mine === key || mine === source ? ".on" : ""}`, { d: `M${x} ${y}C${half} ${y} ${half} ${Y} ${X} ${Y}` });
		})));
	}

	const watch = new ResizeObserver(() => places && trace());
	watch.observe(el);
	return { el, draw, update: (next) => draw((nodes = next)), stop: () => watch.disconnect() };
}
