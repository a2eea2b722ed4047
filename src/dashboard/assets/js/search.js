// The search box: pages of the shop, sources, users, and the pages of this dashboard. `/` focuses it.

import { byId, h, fill } from "./dom.js";
import { store, mainSource, sourceName } from "./state.js";
import { linkTo } from "./router.js";
import { num } from "./format.js";

const MAX = 12;
let found = [], at = 0;
const seenUsers = new Map();

/** Pages tell which users they have seen, so that those can be completed. At most 5,000 are kept. */
export function rememberUsers(journeys) {
  for (const j of journeys) {
    if (seenUsers.size >= 5000) return;
    seenUsers.set(`${j.source_id} ${j.user_id}`, { source: j.source_id, user: String(j.user_id) });
  }
}

function results(words) {
  const needle = words.toLowerCase();
  const hit = (value) => value.toLowerCase().includes(needle);
  const out = [];
  if (!needle) return out;
  for (const [id, label] of [["overview", "Overview"], ["shop", "Shop"], ["journeys", "Journeys and clusters"], ["sources", "Sources and dead letters"], ["runs", "Runs"], ["system", "System"]]) if (hit(label)) out.push({ label, kind: "go to", href: linkTo(id) });
  for (const s of store.status?.sources || []) if (hit(s.name) || String(s.source_id) === needle) out.push({ label: `${s.name} (${s.source_id})`, kind: "source", href: linkTo("sources", { source: s.source_id }) });
  const pages = new Map();
  for (const bucket of store.minutes.buckets.values()) for (const c of bucket.cells.values()) if (c.page && hit(c.page)) pages.set(c.page, (pages.get(c.page) || 0) + c.count);
  for (const [page, count] of [...pages].sort((a, b) => b[1] - a[1]).slice(0, 5)) out.push({ label: page, kind: `page, ${num(count)} events`, href: linkTo("shop", { page }) });
  let users = 0;
  for (const one of seenUsers.values()) {
    if (one.user.toLowerCase() === needle || !one.user.toLowerCase().startsWith(needle)) continue;
    out.push({ label: one.user, kind: `user of ${sourceName(one.source)}`, href: linkTo("user", { source: one.source, id: one.user }) });
    if (++users >= 4) break;
  }
  const targets = store.filter.source !== null ? [store.filter.source] : (store.status?.sources || []).map((s) => s.source_id).slice(0, 3);
  if (!targets.length && mainSource() !== null) targets.push(mainSource());
  for (const source of targets) out.push({ label: words, kind: `open as user of ${sourceName(source)}`, href: linkTo("user", { source, id: words }) });
  return out.slice(0, MAX);
}

function draw() {
  const box = byId("search"), list = byId("search-results");
  list.hidden = !found.length;
  box.setAttribute("aria-expanded", String(!list.hidden));
  fill(list, found.map((one, i) => h("li", { id: `found-${i}`, role: "option", "aria-selected": String(i === at), onpointerdown: (e) => (e.preventDefault(), choose(i)) }, h("span", { text: one.label }), h("span", { text: one.kind }))));
  if (found.length) box.setAttribute("aria-activedescendant", `found-${at}`);
  else box.removeAttribute("aria-activedescendant");
}

function choose(i) {
  const one = found[i];
  if (!one) return;
  const box = byId("search");
  box.value = "";
  found = [];
  draw();
  box.blur();
  location.hash = one.href.slice(1);
}

export function wireSearch() {
  const box = byId("search");
  const look = () => {
    found = results(box.value.trim());
    at = 0;
    draw();
  };
  box.addEventListener("input", look);
  box.addEventListener("focus", look);
  box.addEventListener("blur", () => {
    found = [];
    draw();
  });
  box.addEventListener("keydown", (e) => {
    if (e.key === "Escape") {
      box.value = "";
      box.blur();
    } else if (e.key === "Enter") choose(at);
    else if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      at = found.length ? (at + (e.key === "ArrowDown" ? 1 : found.length - 1)) % found.length : 0;
      draw();
    }
  });
  addEventListener("keydown", (e) => {
    const typing = e.target.closest?.("input, select, textarea, dialog[open]");
    if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || typing) return;
    e.preventDefault();
    box.focus();
    box.select();
  });
}
