// Numbers, times and durations in words. What is not a number becomes a dash.

const format = (options) => new Intl.NumberFormat("en-US", options);
const decimals = [0, 1, 2].map((n) => format({ minimumFractionDigits: n, maximumFractionDigits: n })), short = format({ notation: "compact", maximumFractionDigits: 1 });

export const fixed = (n, places = 2) => (Number.isFinite(n) ? decimals[places].format(n) : "–");
export const num = (n) => fixed(n, 0);
export const compact = (n) => (Math.abs(n) >= 10000 ? short.format(n) : fixed(n, Number.isInteger(n) ? 0 : Math.abs(n) < 10 ? 2 : 1));
export const rate = (n) => fixed(n, n >= 100 ? 0 : 1);
export const plural = (n, one) => `${num(n)} ${one}${n === 1 ? "" : "s"}`;

export function bytes(n) {
	const i = Math.max(0, Math.min(5, Math.floor(Math.log2(n) / 10) || 0)), v = n / 1024 ** i;
	return `${fixed(v, i ? (v < 10 ? 2 : 1) : 0)} ${"B KiB MiB GiB TiB PiB".split(" ")[i]}`;
}

export function span(ms) {
	if (!Number.isFinite(ms)) return "–";
	if (ms < 1000) return `${num(ms)} ms`;
	if (ms < 60e3) return `${fixed(ms / 1000, 1)} s`;
	if (ms < 3600e3) return `${Math.floor(ms / 60e3)} min`;
	if (ms < 48 * 3600e3) return `${Math.floor(ms / 3600e3)} h ${Math.floor(ms / 60e3) % 60} min`;
	return `${num(Math.floor(ms / 86400e3))} d`;
}

// RFC 3339 of the reader's zone, in pieces; a dash for what is no time.
const piece = (ms, from, to) => (Math.abs(ms) < 8e15 ? new Date(ms - new Date(ms).getTimezoneOffset() * 60e3).toISOString().slice(from, to) : "–");
export const clock = (ms, parts = 3) => piece(ms, 11, [0, 0, 16, 19, 23][parts]);
export function stamp(at, parts) {
	const ms = time(at) ?? at ?? NaN;
	return Math.abs(ms) < 8e15 ? `${piece(ms, 0, 10)} ${clock(ms, parts)}` : "–";
}

export const binWords = (t, step) => `${(step > 300e3 ? stamp : clock)(t, 2)} to ${(step < 86400e3 ? clock : stamp)(t + step, 2)}`;

export function zone() {
	const ms = new Date().getTimezoneOffset() * -60e3;
	return `UTC${ms < 0 ? "−" : "+"}${new Date(Math.abs(ms)).toISOString().slice(11, 16)}`;
}

export function time(value) {
	const ms = typeof value === "string" ? Date.parse(value) : NaN;
	return Number.isNaN(ms) ? null : ms;
}
