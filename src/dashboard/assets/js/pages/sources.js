import { h, keyed, text, panel, poll, store, shownSources, sourceName, address, post, setParams, param, linkTo, num, stamp, time, plural, lay, concerns, choice, table, sourcesPanel, statusApi } from "../kit.js";

const KINDS = ["malformed", "invalid", "quarantined", "late"], PAGE = 50, MOST = 500;

export function mount(root) {
	let limit = PAGE;
	const kind = () => param("kind", KINDS);
	const api = () => address("api/dead-letters", { source_id: store.filter.source, kind: kind(), limit }), health = sourcesPanel(50), parts = panel("Partitions", statusApi, { tall: true });
	const letters = panel("Dead letters", api, { tools: [choice("Reason", [["", "all"], ...KINDS.map((k) => [k, k])], kind(), (v) => (setParams({ kind: v }), restart()))] });
	const body = h("tbody"), said = h("p.lede", { role: "status" });
	const more = h("button", { onclick: () => ((limit += 3 * PAGE), ask.soon()) }, "Show more"), letterBox = h("div", table("Dead letters", ["refused at", "source", "reason", "what was wrong", "from", "payload", ""], body), said, more);
	let rows = [], cursor = null, forbidden = false, wasSource = store.filter.source;
	const replays = new Map();

	const ask = poll(letters, (answer) => {
		rows = answer.dead_letters;
		cursor = answer.next_cursor;
		drawLetters();
	});

	function drawSources() {
		if (!store.status) return [health, parts].forEach((p) => p.loading());
		const sources = shownSources();
		health.show(sources);
		if (!sources.length) return parts.empty("No partitions.");
		const rows = sources.flatMap((one) => one.partitions.map((p) => [one, p])).sort((a, b) => !!b[1].error - !!a[1].error);
		parts.fill(table("Partitions", ["source", "partition", "state", "#next position", "#lag (rows)", "newest event time"], rows.slice(0, 200).map(([one, p]) => [one.name, h("span.mono", p.partition), p.error ? h("span.bad", `stopped: ${p.error}`) : p.held ? "bulk load" : p.idle ? "idle" : "active", num(p.position), p.lag === null ? "unknown" : num(p.lag), stamp(p.max_event_time)])), `${plural(rows.length, "partition")}${rows.length > 200 ? ", the first 200 shown" : ""}; lag in rows between the position and the end`);
	}

	function create(d) {
		const replay = h("button.small", { onclick: () => send(d.id) }), after = h("div");
		const cells = [h("span.nowrap", stamp(d.at)), sourceName(d.source_id), h(`span.tag.${d.kind === "late" || d.kind === "quarantined" ? "warn" : "bad"}`, d.kind),
			[d.field && h("b", `${d.field}: `), d.detail, d.user_id && h("div.quiet", "user ", h("a", { href: linkTo("user", { source: d.source_id, id: d.user_id }) }, d.user_id))],
			h("span.mono", d.origin), h("details", h("summary", d.format || "show"), h("pre", d.payload)), [replay, after]];
		return Object.assign(h("tr", cells.map((c) => h("td", c))), { replay, after });
	}

	function drawLetters() {
		if (!rows.length) return letters.empty("No dead letters under this filter: every row received could be read and was valid.");
		letters.ready(letterBox, `${plural(rows.length, "row")} shown${cursor ? ", more exist" : ""}; payloads are cut at 4,096 bytes`);
		keyed(body, rows, (d) => d.id, create, ({ replay, after }, d) => {
			const state = replays.get(d.id) || {};
			text(replay, state.busy ? "sending…" : "Replay");
			replay.disabled = !!(state.busy || state.done || forbidden);
			replay.title = forbidden ? "This token lacks the scope admin." : "Validate this row and take it in again";
			text(after, state.words || "");
			after.className = state.done ? "good" : "bad";
		});
		more.hidden = !cursor || rows.length >= MOST;
		text(said, cursor && more.hidden ? "Narrow the filter, or ask the API for the rest." : "");
	}

	async function send(id) {
		replays.set(id, { busy: true });
		drawLetters();
		try {
			const got = await post(address(`api/dead-letters/${encodeURIComponent(id)}/replay`));
			replays.set(id, { done: true, words: got.duplicates ? "was known already" : "taken in" });
		} catch (error) {
			forbidden ||= error.status === 403;
			replays.set(id, { words: error.status === 403 ? "needs the scope admin" : error.message });
		}
		drawLetters();
	}

	function restart() {
		limit = PAGE;
		ask.again();
	}

	return {
		...lay(root, "Sources and dead letters", "Nothing is dropped in silence.", [health, parts, letters], [ask]),
		update(kinds) {
			if (concerns(kinds, "status")) drawSources();
			if (store.filter.source !== wasSource) restart();
			wasSource = store.filter.source;
			if (kinds.has("token")) forbidden = false;
		},
	};
}
