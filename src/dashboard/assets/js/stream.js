// The live stream, by fetch so that a token can be sent. It resumes after the last id, after pauses that double; 20 seconds of
// silence are a broken line; a hidden tab closes it.

import { SseParser, backoffMs } from "./fold.js";
import { headers, address, token } from "./api.js";
import { store, takeFrame, touch } from "./state.js";

const SILENCE_MS = 20000;
let abort = null, attempt = 0, timer = 0, lastId = "";

function setState(state, detail = "", retryAt = 0) {
	store.conn = { state, detail, retryAt };
	touch("conn");
}

async function open() {
	const mine = (abort = new AbortController());
	let silence = 0;
	const heard = () => {
		clearTimeout(silence);
		silence = setTimeout(() => mine.abort(), SILENCE_MS);
	};
	try {
		heard();
		const answer = await fetch(address("api/live"), { headers: headers({ accept: "text/event-stream", ...(lastId && { "last-event-id": lastId }) }), signal: mine.signal, cache: "no-store" });
		if (answer.status === 401 || answer.status === 403) return setState("denied", answer.status === 403 ? "the token lacks the scope read" : token() ? "the token is not known" : "a token is needed");
		if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
		const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader(), parser = new SseParser();
		for (;;) {
			const { done, value } = await reader.read();
			if (done) throw new Error("the server closed the stream");
			if (abort !== mine) return;
			heard();
			for (const frame of parser.push(value)) {
				lastId = frame.id || lastId;
				attempt = 0;
				if (store.conn.state !== "live") setState("live");
				takeFrame(frame.event, JSON.parse(frame.data));
			}
		}
	} catch (error) {
		if (abort !== mine) return;
		const ms = backoffMs(attempt++);
		setState("waiting", mine.signal.aborted ? "nothing heard for 20 s" : error instanceof TypeError ? "the server cannot be reached" : error.message, Date.now() + ms);
		timer = setTimeout(open, ms);
	} finally {
		clearTimeout(silence);
		mine.abort();
	}
}

function close() {
	clearTimeout(timer);
	const old = abort;
	abort = null;
	old?.abort();
}

/** Opens the stream at once: at the start, by a button, with a new token, when the network or the reader is back. */
export function connect() {
	close();
	if (document.hidden) return setState("paused");
	setState("connecting");
	open();
}

document.addEventListener("visibilitychange", connect);
addEventListener("online", () => store.conn.state === "waiting" && connect());
