// The search box. `/` focuses it.

import { attrs, byId, h, fill, store, allSources, shownSources, NAV, linkTo, num, add } from "./kit.js";

let found = [], at = 0;

function results(words) {
	const needle = words.toLowerCase(), hit = (value, id) => String(value).toLowerCase().includes(needle) || String(id) === needle, sources = allSources();
	if (!needle) return [];
	const pages = new Map();
	for (const bucket of store.minutes.buckets.values()) for (const c of bucket.cells.values()) if (hit(c.page)) add(pages, c.page, c.count);
	return [
		...Object.entries(NAV).filter(([, label]) => hit(label)).map(([id, label]) => [label, "go to", linkTo(id)]),
		...sources.filter((one) => hit(one.name, one.source_id)).slice(0, 4).map((one) => [`${one.name} (${one.source_id})`, "source", linkTo("sources", { source: one.source_id })]),
		...store.spaces.filter((one) => hit(one.space_name, one.space_id)).slice(0, 6).map((one) => [one.space_name || one.space_id, "space", linkTo("campus", { space: one.space_id })]),
		...[...pages].sort((a, b) => b[1] - a[1]).slice(0, 4).map(([page, count]) => [page || "(none)", `page, ${num(count)} events`, linkTo("shop", { page })]),
		...shownSources().slice(0, 3).map(({ source_id: source, name }) => [words, `open as user of ${name}`, linkTo("user", { source, id: words })]),
	].slice(0, 12);
}

function draw() {
	const list = byId("search-results");
	list.hidden = !found.length;
	attrs(byId("search"), { "aria-expanded": String(!list.hidden), "aria-activedescendant": found.length > 0 && `found-${at}` });
	fill(list, found.map(([label, kind], i) => h("li", { id: `found-${i}`, role: "option", "aria-selected": String(i === at), onpointerdown: (e) => (e.preventDefault(), choose(i)) }, h("span", label), h("span", kind))));
}

function choose(i) {
	if (found[i]) location.hash = found[i][2];
	byId("search").value = "";
	byId("search").blur();
}

export function wireSearch() {
	const box = byId("search");
	function look() {
		found = results(box.value.trim());
		at = 0;
		draw();
	}
	attrs(box, {
		oninput: look,
		onfocus: look,
		onblur() {
			found = [];
			draw();
		},
		onkeydown(e) {
			const step = { ArrowDown: 1, ArrowUp: found.length - 1 }[e.key];
			if (e.key === "Escape") choose(-1);
			else if (e.key === "Enter") choose(at);
			else if (step && found.length) {
				e.preventDefault();
				at = (at + step) % found.length;
				draw();
			}
		},
	});
	addEventListener("keydown", (e) => {
		if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || e.target.closest?.("input, select, textarea, dialog")) return;
		e.preventDefault();
		box.focus();
	});
}
