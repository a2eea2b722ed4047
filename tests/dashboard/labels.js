// A concept in the browser: takes the place of the server for what the page of labels asks, in its documented shapes, and notes what is
// sent (`window.sent`). The stream and everything else still come from the server. `size` is the number of labelling functions.
// `window.served` may be changed while the page is open: { votes, counts, forbidden, runs }.
(({ size, entities, classes }) => {
  const at = (minute) => new Date(Date.UTC(2026, 0, 31, 12, minute)).toISOString(), json = (body, status = 200) => new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json" } });
  const hostile = "<img src=x onerror=window.hurt=1>";
  const made = (minute, rows) => ({ is_materialized: true, materialized_at: at(minute), row_count: rows, storage_path: "file:///data.parquet", sql_query: "SELECT mac_address FROM sessions", created_at: at(0), updated_at: at(0) });
  const code = "STATIC = 1\nABSTAIN = -1\n\ndef labeling_function(row):\n    return STATIC if row['n'] > 1 else ABSTAIN\n";
  const lf = (id) => ({ lf_id: id, c_id: 7, name: id === 1 ? hostile : `votes_${id}`, rule_id: 1, applicable_cv_ids: [11, 12], version: 1, lf_type: "custom", lf_config: { code, allowed_imports: ["re"] }, runtime: "compiled", is_active: id !== 2, requires_approval: id === 2, deprecated_at: null });
  const job = (id, more) => ({ job_id: id, c_id: 7, status: "COMPLETED", created_at: at(20), completed_at: at(30), result_path: "file:///results.parquet", error_message: null, ...more });
  const lists = {
    values: Array.from({ length: classes }, (_, i) => ({ cv_id: 11 + i, c_id: 7, name: ["STATIC", "LAPTOP", "PHONE"][i] ?? `CLASS_${i}`, display_order: i })),
    indexes: [{ index_id: 1, c_id: 7, conn_id: 0, name: "macs", ...made(10, entities) }],
    rules: [{ r_id: 1, c_id: 7, index_id: 1, name: "counts", index_column: "mac_address", ...made(12, entities) }, { r_id: 2, c_id: 7, index_id: 1, name: "older than its index", ...made(5, 3) }, { r_id: 3, c_id: 7, index_id: 1, name: "never asked", is_materialized: false, sql_query: "SELECT 1" }],
    features: [{ feature_id: 1, c_id: 7, index_id: 1, name: "unique_ap", ...made(15, entities) }],
    "labeling-functions": Array.from({ length: size }, (_, i) => lf(i + 1)),
    "snorkel/jobs": [job(2, { index_id: 1, rule_ids: [1], lf_ids: [1], output_type: "softmax" }), job(1, { index_id: 1, rule_ids: [1], lf_ids: [1], status: "FAILED", completed_at: at(19), error_message: "the reason" })],
    "classifiers/jobs": [job(1, { snorkel_job_id: 2, feature_ids: [1], completed_at: at(40) })],
  };
  const served = (window.served = { votes: [12, -1], counts: { 11: 5, 12: 7, "-1": entities - 12 }, forbidden: false, runs: [] }), active = () => lists["labeling-functions"].filter((one) => one.is_active);
  window.sent = [];

  function live(query) {
    const step = query.get("conflicts_only") === "true" ? 10 : 1, all = Math.floor(entities / step), from = Number(query.get("cursor") || 0), to = Math.min(all, from + Number(query.get("limit"))), lfs = active();
    const rows = Array.from({ length: to - from }, (_, i) => {
      const n = (from + i) * step, votes = lfs.map((_, k) => (n % 10 === 0 ? (k % 2 ? 12 : 11) : k % 3 ? -1 : 11));
      return { key: `entity ${n}`, votes: n === 1 ? [...served.votes, ...votes.slice(2)] : votes, probabilities: lists.values.map((_, k) => (k ? 0.2 / (classes - 1) : 0.8)), label: 11, features_as_of: Date.now() };
    });
    return {
      as_of: Date.now(), matrix: { index_id: 1, lf_ids: lfs.map((one) => one.lf_id), cv_ids: lists.values.map((one) => one.cv_id), version: 1 }, rows, next_cursor: to < all ? String(to) : null,
      totals: { rows: entities, labelled: served.counts }, lfs: lfs.map((one) => ({ lf_id: one.lf_id, name: one.name, coverage: 0.5, overlaps: 0.25, conflicts: 0.125, votes: 9, learned_weight: 0.75 })),
      model: { version: 3, trained_at: at(30), trained_on: entities, balance: [], learned: true }, state: "current", reason: null, plans: [{ kind: "rule", id: 1, class: "key_local", reason: "every table reaches the key by equality" }],
    };
  }

  const results = {
    job_id: 1, status: "COMPLETED", model_scores: [["RandomForestClassifier", 0.94, 0.9], ["DummyClassifier", 0.34, 0.33]].map(([Model, a, b]) => ({ Model, Accuracy: a, "Balanced Accuracy": b, "F1 Score": a, "Time Taken": 1.2 })), num_models_trained: 2,
    filtering_stats: { samples_before_filter: 300, samples_after_filter: 200 }, failed_models: [{ Model: "NuSVC", error: "nu is infeasible" }], feature_importances: [{ feature: "unique_ap", importance: 0.4 }], threshold_used: 0.65, config_used: {},
  };

  function change(path, body) {
    if (served.forbidden) return json({ detail: "the token lacks the scope admin", code: "forbidden" }, 403);
    const [, id, act] = /(\d+)?\/?([a-z]+)$/.exec(path), own = lists["labeling-functions"].find((one) => one.lf_id === Number(id));
    if (act === "test" && body.code.includes("import os")) return json({ detail: "code: line 2: Module 'os' is not in allowed imports list", code: "invalid", errors: [{ field: "code", detail: "line 2: Module 'os' is not in allowed imports list" }] }, 400);
    if (act === "test") return json({ runtime: "interpreted", reason: "a generator expression", line: 5, votes: { STATIC: 60, LAPTOP: 40, ABSTAIN: 200 }, coverage: 1 / 3, rows: 300, errors: [{ line: 5, kind: "exception", message: "KeyError: 'n'", rows: 7 }], rows_per_second: 650000, sample: [{ key: "entity 0", vote: 11, row: { n: 2 } }] });
    if (act === "approve") return json(Object.assign(own, { is_active: true, requires_approval: false }));
    if (act === "materialize") {
      served.runs = [{ run_id: "run-1", job_name: "materialize_rule_job", status: "STARTED", created_at: new Date().toISOString(), start_time: new Date().toISOString(), end_time: null, progress: { done: 1, total: 4, unit: "rows" } }];
      return json({ dagster_run_id: "run-1", status: "STARTED" });
    }
    if (act === "versions") {
      const next = { ...lf(size + 1), version: 2, parent_lf_id: own.lf_id, name: body.name ?? `${own.name}_v2`, lf_config: body.lf_config, is_active: false, requires_approval: true };
      Object.assign(own, { is_active: false, deprecated_at: at(50), deprecated_by_lf_id: next.lf_id });
      lists["labeling-functions"].push(next);
      return json(next, 201);
    }
    if (path === "snorkel/run") {
      const next = job(3, { index_id: body.selectedIndex, rule_ids: body.selectedRules, lf_ids: body.selectedLFs, status: "RUNNING", completed_at: null });
      lists["snorkel/jobs"].unshift(next);
      return json(next, 201);
    }
    return json({ detail: `nothing answers ${path}` }, 404);
  }

  const ask = window.fetch;
  window.fetch = async (url, options = {}) => {
    const { pathname, searchParams } = new URL(url, location.href), path = pathname.replace(/^\/concepts\/?(7\/?)?/, "");
    if (pathname === "/dagster/runs") return json({ runs: served.runs });
    if (!pathname.startsWith("/concepts")) return ask(url, options);
    if (options.method === "POST") {
      window.sent.push([path, options.headers["content-type"], JSON.parse(options.body)]);
      return change(path, JSON.parse(options.body));
    }
    if (pathname === "/concepts") return json([{ c_id: 7, name: hostile, description: "Which device is it?" }]);
    if (path === "labels/live") return json(live(searchParams));
    if (path === "labeling-functions/template") return json({ code: "# made here\n", applicable_cv_ids: searchParams.getAll("applicable_cv_ids") });
    if (/^classifiers.*results$/.test(path)) return json(results);
    return lists[path] ? json(lists[path]) : json({ detail: "not found" }, 404);
  };
})
