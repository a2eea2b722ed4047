// Boot, navigation, header.

import { attrs, byId, h, fill, keyed, text, hideTip, store, allSources, subscribe, touch, setToken, connWords, NAV, route, linkTo, setParams, readFilters, binWords, zone, span, fixed, plural } from "./kit.js";
import { connect } from "./stream.js";
import { wireSearch } from "./search.js";
import * as overview from "./pages/overview.js";
import * as shop from "./pages/shop.js";
import * as journeys from "./pages/journeys.js";
import * as campus from "./pages/campus.js";
import * as user from "./pages/user.js";
import * as labels from "./pages/labels.js";
import * as sources from "./pages/sources.js";
import * as runs from "./pages/runs.js";
import * as system from "./pages/system.js";

const PAGES = { overview, shop, journeys, campus, labels, sources, runs, system, user };
const main = byId("main"), nav = byId("nav"), menu = byId("menu"), scrim = byId("scrim");
let shown = null;

function show() {
	readFilters();
	const { name, path, params } = route(), page = PAGES[name] || overview, key = `${path} ${name === "user" ? params : ""}`;
	drawNav();
	if (shown?.key === key) return shown.update(new Set(["params", "filter"]));
	shown?.unmount();
	hideTip();
	openMenu(false);
	fill(main);
	document.title = `${NAV[name] || "User"} · Desireline`;
	shown = { key, ...page.mount(main, params) };
	shown.update(new Set(["all"]));
	scrollTo(0, 0);
}

function drawNav() {
	const { name } = route(), troubled = allSources().filter((one) => !one.balanced || one.partitions.some((p) => p.error)).length;
	fill(byId("nav-list"), Object.entries(NAV).map(([id, label]) => h("li", h("a", { href: linkTo(id), "aria-current": id === (name === "user" ? "journeys" : name) && "page" }, label, id === "sources" && troubled > 0 && h("span.badge", { title: `${plural(troubled, "source")} in trouble` }, `${troubled} !`)))));
}

function drawHeader() {
	const pill = byId("conn"), { state } = store.conn, replaying = state === "live" && store.status && !store.status.ready;
	attrs(pill, { "data-state": state, title: state === "live" ? "The stream is live. Select to reconnect." : `${connWords()}. Select to try now.` });
	text(pill, replaying ? `replaying ${fixed(100 * store.status.replay_progress, 0)} %` : { connecting: "connecting…", waiting: "reconnecting", denied: "token needed" }[state] || state);
}

function drawFilters() {
	const list = allSources(), { source, from, to, page } = store.filter, box = byId("source");
	const options = [["", `All (${plural(list.length, "source")})`], ...list.map((one) => [one.source_id, `${one.name} (${one.source_id})`])];
	if (source !== null && !list.some((one) => one.source_id === source)) options.push([source, `source ${source}`]);
	keyed(box, options, String, ([value, label]) => h("option", { value }, label));
	box.value = source ?? "";
	const chips = [from !== null && [`${binWords(from, to - from)} (${span(to - from)})`, { from: null, to: null }], page && [`page ${page}`, { page: null }]];
	keyed(byId("chips"), chips.filter(Boolean), String, ([label, change]) => h("button.chip", { onclick: () => setParams(change), "aria-label": `${label}: remove this filter` }, `${label} ×`));
}

function openMenu(open) {
	nav.classList.toggle("open", open);
	scrim.hidden = !open;
	attrs(menu, { "aria-expanded": String(open) });
	if (open) byId("nav-list").querySelector("a").focus();
}

let refused = false;
function askToken() {
	const box = byId("token-box");
	if (box.open) return;
	text(byId("token-error"), refused ? `Refused: ${store.conn.detail || "the token is not known"}.` : "");
	box.showModal();
	byId("token").focus();
}

const on = (id, event, act) => byId(id).addEventListener(event, act);
on("menu", "click", () => openMenu(!nav.classList.contains("open")));
on("scrim", "click", () => openMenu(false));
on("skip", "click", (e) => {
	e.preventDefault();
	main.focus();
});
on("source", "change", (e) => setParams({ source: e.target.value }));
on("conn", "click", () => (store.conn.state === "denied" ? askToken() : connect()));
on("token-form", "submit", () => {
	const value = byId("token").value.trim();
	byId("token").value = "";
	if (!value) return;
	setToken(value);
	refused = true;
	connect();
	touch("token");
});
addEventListener("hashchange", show);
addEventListener("denied", askToken);
addEventListener("tick", drawHeader);
addEventListener("keydown", (e) => {
	if (e.key !== "Escape") return;
	hideTip();
	openMenu(false);
});

let was = "";
subscribe((kinds) => {
	const { state } = store.conn;
	if (state !== was && state === "denied") askToken();
	was = state;
	if (kinds.has("status") || kinds.has("filter")) {
		drawNav();
		drawFilters();
	}
	drawHeader();
	shown?.update(kinds);
});

fill(byId("nav-foot"), h("a", { href: "docs" }, "API documentation"), `Times are ${zone()}`);
wireSearch();
show();
drawFilters();
connect();
