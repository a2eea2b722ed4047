// Elements are made here and nowhere else: by createElement, never from a string of markup, so data stays text.

const SVG = "http://www.w3.org/2000/svg";

function apply(el, props, kids) {
  for (const [key, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") el.textContent = value;
    else if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
    else el.setAttribute(key, value === true ? "" : value);
  }
  add(el, kids);
  return el;
}

function add(el, kids) {
  for (const kid of kids.flat(Infinity)) {
    if (kid === undefined || kid === null || kid === false) continue;
    el.append(kid instanceof Node ? kid : String(kid));
  }
}

/** An HTML element: `h("p", {class: "x", onclick: f}, "text", child)`. */
export const h = (tag, props, ...kids) => apply(document.createElement(tag), props, kids);

/** An SVG element. */
export const s = (tag, props, ...kids) => apply(document.createElementNS(SVG, tag), props, kids);

export const byId = (id) => document.getElementById(id);

/** Replaces all children. */
export function fill(el, ...kids) {
  el.replaceChildren();
  add(el, kids);
  return el;
}

/** Sets text only when it differs, so that selections and screen readers are left in peace. */
export function text(el, value) {
  if (el.textContent !== value) el.textContent = value;
}

/** Keeps one child per key, in order, reusing nodes: `make(row)` once, `set(node, row)` on every update. */
export function keyed(parent, rows, keyOf, make, set) {
  const old = parent.keyedNodes || new Map();
  const now = new Map();
  let at = parent.firstChild;
  for (const row of rows) {
    const key = keyOf(row);
    const node = old.get(key) || make(row);
    set(node, row);
    now.set(key, node);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  for (const [key, node] of old) if (now.get(key) !== node) node.remove();
  parent.keyedNodes = now;
}

/** Restarts the one-time flash of a corrected value. */
export function flash(el) {
  el.classList.remove("flash");
  void el.offsetWidth;
  el.classList.add("flash");
  el.addEventListener("animationend", () => el.classList.remove("flash"), { once: true });
}

/** Speaks to screen readers. */
export function say(words) {
  byId("say").textContent = words;
}

const tip = () => byId("tip");

/** Shows the tooltip beside a point of the window. `rows` are `[label, value, colour class?]`. */
export function showTip(x, y, title, rows, note) {
  const box = tip();
  fill(box, h("b", { text: title }), rows.map(([label, value, c]) => h("div", { class: `row ${c || ""}` }, h("span", { text: label }), h("span", { text: value }))), note && h("div", { text: note }));
  box.hidden = false;
  const w = box.offsetWidth, t = box.offsetHeight;
  const left = x + 14 + w > innerWidth ? x - 14 - w : x + 14;
  box.style.left = `${Math.max(4, left)}px`;
  box.style.top = `${Math.max(4, Math.min(innerHeight - t - 4, y - t / 2))}px`;
}

export function hideTip() {
  tip().hidden = true;
}
