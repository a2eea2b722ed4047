// A panel: title with unit, tools, body, and a foot that says how fresh it is and where the same answer is in the API.
// Its states (loading, empty, error, ready, stale) are part of it, so that every page shows them alike.

import { h, fill, text } from "./dom.js";
import { clock, span } from "./format.js";
import { store, now, subscribe } from "./state.js";
import { curlFor, token } from "./api.js";
import { retryNow } from "./stream.js";

const live = new Set();
const QUIET_MS = 5000;

/** `api` gives the address of the same answer; `live: false` for panels that poll instead of following the stream. */
export function panel({ title, unit = "", width = "w6", api = null, tools = [], follows = true }) {
  const unitEl = h("span", { class: "unit", text: unit });
  const body = h("div", { class: "body" });
  const fresh = h("span", { class: "fresh" });
  const link = api && h("a", { target: "_blank", rel: "noopener", text: "open in API" });
  const el = h("section", { class: `panel ${width}`, "aria-label": title }, h("div", { class: "head" }, h("h2", { text: title }), unitEl, h("div", { class: "tools" }, tools)), body, h("div", { class: "foot" }, fresh, link));
  const self = { el, body, unit: (words) => text(unitEl, words), asOf: 0, state: "", link, fresh, follows, api };
  if (link) {
    link.addEventListener("click", (click) => {
      if (!token()) return;
      click.preventDefault();
      copy(link, curlFor(api()), "open in API");
    });
  }
  /** Swaps the body's content only when the state changes. `make` gives the nodes of the new state. */
  self.show = (state, make) => {
    if (self.state === state) return;
    self.state = state;
    fill(body, make());
  };
  self.loading = () => self.show("loading", () => h("div", { class: "skeleton", "aria-label": "loading" }, h("i"), h("i"), h("i"), h("i")));
  self.empty = (words, curl) => self.show(`empty ${words}`, () => emptyState(words, curl));
  self.failed = (error, again) => self.show(`error ${error.message}`, () => errorState(error, again));
  self.ready = (node) => self.show("ready", () => node);
  live.add(self);
  freshen(self);
  return self;
}

export function forget(panels) {
  for (const p of panels) live.delete(p);
}

function emptyState(words, curl) {
  return h("div", { class: "state" }, h("p", null, words), curl && curlLine(curl));
}

export function curlLine(line) {
  const button = h("button", { type: "button", class: "small", text: "Copy" });
  button.addEventListener("click", () => copy(button, line, "Copy"));
  return h("div", { class: "curl" }, h("code", { text: line }), button);
}

function copy(el, words, after) {
  const done = (said) => {
    el.textContent = said;
    setTimeout(() => (el.textContent = after), 1500);
  };
  if (navigator.clipboard) navigator.clipboard.writeText(words).then(() => done("Copied"), () => done("Copying is not allowed here"));
  else done("Copying needs https or localhost");
}

function errorState(error, again) {
  const hint =
    error.status === 401 ? "This server asks for a token." : error.status === 403 ? "The token in use lacks the scope for this." : error.status === 503 ? "The server is still replaying its log; this page asks again by itself." : error.status ? "" : "Is the server running? This page asks again by itself.";
  return h("div", { class: "state", role: "alert" }, h("p", null, h("b", { class: "bad", text: "No answer: " }), error.message), hint && h("p", { text: hint }), error.requestId && h("p", { class: "quiet mono", text: `request ${error.requestId}` }), again && h("button", { type: "button", text: "Try again", onclick: again }));
}

function freshen(p) {
  const broken = store.conn.state !== "live";
  const quietMs = Date.now() - store.lastFrameAt;
  const asOf = p.follows ? store.asOf : p.asOf;
  if (p.link) {
    const url = p.api();
    if (p.link.getAttribute("href") !== url) p.link.setAttribute("href", url);
  }
  if (!asOf) {
    text(p.fresh, p.state.startsWith("error") ? "no answer yet" : broken ? connWords() : "waiting for the first answer");
    p.el.classList.remove("stale");
    return;
  }
  const age = Math.max(0, now() - asOf);
  const stale = broken ? store.conn.state !== "connecting" || quietMs > QUIET_MS : quietMs > QUIET_MS;
  p.el.classList.toggle("stale", stale);
  text(p.fresh, `${stale ? "stale: " : ""}as of ${clock(asOf, 4)}, ${span(age)} ago${stale ? `; ${connWords()}` : ""}`);
}

/** The state of the line in words. */
export function connWords() {
  const { state, retryAt, detail } = store.conn;
  if (state === "live") return Date.now() - store.lastFrameAt > QUIET_MS ? "nothing heard for a while" : "live";
  if (state === "waiting") return `${detail}; trying again ${retryAt > Date.now() ? `in ${span(Math.ceil((retryAt - Date.now()) / 1000) * 1000)}` : "now"}`;
  if (state === "denied") return detail;
  if (state === "paused") return "paused while the tab was hidden";
  return "connecting";
}

function tick() {
  for (const p of live) freshen(p);
  dispatchEvent(new CustomEvent("tick"));
}
let clockwork = setInterval(tick, 500);
document.addEventListener("visibilitychange", () => {
  clearInterval(clockwork);
  if (!document.hidden) clockwork = setInterval(tick, 500);
});
subscribe((kinds) => (kinds.has("conn") || kinds.has("status")) && tick());

/** Asks again and again while the tab is shown: at once, every `everyMs`, and when the server is back. */
export function poll(p, load, everyMs) {
  let timer = 0, abort = null, stopped = false, hadData = false, lastConn = store.conn.state;
  const run = async () => {
    clearTimeout(timer);
    if (stopped || document.hidden) return;
    if (abort) abort.abort();
    const mine = (abort = new AbortController());
    try {
      if (!hadData) p.loading();
      const asOf = await load(mine.signal);
      if (stopped || abort !== mine) return;
      hadData = true;
      p.asOf = asOf || p.asOf;
      freshen(p);
    } catch (error) {
      if (stopped || abort !== mine) return;
      if (!hadData) p.failed(error, run);
    }
    timer = setTimeout(run, everyMs());
  };
  const off = subscribe((kinds) => {
    const back = kinds.has("conn") && store.conn.state === "live" && lastConn !== "live";
    lastConn = store.conn.state;
    if (back || kinds.has("shown")) run();
  });
  run();
  return {
    again: () => {
      hadData = false;
      p.state = "";
      run();
    },
    soon: run,
    stop: () => {
      stopped = true;
      clearTimeout(timer);
      if (abort) abort.abort();
      off();
    },
  };
}

export { retryNow };
