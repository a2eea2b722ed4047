// The live stream, by fetch so that a token can be sent. 20 seconds of silence are a broken line.

import { SseParser, backoffMs, headers, address, token, store, takeFrame, touch } from "./kit.js";

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
		silence = setTimeout(() => mine.abort(), 20000);
	};
	try {
		heard();
		const answer = await fetch(address("api/live"), { headers: headers({ accept: "text/event-stream", ...(lastId && { "last-event-id": lastId }) }), signal: mine.signal, cache: "no-store" });
		const denied = { 401: token() ? "the token is not known" : "a token is needed", 403: "the token lacks the scope read" }[answer.status];
		if (denied) return setState("denied", denied);
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

export function connect() {
	const old = abort;
	clearTimeout(timer);
	abort = null;
	old?.abort();
	if (document.hidden) return setState("paused");
	setState("connecting");
	open();
}

document.addEventListener("visibilitychange", connect);
addEventListener("online", () => store.conn.state === "waiting" && connect());
