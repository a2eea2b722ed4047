// Journeys and clusters: the desire lines, the clusters with their centroids, and a scatter of users.

import { h, keyed, text, flash } from "../dom.js";
import { panel, forget, poll } from "../panel.js";
import { desireChart } from "../charts/desire.js";
import { scatterChart, FEATURES } from "../charts/scatter.js";
import { store, mainSource, sourceName } from "../state.js";
import { address, get, curlFirstEvent } from "../api.js";
import { linkTo, setParams, route } from "../router.js";
import { rememberUsers } from "../search.js";
import { clusterClass } from "../fold.js";
import { num, compact, fixed, plural } from "../format.js";
import { pageHead, choice } from "./common.js";

const SAMPLES = ["200", "1000", "3000"];
const USERS_LISTED = 300;

export function mount(root) {
  const params = () => route().params;
  const sample = () => (SAMPLES.includes(params().get("users")) ? params().get("users") : "1000");
  const axis = (name, otherwise) => {
    const n = Number(params().get(name));
    return params().has(name) && Number.isInteger(n) && n >= 0 && n < 6 ? n : otherwise;
  };
  const journeysApi = () => address("api/journeys", { source_id: mainSource(), limit: sample() });
  const features = FEATURES.map((name, i) => [String(i), name]);

  const paths = panel({
    title: "Desire lines", unit: "", width: "w12", api: journeysApi, follows: false,
    tools: [choice("Users", SAMPLES.map((n) => [n, num(Number(n))]), sample(), (v) => (setParams({ users: v }), ask.soon()))],
  });
  const listed = panel({ title: "Users on the chosen line", unit: "", width: "w12", api: journeysApi, follows: false });
  const clusters = panel({ title: "Clusters", unit: "users now; centroids are means per user over the whole history", width: "w6", api: () => address("api/clusters", { source_id: mainSource() }) });
  const dots = panel({
    title: "Users by two features", unit: "one dot per place, larger with more users", width: "w6", api: journeysApi, follows: false,
    tools: [choice("x", features, String(axis("x", 0)), (v) => (setParams({ x: v }), drawDots())), choice("y", features, String(axis("y", 3)), (v) => (setParams({ y: v }), drawDots()))],
  });
  const panels = [paths, listed, clusters, dots];
  let rows = [], asked = null;

  const desire = desireChart({ height: 430, pick: (stretch, words) => choose(stretch.users.map((i) => rows[i]), words) });
  const scatter = scatterChart({ height: 360, pick: choose });
  const desireBox = h("div", null, h("p", { class: "lede", text: "Each journey starts at the lower left. A session takes it right by its views, then up by its carts. Where many users walked the same stretch the line is thicker and darker; its colour is the cluster that most of them belong to. Choose a line to see who walked it." }), desire.el,
    h("ul", { class: "legend" }, h("li", null, h("span", { class: "swatch ring" }), "a purchase in that session"), h("li", null, h("span", { class: "swatch diamond" }), "centroid of a cluster"), h("li", null, h("span", { class: "swatch c0" }), "no cluster yet")));
  const clusterRows = h("tbody");
  const clusterBox = h("div", { class: "scroll" }, h("table", null, h("thead", null, h("tr", null, h("th", { scope: "col", text: "cluster" }), ["users", "share", "views", "carts", "purchases", "sessions", "views per session", "purchase ratio"].map((w) => h("th", { class: "num", scope: "col", text: w })))), clusterRows));
  listed.el.hidden = true;
  root.append(pageHead("Journeys and clusters", "The paths people wear into the ground."), h("div", { class: "grid" }, panels.map((p) => p.el)));

  function choose(users, words) {
    listed.el.hidden = false;
    listed.state = "";
    listed.unit(`${plural(users.length, "user")} of the sample: ${words}`);
    listed.ready(h("div", { class: "users" }, users.slice(0, USERS_LISTED).map((j) => h("a", { href: linkTo("user", { source: j.source_id, id: j.user_id }) }, h("span", { class: `swatch ${clusterClass(j.cluster_id)}` }), String(j.user_id))), users.length > USERS_LISTED && h("span", { class: "quiet", text: `and ${num(users.length - USERS_LISTED)} more` })));
    listed.el.scrollIntoView({ block: "nearest" });
  }

  const centroids = () => store.clusters.get(mainSource())?.clusters || [];

  function drawDots() {
    if (!rows.length) return dots.empty("No journeys yet.");
    dots.ready(scatter.el);
    scatter.update(rows, centroids(), [axis("x", 0), axis("y", 3)]);
  }

  const ask = poll(paths, async (signal) => {
    const source = mainSource();
    if (source === null) {
      if (!store.status) return 0;
      paths.empty("No journeys yet. Send an event:", curlFirstEvent());
      dots.empty("No journeys yet.");
      return store.asOf;
    }
    const answer = await get(journeysApi(), signal);
    asked = source;
    rows = answer.journeys;
    rememberUsers(rows);
    const total = store.status?.sources.find((s) => s.source_id === source)?.users;
    paths.unit(`${num(rows.length)}${total ? ` of ${num(total)}` : ""} users of ${sourceName(source)}, whole history; widening steps on both axes`);
    if (!rows.length) paths.empty("This source has no journeys yet. Send an event:", curlFirstEvent());
    else {
      paths.ready(desireBox);
      desire.update(rows, centroids());
    }
    dots.asOf = listed.asOf = answer.as_of;
    drawDots();
    return answer.as_of;
  }, () => 15000);

  function drawClusters() {
    const source = mainSource();
    if (!store.clustersSeen || source === null) return store.status && source === null ? clusters.empty("No clusters yet: they are trained once a source has journeys.") : clusters.loading();
    const one = store.clusters.get(source);
    if (!one?.clusters.length) return clusters.empty(`${sourceName(source)} has no clusters yet. They are trained by themselves once enough journeys are known, or by POST /trigger.`);
    clusters.ready(clusterBox);
    const assigned = one.clusters.reduce((sum, c) => sum + c.users, 0);
    clusters.unit(`${num(assigned)} of ${num(one.users)} users assigned now; model version ${num(one.model_version)}; centroids are means per user, whole history`);
    keyed(clusterRows, one.clusters, (c) => c.cluster_id, (c) => {
      const cells = Array.from({ length: 8 }, () => h("td", { class: "num" }));
      const tr = h("tr", null, h("td", { class: "nowrap" }, h("span", { class: `swatch ${clusterClass(c.cluster_id)}` }), `cluster ${c.cluster_id}`), cells);
      tr.cells8 = cells;
      return tr;
    }, (tr, c) => {
      [num(c.users), assigned ? `${fixed((100 * c.users) / assigned, 1)} %` : "–", ...c.centroid.map((v) => compact(Number(v.toFixed(2))))].forEach((words, i) => text(tr.cells8[i], words));
      if (tr.version !== undefined && tr.version !== one.model_version) flash(tr.cells8[0]);
      tr.version = one.model_version;
    });
    if (rows.length) desire.centroids(one.clusters);
  }

  return {
    update(kinds) {
      const any = (...names) => kinds.has("all") || names.some((n) => kinds.has(n));
      if (any("status", "filter") && mainSource() !== asked && (asked !== null || mainSource() !== null) && store.status) {
        asked = mainSource();
        listed.el.hidden = true;
        ask.again();
      }
      if (any("clusters", "filter") || (kinds.has("status") && clusters.state !== "ready")) drawClusters();
    },
    unmount() {
      ask.stop();
      forget(panels);
      desire.stop();
      scatter.stop();
    },
  };
}

