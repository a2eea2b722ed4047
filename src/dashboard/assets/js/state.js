// The one store. Who listens is drawn once per animation frame, and not in a hidden tab.

import { Minutes, MINUTE, clamp } from "./fold.js";
import { time } from "./format.js";

export const store = {
	conn: { state: "connecting", retryAt: 0, detail: "" },
	asOf: 0,
	lastFrameAt: 0,
	clockSkewMs: 0,
	minutes: new Minutes(),
	clusters: new Map(),
	corrections: [],
	correctionsPerMinute: 0,
	history: [],
	spaces: [],
	alerts: [],
	filter: { source: null, page: null, from: null, to: null },
};

let listeners = [], dirty = new Set(), asked = 0;

export function subscribe(listen) {
	listeners.push(listen);
	return () => (listeners = listeners.filter((l) => l !== listen));
}

export function touch(kind) {
	dirty.add(kind);
	if (!asked && !document.hidden) asked = requestAnimationFrame(flush);
}

function flush() {
	const kinds = dirty;
	asked = 0;
	dirty = new Set();
	for (const listen of listeners) listen(kinds);
}

document.addEventListener("visibilitychange", () => {
	cancelAnimationFrame(asked);
	asked = 0;
	touch("shown");
});

export const now = () => Date.now() - store.clockSkewMs;

const takers = {
	status(status) {
		store.status = status;
		store.clockSkewMs = Date.now() - (time(status.now) ?? Date.now());
		store.history = [...store.history, { ...status, t: now(), lag: Math.max(0, status.committed - status.as_of), sessions: new Map(status.sources.map((one) => [one.source_id, one.open_sessions])), sources: null }].slice(-600);
	},
	minutes(frame) {
		const fixes = store.minutes.apply(frame.cells, frame.snapshot, now(), time);
		// The clusters follow a snapshot, complete.
		if (frame.snapshot) store.clusters.clear();
		store.minutesSeen = true;
		store.truncated = frame.truncated || (store.truncated && !frame.snapshot);
		store.corrections = [...fixes.reverse(), ...store.corrections].slice(0, 200);
	},
	clusters({ sources }) {
		for (const source of sources) store.clusters.set(source.source_id, source);
		store.clustersSeen = true;
	},
	occupancy_change(body) {
		store.alerts = [{ ...body, at: now() }, ...store.alerts].slice(0, 50);
	},
};

export function takeFrame(event, body) {
	store.lastFrameAt = Date.now();
	store.asOf = Math.max(store.asOf, body.as_of || 0);
	store.correctionsPerMinute = body.corrections_per_minute ?? store.correctionsPerMinute;
	takers[event]?.(body);
	touch(event);
}

export const allSources = () => store.status?.sources || [];

export const shownSources = () => allSources().filter((one) => store.filter.source === null || one.source_id === store.filter.source);

export const mainSource = () => store.filter.source ?? [...allSources()].sort((a, b) => b.users - a.users)[0]?.source_id ?? null;

export const sourceName = (id) => allSources().find((one) => one.source_id === id)?.name || `source ${id}`;

export function minuteDomain() {
	const end = Math.max(store.minutes.newest, Math.floor(now() / MINUTE) * MINUTE) + MINUTE;
	return [end - 60 * MINUTE, end];
}

export const minuteRange = () => (store.filter.from === null ? minuteDomain() : [store.filter.from, store.filter.to]);

export function liveDomain() {
	const end = now();
	return [clamp(store.history[0]?.t ?? end, end - 10 * MINUTE, end - MINUTE), end];
}
