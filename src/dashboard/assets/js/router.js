// Addresses: `#/page?name=value`. The filters (source, page, from, to) live in the address, so a view can be shared.

import { store, touch } from "./state.js";

/** The pages in the navigation. */
export const NAV = { overview: "Overview", shop: "Shop", journeys: "Journeys", sources: "Sources", runs: "Runs", system: "System" };

export function route() {
	const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
	return { name: name || "overview", params: new URLSearchParams(query) };
}

function write(name, params, changes) {
	for (const [key, value] of Object.entries(changes)) {
		if (value === null || value === undefined || value === "") params.delete(key);
		else params.set(key, value);
	}
	return `#/${name}${params.size ? `?${params}` : ""}`;
}

/** The address of a page with the filters in force and `extra`. */
export const linkTo = (name, extra = {}) => write(name, new URLSearchParams(), { ...store.filter, ...extra });

/** Changes names in the address without leaving the page. */
export function setParams(changes) {
	const { name, params } = route();
	history.replaceState(null, "", write(name, params, changes));
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

/** What a brush does: the range filters every panel of the minutes. */
export const brushTo = (from, to) => setParams({ from, to });
