// Sources and dead letters: what each source has received and where it went, its partitions, and the rows that could not
// be accepted, with their reasons and a way to send them again.

import { h, fill, keyed, text } from "../dom.js";
import { panel, forget, poll } from "../panel.js";
import { store, shownSources, sourceName } from "../state.js";
import { address, get, post, curlFirstEvent } from "../api.js";
import { setParams, route, linkTo } from "../router.js";
import { num, stamp, time, plural } from "../format.js";
import { pageHead, choice, row, table } from "./common.js";
import { sourceCard } from "./source_card.js";

const KINDS = ["malformed", "invalid", "quarantined", "late"];
const PAGE = 50;
const MOST = 500;

export function mount(root) {
  const kind = () => (KINDS.includes(route().params.get("kind")) ? route().params.get("kind") : "");
  const lettersApi = (cursor) => address("api/dead-letters", { source_id: store.filter.source, kind: kind(), limit: PAGE, cursor });
  const status = () => address("api/status", {});
  const health = panel({ title: "Sources", unit: "rows since the source began", width: "w12", api: status });
  const parts = panel({ title: "Partitions", unit: "lag in rows between the position and the end", width: "w12", api: status });
  const letters = panel({
    title: "Dead letters", unit: "", width: "w12", api: () => lettersApi(), follows: false,
    tools: [choice("Reason", [["", "all"], ...KINDS.map((k) => [k, k])], kind(), (v) => (setParams({ kind: v }), restart()))],
  });
  const panels = [health, parts, letters];
  const list = h("div"), partBox = h("div", { class: "tall" });
  const letterRows = h("tbody"), more = h("button", { type: "button", text: "Show more" }), said = h("p", { class: "lede", role: "status" });
  const letterBox = h("div", null, said, h("div", { class: "scroll" }, h("table", { "aria-label": "Dead letters" }, h("thead", null, h("tr", null, ["refused at", "source", "reason", "what was wrong", "from", "payload", ""].map((w) => h("th", { scope: "col", text: w })))), letterRows)), h("p", { class: "buttons" }, more));
  let older = [], cursor = null, forbidden = false, filterKey = "";
  const replayed = new Map();
  root.append(pageHead("Sources and dead letters", "Nothing is dropped in silence."), h("div", { class: "grid" }, panels.map((p) => p.el)));

  function drawSources() {
    if (!store.status) return [health, parts].forEach((p) => p.loading());
    const sources = shownSources();
    if (!sources.length) {
      health.empty(store.filter.source === null ? "No source has sent anything yet. Send an event:" : "This source has not sent anything yet. Choose another above, or send an event:", curlFirstEvent());
      return parts.empty("No partitions.");
    }
    health.ready(list);
    keyed(list, sources.slice(0, 50), (s) => s.source_id, () => sourceCard(), (el, s) => el.set(s));
    const rows = sources.flatMap((s) => s.partitions.map((p) => ({ s, p }))).sort((a, b) => Number(!!b.p.error) - Number(!!a.p.error));
    if (!rows.length) return parts.empty("No partitions: these sources are fed over HTTP only.");
    parts.ready(partBox);
    parts.unit(`${plural(rows.length, "partition")}${rows.length > 200 ? ", the first 200 shown" : ""}; lag in rows between the position and the end`);
    fill(partBox, table(["source", "partition", "state", "#next position", "#lag (rows)", "newest event time"], rows.slice(0, 200).map(({ s, p }) => row([s.name, h("span", { class: "mono", text: p.partition }), p.error ? h("span", { class: "bad", text: `stopped: ${p.error}` }) : p.held ? "bulk load" : p.idle ? "idle" : "active", { num: num(p.position) }, { num: p.lag === null ? "unknown" : num(p.lag) }, p.max_event_time ? stamp(time(p.max_event_time)) : "–"])), "Partitions"));
  }

  function letterRow() {
    const tr = h("tr"), replay = h("button", { type: "button", class: "small" }), after = h("div", { class: "cell-text" });
    tr.set = (d) => {
      if (tr.id9 !== d.id) {
        tr.id9 = d.id;
        fill(tr, h("td", { class: "nowrap", text: stamp(time(d.at)) }), h("td", { text: sourceName(d.source_id) }), h("td", null, h("span", { class: `tag ${d.kind === "late" || d.kind === "quarantined" ? "warn" : "bad"}`, text: d.kind })),
          h("td", null, h("div", { class: "cell-text" }, d.field && h("b", { text: `${d.field}: ` }), d.detail, d.user_id && h("div", { class: "quiet" }, "user ", h("a", { href: linkTo("user", { source: d.source_id, id: d.user_id }), text: d.user_id })))),
          h("td", null, h("div", { class: "mono cell-text", text: d.origin })), h("td", null, h("details", null, h("summary", { text: d.format || "show" }), h("pre", { text: d.payload }))), h("td", null, replay, after));
        replay.onclick = () => send(d);
      }
      const state = replayed.get(d.id);
      text(replay, state?.busy ? "sending…" : "Replay");
      replay.disabled = !!state?.busy || !!state?.done || forbidden;
      replay.title = forbidden ? "This token lacks the scope admin." : "Validate this row and take it in again";
      text(after, state?.words || "");
      after.className = `cell-text ${state?.done ? "good" : "bad"}`;
    };
    return tr;
  }

  async function send(d) {
    replayed.set(d.id, { busy: true });
    drawLetters();
    try {
      const got = await post(address(`api/dead-letters/${encodeURIComponent(d.id)}/replay`));
      replayed.set(d.id, { done: true, words: got.inserted ? `taken in, ${num(got.inserted)} new` : got.duplicates ? "was known already" : "sent again" });
    } catch (error) {
      if (error.status === 403) forbidden = true;
      replayed.set(d.id, { words: error.status === 403 ? "needs the scope admin" : error.message });
    }
    drawLetters();
  }

  let newest = [];
  function drawLetters() {
    const rows = [...newest, ...older.filter((d) => !newest.some((n) => n.id === d.id))];
    if (!rows.length) {
      const total = shownSources().reduce((sum, s) => sum + s.counters.rejected + s.counters.late + s.counters.quarantined, 0);
      return letters.empty(kind() || total ? "No dead letters under this filter." : "No dead letters: every row received could be read and was valid.");
    }
    letters.ready(letterBox);
    letters.unit(`${plural(rows.length, "row")} shown${cursor ? ", more exist" : ""}; payloads are cut at 4,096 bytes`);
    keyed(letterRows, rows, (d) => d.id, letterRow, (tr, d) => tr.set(d));
    more.hidden = !cursor || rows.length >= MOST;
    text(said, rows.length >= MOST && cursor ? `The first ${num(MOST)} are shown; narrow the filter, or ask the API for the rest.` : "");
    said.hidden = !said.textContent;
  }

  const ask = poll(letters, async (signal) => {
    const answer = await get(lettersApi(), signal);
    newest = answer.dead_letters;
    if (!older.length) cursor = answer.next_cursor;
    drawLetters();
    return answer.as_of;
  }, () => 5000);

  function restart() {
    older = [];
    newest = [];
    cursor = null;
    ask.again();
  }

  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      const answer = await get(lettersApi(cursor));
      older = [...older, ...newest.filter((n) => !older.some((d) => d.id === n.id)), ...answer.dead_letters].slice(0, MOST);
      cursor = answer.next_cursor;
      drawLetters();
    } catch (error) {
      text(said, error.message);
      said.hidden = false;
    }
    more.disabled = false;
  });

  return {
    update(kinds) {
      if (kinds.has("all") || kinds.has("status") || kinds.has("filter")) drawSources();
      const key = String(store.filter.source);
      if (filterKey && key !== filterKey) restart();
      filterKey = key;
      if (kinds.has("token")) {
        forbidden = false;
        ask.again();
      }
    },
    unmount() {
      ask.stop();
      forget(panels);
    },
  };
}

