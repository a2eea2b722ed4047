// Desire lines: journeys drawn as the paths people wear into the ground. A session goes right by its views and up by its
// carts; a stretch walked by many is thicker and darker; its colour is the cluster most of its walkers belong to.

import { s, h, fill, showTip, hideTip, say } from "../dom.js";
import { desireLines, placeOn, clusterClass } from "../fold.js";
import { num, plural } from "../format.js";

/** `pick(stretch, words)` is told which stretch was chosen. */
export function desireChart({ height = 420, pick }) {
  const svg = s("svg", { class: "chart", height, role: "group", tabindex: 0, "aria-label": "Desire lines: journeys by views and carts. Arrow keys walk the stretches from the most to the least used, Enter lists the users." });
  const el = h("div", null, svg);
  const box = { left: 44, right: 18, top: 16, bottom: 38 };
  let journeys = [], centroids = [], lines = null, at = -1, nodes = [];

  function words(one) {
    const { xs, ys } = lines;
    return one.y0 === one.y1
      ? `${num(xs[one.x0])} to ${num(xs[one.x1])} views with ${plural(ys[one.y0], "cart")}`
      : `${num(ys[one.y0])} to ${plural(ys[one.y1], "cart")} after ${plural(xs[one.x0], "view")}`;
  }

  function tally(users) {
    const out = new Map();
    for (const u of users) {
      const c = journeys[u].cluster_id ?? -1;
      out.set(c, (out.get(c) || 0) + 1);
    }
    return [...out].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([c, n]) => [c < 0 ? "no cluster" : `cluster ${c}`, num(n), clusterClass(c)]);
  }

  function draw() {
    if (!lines || !el.isConnected) return;
    const width = Math.max(220, el.clientWidth);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const { xs, ys, stretches, buys } = lines;
    const sx = (width - box.left - box.right) / Math.max(1, xs.length - 1), sy = (height - box.top - box.bottom) / Math.max(1, ys.length - 1);
    const X = (i) => box.left + i * sx, Y = (j) => height - box.bottom - j * sy;
    const most = Math.max(1, ...stretches.map((one) => one.users.length));
    const widest = Math.max(3, Math.min(14, Math.min(sx, sy) * 1.1));
    nodes = stretches.map((one) => {
      const share = one.users.length / most;
      const node = s("path", {
        class: `stretch ${clusterClass(one.cluster)}`, d: `M${X(one.x0).toFixed(1)} ${Y(one.y0).toFixed(1)}L${X(one.x1).toFixed(1)} ${Y(one.y1).toFixed(1)}`,
        "stroke-width": (1 + (widest - 1) * Math.sqrt(share)).toFixed(2), opacity: (0.28 + 0.72 * (Math.log1p(one.users.length) / Math.log1p(most))).toFixed(2),
      });
      node.addEventListener("pointermove", (e) => showTip(e.clientX, e.clientY, `${plural(one.users.length, "user")}: ${words(one)}`, tally(one.users)));
      node.addEventListener("pointerleave", hideTip);
      node.addEventListener("click", () => choose(stretches.indexOf(one)));
      return node;
    });
    const top = Math.max(1, ...buys.map((b) => b.users.length));
    fill(svg, axes(xs, ys, X, Y, width), s("g", null, nodes),
      s("g", null, buys.map((b) => s("circle", { class: `buy ${clusterClass(b.cluster)}`, cx: X(b.x), cy: Y(b.y), r: (2 + 4 * Math.sqrt(b.users.length / top)).toFixed(1) }))),
      s("g", null, centroids.map((c) => {
        const x = X(placeOn(xs, c.centroid[0])), y = Y(placeOn(ys, c.centroid[1]));
        const left = x > width - 90;
        return [s("path", { class: `centroid ${clusterClass(c.cluster_id)}`, d: `M${x} ${y - 7}l7 7l-7 7l-7 -7z` }), s("text", { class: "label halo", x: left ? x - 11 : x + 11, y: y + 4, "text-anchor": left ? "end" : "start" }, `cluster ${c.cluster_id}`)];
      })));
    mark();
  }

  function axes(xs, ys, X, Y, width) {
    const some = (grid, count) => grid.map((v, i) => [v, i]).filter(([, i]) => i % Math.max(1, Math.ceil((grid.length - 1) / count)) === 0);
    return s("g", null,
      some(ys, 6).map(([v, j]) => [s("line", { class: j ? "grid-line" : "axis-line", x1: box.left, x2: width - box.right, y1: Y(j), y2: Y(j) }), s("text", { x: box.left - 8, y: Y(j) + 4, "text-anchor": "end" }, num(v))]),
      some(xs, width < 460 ? 5 : 9).map(([v, i]) => s("text", { x: X(i), y: Y(0) + 16, "text-anchor": "middle" }, num(v))),
      s("text", { x: width - box.right, y: height - 4, "text-anchor": "end" }, "views so far →"),
      s("text", { x: box.left - 36, y: 10 }, "↑ carts so far"));
  }

  function mark() {
    nodes.forEach((node, i) => node.classList.toggle("on", i === at));
  }

  function choose(i) {
    at = i;
    mark();
    pick(lines.stretches[i], words(lines.stretches[i]));
  }

  svg.addEventListener("keydown", (e) => {
    const count = lines?.stretches.length || 0;
    if (!count) return;
    if (e.key === "Enter" && at >= 0) return choose(at);
    const step = { ArrowRight: -1, ArrowDown: -1, ArrowLeft: 1, ArrowUp: 1 }[e.key];
    if (!step) return;
    e.preventDefault();
    at = at < 0 ? count - 1 : Math.max(0, Math.min(count - 1, at + step));
    mark();
    const one = lines.stretches[at], rect = nodes[at].getBoundingClientRect();
    showTip(rect.right, rect.top, `${plural(one.users.length, "user")}: ${words(one)}`, tally(one.users), "Enter lists them");
    say(`${plural(one.users.length, "user")}: ${words(one)}`);
  });
  svg.addEventListener("blur", hideTip);

  const size = new ResizeObserver(draw);
  size.observe(el);
  return {
    el,
    update(rows, clusters) {
      journeys = rows;
      centroids = clusters;
      lines = desireLines(journeys, 64, 28);
      at = -1;
      draw();
    },
    /** Only the centroids moved. */
    centroids(clusters) {
      centroids = clusters;
      draw();
    },
    stop: () => size.disconnect(),
  };
}

/** One user's cumulative path with its sessions numbered. */
export function pathChart({ height = 260 }) {
  const svg = s("svg", { class: "chart", height, role: "img" });
  const el = h("div", null, svg);
  let journey = null;
  function draw() {
    if (!journey || !el.isConnected) return;
    const width = Math.max(220, el.clientWidth);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const { xs, ys } = desireLines([journey], 200, 100);
    const X = (v) => 44 + (placeOn(xs, v) / Math.max(1, xs.length - 1)) * (width - 66), Y = (v) => height - 36 - (placeOn(ys, v) / Math.max(1, ys.length - 1)) * (height - 60);
    let x = 0, y = 0, d = `M${X(0)} ${Y(0)}`;
    const c = clusterClass(journey.cluster_id);
    const stops = journey.paths.map(([views, carts, bought], i) => {
      d += `H${X((x += views)).toFixed(1)}V${Y((y += carts)).toFixed(1)}`;
      return { x, y, bought, i, views, carts };
    });
    const every = Math.max(1, Math.ceil(stops.length / 24));
    const tick = (grid, count) => grid.filter((v, i) => i % Math.max(1, Math.ceil((grid.length - 1) / count)) === 0);
    fill(svg,
      tick(ys, 4).map((v) => [s("line", { class: v ? "grid-line" : "axis-line", x1: 44, x2: width - 22, y1: Y(v), y2: Y(v) }), s("text", { x: 36, y: Y(v) + 4, "text-anchor": "end" }, num(v))]),
      tick(xs, 8).map((v) => s("text", { x: X(v), y: height - 20, "text-anchor": "middle" }, num(v))),
      s("text", { x: width - 22, y: height - 4, "text-anchor": "end" }, "views so far →"), s("text", { x: 8, y: 10 }, "↑ carts so far"),
      s("path", { class: `line ${c}`, d }),
      stops.filter((p) => p.bought > 0 || p.i % every === 0 || p.i === stops.length - 1).map((p) => {
        const dot = s("circle", { class: p.bought > 0 ? `buy ${c}` : `dot ${c}`, cx: X(p.x), cy: Y(p.y), r: p.bought > 0 ? 6 : 3.5, tabindex: 0, role: "img", "aria-label": `after session ${p.i + 1}: ${p.x} views, ${p.y} carts` });
        const tell = () => {
          const rect = dot.getBoundingClientRect();
          showTip(rect.right, rect.top, `after session ${p.i + 1}`, [["views so far", num(p.x)], ["carts so far", num(p.y)], ["in this session", `${num(p.views)} views, ${num(p.carts)} carts`], ["purchases (count or value)", num(p.bought)]]);
        };
        for (const on of ["pointerenter", "focus"]) dot.addEventListener(on, tell);
        for (const off of ["pointerleave", "blur"]) dot.addEventListener(off, hideTip);
        dot.style.pointerEvents = "auto";
        return dot;
      }));
    svg.setAttribute("aria-label", `Path of the user: ${plural(journey.session_count, "session")}, ends at ${num(x)} views and ${num(y)} carts`);
  }
  const size = new ResizeObserver(draw);
  size.observe(el);
  return { el, update: (row) => ((journey = row), draw()), stop: () => size.disconnect() };
}
