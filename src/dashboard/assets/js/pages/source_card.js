// One source: its state in a word, its conservation law spelled out, and what it holds.

import { h, fill, text } from "../dom.js";
import { law } from "../fold.js";
import { num, compact, span, stamp, time, plural } from "../format.js";
import { now } from "../state.js";
import { linkTo } from "../router.js";

/** A word for the state of a source, with its reason. */
export function sourceState(s) {
  const broken = s.partitions.filter((p) => p.error);
  if (!s.balanced) return ["unbalanced", "bad", "rows are missing from the account"];
  if (broken.length) return ["stopped", "bad", `${plural(broken.length, "partition")} stopped: ${broken[0].error}`];
  const lag = s.partitions.reduce((sum, p) => sum + (p.lag || 0), 0);
  if (lag > 100000) return ["behind", "warn", `${compact(lag)} rows behind`];
  if (s.partitions.some((p) => p.held)) return ["loading", "warn", "a bulk load holds the watermark"];
  if (s.partitions.length && s.partitions.every((p) => p.idle)) return ["idle", "quiet", "nothing has come for a while"];
  return ["healthy", "good", lag ? `${num(lag)} rows behind` : "up to date"];
}

const TERMS = ["applied", "duplicate", "late", "pending", "quarantined", "rejected"];

export function sourceCard() {
  const name = h("span"), tag = h("span"), why = h("small"), facts = h("small");
  const numbers = Object.fromEntries(["received", ...TERMS].map((t) => [t, h("b")]));
  const verdict = h("span", { class: "verdict" });
  const term = (t) => h("span", { class: "term" }, numbers[t], h("span", { text: t }));
  const equation = h("div", { class: "law" }, term("received"), h("span", { class: "op", text: "=" }), TERMS.map((t, i) => [i > 0 && h("span", { class: "op", text: "+" }), term(t)]), verdict);
  const el = h("div", { class: "source" }, h("h3", null, name, tag, why), equation, facts);
  el.set = (s) => {
    const [word, tone, reason] = sourceState(s);
    fill(name, h("a", { href: linkTo("sources", { source: s.source_id }), text: `${s.name} (source ${s.source_id})` }));
    text(tag, word);
    tag.className = `tag ${tone}`;
    text(why, reason);
    for (const [t, node] of Object.entries(numbers)) text(node, num(s.counters[t]));
    const { off, right } = law(s.counters);
    text(verdict, off === 0 ? "✓ balances" : `✗ off by ${num(Math.abs(off))} rows (${num(right)} accounted for)`);
    verdict.className = `verdict ${off === 0 ? "good" : "bad"}`;
    const mark = time(s.watermark);
    text(facts, [
      mark !== null && `watermark ${stamp(mark)}, ${mark > now() ? "ahead" : `${span(now() - mark)} behind the clock`}`,
      `${num(s.users)} users`, `${num(s.open_sessions)} open sessions with ${num(s.open_events)} events`, s.sealed_sessions > 0 && `${num(s.sealed_sessions)} sealed sessions`,
      s.counters.conflict > 0 && `${num(s.counters.conflict)} of the duplicates differed`, s.counters.deleted > 0 && `${num(s.counters.deleted)} applied events deleted later`,
    ].filter(Boolean).join(" · "));
  };
  return el;
}
