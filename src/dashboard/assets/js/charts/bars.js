// A ranking: bars with exact values; a corrected row flashes and shows what it was.

import { attrs, h, keyed, text, flash, tips, num, fixWords } from "../kit.js";

/** `pick(key)` makes the rows buttons, which arrow keys walk. A row is `{key, count}` and, if need be, `name`, `words` for the count, `of` what a full bar is (null: no bar), `depth`, `tip`. */
export function bars({ unit, limit = 10, many = "rows", pick = null, chosen = () => null, color = () => "c1" }) {
	const list = h("ol.bars", { onkeydown: step }), more = h("p.more");

	function step(e) {
		const li = { ArrowDown: "nextSibling", ArrowUp: "previousSibling" }[e.key], to = li && e.target.parentNode[li]?.firstChild;
		if (!to) return;
		e.preventDefault();
		to.focus();
	}

	function make() {
		const name = h("span.name"), value = h("span"), fix = h("span.fix"), bar = h("i");
		const inner = h(pick ? "button" : "div", pick ? { onclick: () => pick(li.row.key) } : { tabindex: 0 }, name, h("span.num", fix, " ", value), h("span.track", bar));
		const li = Object.assign(h("li", inner), { name, count: value, fix, bar, inner, fixedAt: 0 });
		tips(inner, () => {
			const { row, total } = li;
			return [row.name ?? (row.key || "(none)"), row.tip || [[unit, num(row.count)], ["share", total ? `${((row.count / total) * 100).toFixed(1)} %` : "–"], ...(row.extra || [])], row.fixedAt ? fixWords(row.before, row.count) : null];
		});
		return li;
	}

	return {
		el: h("div", list, more),
		update(rows) {
			const max = Math.max(1e-9, ...rows.map((r) => r.count)), total = rows.reduce((sum, r) => sum + r.count, 0), rest = rows.slice(limit);
			keyed(list, rows.slice(0, limit), (r) => r.key, make, (li, row) => {
				Object.assign(li, { row, total });
				text(li.name, row.name ?? (row.key || "(none)"));
				text(li.count, row.words ?? num(row.count));
				li.inner.style.paddingLeft = `${6 + 14 * (row.depth || 0)}px`;
				text(li.fix, row.fixedAt && row.before !== row.count ? `${num(row.before)} →` : "");
				li.bar.style.width = `${Math.max(0, Math.min(1, row.count / (row.of || max)) * 100)}%`;
				li.bar.parentNode.hidden = row.of === null;
				li.bar.className = color(row);
				if (pick) attrs(li.inner, { "aria-pressed": String(chosen() === row.key) });
				if (row.fixedAt > li.fixedAt) flash(li.inner);
				li.fixedAt = row.fixedAt;
			});
			text(more, rest.length ? `and ${num(rest.length)} more ${many} with ${num(rest.reduce((sum, r) => sum + r.count, 0))} ${unit}` : "");
		},
	};
}
