// How numbers, times and durations are written. Every function is total: what is not a number becomes a dash.

const digits = (n) => new Intl.NumberFormat("en-US", { minimumFractionDigits: n, maximumFractionDigits: n });
const decimals = [0, 1, 2, 3].map(digits), short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

export const fixed = (n, places = 2) => (Number.isFinite(n) ? decimals[places].format(n) : "–");
/** 12,345 */
export const num = (n) => fixed(n, 0);
/** 12.3K; below ten thousand exact, or with one or two decimals. */
export const compact = (n) => (Math.abs(n) >= 10000 ? short.format(n) : fixed(n, Number.isInteger(n) ? 0 : Math.abs(n) < 10 ? 2 : 1));
/** A rate: few digits, never none. */
export const rate = (n) => fixed(n, n >= 100 ? 0 : 1);
export const plural = (n, one) => `${num(n)} ${one}${n === 1 ? "" : "s"}`;

export function bytes(n) {
	const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
	let i = 0;
	for (; n >= 1024 && i < 5; i++) n /= 1024;
	return `${fixed(n, i ? (n < 10 ? 2 : 1) : 0)} ${units[i]}`;
}

/** A duration given in milliseconds: 38 ms, 3.2 s, 4 min, 5 h 12 min, 3 d. */
export function span(ms) {
	if (!Number.isFinite(ms)) return "–";
	if (ms < 1000) return `${num(ms)} ms`;
	if (ms < 60e3) return `${fixed(ms / 1000, 1)} s`;
	if (ms < 3600e3) return `${Math.floor(ms / 60e3)} min`;
	if (ms < 48 * 3600e3) return `${Math.floor(ms / 3600e3)} h ${Math.floor(ms / 60e3) % 60} min`;
	return `${num(Math.floor(ms / 86400e3))} d`;
}

const pad = (n, places = 2) => String(n).padStart(places, "0");

/** 12:03:07.120 in the reader's zone; `parts` is how many of h:m:s.ms. */
export function clock(ms, parts = 3) {
	if (!Number.isFinite(ms)) return "–";
	const d = new Date(ms);
	return `${pad(d.getHours())}:${pad(d.getMinutes())}${parts > 2 ? `:${pad(d.getSeconds())}` : ""}${parts > 3 ? `.${pad(d.getMilliseconds(), 3)}` : ""}`;
}

/** 2026-01-31 12:03:07 in the reader's zone; a dash for null. */
export function stamp(ms, parts = 3) {
	if (!Number.isFinite(ms)) return "–";
	const d = new Date(ms);
	return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(ms, parts)}`;
}

/** The reader's zone, as `UTC+02:00`. */
export function zone() {
	const m = -new Date().getTimezoneOffset();
	return `UTC${m < 0 ? "−" : "+"}${pad(Math.floor(Math.abs(m) / 60))}:${pad(Math.abs(m) % 60)}`;
}

/** RFC 3339 to milliseconds; null when there is none. */
export function time(value) {
	const ms = typeof value === "string" ? Date.parse(value) : NaN;
	return Number.isNaN(ms) ? null : ms;
}
