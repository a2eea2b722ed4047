// Boot, navigation, the header, and handing each change to the page on show.

import { byId, h, fill, text, hideTip } from "./dom.js";
import { store, subscribe, touch } from "./state.js";
import { start, retryNow } from "./stream.js";
import { setToken } from "./api.js";
import { connWords } from "./panel.js";
import { route, linkTo, setParams, readFilters } from "./router.js";
import { clock, num, zone, span, fixed } from "./format.js";
import { wireSearch } from "./search.js";
import * as overview from "./pages/overview.js";
import * as shop from "./pages/shop.js";
import * as journeys from "./pages/journeys.js";
import * as user from "./pages/user.js";
import * as sources from "./pages/sources.js";
import * as runs from "./pages/runs.js";
import * as system from "./pages/system.js";

const PAGES = { overview, shop, journeys, sources, runs, system, user };
export const NAV = [["overview", "Overview"], ["shop", "Shop"], ["journeys", "Journeys"], ["sources", "Sources"], ["runs", "Runs"], ["system", "System"]];

const main = byId("main");
let shown = null;

function show() {
  readFilters();
  const { name, params } = route();
  const page = PAGES[name] || overview;
  const key = `${name}?${page.identity ? page.identity(params) : ""}`;
  drawNav(name);
  if (shown?.key === key) return shown.update(new Set(["params", "filter"]));
  if (shown) shown.unmount();
  hideTip();
  closeMenu();
  fill(main);
  document.title = `${NAV.find(([one]) => one === name)?.[1] || "User"} · Desireline`;
  shown = { key, ...page.mount(main, params) };
  shown.update(new Set(["all"]));
  scrollTo(0, 0);
}

function drawNav(name) {
  const troubled = (store.status?.sources || []).filter((s) => !s.balanced || s.partitions.some((p) => p.error)).length;
  const current = name === "user" ? "journeys" : name;
  fill(byId("nav-list"), NAV.map(([id, label]) => h("li", null, h("a", { href: linkTo(id), "aria-current": id === current ? "page" : null }, label, id === "sources" && troubled > 0 && h("span", { class: "badge", text: `${troubled} !`, title: "sources that need attention" })))));
}

function drawHeader(kinds) {
  const pill = byId("conn");
  pill.dataset.state = store.conn.state;
  const words = { live: "live", connecting: "connecting…", waiting: "reconnecting", paused: "paused", denied: "token needed" }[store.conn.state];
  text(pill, store.status && store.conn.state === "live" && !store.status.ready ? `replaying ${fixed(100 * store.status.replay_progress, 0)} %` : words);
  pill.title = store.conn.state === "live" ? "The stream is live. Select to reconnect." : `${connWords()}. Select to try now.`;
  if (kinds.has("status") || kinds.has("filter") || kinds.has("all")) drawSources();
  if (kinds.has("filter") || kinds.has("all")) drawChips();
}

let optionsKey = "";
function drawSources() {
  const list = store.status?.sources || [];
  const key = JSON.stringify([list.map((s) => [s.source_id, s.name]), store.filter.source]);
  if (key === optionsKey) return;
  optionsKey = key;
  const known = store.filter.source === null || list.some((s) => s.source_id === store.filter.source);
  const box = byId("source");
  fill(box, h("option", { value: "", text: list.length === 1 ? "All (1 source)" : `All (${num(list.length)} sources)` }), list.map((s) => h("option", { value: s.source_id, text: `${s.name} (${s.source_id})` })), !known && h("option", { value: store.filter.source, text: `source ${store.filter.source}` }));
  box.value = store.filter.source ?? "";
}

function drawChips() {
  const { from, to, page } = store.filter;
  const chip = (label, clear) => h("button", { class: "chip", type: "button", onclick: clear, "aria-label": `${label}: remove this filter` }, label, h("span", { "aria-hidden": "true", text: "×" }));
  fill(byId("chips"), from !== null && chip(`${clock(from, 2)} to ${clock(to, 2)} (${span(to - from)})`, () => setParams({ from: null, to: null })), page && chip(`page ${page}`, () => setParams({ page: null })));
}

function closeMenu() {
  byId("nav").classList.remove("open");
  byId("scrim").hidden = true;
  byId("menu").setAttribute("aria-expanded", "false");
}

function wire() {
  byId("menu").addEventListener("click", () => {
    const open = byId("nav").classList.toggle("open");
    byId("scrim").hidden = !open;
    byId("menu").setAttribute("aria-expanded", String(open));
    if (open) byId("nav-list").querySelector("a").focus();
  });
  byId("scrim").addEventListener("click", closeMenu);
  byId("skip").addEventListener("click", (e) => {
    e.preventDefault();
    main.focus();
  });
  byId("source").addEventListener("change", (e) => setParams({ source: e.target.value }));
  byId("conn").addEventListener("click", () => (store.conn.state === "denied" ? askToken() : retryNow()));
  fill(byId("nav-foot"), h("a", { href: "docs", text: "API documentation" }), h("span", { text: `Times are ${zone()}` }));
  addEventListener("hashchange", show);
  addEventListener("denied", () => askToken("This token was refused."));
  addEventListener("tick", () => drawHeader(new Set()));
  addEventListener("keydown", (e) => {
    if (e.key === "Escape") {
      hideTip();
      closeMenu();
    }
  });
  byId("token-form").addEventListener("submit", () => {
    const value = byId("token").value.trim();
    byId("token").value = "";
    if (!value) return;
    setToken(value);
    asked = true;
    retryNow();
    touch("token");
  });
  wireSearch();
}

let asked = false;
function askToken(refused) {
  const box = byId("token-box");
  if (box.open) return;
  byId("token-error").textContent = asked ? refused || `The server refused: ${store.conn.detail}.` : "";
  box.showModal();
  byId("token").focus();
}

let lastConn = "";
subscribe((kinds) => {
  if (kinds.has("conn") && store.conn.state !== lastConn) {
    lastConn = store.conn.state;
    if (lastConn === "denied") askToken();
  }
  if (kinds.has("status") || kinds.has("filter")) drawNav(route().name);
  drawHeader(kinds);
  if (shown) shown.update(kinds);
});

wire();
show();
drawHeader(new Set(["all"]));
if (!document.hidden) start();
