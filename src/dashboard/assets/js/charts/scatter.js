// Users by two of their six features, one dot per place (dots grow with the users on them), centroids on top.
// Both axes are logarithmic from 1 on (log of 1 + value), because activity is.

import { s, h, fill, showTip, hideTip, say } from "../dom.js";
import { clusterClass } from "../fold.js";
import { compact, num, plural } from "../format.js";

export const FEATURES = ["views", "carts", "purchases (count or value)", "sessions", "views per session", "purchase ratio"];

const scale = (v) => Math.log1p(Math.max(0, v));

/** `pick(users)` is called with the journeys on the chosen dot. */
export function scatterChart({ height = 360, pick }) {
  const svg = s("svg", { class: "chart", height, role: "group", tabindex: 0, "aria-label": "Users by two features. Arrow keys walk the dots from the largest on, Enter lists the users." });
  const el = h("div", null, svg);
  let journeys = [], centroids = [], axes = [0, 3], dots = [], nodes = [], at = -1;

  const rowsOf = (dot) => [[FEATURES[axes[0]], compact(dot.x)], [FEATURES[axes[1]], compact(dot.y)], ["cluster", dot.cluster < 0 ? "none" : String(dot.cluster), clusterClass(dot.cluster)]];
  const titleOf = (dot) => (dot.users.length === 1 ? `user ${dot.users[0].user_id}` : plural(dot.users.length, "user"));

  function draw() {
    if (!el.isConnected) return;
    const width = Math.max(220, el.clientWidth);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const merged = new Map();
    for (const j of journeys) {
      const x = j.features[axes[0]], y = j.features[axes[1]], cluster = j.cluster_id ?? -1;
      const key = `${scale(x).toFixed(2)} ${scale(y).toFixed(2)} ${cluster}`;
      const dot = merged.get(key);
      if (dot) dot.users.push(j);
      else merged.set(key, { x, y, cluster, users: [j] });
    }
    dots = [...merged.values()].sort((a, b) => b.users.length - a.users.length);
    const centre = centroids.map((c) => ({ x: c.centroid[axes[0]], y: c.centroid[axes[1]], id: c.cluster_id, users: c.users }));
    const far = (pick1) => scale(Math.max(0.1, ...dots.map(pick1), ...centre.map(pick1))) * 1.04;
    const maxX = far((d) => d.x), maxY = far((d) => d.y);
    const X = (v) => 44 + (scale(v) / maxX) * (width - 62), Y = (v) => height - 38 - (scale(v) / maxY) * (height - 56);
    const most = Math.max(1, ...dots.map((d) => d.users.length));
    nodes = dots.map((dot, i) => {
      const node = s("circle", { class: `point ${clusterClass(dot.cluster)}`, cx: X(dot.x).toFixed(1), cy: Y(dot.y).toFixed(1), r: (3 + 9 * Math.sqrt((dot.users.length - 1) / most)).toFixed(1) });
      node.addEventListener("pointermove", (e) => showTip(e.clientX, e.clientY, titleOf(dot), rowsOf(dot)));
      node.addEventListener("pointerleave", hideTip);
      node.addEventListener("click", () => choose(i));
      return node;
    });
    fill(svg,
      logTicks(maxY).map((v) => [s("line", { class: v ? "grid-line" : "axis-line", x1: 44, x2: width - 18, y1: Y(v), y2: Y(v) }), s("text", { x: 36, y: Y(v) + 4, "text-anchor": "end" }, compact(v))]),
      logTicks(maxX).map((v) => s("text", { x: X(v), y: height - 22, "text-anchor": "middle" }, compact(v))),
      s("text", { x: width - 18, y: height - 4, "text-anchor": "end" }, `${FEATURES[axes[0]]} →`), s("text", { x: 8, y: 10 }, `↑ ${FEATURES[axes[1]]}`),
      nodes,
      centre.map((c) => [s("path", { class: `centroid ${clusterClass(c.id)}`, d: `M${X(c.x)} ${Y(c.y) - 7}l7 7l-7 7l-7 -7z` }), s("text", { class: "label halo", x: X(c.x) + (X(c.x) > width - 80 ? -11 : 11), y: Y(c.y) + 4, "text-anchor": X(c.x) > width - 80 ? "end" : "start" }, `cluster ${c.id}`)]));
    mark();
  }

  function logTicks(max) {
    const out = [0, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6, 1e7, 1e8].filter((v) => scale(v) <= max);
    const kept = [];
    for (const v of out) if (!kept.length || (scale(v) - scale(kept[kept.length - 1])) / max > 0.1) kept.push(v);
    return kept;
  }

  const mark = () => nodes.forEach((node, i) => node.classList.toggle("on", i === at));

  function choose(i) {
    at = i;
    mark();
    const dot = dots[i];
    pick(dot.users, `${FEATURES[axes[0]]} ${compact(dot.x)}, ${FEATURES[axes[1]]} ${compact(dot.y)}`);
  }

  svg.addEventListener("keydown", (e) => {
    if (!dots.length) return;
    if (e.key === "Enter" && at >= 0) return choose(at);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (!step) return;
    e.preventDefault();
    at = Math.max(0, Math.min(dots.length - 1, at + step));
    mark();
    const rect = nodes[at].getBoundingClientRect();
    showTip(rect.right, rect.top, titleOf(dots[at]), rowsOf(dots[at]), "Enter lists them");
    say(`${titleOf(dots[at])}: ${rowsOf(dots[at]).map((r) => r.slice(0, 2).join(" ")).join(", ")}`);
  });
  svg.addEventListener("blur", hideTip);

  const size = new ResizeObserver(draw);
  size.observe(el);
  return {
    el,
    update(rows, clusters, pair) {
      journeys = rows;
      centroids = clusters;
      axes = pair;
      at = -1;
      draw();
      svg.setAttribute("aria-label", `${num(rows.length)} users by ${FEATURES[pair[0]]} and ${FEATURES[pair[1]]}. Arrow keys walk the dots from the largest on, Enter lists the users.`);
    },
    stop: () => size.disconnect(),
  };
}
