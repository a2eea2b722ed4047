// Addresses: `#/page?name=value`. Filters live there, so a view can be shared.

import { store, touch } from "./state.js";

export const NAV = { overview: "Overview", shop: "Shop", journeys: "Journeys", campus: "Campus", labels: "Labels", sources: "Sources", runs: "Runs", system: "System" };

export function route() {
	const [path, query] = location.hash.replace(/^#\/?/, "").split("?"), [name, id] = path.split("/");
	return { name: name || "overview", path: path || "overview", id, params: new URLSearchParams(query) };
}

export const param = (name, allowed, otherwise = "") => allowed.find((v) => v === route().params.get(name)) ?? otherwise;

export function linkTo(name, extra = {}, kept = store.filter) {
	const query = new URLSearchParams(Object.entries({ ...kept, ...extra }).filter(([, value]) => (value ?? "") !== ""));
	return `#/${name}${query.size ? `?${query}` : ""}`;
}

export const linkHere = (changes) => linkTo(route().path, changes, Object.fromEntries(route().params));

export function setParams(changes) {
	history.replaceState(null, "", linkHere(changes));
	readFilters();
}

export function readFilters() {
	const { params } = route(), number = (key) => (/^\d+$/.test(params.get(key)) ? Number(params.get(key)) : null);
	const next = { source: number("source"), page: params.get("page") || null, from: number("from"), to: number("to") };
	if (next.from === null || !(next.to > next.from)) next.from = next.to = null;
	if (JSON.stringify(next) === JSON.stringify(store.filter)) return;
	store.filter = next;
	touch("filter");
}

export const brushTo = (from, to) => setParams({ from, to });
