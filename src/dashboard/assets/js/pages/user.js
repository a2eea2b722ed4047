// One user: where the path has led, its sessions on a time line, and every session in a table.

import { h, fill } from "../dom.js";
import { panel, forget, poll } from "../panel.js";
import { pathChart } from "../charts/desire.js";
import { timeline } from "../charts/timeline.js";
import { FEATURES } from "../charts/scatter.js";
import { sourceName } from "../state.js";
import { address, get } from "../api.js";
import { linkTo } from "../router.js";
import { clusterClass } from "../fold.js";
import { num, compact, fixed, span, stamp, time, plural } from "../format.js";
import { pageHead, row, table } from "./common.js";

export const identity = (params) => `${params.get("source")} ${params.get("id")}`;

const LIMIT = 500;

export function mount(root, params) {
  const source = params.get("source"), id = params.get("id") || "";
  const journeyApi = () => address("api/journeys", { source_id: source, user_id: id });
  const sessionsApi = () => address("api/sessions", { source_id: source, user_id: id, limit: LIMIT });
  const path = panel({ title: "Path", unit: "cumulative views and carts; rings are sessions with a purchase", width: "w8", api: journeyApi, follows: false });
  const facts = panel({ title: "Features", unit: "whole history", width: "w4", api: journeyApi, follows: false });
  const line = panel({ title: "Sessions on a time line", unit: "height: events; width: duration; pale: sealed; ring: purchase", width: "w12", api: sessionsApi, follows: false });
  const list = panel({ title: "Sessions", unit: "", width: "w12", api: sessionsApi, follows: false });
  const panels = [path, facts, line, list];
  const chart = pathChart({}), times = timeline({});
  const factBox = h("dl", { class: "facts" }), tableBox = h("div", { class: "tall" });
  root.append(pageHead(`User ${id}`, `of ${sourceName(Number(source))}`), h("p", null, h("a", { href: linkTo("journeys", { source }), text: "← all journeys of this source" })), h("div", { class: "grid" }, panels.map((p) => p.el)));

  const journey = poll(path, async (signal) => {
    const answer = await get(journeyApi(), signal);
    const one = answer.journeys[0];
    facts.asOf = answer.as_of;
    if (!one) {
      path.empty("Nobody with this id is known in this source. An id must match exactly; a user also vanishes when it is erased.");
      facts.empty("Nothing is known.");
      return answer.as_of;
    }
    path.ready(chart.el);
    chart.update(one);
    facts.ready(factBox);
    fill(factBox, h("div", null, h("dt", { text: "cluster" }), h("dd", null, h("span", { class: `swatch ${clusterClass(one.cluster_id)}` }), one.cluster_id === null ? "none yet" : `cluster ${one.cluster_id}`)), FEATURES.map((name, i) => h("div", null, h("dt", { text: name }), h("dd", { text: compact(one.features[i]) }))));
    return answer.as_of;
  }, () => 5000);

  const sessions = poll(line, async (signal) => {
    const answer = await get(sessionsApi(), signal);
    const rows = answer.sessions;
    list.asOf = answer.as_of;
    if (!rows.length) {
      line.empty("No sessions.");
      list.empty("No sessions.");
      return answer.as_of;
    }
    line.ready(times.el);
    times.update(rows);
    list.ready(tableBox);
    list.unit(`${plural(rows.length, "session")}${answer.next_cursor ? ` (the first ${num(LIMIT)})` : ""}; times in your zone; value in the source's own unit`);
    fill(tableBox, table(["#session", "start", "#duration", "#events", "#views", "#carts", "#purchases", "#value", "state"], rows.map((s) => row([{ num: num(s.session_number) }, stamp(time(s.start)), { num: span(time(s.end) - time(s.start)) }, { num: num(s.event_count) }, { num: num(s.views) }, { num: num(s.carts) }, { num: num(s.transactions) }, { num: fixed(Number(s.value), 2) }, s.sealed ? "sealed" : "open"])), "Sessions"));
    return answer.as_of;
  }, () => 5000);

  return {
    update: (kinds) => kinds.has("token") && (journey.again(), sessions.again()),
    unmount() {
      journey.stop();
      sessions.stop();
      forget(panels);
      chart.stop();
      times.stop();
    },
  };
}
