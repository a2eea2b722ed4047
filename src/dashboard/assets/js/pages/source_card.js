import { h, keyed, text, TERMS, law, num, compact, span, stamp, time, plural, now, linkTo, sum, panel, address, curlEvent } from "../kit.js";

function stateOf({ balanced, partitions }) {
	const broken = partitions.filter((p) => p.error), lag = sum(partitions, (p) => p.lag || 0);
	if (!balanced) return ["unbalanced", "bad", "rows are missing from the account"];
	if (broken.length) return ["stopped", "bad", `${plural(broken.length, "partition")} stopped: ${broken[0].error}`];
	if (lag > 100000) return ["behind", "warn", `${compact(lag)} rows behind`];
	if (partitions.some((p) => p.held)) return ["loading", "warn", "a bulk load holds the watermark"];
	if (partitions.length && partitions.every((p) => p.idle)) return ["idle", "quiet", "nothing has come for a while"];
	return ["healthy", "good", lag ? `${plural(lag, "row")} behind` : "up to date"];
}

function create() {
	const name = h("a"), tag = h("span"), why = h("small"), more = h("small"), verdict = h("span.verdict"), counts = {};
	const term = (t) => h("span.term", (counts[t] = h("b")), h("span", t));
	const el = h("div.source", h("h3", name, tag, why), h("div.law", term("received"), TERMS.map((t, i) => [h("span.op", i ? "+" : "="), term(t)]), verdict), more);
	return Object.assign(el, { name, tag, why, more, verdict, counts });
}

function set(el, s) {
	const [word, tone, reason] = stateOf(s), { off, right } = law(s.counters), mark = time(s.watermark), late = now() - mark;
	el.name.href = linkTo("sources", { source: s.source_id });
	text(el.name, `${s.name} (source ${s.source_id})`);
	text(el.tag, word);
	el.tag.className = `tag ${tone}`;
	text(el.why, reason);
	for (const [t, node] of Object.entries(el.counts)) text(node, num(s.counters[t]));
	text(el.verdict, off === 0 ? "✓ balances" : `✗ off by ${plural(Math.abs(off), "row")}: ${num(right)} accounted for`);
	el.verdict.className = `verdict ${off === 0 ? "good" : "bad"}`;
	text(el.more, [
		mark !== null && `watermark ${stamp(mark)}, ${late < 0 ? "ahead of" : `${span(late)} behind`} the clock`, plural(s.users, "user"), `${plural(s.open_sessions, "open session")} with ${plural(s.open_events, "event")}`,
		s.sealed_sessions > 0 && plural(s.sealed_sessions, "sealed session"), s.counters.conflict > 0 && `${num(s.counters.conflict)} of the duplicates differed`, s.counters.deleted > 0 && `${num(s.counters.deleted)} of the applied were deleted later`,
	].filter(Boolean).join(" · "));
}

export const statusApi = () => address("api/status");

export function sourcesPanel(most) {
	const p = panel("Sources", statusApi, { unit: "rows since the source began; every row received is accounted for" }), list = h("div");
	p.show = (sources) => {
		if (!sources.length) return p.empty("Nothing has come from a source yet. Send an event:", curlEvent());
		p.ready(list);
		keyed(list, sources.slice(0, most), (s) => s.source_id, create, set);
	};
	return p;
}
