// The one store: what the stream has told us, the filters in force, and who wants to be drawn again.
// Changes mark kinds as dirty; one animation frame later the page is told once. No frame is asked for in a hidden tab.

import { Minutes, MINUTE } from "./fold.js";
import { time } from "./format.js";

const HISTORY_SECONDS = 600;
const CORRECTIONS_KEPT = 200;

export const store = {
  conn: { state: "connecting", retryAt: 0, detail: "" },
  status: null,
  asOf: 0,
  lastFrameAt: 0,
  clockSkewMs: 0,
  minutes: new Minutes(),
  minutesSeen: false,
  clusters: new Map(),
  clustersSeen: false,
  corrections: [],
  correctionsPerMinute: null,
  correctionCounts: new Map(),
  history: [],
  filter: { source: null, page: null, from: null, to: null },
  cursor: null,
};

let listeners = [];
let dirty = new Set();
let asked = 0;

/** Calls `listen(dirtyKinds)` at most once per animation frame; returns the way to stop it. */
export function subscribe(listen) {
  listeners.push(listen);
  return () => (listeners = listeners.filter((l) => l !== listen));
}

export function touch(kind) {
  dirty.add(kind);
  if (!asked && !document.hidden) asked = requestAnimationFrame(flush);
}

export function flush() {
  asked = 0;
  const kinds = dirty;
  dirty = new Set();
  for (const listen of [...listeners]) listen(kinds);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden && asked) asked = cancelAnimationFrame(asked) || 0;
  else if (!document.hidden) touch("shown");
});

/** The server's clock, as far as we know it. */
export const now = () => Date.now() - store.clockSkewMs;

function seenAt(asOf) {
  store.lastFrameAt = Date.now();
  if (typeof asOf !== "number" || asOf <= 0) return;
  store.asOf = Math.max(store.asOf, asOf);
}

/** One frame of the stream. */
export function takeFrame(event, body) {
  seenAt(body?.as_of);
  if (typeof body?.corrections_per_minute === "number") store.correctionsPerMinute = body.corrections_per_minute;
  if (event === "status") takeStatus(body);
  else if (event === "minutes") takeMinutes(body);
  else if (event === "clusters") takeClusters(body);
  else if (event === "resync") store.asOf = 0;
}

export function takeStatus(status) {
  store.status = status;
  const theirs = time(status.now);
  if (theirs !== null) store.clockSkewMs = Date.now() - theirs;
  const last = store.history[store.history.length - 1];
  const t = now();
  const point = {
    t,
    eps: status.events_per_second,
    p50: status.latency_p50_ms,
    p99: status.latency_p99_ms,
    queue: status.queue_depth,
    memory: status.memory_bytes,
    lag: Math.max(0, (status.committed || 0) - (status.as_of || 0)),
    sessions: new Map((status.sources || []).map((s) => [s.source_id, s.open_sessions])),
  };
  if (last && t - last.t < 500) store.history[store.history.length - 1] = point;
  else store.history.push(point);
  if (store.history.length > HISTORY_SECONDS) store.history.splice(0, store.history.length - HISTORY_SECONDS);
  touch("status");
}

function takeMinutes(frame) {
  const fixes = store.minutes.apply(frame.cells || [], !!frame.snapshot, now(), time);
  store.minutesSeen = true;
  store.truncated = !!frame.truncated || (store.truncated && !frame.snapshot);
  if (fixes.length) {
    const minute = Math.floor(now() / MINUTE) * MINUTE;
    store.correctionCounts.set(minute, (store.correctionCounts.get(minute) || 0) + fixes.length);
    for (const t of store.correctionCounts.keys()) if (t < minute - 60 * MINUTE) store.correctionCounts.delete(t);
    store.corrections = [...fixes.reverse(), ...store.corrections].slice(0, CORRECTIONS_KEPT);
    touch("corrections");
  }
  touch("minutes");
}

function takeClusters(frame) {
  for (const source of frame.sources || []) store.clusters.set(source.source_id, source);
  store.clustersSeen = true;
  touch("clusters");
}

/** The sources the filter admits. */
export function shownSources() {
  const all = store.status?.sources || [];
  return store.filter.source === null ? all : all.filter((s) => s.source_id === store.filter.source);
}

/** The source whose journeys are shown: the chosen one, else the one with most users. */
export function mainSource() {
  if (store.filter.source !== null) return store.filter.source;
  const all = [...(store.status?.sources || [])].sort((a, b) => b.users - a.users);
  return all.length ? all[0].source_id : null;
}

export const sourceName = (id) => store.status?.sources?.find((s) => s.source_id === id)?.name || `source ${id}`;

/** The time axis that all minute charts share: `[from, to)`. */
export function minuteDomain() {
  const end = Math.max(store.minutes.newest, Math.floor(now() / MINUTE) * MINUTE) + MINUTE;
  return [end - 60 * MINUTE, end];
}

/** The brushed range, or the whole axis. */
export function minuteRange() {
  const { from, to } = store.filter;
  return from !== null && to !== null ? [from, to] : minuteDomain();
}

/** The time axis of the live charts. */
export function liveDomain() {
  const end = now();
  return [end - HISTORY_SECONDS * 1000, end];
}
