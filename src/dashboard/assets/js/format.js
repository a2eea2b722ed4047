// How numbers, times and durations are written. Every function is total: what is not a number becomes a dash.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const decimals = [0, 1, 2, 3].map((digits) => new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));

const ok = (n) => typeof n === "number" && Number.isFinite(n);

/** 12,345 */
export const num = (n) => (ok(n) ? whole.format(n) : "–");
/** 12.3K */
export const compact = (n) => (ok(n) ? (Math.abs(n) < 10000 ? (Number.isInteger(n) ? num(n) : fixed(n, Math.abs(n) < 10 ? 2 : 1)) : short.format(n)) : "–");
export const fixed = (n, digits = 2) => (ok(n) ? decimals[digits].format(n) : "–");

/** A rate: few digits, never none. */
export const rate = (n) => (ok(n) ? (n >= 100 ? num(n) : fixed(n, 1)) : "–");

export function bytes(n) {
  if (!ok(n)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  for (; Math.abs(n) >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i === 0 ? num(n) : fixed(n, n < 10 ? 2 : 1)} ${units[i]}`;
}

/** A duration given in milliseconds: 38 ms, 3.2 s, 4 min, 5 h 12 min, 3 d. */
export function span(ms) {
  if (!ok(ms)) return "–";
  const a = Math.abs(ms);
  if (a < 1000) return `${ms < 10 && ms > 0 && !Number.isInteger(ms) ? fixed(ms, 1) : num(ms)} ms`;
  if (a < 60e3) return `${fixed(ms / 1000, 1)} s`;
  if (a < 3600e3) return `${num(Math.floor(ms / 60e3))} min`;
  if (a < 48 * 3600e3) return `${num(Math.floor(ms / 3600e3))} h ${num(Math.floor(ms / 60e3) % 60)} min`;
  return `${num(Math.floor(ms / 86400e3))} d`;
}

const pad = (n, digits = 2) => String(n).padStart(digits, "0");

/** 12:03:07.120 in the reader's zone; `parts` is how many of h:m:s.ms. */
export function clock(ms, parts = 3) {
  if (!ok(ms)) return "–";
  const d = new Date(ms);
  let out = `${pad(d.getHours())}:${pad(d.getMinutes())}`;
  if (parts > 2) out += `:${pad(d.getSeconds())}`;
  if (parts > 3) out += `.${pad(d.getMilliseconds(), 3)}`;
  return out;
}

/** 2026-01-31 12:03:07 in the reader's zone. */
export function stamp(ms, parts = 3) {
  if (!ok(ms)) return "–";
  const d = new Date(ms);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(ms, parts)}`;
}

/** The reader's zone, as `UTC+02:00`. */
export function zone() {
  const m = -new Date().getTimezoneOffset();
  return `UTC${m < 0 ? "−" : "+"}${pad(Math.floor(Math.abs(m) / 60))}:${pad(Math.abs(m) % 60)}`;
}

/** RFC 3339, or a number of milliseconds or microseconds, to milliseconds; null when there is none. */
export function time(value) {
  if (typeof value === "number") return value > 1e14 ? value / 1000 : value;
  if (typeof value !== "string" || value === "") return null;
  const ms = Date.parse(value);
  return Number.isNaN(ms) ? null : ms;
}

export const plural = (n, one, many = `${one}s`) => `${num(n)} ${n === 1 ? one : many}`;
