// Panels. Their states: loading, empty, error, ready, stale.

import { attrs, h, fill, text, clock, span, store, now, subscribe, curlFor, get, token } from "./kit.js";

const live = new Set(), quiet = () => Date.now() - store.lastFrameAt > 5000;

export function panel(title, api, { unit = "", width = "w12", tools = [], tall, polls } = {}) {
	const unitEl = h("span.unit", unit), body = h("div.body"), fresh = h("span.fresh");
	const link = h("a", { target: "_blank" }, "open in API");
	const el = h(`section.panel.${width}`, { "aria-label": title }, h("div.head", h("h2", title), unitEl, h("div.tools", tools)), body, h("div.foot", fresh, link));
	link.addEventListener("click", (e) => {
		if (!token()) return;
		e.preventDefault();
		copy(link, curlFor(api()));
	});
	const self = { el, link, fresh, api, polls, asOf: 0, state: "", unit: (words) => text(unitEl, words ?? unit) }, box = h(tall ? "div.tall" : "div");
	const show = (state, make) => {
		if (self.state === state) return;
		self.state = state;
		fill(body, make());
	};
	self.loading = () => show("loading", () => h("div.skeleton", { "aria-label": "loading" }, h("i"), h("i"), h("i"), h("i")));
	self.empty = (words, curl) => show(`empty ${words}`, () => h("div.state", h("p", words), curl && curlLine(curl)));
	self.failed = (error, again) => show(`error ${error.message}`, () => errorState(error, again));
	self.ready = (node, words) => {
		show("ready", () => node);
		self.unit(words);
	};
	self.draw = (chart, data, words) => {
		self.ready(chart.el, words);
		chart.update(data);
	};
	self.fill = (node, words) => {
		self.ready(box, words);
		fill(box, node);
	};
	live.add(self);
	freshen(self);
	return self;
}

export const forget = (panels) => panels.forEach((p) => live.delete(p));

function curlLine(line) {
	const button = h("button.small", { onclick: () => copy(button, line) }, "Copy");
	return h("div.curl", h("code", line), button);
}

function copy(el, words) {
	const before = el.textContent, say = (said, ms) => setTimeout(() => (el.textContent = said), ms), done = (said) => [say(said), say(before, 1500)];
	if (!navigator.clipboard) done("Copying needs https or localhost");
	else navigator.clipboard.writeText(words).then(() => done("Copied"), () => done("Not allowed here"));
}

function errorState(error, again) {
	const hint = { 401: "This server asks for a token.", 403: "The token in use lacks the scope for this.", 503: "The server is replaying its log; this page asks again by itself.", 0: "Is it running? This page asks again by itself." }[error.status];
	return h("div.state", { role: "alert" }, h("p", h("b.bad", "No answer: "), error.message), hint && h("p", hint), error.requestId && h("p.quiet.mono", `request ${error.requestId}`), h("button", { onclick: again }, "Try again"));
}

function freshen(p) {
	const url = p.api(), { state } = store.conn, asOf = p.polls && url ? (p.polls.asOf ?? p.asOf) : store.asOf;
	attrs(p.link, { href: url });
	const stale = asOf > 0 && (quiet() || (state !== "live" && state !== "connecting"));
	p.el.classList.toggle("stale", stale);
	if (asOf) text(p.fresh, `${stale ? "stale: " : ""}as of ${clock(asOf, 4)}, ${span(Math.max(0, now() - asOf))} ago${stale ? `; ${connWords()}` : ""}`);
	else text(p.fresh, p.state.startsWith("error") ? "no answer yet" : state === "live" ? "waiting for the first answer" : connWords());
}

export function connWords() {
	const { state, retryAt, detail } = store.conn, left = Math.ceil((retryAt - Date.now()) / 1000);
	if (state === "live") return quiet() ? "nothing heard for a while" : "live";
	if (state === "waiting") return `${detail}; trying again ${left > 0 ? `in ${left} s` : "now"}`;
	return state === "denied" ? detail : "connecting";
}

function tick() {
	live.forEach(freshen);
	dispatchEvent(new CustomEvent("tick"));
}
let clockwork = setInterval(tick, 500);
document.addEventListener("visibilitychange", () => {
	clearInterval(clockwork);
	if (!document.hidden) clockwork = setInterval(tick, 500);
});
subscribe((kinds) => (kinds.has("conn") || kinds.has("status")) && tick());

export function poll(p, draw, everyMs = () => 5000) {
	p.polls = true;
	let timer = 0, abort = null, stopped = false, hadData = false, lost = false, busy = false;
	const run = async () => {
		clearTimeout(timer);
		if (stopped || document.hidden) return;
		abort?.abort();
		const mine = (abort = new AbortController());
		try {
			const url = p.api();
			// Without a question, whoever knows why has said so in the panel.
			if (!hadData && (url || !p.state)) p.loading();
			busy = true;
			const answer = url && (await get(url, mine.signal));
			if (stopped || abort !== mine) return;
			if (answer) {
				await draw(answer, mine.signal);
				hadData = true;
				p.asOf = answer.as_of ?? now();
			}
			freshen(p);
		} catch (error) {
			if (stopped || abort !== mine) return;
			if (!hadData) p.failed(error, run);
		}
		busy = false;
		timer = setTimeout(run, everyMs());
	};
	const off = subscribe((kinds) => {
		const { state } = store.conn, back = lost && state === "live";
		lost = state === "waiting" || state === "denied" || (lost && !back);
		if (back || kinds.has("shown") || kinds.has("token")) run();
	});
	run();
	return {
		soon: run,
		nudge: () => busy || run(),
		again() {
			hadData = false;
			p.state = "";
			run();
		},
		stop() {
			stopped = true;
			clearTimeout(timer);
			abort?.abort();
			off();
		},
	};
}
