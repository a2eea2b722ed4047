// Runs: bulk loads, erasures and other work with a beginning and an end; their states, progress and logs.

import { h, fill, keyed, text } from "../dom.js";
import { panel, forget, poll } from "../panel.js";
import { now } from "../state.js";
import { address, get, post, base } from "../api.js";
import { setParams, route } from "../router.js";
import { num, span, stamp, time, plural } from "../format.js";
import { pageHead, choice, row, table } from "./common.js";

const STATES = ["PENDING", "STARTED", "SUCCESS", "FAILURE", "CANCELLED"];
const TONES = { SUCCESS: "good", FAILURE: "bad", CANCELLED: "quiet", STARTED: "warn", PENDING: "quiet" };
const unfinished = (r) => r.status === "PENDING" || r.status === "STARTED";

export function mount(root) {
  const state = () => (STATES.includes(route().params.get("status")) ? route().params.get("status") : "");
  const chosen = () => route().params.get("run") || "";
  const listApi = () => address("dagster/runs", { limit: 100, status_filter: state() });
  const runApi = () => address(`dagster/runs/${encodeURIComponent(chosen())}`);
  const logApi = () => address(`dagster/runs/${encodeURIComponent(chosen())}/logs`, { limit: 500 });
  const runs = panel({ title: "Runs", unit: "", width: "w12", api: listApi, follows: false, tools: [choice("State", [["", "all"], ...STATES.map((s) => [s, s.toLowerCase()])], state(), (v) => (setParams({ status: v }), ask.again()))] });
  const one = panel({ title: "Run", unit: "", width: "w12", api: logApi, follows: false });
  const assets = panel({ title: "What the runs and views keep", unit: "assets and when they last changed", width: "w12", api: () => address("dagster/assets"), follows: false });
  const panels = [runs, one, assets];
  const body = h("tbody");
  const listBox = h("div", { class: "scroll tall" }, h("table", { "aria-label": "Runs" }, h("thead", null, h("tr", null, ["state", "job", "run", "started", "took", "progress"].map((w) => h("th", { scope: "col", text: w })))), body));
  const facts = h("div"), log = h("div", { class: "tall", tabindex: 0, role: "log", "aria-label": "Log of the run" }), cancel = h("button", { type: "button", text: "Cancel this run" }), said = h("span", { class: "bad", role: "alert" });
  const oneBox = h("div", null, facts, h("p", { class: "buttons" }, cancel, said), log);
  let detail = null, shownRun = "", listed = [];
  root.append(pageHead("Runs", "Work with a beginning and an end: bulk loads, trainings, erasures."), h("div", { class: "grid" }, panels.map((p) => p.el)));

  function progress(r) {
    const p = r.progress;
    if (!p || !(p.total > 0)) return unfinished(r) ? h("span", { class: "quiet", text: r.status === "PENDING" ? "waiting" : "working" }) : "";
    const share = Math.min(1, p.done / p.total), i = h("i");
    i.style.width = `${share * 100}%`;
    return h("div", null, h("div", { class: "meter", role: "progressbar", "aria-valuenow": Math.round(share * 100), "aria-valuemin": 0, "aria-valuemax": 100 }, i), h("span", { class: "quiet", text: `${Math.floor(share * 100)} %, ${num(p.done)} of ${num(p.total)} ${p.unit || ""}` }));
  }

  const took = (r) => {
    const a = time(r.start_time), b = time(r.end_time);
    return a === null ? "–" : span((b ?? now()) - a);
  };

  const ask = poll(runs, async (signal) => {
    const answer = await get(listApi(), signal);
    listed = answer.runs;
    if (!listed.length) {
      runs.empty(state() ? `No run is ${state().toLowerCase()}.` : "No runs yet. Load a file that lies in an allowed folder of the server:", state() ? null : `curl -X POST '${location.origin}${base}trigger' -H 'content-type: application/json' -d '{"source_id":1,"events_path":"events.csv","is_initial_flow":true}'`);
      return now();
    }
    runs.ready(listBox);
    runs.unit(`${plural(listed.length, "run")}, newest first${listed.length >= 100 ? " (the newest 100)" : ""}; ${num(listed.filter(unfinished).length)} at work or waiting`);
    keyed(body, listed, (r) => r.run_id, () => h("tr", { class: "pick" }), (tr, r) => {
      const key = JSON.stringify([r, unfinished(r) && took(r), chosen()]);
      if (tr.key === key) return;
      tr.key = key;
      tr.classList.toggle("on", r.run_id === chosen());
      tr.onclick = () => pick(r.run_id);
      const focused = tr.contains(document.activeElement);
      const name = h("a", { href: `#/runs?run=${encodeURIComponent(r.run_id)}`, onclick: (e) => (e.preventDefault(), e.stopPropagation(), pick(r.run_id)) }, r.job_name || "run");
      fill(tr, h("td", null, h("span", { class: `tag ${TONES[r.status] || ""}`, text: (r.status || "").toLowerCase() })), h("td", null, name), h("td", { class: "mono", text: r.run_id }), h("td", { class: "nowrap", text: r.start_time ? stamp(time(r.start_time)) : "–" }), h("td", { class: "nowrap", text: took(r) }), h("td", null, progress(r)));
      if (focused) name.focus({ preventScroll: true });
    });
    return now();
  }, () => (listed.some(unfinished) ? 1500 : 5000));

  function pick(id) {
    setParams({ run: id });
    showOne();
    ask.soon();
    one.el.scrollIntoView({ block: "nearest" });
  }

  const askOne = poll(one, async (signal) => {
    if (!chosen()) return 0;
    const [run, logs] = await Promise.all([get(runApi(), signal), get(logApi(), signal)]);
    detail = run;
    one.ready(oneBox);
    one.unit(`${run.run_id}; ${plural(logs.logs.length, "log line")}${logs.logs.length >= 500 ? " (the newest 500)" : ""}`);
    fill(facts, h("dl", { class: "facts" }, [["state", (run.status || "").toLowerCase()], ["started", run.start_time ? stamp(time(run.start_time)) : "–"], ["ended", run.end_time ? stamp(time(run.end_time)) : "–"], ["took", took(run)]].map(([k, v]) => h("div", null, h("dt", { text: k }), h("dd", { text: v })))), run.error_message && h("p", { class: "bad", text: run.error_message }), run.progress && progress(run));
    cancel.hidden = !unfinished(run);
    const bottom = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    fill(log, logs.logs.length ? table(["time", "level", "step", "message"], logs.logs.map((l) => row([h("span", { class: "mono nowrap", text: time(l.timestamp) === null ? String(l.timestamp) : stamp(time(l.timestamp)) }), h("span", { class: l.level === "ERROR" ? "bad" : l.level === "WARNING" || l.level === "WARN" ? "warn" : "quiet", text: l.level }), h("span", { class: "mono", text: l.step_key || "" }), l.message])), "Log") : h("p", { class: "quiet", text: "No log lines yet." }));
    if (bottom) log.scrollTop = log.scrollHeight;
    return now();
  }, () => (!detail || unfinished(detail) ? 1500 : 10000));

  function showOne() {
    one.el.hidden = !chosen();
    if (shownRun === chosen()) return;
    shownRun = chosen();
    detail = null;
    text(said, "");
    askOne.again();
  }

  cancel.addEventListener("click", async () => {
    cancel.disabled = true;
    text(said, "");
    try {
      await post(address(`dagster/runs/${encodeURIComponent(chosen())}/cancel`));
    } catch (error) {
      text(said, error.status === 403 ? "Cancelling needs a token with the scope admin." : error.message);
    }
    cancel.disabled = false;
    askOne.soon();
    ask.soon();
  });

  const askAssets = poll(assets, async (signal) => {
    const answer = await get(address("dagster/assets"), signal);
    if (!answer.assets.length) assets.empty("Nothing has been kept yet.");
    else {
      assets.state = "";
      assets.ready(table(["asset", "state", "last changed"], answer.assets.slice(0, 200).map((a) => row([h("span", { class: "mono", text: Array.isArray(a.asset_key) ? a.asset_key.join("/") : String(a.asset_key) }), a.is_materialized ? "kept" : "empty", time(a.last_materialization) === null ? "–" : stamp(time(a.last_materialization))])), "Assets"));
    }
    return now();
  }, () => 10000);

  showOne();
  return {
    update(kinds) {
      if (kinds.has("params")) showOne();
      if (kinds.has("token")) [ask, askOne, askAssets].forEach((p) => p.again());
    },
    unmount() {
      [ask, askOne, askAssets].forEach((p) => p.stop());
      forget(panels);
    },
  };
}
