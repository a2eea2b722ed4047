// The live stream, read by fetch so that a token can be sent. It comes back by itself: waiting times double up to half
// a minute, with jitter; it resumes after the last id it saw; silence of ten seconds counts as a broken line; a hidden
// tab closes it and a shown one opens it again.

import { SseParser, backoffMs } from "./fold.js";
import { headers, base } from "./api.js";
import { store, takeFrame, touch } from "./state.js";

const SILENCE_MS = 10000;

let abort = null;
let attempt = 0;
let timer = 0;
let lastId = "";
let wanted = false;

function setState(state, detail = "", retryAt = 0) {
  store.conn = { state, detail, retryAt };
  touch("conn");
}

function wait(detail) {
  abort = null;
  if (!wanted) return;
  const ms = backoffMs(attempt++);
  setState("waiting", detail, Date.now() + ms);
  clearTimeout(timer);
  timer = setTimeout(open, ms);
}

async function open() {
  clearTimeout(timer);
  if (!wanted || abort) return;
  const mine = (abort = new AbortController());
  if (store.conn.state !== "waiting") setState("connecting");
  let silence = 0;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => mine.abort(new Error("nothing heard for 10 s")), SILENCE_MS);
  };
  try {
    heard();
    const extra = { accept: "text/event-stream", ...(lastId ? { "last-event-id": lastId } : {}) };
    const answer = await fetch(`${base}api/live`, { headers: headers(extra), signal: mine.signal, cache: "no-store" });
    if (answer.status === 401 || answer.status === 403) {
      abort = null;
      setState("denied", answer.status === 401 ? "a token is needed" : "the token lacks the scope read");
      return;
    }
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new SseParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Error("the server closed the stream");
      heard();
      for (const frame of parser.push(value)) {
        if (frame.id) lastId = frame.id;
        attempt = 0;
        if (store.conn.state !== "live") setState("live");
        takeFrame(frame.event, JSON.parse(frame.data || "null"));
      }
    }
  } catch (error) {
    if (abort === mine) wait(mine.signal.aborted ? "nothing heard for 10 s" : error instanceof TypeError ? "the server cannot be reached" : error.message);
  } finally {
    clearTimeout(silence);
    mine.abort();
  }
}

function close(state) {
  wanted = false;
  clearTimeout(timer);
  const old = abort;
  abort = null;
  if (old) old.abort();
  setState(state);
}

export function start() {
  wanted = true;
  attempt = 0;
  open();
}

/** Tries at once instead of waiting: a button, a new token, the network's return. */
export function retryNow() {
  if (document.hidden) return;
  clearTimeout(timer);
  wanted = true;
  const old = abort;
  abort = null;
  if (old) old.abort();
  setState("connecting");
  open();
}

document.addEventListener("visibilitychange", () => (document.hidden ? close("paused") : start()));
addEventListener("online", () => store.conn.state === "waiting" && retryNow());
