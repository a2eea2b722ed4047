// Tests of the dashboard's pure modules. Run by the crate's tests, or by hand: node src/dashboard/modules.test.mjs [folder of assets]

import test from "node:test";
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const base = process.argv[2] ? pathToFileURL(`${process.argv[2]}/`) : new URL("./assets/", import.meta.url), load = (name) => import(new URL(`js/${name}`, base));
const { SseParser, backoffMs, Minutes, MINUTE, Watch, treeRows, hourOfWeek, ticks, lattice, slotOf, placeOn, desireLines, law, clusterClass } = await load("fold.js");
const format = await load("format.js");
const { pipeline, conflicted, typed } = await load("concept.js");

const FRAMES = 'id: h-1\nevent: status\ndata: {"a":1}\n\n: keep-alive\n\nid: h-2\r\nevent: minutes\r\ndata: one\r\ndata: two\r\n\r\nretry: 250\n\ndata:plain\n\n';

test("the stream is read alike however it is cut into pieces", () => {
  const whole = new SseParser().push(FRAMES);
  assert.deepEqual(whole, [
    { event: "status", data: '{"a":1}', id: "h-1" },
    { event: "minutes", data: "one\ntwo", id: "h-2" },
    { event: "message", data: "plain", id: "h-2" },
  ]);
  for (let size = 1; size < 40; size++) {
    const parser = new SseParser(), out = [];
    for (let i = 0; i < FRAMES.length; i += size) out.push(...parser.push(FRAMES.slice(i, i + size)));
    assert.deepEqual(out, whole, `pieces of ${size}`);
  }
});

test("waiting times double up to half a minute, with jitter", () => {
  assert.equal(backoffMs(0, 1), 500);
  assert.equal(backoffMs(0, 0), 250);
  assert.equal(backoffMs(3, 1), 4000);
  assert.equal(backoffMs(50, 1), 30000);
  for (let n = 0; n < 20; n++) assert.ok(backoffMs(n) >= 250 && backoffMs(n) <= 30000);
});

const T = Date.parse("2026-01-31T12:00:00.000Z");
const cell = (minute, page, type, count, more = {}) => ({ source_id: 1, window_start: new Date(T + minute * MINUTE).toISOString(), page, event_type: type, count, revenue: 0, before: null, correction: false, ...more });
const all = { source: null, page: null };

test("a snapshot and its changes add up, and a correction keeps what was before", () => {
  const m = new Minutes();
  m.apply([cell(0, "/a", "view", 5), cell(0, "/b", "buy", 2, { revenue: 9.5 }), cell(1, "/a", "view", 1, { source_id: 2 })], true, 0, format.time);
  assert.equal(m.sums(T, all).count, 7);
  assert.equal(m.sums(T, all).revenue, 9.5);
  assert.equal(m.sums(T + MINUTE, { source: 1, page: null }).count, 0);
  const fixes = m.apply([cell(0, "/a", "view", 6, { before: 5, correction: true }), cell(1, "/a", "view", 3, { source_id: 2, before: 1 })], false, 1000, format.time);
  assert.deepEqual(fixes, [{ at: 1000, t: T, source: 1, page: "/a", type: "view", before: 5, after: 6 }]);
  const sums = m.sums(T, all);
  assert.deepEqual([sums.count, sums.before, sums.fixedAt], [8, 7, 1000]);
  assert.equal(m.sums(T + MINUTE, all).fixedAt, 0);
});

test("several corrections of one value keep its first before; a snapshot keeps the mark", () => {
  const m = new Minutes();
  m.apply([cell(0, "/a", "view", 5)], true, 0, format.time);
  m.apply([cell(0, "/a", "view", 6, { before: 5, correction: true })], false, 1000, format.time);
  m.apply([cell(0, "/a", "view", 9, { before: 6, correction: true })], false, 2000, format.time);
  assert.equal(m.sums(T, all).before, 5);
  m.apply([cell(0, "/a", "view", 9)], true, 3000, format.time);
  assert.deepEqual([m.sums(T, all).before, m.sums(T, all).count], [5, 9]);
  const [row] = m.ranking("page", all, T, T + MINUTE, 3000);
  assert.deepEqual([row.key, row.count, row.before, row.fixedAt], ["/a", 9, 5, 2000]);
  assert.equal(m.ranking("page", all, T, T + MINUTE, 3000 + MINUTE)[0].fixedAt, 0, "the mark of a ranking fades after a minute");
});

test("a correction from nothing and one to nothing are both shown", () => {
  const m = new Minutes();
  m.apply([cell(0, "/a", "view", 2), cell(9, "/z", "view", 1)], true, 0, format.time);
  const fixes = m.apply([cell(0, "/new", "view", 1, { correction: true }), cell(0, "/a", "view", 0, { before: 2, correction: true })], false, 5, format.time);
  assert.deepEqual(fixes.map((f) => [f.before, f.after]), [[0, 1], [2, 0]]);
  assert.equal(m.sums(T, all).count, 1);
  m.apply([cell(9, "/z", "view", 0, { before: 1 })], false, 6, format.time);
  assert.equal(m.sums(T + 9 * MINUTE, all).count, 0);
});

test("minutes are bounded in time and in number", () => {
  const m = new Minutes(60, 100);
  for (let i = 0; i < 500; i++) m.apply([cell(i, "/a", "view", 1)], false, 0, format.time);
  assert.equal(m.buckets.size, 61);
  m.apply(Array.from({ length: 300 }, (_, i) => cell(498, `/${i}`, "view", 1)), false, 0, format.time);
  m.apply([cell(499, "/b", "view", 1)], false, 0, format.time);
  assert.ok(m.cells <= 100, `${m.cells} cells`);
  assert.equal([...m.buckets.values()].reduce((n, b) => n + b.cells.size, 0), m.cells);
});

test("a ranking obeys source, page and range, and is ordered", () => {
  const m = new Minutes();
  m.apply([cell(0, "/a", "view", 5), cell(1, "/b", "view", 7), cell(1, "/a", "buy", 1), cell(1, "/a", "view", 1, { source_id: 2 })], true, 0, format.time);
  const keys = (field, filter, from, to) => m.ranking(field, filter, T + from * MINUTE, T + to * MINUTE, 0).map((r) => [r.key, r.count]);
  assert.deepEqual(keys("page", all, 0, 2), [["/a", 7], ["/b", 7]]);
  assert.deepEqual(keys("page", { source: 1, page: null }, 1, 2), [["/b", 7], ["/a", 1]]);
  assert.deepEqual(keys("type", { source: 1, page: "/a" }, 0, 2), [["view", 5], ["buy", 1]]);
});

test("a number that should stay and changes is a correction, with what was first", () => {
  const watch = new Watch();
  assert.equal(watch.look("1 3600000 0", 7, 10), undefined);
  assert.equal(watch.look("1 3600000 0", 7, 20), undefined);
  assert.deepEqual(watch.look("1 3600000 0", 8, 30), { before: 7, after: 8, at: 30 });
  assert.equal(watch.look("2 3600000 0", 8, 30), undefined, "another key");
  assert.deepEqual(watch.look("1 3600000 0", 8, 40), { before: 7, after: 8, at: 30 }, "it stays marked");
  assert.deepEqual(watch.look("1 3600000 0", 5, 50), { before: 7, after: 5, at: 50 }, "the first before is kept");
  assert.deepEqual([...watch.fixes.keys()], ["1 3600000 0"]);
  for (let i = 0; i < 100100; i++) watch.look(`k${i}`, 1, 60);
  assert.ok(watch.seen.size <= 100001, `${watch.seen.size} bins watched`);
});

const spaceOf = (space_id, parent_space_id) => ({ space_id, parent_space_id });

test("the tree opens the way to the chosen space and its children", () => {
  const spaces = [spaceOf(100, 10), spaceOf(101, 10), spaceOf(1, null), spaceOf(10, 1), spaceOf(11, 1), spaceOf(110, 11)];
  const at = (chosen) => treeRows(spaces, chosen).rows.map((row) => [row.space_id, row.depth, row.children]);
  assert.deepEqual(at(undefined), [[1, 0, 2]]);
  assert.deepEqual(at(1), [[1, 0, 2], [10, 1, 2], [11, 1, 1]]);
  assert.deepEqual(at(101), [[1, 0, 2], [10, 1, 2], [100, 2, 0], [101, 2, 0], [11, 1, 1]]);
  assert.deepEqual(treeRows(spaces, 101).way.map((one) => one.space_id), [1, 10, 101]);
});

test("orphans and circles stand as roots and are told from them", () => {
  const { rows } = treeRows([spaceOf(1, null), spaceOf(2, 77), spaceOf(3, 4), spaceOf(4, 3), spaceOf(5, 4), spaceOf(6, 6)], 3);
  assert.deepEqual(rows.map((row) => [row.space_id, row.depth, row.orphan]), [[1, 0, false], [2, 0, true], [3, 0, true], [4, 0, true], [5, 0, true], [6, 0, true]]);
});

test("the hours of the week begin on Monday in UTC", () => {
  assert.equal(hourOfWeek(0), 72, "the epoch was a Thursday");
  assert.equal(hourOfWeek(Date.parse("2026-11-16T00:59:00Z")), 0);
  assert.equal(hourOfWeek(Date.parse("2026-11-22T23:15:00Z")), 167);
});

test("ticks are round, begin at nought and reach the top", () => {
  assert.deepEqual(ticks(10), [0, 5, 10]);
  assert.deepEqual(ticks(0), [0, 1]);
  for (const max of [0.3, 1, 7, 99, 1234, 5e6]) {
    const out = ticks(max);
    assert.ok(out[0] === 0 && out[out.length - 1] >= max && out.length <= 7, `${max}: ${out}`);
  }
});

test("the lattice holds small numbers exactly and never exceeds its slots", () => {
  assert.deepEqual(lattice(5, 64), [0, 1, 2, 3, 4, 5]);
  for (const max of [1, 63, 64, 500, 1e6]) {
    const grid = lattice(max, 64);
    assert.ok(grid.length <= 65 && grid[grid.length - 1] >= max, `${max}: ${grid.length}`);
    assert.ok(grid.every((v, i) => i === 0 || v > grid[i - 1]));
    for (const v of [0, 1, max / 2, max]) {
      const i = slotOf(grid, v);
      assert.ok(grid[i] <= v && (i + 1 === grid.length || grid[i + 1] > v));
      assert.ok(placeOn(grid, v) >= i && placeOn(grid, v) <= i + 1);
    }
  }
});

const journey = (id, cluster, ...paths) => ({ user_id: id, cluster_id: cluster, paths, state: paths.reduce((a, p) => a.map((v, i) => v + p[i]), [0, 0, 0]) });

test("identical stretches merge and count each user once", () => {
  const { stretches, buys, xs } = desireLines([journey("a", 0, [3, 1, 0]), journey("b", 0, [3, 0, 0], [2, 0, 0]), journey("c", 1, [3, 1, 1])]);
  assert.deepEqual(xs, [0, 1, 2, 3, 4, 5]);
  const seen = stretches.map(({ x0, y0, x1, y1, users, cluster }) => [x0, y0, x1, y1, users.length, cluster]);
  assert.deepEqual(seen.sort(), [[0, 0, 3, 0, 3, 0], [3, 0, 3, 1, 2, 0], [3, 0, 5, 0, 1, 0]]);
  assert.deepEqual(buys, [{ x: 3, y: 1, users: [2], cluster: 1 }]);
});

test("every user walks from the origin to its state, whatever the sizes", () => {
  let seed = 7;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  const journeys = Array.from({ length: 60 }, (_, i) => journey(i, random(6) ? random(5) : null, ...Array.from({ length: 1 + random(6) }, () => [random(i > 50 ? 900 : 9), random(3), random(2)])));
  const { xs, ys, stretches } = desireLines(journeys);
  journeys.forEach((one, user) => {
    const mine = stretches.filter((s) => s.users.includes(user));
    assert.equal(mine.reduce((n, s) => n + s.x1 - s.x0, 0), slotOf(xs, one.state[0]));
    assert.equal(mine.reduce((n, s) => n + s.y1 - s.y0, 0), slotOf(ys, one.state[1]));
  });
  assert.ok(stretches.every((s, i) => i === 0 || s.users.length >= stretches[i - 1].users.length), "the most used are drawn last");
});

test("the conservation law names what is missing", () => {
  const c = { received: 10, applied: 5, duplicate: 1, late: 1, pending: 1, quarantined: 1, rejected: 1 };
  assert.deepEqual(law(c), { right: 10, off: 0 });
  assert.equal(law({ ...c, received: 12 }).off, 2);
  assert.deepEqual([0, 5, 6, null, -1].map(clusterClass), ["c1", "c6", "c1", "c0", "c0"]);
});

test("numbers, durations and times are written for people", () => {
  assert.deepEqual([0, 12345, null, NaN].map(format.num), ["0", "12,345", "–", "–"]);
  assert.deepEqual([512, 1536, 1073741824].map(format.bytes), ["512 B", "1.50 KiB", "1.00 GiB"]);
  assert.deepEqual([38, 3200, 240000, 18720000, 3 * 86400e3].map(format.span), ["38 ms", "3.2 s", "4 min", "5 h 12 min", "3 d"]);
  assert.deepEqual([1, 2].map((n) => format.plural(n, "user")), ["1 user", "2 users"]);
  assert.equal(format.time("2026-01-31T12:00:00.000Z"), T);
  assert.equal(format.time("soon"), null);
  assert.equal(format.time(null), null);
  assert.match(format.clock(T + 7120, 4), /^\d\d:\d\d:07\.120$/);
});

const lists = (more) => ({
  index: [{ index_id: 1, name: "macs", is_materialized: true, materialized_at: "2026-01-01T10:00:00Z", row_count: 300 }],
  rule: [{ r_id: 1, index_id: 1, is_materialized: true, materialized_at: "2026-01-01T10:05:00Z" }, { r_id: 2, index_id: 1, is_materialized: false }],
  feature: [{ feature_id: 1, index_id: 1, is_materialized: true, materialized_at: "2026-01-01T10:06:00Z" }],
  lf: [{ lf_id: 1, rule_id: 1, is_active: true }, { lf_id: 2, rule_id: 2, requires_approval: true }, { lf_id: 3, rule_id: 1, is_active: false }],
  model: [{ job_id: 1, lf_ids: [1], status: "COMPLETED", completed_at: "2026-01-01T10:10:00Z" }],
  bank: [{ job_id: 1, snorkel_job_id: 1, feature_ids: [1, 9], status: "COMPLETED", completed_at: "2026-01-01T10:20:00Z" }],
  ...more,
});
const states = (more, runs = []) => Object.fromEntries([...pipeline(lists(more), new Map(runs)).values()].map((node) => [node.key, node.state]));
const asset = (id, time, more) => ({ r_id: id, index_id: 1, is_materialized: !!time, materialized_at: time, ...more });

test("a pipeline knows what each step is made from, and its state", () => {
  const nodes = pipeline(lists(), new Map());
  assert.deepEqual([...nodes.values()].map((node) => [node.key, node.from.join()]), [["index-1", ""], ["rule-1", "index-1"], ["rule-2", "index-1"], ["feature-1", "index-1"], ["lf-1", "rule-1"], ["lf-2", "rule-2"], ["lf-3", "rule-1"], ["model-1", "lf-1"], ["bank-1", "model-1,feature-1"]], "what is not listed is no source");
  assert.deepEqual(states(), { "index-1": "ready", "rule-1": "ready", "rule-2": "waiting", "feature-1": "ready", "lf-1": "ready", "lf-2": "waiting", "lf-3": "off", "model-1": "ready", "bank-1": "ready" });
  assert.deepEqual([nodes.get("index-1").name, nodes.get("model-1").name], ["macs", "job 1"]);
});

test("what was made before its sources is stale, down to the classifiers", () => {
  const later = states({ rule: [asset(1, "2026-01-01T10:15:00Z")] });
  assert.deepEqual([later["rule-1"], later["lf-1"], later["model-1"], later["bank-1"]], ["ready", "ready", "stale", "stale"]);
  assert.equal(states({ rule: [asset(1, "2026-01-01T09:00:00Z")] })["rule-1"], "stale");
  assert.equal(states({ lf: [{ lf_id: 1, rule_id: 1, is_active: false, deprecated_at: "2026-01-01T10:30:00Z" }] })["model-1"], "stale", "a function that was replaced");
});

test("a run at work or failed is the state of its step until a later success", () => {
  const of = (status, time, materialized) => states({ rule: [asset(1, materialized, { dagster_run_id: "r" })] }, [["r", { status, created_at: time, end_time: status === "STARTED" ? null : time }]])["rule-1"];
  assert.equal(of("STARTED", "2026-01-01T11:00:00Z", "2026-01-01T10:05:00Z"), "running");
  assert.equal(of("FAILURE", "2026-01-01T11:00:00Z", "2026-01-01T10:05:00Z"), "failed");
  assert.equal(of("FAILURE", "2026-01-01T11:00:00Z", "2026-01-01T11:05:00Z"), "ready");
  assert.equal(of("CANCELLED", "2026-01-01T11:00:00Z"), "waiting");
  assert.equal(of("SUCCESS", "2026-01-01T11:00:00Z", "2026-01-01T11:00:00Z"), "ready");
  const jobs = ["RUNNING", "FAILED", "CANCELLED"].map((status) => states({ model: [{ job_id: 1, lf_ids: [1], status }] })["model-1"]);
  assert.deepEqual(jobs, ["running", "failed", "off"]);
});

test("votes are in conflict when two of them differ; who abstains agrees with everybody", () => {
  assert.deepEqual([[], [-1, -1], [1, -1, 1], [1, 2], [-1, 3, 1]].map(conflicted), [false, false, false, true, true]);
});

test("the editor indents as Python is written", () => {
  const after = (text, from, to, key) => {
    const { from: a, to: b, words } = typed(text, from, to, key);
    return text.slice(0, a) + words + text.slice(b);
  };
  assert.equal(after("ab", 2, 2, "Tab"), "ab  ");
  assert.equal(after("x\n", 2, 2, "Tab"), "x\n    ");
  assert.equal(after("if a:", 5, 5, "Enter"), "if a:\n    ");
  assert.equal(after("    return 1", 12, 12, "Enter"), "    return 1\n    ");
  assert.equal(after("a\nb\n\nc", 0, 6, "Tab"), "    a\n    b\n\n    c");
  assert.equal(after("a\nb\nc", 0, 4, "Tab"), "    a\n    b\nc", "the line on which a selection only ends stays");
  assert.equal(after("      a\n  b\nc", 8, 8, "Untab"), "      a\nb\nc");
  assert.equal(after("    a\n      b", 2, 9, "Untab"), "a\n  b");
});
