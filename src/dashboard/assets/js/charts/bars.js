// A ranking: horizontal bars with their exact values; a corrected row flashes once and shows what it was.

import { h, keyed, text, flash, showTip, hideTip } from "../dom.js";
import { num } from "../format.js";

/** `pick(key)` makes the rows buttons. */
export function bars({ unit, limit = 10, many = "rows", pick = null, chosen = () => null, color = () => "c1", format = num }) {
  const list = h("ol", { class: "bars" });
  const more = h("p", { class: "more" });
  const el = h("div", null, list, more);

  function make() {
    const name = h("span", { class: "name" }), value = h("span", { class: "num" }), fix = h("span", { class: "fix" });
    const fillEl = h("i");
    const inner = h(pick ? "button" : "div", pick ? { type: "button" } : { tabindex: 0 }, name, h("span", null, fix, " ", value), h("span", { class: "track" }, fillEl));
    const li = h("li", null, inner);
    li.parts = { name, value, fix, fillEl, inner, fixedAt: 0 };
    const tell = () => {
      const { row, total } = li.parts;
      const box = inner.getBoundingClientRect();
      const rows = [[unit, format(row.count)], ["share", total ? `${((row.count / total) * 100).toFixed(1)} %` : "–"], ...(row.extra || [])];
      showTip(box.right - 40, box.top + box.height / 2, row.label || row.key, rows, row.fixedAt ? `corrected: ${format(row.before)} before, ${format(row.count)} after` : null);
    };
    inner.addEventListener("pointerenter", tell);
    inner.addEventListener("focus", tell);
    inner.addEventListener("pointerleave", hideTip);
    inner.addEventListener("blur", hideTip);
    if (pick) inner.addEventListener("click", () => pick(li.parts.row.key));
    return li;
  }

  return {
    el,
    update(rows) {
      const max = Math.max(1e-9, ...rows.map((r) => r.count));
      const total = rows.reduce((sum, r) => sum + r.count, 0);
      keyed(list, rows.slice(0, limit), (r) => r.key, make, (li, row) => {
        const p = li.parts;
        p.row = row;
        p.total = total;
        text(p.name, row.label || row.key || "(none)");
        text(p.value, format(row.count));
        text(p.fix, row.fixedAt && row.before !== row.count ? `${format(row.before)} →` : "");
        p.fillEl.style.width = `${Math.max(0, (row.count / max) * 100)}%`;
        p.fillEl.className = color(row);
        if (pick) p.inner.setAttribute("aria-pressed", chosen() === row.key);
        if (row.fixedAt > p.fixedAt) {
          p.fixedAt = row.fixedAt;
          flash(p.inner);
        }
      });
      const rest = rows.slice(limit);
      text(more, rest.length ? `and ${num(rest.length)} more ${many} with ${format(rest.reduce((sum, r) => sum + r.count, 0))} ${unit}` : "");
    },
  };
}
