// Addresses: `#/page?name=value`. The filters (source, page, from, to) live in the address, so a view can be shared.

import { store, touch } from "./state.js";

const FILTERS = ["source", "page", "from", "to"];

export function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { name: path || "overview", params: new URLSearchParams(query) };
}

/** The address of a page with the filters in force and `extra`; a null removes a name. */
export function linkTo(name, extra = {}) {
  const query = new URLSearchParams();
  const { source, page, from, to } = store.filter;
  const all = { source, page, from, to, ...extra };
  for (const [key, value] of Object.entries(all)) if (value !== null && value !== undefined && value !== "") query.set(key, value);
  const tail = query.toString();
  return `#/${name}${tail ? `?${tail}` : ""}`;
}

/** Changes names in the address without leaving the page. */
export function setParams(changes) {
  const { name, params } = route();
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") params.delete(key);
    else params.set(key, value);
  }
  const tail = params.toString();
  history.replaceState(null, "", `#/${name}${tail ? `?${tail}` : ""}`);
  readFilters();
}

export function readFilters() {
  const { params } = route();
  const number = (key) => (params.has(key) && /^\d+$/.test(params.get(key)) ? Number(params.get(key)) : null);
  const next = { source: number("source"), page: params.get("page") || null, from: number("from"), to: number("to") };
  if (next.from === null || next.to === null || next.to <= next.from) next.from = next.to = null;
  if (FILTERS.every((key) => store.filter[key] === next[key])) return;
  store.filter = next;
  touch("filter");
}

/** What a brush does: the range filters every panel of the minutes. */
export const brushTo = (from, to) => setParams({ from, to });
