import { attrs, h, keyed, text, flash, tips, num, fixWords, sum, clamp } from "../kit.js";

export function bars({ unit, limit = 10, many, pick = null, chosen = () => null, color = () => "c1" }) {
	const list = h("ol.bars", { onkeydown: step }), more = h("p.more");

	function step(e) {
		const li = { ArrowDown: "nextSibling", ArrowUp: "previousSibling" }[e.key], to = li && e.target.parentNode[li]?.firstChild;
		if (!to) return;
		e.preventDefault();
		to.focus();
	}

	function make() {
		const name = h("span.name"), value = h("span"), fix = h("span.fix"), bar = h("i"), mark = h("b");
		const inner = h(pick ? "button" : "div", pick ? { onclick: () => pick(li.row.key) } : null, name, h("span.num", fix, " ", value), h("span.track", bar, mark));
		const li = Object.assign(h("li", inner), { name, count: value, fix, bar, mark, inner, fixedAt: 0 });
		tips(inner, () => {
			const { row, total } = li;
			return [row.name ?? (row.key || "(none)"), row.tip || [[unit, num(row.count)], ["share", total ? `${((row.count / total) * 100).toFixed(1)} %` : "–"], ...(row.extra || [])], row.fixedAt ? fixWords(row.before, row.count) : null];
		});
		return li;
	}

	return {
		el: h("div", list, more),
		update(rows) {
			const max = Math.max(1e-9, ...rows.map((r) => r.count)), total = sum(rows, (r) => r.count), rest = rows.slice(limit);
			keyed(list, rows.slice(0, limit), (r) => r.key, make, (li, row) => {
				Object.assign(li, { row, total });
				text(li.name, row.name ?? (row.key || "(none)"));
				text(li.count, row.words ?? num(row.count));
				li.inner.style.paddingLeft = `${6 + 14 * (row.depth || 0)}px`;
				text(li.fix, row.fixedAt && row.before !== row.count ? `${num(row.before)} →` : "");
				li.bar.style.width = `${clamp(row.count / (row.of || max), 0, 1) * 100}%`;
				li.bar.parentNode.hidden = row.of === null;
				li.bar.className = color(row);
				li.mark.hidden = row.mark === undefined;
				li.mark.style.left = `${100 * row.mark}%`;
				if (pick) attrs(li.inner, { "aria-pressed": String(chosen() === row.key) });
				if (row.fixedAt > li.fixedAt) flash(li.inner);
				li.fixedAt = row.fixedAt;
			});
			text(more, rest.length ? `and ${num(rest.length)} more ${many} with ${num(sum(rest, (r) => r.count))} ${unit}` : "");
		},
	};
}
