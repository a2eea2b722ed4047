// Addresses: `#/page?name=value`. The filters (source, page, from, to) live in the address, so a view can be shared.

import { store, touch } from "./state.js";

/** The pages in the navigation. */
export const NAV = { overview: "Overview", shop: "Shop", journeys: "Journeys", campus: "Campus", sources: "Sources", runs: "Runs", system: "System" };

export function route() {
	const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
	return { name: name || "overview", params: new URLSearchParams(query) };
}

/** A choice of the page in the address: one of `allowed`, or what is taken otherwise. */
export const param = (name, allowed, otherwise = "") => allowed.find((v) => v === route().params.get(name)) ?? otherwise;

/** The address of a page with the filters in force and `extra`. */
export function linkTo(name, extra = {}, kept = store.filter) {
	const query = new URLSearchParams(Object.entries({ ...kept, ...extra }).filter(([, value]) => (value ?? "") !== ""));
	return `#/${name}${query.size ? `?${query}` : ""}`;
}

/** The address of this page with other choices. */
export const linkHere = (changes) => linkTo(route().name, changes, Object.fromEntries(route().params));

/** Changes names in the address without leaving the page. */
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

/** What a brush does: the range filters every panel. */
export const brushTo = (from, to) => setParams({ from, to });
