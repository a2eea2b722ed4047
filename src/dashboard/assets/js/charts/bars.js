// A ranking: bars with exact values; a corrected row flashes and shows what it was.

import { attrs, h, keyed, text, flash, tips } from "../dom.js";
import { num } from "../format.js";

/** `pick(key)` makes the rows buttons. */
export function bars({ unit, limit = 10, many = "rows", pick = null, chosen = () => null, color = () => "c1" }) {
	const list = h("ol.bars"), more = h("p.more");

	function make() {
		const name = h("span.name"), value = h("span"), fix = h("span.fix"), bar = h("i");
		const inner = h(pick ? "button" : "div", pick ? { type: "button", onclick: () => pick(li.row.key) } : { tabindex: 0 }, name, h("span.num", fix, " ", value), h("span.track", bar));
		const li = Object.assign(h("li", inner), { name, count: value, fix, bar, inner, fixedAt: 0 });
		tips(inner, () => {
			const { row, total } = li;
			return [row.key || "(none)", [[unit, num(row.count)], ["share", total ? `${((row.count / total) * 100).toFixed(1)} %` : "–"], ...(row.extra || [])], row.fixedAt ? `corrected: ${num(row.before)} before, ${num(row.count)} after` : null];
		});
		return li;
	}

	return {
		el: h("div", list, more),
		update(rows) {
			const max = Math.max(1e-9, ...rows.map((r) => r.count)), total = rows.reduce((sum, r) => sum + r.count, 0), rest = rows.slice(limit);
			keyed(list, rows.slice(0, limit), (r) => r.key, make, (li, row) => {
				Object.assign(li, { row, total });
				text(li.name, row.key || "(none)");
				text(li.count, num(row.count));
				text(li.fix, row.fixedAt && row.before !== row.count ? `${num(row.before)} →` : "");
				li.bar.style.width = `${Math.max(0, (row.count / max) * 100)}%`;
				li.bar.className = color(row);
				if (pick) attrs(li.inner, { "aria-pressed": String(chosen() === row.key) });
				if (row.fixedAt > li.fixedAt) flash(li.inner);
				li.fixedAt = row.fixedAt;
			});
			text(more, rest.length ? `and ${num(rest.length)} more ${many} with ${num(rest.reduce((sum, r) => sum + r.count, 0))} ${unit}` : "");
		},
	};
}
