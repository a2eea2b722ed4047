// A chart over time: stacked areas for volumes, lines for rates, bars for counts of occurrences.
// One focus stop; arrow keys move a cursor that all charts of the same axis share, shift with arrows or dragging brushes
// a range. Corrected points carry a small mark, and say what they were before.

import { h, s, fill, keyed, showTip, hideTip, say } from "../dom.js";
import { ticks } from "../fold.js";
import { clock, compact } from "../format.js";
import { store, touch, subscribe } from "../state.js";

const GAP = 13;

/** `kind`: "area" (stacked), "line" or "bar". `axis`: charts with the same word share the cursor. `brush(from, to)`: called with a range, or nulls. */
export function timeChart({ kind, label, unit, height = 190, axis = "minutes", step = 60000, brush = null, format = compact, clockParts = 2 }) {
  const grid = s("g"), shapes = s("g"), words = s("g"), marks = s("g");
  const band = s("rect", { class: "brush", y: 0, height: 0 });
  const line = s("line", { class: "cursor" });
  const hit = s("rect", { class: "hit", tabindex: 0, role: "img" });
  const svg = s("svg", { class: "chart", height }, grid, shapes, band, line, marks, words, hit);
  const legend = h("ul", { class: "legend" });
  const el = h("div", null, svg, legend);
  const box = { left: 42, right: 0, top: 12, bottom: 20, width: 600 };
  let data = null, drag = null;

  const xOf = (t) => box.left + ((t - data.domain[0]) / (data.domain[1] - data.domain[0])) * (box.width - box.left - box.right);
  const tOf = (x) => data.domain[0] + ((x - box.left) / (box.width - box.left - box.right)) * (data.domain[1] - data.domain[0]);
  const middle = kind === "line" && step < 60000 ? 0 : step / 2;

  function draw() {
    if (!data || !el.isConnected) return;
    box.width = Math.max(200, el.clientWidth);
    const narrow = box.width < 460;
    const named = data.series.filter((one) => one.y.some((v) => v));
    box.right = !narrow && named.length > 1 ? 116 : 10;
    svg.setAttribute("viewBox", `0 0 ${box.width} ${height}`);
    const stacks = stack(data, kind);
    const top = Math.max(...stacks.map((one) => Math.max(0, ...one.map((p) => p[1]))), 0);
    const levels = ticks(top, height < 120 ? 2 : 4);
    const max = levels[levels.length - 1];
    const yOf = (v) => box.top + (1 - v / max) * (height - box.top - box.bottom);
    fill(grid, levels.map((v) => [
      s("line", { class: v ? "grid-line" : "axis-line", x1: box.left, x2: box.width - box.right, y1: yOf(v), y2: yOf(v) }),
      s("text", { x: box.left - 6, y: yOf(v) + 4, "text-anchor": "end" }, v === max && unit.length < 9 ? `${format(v)}` : format(v)),
    ]), timeTicks(data.domain, box.width < 460 ? 4 : 7).map((t) => s("text", { x: xOf(t), y: height - 4, "text-anchor": "middle" }, clock(t, 2))));
    fill(shapes, stacks.map((points, i) => shape(points, data.series[i].color, yOf)));
    fill(marks, (data.marks || []).filter((m) => m.t >= data.domain[0]).map((m) => {
      const x = xOf(m.t + middle), y = yOf(m.y) - 4;
      return s("path", { class: "mark", d: `M${x} ${y}l-4 -6h8z` });
    }));
    const direct = !narrow && named.length > 1;
    fill(words, direct && labels(stacks, yOf));
    legend.hidden = direct || named.length < 2;
    if (!legend.hidden) keyed(legend, named, (one) => one.label, (one) => h("li", null, h("span", { class: `swatch ${one.color}` }), one.label), () => {});
    for (const [key, value] of Object.entries({ x: box.left, y: 0, width: box.width - box.left - box.right, height: height - box.bottom })) hit.setAttribute(key, value);
    hit.setAttribute("aria-label", `${label}, ${unit}. ${data.summary || ""} Arrow keys read the values${brush ? ", shift and arrow keys choose a range, Escape clears it" : ""}.`);
    overlay();
  }

  function shape(points, color, yOf) {
    if (!points.length) return null;
    if (kind === "bar") {
      const w = Math.max(1, xOf(step) - xOf(0) - 1.5);
      return points.filter((p) => p[1] > 0).map((p) => s("rect", { class: `bar ${color}`, x: xOf(p[0]) + 0.75, width: w, y: yOf(p[1]), height: Math.max(0, yOf(0) - yOf(p[1])), rx: 1.5 }));
    }
    const up = points.map((p) => `${xOf(p[0] + middle).toFixed(1)} ${yOf(p[1]).toFixed(1)}`);
    if (kind === "line") return [s("path", { class: `line ${color}`, d: `M${up.join("L")}` }), points.length === 1 && s("circle", { class: `dot ${color}`, cx: xOf(points[0][0] + middle), cy: yOf(points[0][1]), r: 3 })];
    const down = points.map((p) => `${xOf(p[0] + middle).toFixed(1)} ${yOf(p[2]).toFixed(1)}`).reverse();
    return s("path", { class: `area ${color}`, d: `M${up.join("L")}L${down.join("L")}Z` });
  }

  /** Direct labels at the right end, pushed apart where they would overlap. */
  function labels(stacks, yOf) {
    const ends = stacks.map((points, i) => ({ one: data.series[i], p: points[points.length - 1], peak: data.series[i].y.some((v) => v) })).filter((e) => e.p && e.peak);
    for (const e of ends) e.y = kind === "area" ? (yOf(e.p[1]) + yOf(e.p[2])) / 2 : yOf(e.p[1]);
    ends.sort((a, b) => a.y - b.y);
    for (let i = 1; i < ends.length; i++) ends[i].y = Math.max(ends[i].y, ends[i - 1].y + GAP);
    const over = ends.length ? ends[ends.length - 1].y - (height - box.bottom) : 0;
    for (let i = ends.length - 1, floor = height - box.bottom; over > 0 && i >= 0; i--, floor -= GAP) ends[i].y = Math.min(ends[i].y, floor);
    const x = box.width - box.right + 8;
    return ends.map((e) => [s("rect", { class: `bar ${e.one.color}`, x, y: e.y - 4, width: 8, height: 8, rx: 2 }), s("text", { class: "label", x: x + 12, y: e.y + 4 }, cut(e.one.label, 15))]);
  }

  /** The cursor and the brush, which move without a redraw. */
  function overlay() {
    const at = store.cursor?.axis === axis ? store.cursor.t : null;
    const shown = at !== null && at >= data.domain[0] && at < data.domain[1];
    line.setAttribute("visibility", shown ? "visible" : "hidden");
    if (shown) for (const [key, value] of Object.entries({ x1: xOf(at + middle), x2: xOf(at + middle), y1: box.top, y2: height - box.bottom })) line.setAttribute(key, value);
    const range = drag?.to ? [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)] : brush && store.filter.from !== null ? [store.filter.from, store.filter.to] : null;
    band.setAttribute("visibility", range ? "visible" : "hidden");
    if (range) {
      const a = Math.max(box.left, xOf(range[0])), b = Math.min(box.width - box.right, xOf(range[1]));
      for (const [key, value] of Object.entries({ x: a, width: Math.max(0, b - a), y: box.top, height: height - box.top - box.bottom })) band.setAttribute(key, value);
    }
  }

  function nearest(t) {
    let best = null;
    for (const x of data.x) if (best === null || Math.abs(x + middle - t) < Math.abs(best + middle - t)) best = x;
    return best;
  }

  function tell(t, x, y) {
    const i = data.x.indexOf(t);
    if (i < 0) return;
    const rows = data.series.filter((one) => one.y[i] || data.series.length < 3).map((one) => [one.label, `${(one.format || format)(one.y[i])}${one.unit ? ` ${one.unit}` : ""}`, one.color]);
    if (kind === "area" && data.series.length > 1) rows.push(["all", format(data.series.reduce((sum, one) => sum + one.y[i], 0))]);
    const mark = (data.marks || []).find((m) => m.t === t);
    const when = step >= 60000 ? `${clock(t, clockParts)} to ${clock(t + step, clockParts)}` : clock(t, 3);
    showTip(x, y, `${when} · ${unit}`, rows, mark?.text);
    say(`${when}: ${rows.map((r) => `${r[0]} ${r[1]}`).join(", ")}${mark ? `. ${mark.text}` : ""}`);
  }

  function point(t) {
    store.cursor = t === null ? null : { axis, t };
    touch("cursor");
  }

  hit.addEventListener("pointermove", (e) => {
    if (!data) return;
    const rect = svg.getBoundingClientRect();
    const t = tOf(((e.clientX - rect.left) / rect.width) * box.width);
    if (drag) drag.to = Math.round(t / step) * step;
    const at = nearest(t);
    if (at === null) return;
    point(at);
    tell(at, e.clientX, e.clientY);
  });
  hit.addEventListener("pointerleave", () => {
    if (drag) return;
    point(null);
    hideTip();
  });
  hit.addEventListener("pointerdown", (e) => {
    if (!brush || !data || e.button) return;
    const rect = svg.getBoundingClientRect();
    drag = { from: Math.floor(tOf(((e.clientX - rect.left) / rect.width) * box.width) / step) * step, to: 0 };
    hit.setPointerCapture(e.pointerId);
  });
  const drop = () => {
    const done = drag;
    drag = null;
    if (!done) return;
    if (done.to && done.to !== done.from) brush(Math.min(done.from, done.to), Math.max(done.from, done.to));
    else brush(null, null);
  };
  hit.addEventListener("pointerup", drop);
  hit.addEventListener("pointercancel", () => (drag = null));
  hit.addEventListener("blur", () => {
    point(null);
    hideTip();
  });
  hit.addEventListener("keydown", (e) => {
    if (!data || !data.x.length) return;
    if (e.key === "Escape" && brush) return brush(null, null);
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[e.key];
    if (!move) return;
    e.preventDefault();
    const here = store.cursor?.axis === axis ? data.x.indexOf(store.cursor.t) : data.x.length;
    const i = Math.max(0, Math.min(data.x.length - 1, here + move));
    if (e.shiftKey && brush) {
      const { from, to } = store.filter;
      const start = from !== null && here < data.x.length ? (move > 0 ? from : to) : data.x[Math.min(here, data.x.length - 1)];
      const end = move > 0 ? data.x[i] + step : data.x[i];
      if (start !== end) brush(Math.min(start, end), Math.max(start, end));
    }
    point(data.x[i]);
    const rect = svg.getBoundingClientRect();
    tell(data.x[i], rect.left + (xOf(data.x[i]) / box.width) * rect.width, rect.top + height / 2);
  });

  const size = new ResizeObserver(draw);
  size.observe(el);
  const off = subscribe((kinds) => data && (kinds.has("cursor") || kinds.has("filter")) && overlay());
  return {
    el,
    /** `{domain:[from,to), x:[ms], series:[{label,color,y:[n],format?}], marks:[{t,y,text}], summary}` */
    update(next) {
      data = next;
      draw();
    },
    stop() {
      size.disconnect();
      off();
    },
  };
}

/** Points `[t, top, bottom]` per series; areas are stacked, first series at the bottom. */
function stack(data, kind) {
  const base = data.x.map(() => 0);
  return data.series.map((one) => data.x.map((t, i) => {
    const v = Number.isFinite(one.y[i]) ? one.y[i] : 0;
    if (kind !== "area") return [t, v, 0];
    base[i] += Math.max(0, v);
    return [t, base[i], base[i] - Math.max(0, v)];
  }));
}

function timeTicks([from, to], count) {
  const steps = [60e3, 120e3, 300e3, 600e3, 900e3, 1800e3, 3600e3, 7200e3, 21600e3, 86400e3];
  const step = steps.find((one) => (to - from) / one <= count) || steps[steps.length - 1];
  const out = [];
  for (let t = Math.ceil(from / step) * step; t < to - step * 0.15; t += step) if (t - from > step * 0.2) out.push(t);
  return out;
}

export const cut = (words, length) => (words.length > length ? `${words.slice(0, length - 1)}…` : words);

/** A line without axes for a tile: the shape of the last ten minutes. */
export function spark() {
  const path = s("path");
  const el = s("svg", { viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" }, path);
  return {
    el,
    update(values) {
      const points = values.filter((v) => Number.isFinite(v));
      if (points.length < 2) return path.removeAttribute("d");
      const max = Math.max(...points), min = Math.min(0, ...points), room = max - min || 1;
      path.setAttribute("d", `M${points.map((v, i) => `${((i / (points.length - 1)) * 100).toFixed(1)} ${(22 - ((v - min) / room) * 20).toFixed(1)}`).join("L")}`);
    },
  };
}
