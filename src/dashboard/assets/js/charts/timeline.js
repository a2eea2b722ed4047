// A user's sessions on a time line: width is duration, height is events, a ring means a purchase, hollow means sealed.

import { s, h, fill, showTip, hideTip } from "../dom.js";
import { num, span, stamp, fixed, time } from "../format.js";

export function timeline({ height = 150 }) {
  const svg = s("svg", { class: "chart", height, role: "group", "aria-label": "Sessions on a time line" });
  const el = h("div", null, svg);
  let rows = [];

  function draw() {
    if (!rows.length || !el.isConnected) return;
    const width = Math.max(220, el.clientWidth);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const sessions = rows.map((row) => ({ row, a: time(row.start), b: time(row.end) })).filter((one) => one.a !== null);
    const first = Math.min(...sessions.map((one) => one.a)), last = Math.max(...sessions.map((one) => one.b), first + 60000);
    const X = (t) => 12 + ((t - first) / (last - first)) * (width - 24);
    const most = Math.max(1, ...sessions.map((one) => one.row.event_count));
    const floor = height - 24;
    const parts = last - first > 36 * 3600e3 ? 2 : 3;
    fill(svg, s("line", { class: "axis-line", x1: 12, x2: width - 12, y1: floor, y2: floor }),
      [0, 0.5, 1].map((f) => s("text", { x: X(first + f * (last - first)), y: height - 6, "text-anchor": ["start", "middle", "end"][f * 2] }, stamp(first + f * (last - first), parts))),
      sessions.map(({ row, a, b }) => {
        const tall = 10 + (floor - 26) * Math.sqrt(row.event_count / most);
        const w = Math.max(4, X(b) - X(a));
        const bar = s("rect", { class: "bar c1", x: X(a), y: floor - tall, width: w, height: tall, rx: 2, tabindex: 0, role: "img", opacity: row.sealed ? 0.45 : 1, "aria-label": `session ${row.session_number}, ${stamp(a)}, ${row.event_count} events` });
        const tell = () => {
          const rect = bar.getBoundingClientRect();
          showTip(rect.right, rect.top, `session ${row.session_number}${row.sealed ? " (sealed)" : ""}`, [["start", stamp(a)], ["duration", span(b - a)], ["events", num(row.event_count)], ["views, carts, purchases", `${num(row.views)}, ${num(row.carts)}, ${num(row.transactions)}`], ["value", fixed(Number(row.value) || 0, 2)]]);
        };
        for (const on of ["pointerenter", "focus"]) bar.addEventListener(on, tell);
        for (const off of ["pointerleave", "blur"]) bar.addEventListener(off, hideTip);
        return [bar, row.transactions > 0 && s("circle", { class: "buy c4", cx: X(a) + w / 2, cy: floor - tall - 8, r: 4 })];
      }));
  }
  const size = new ResizeObserver(draw);
  size.observe(el);
  return { el, update: (next) => ((rows = next), draw()), stop: () => size.disconnect() };
}
