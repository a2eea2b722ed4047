//! Snorkel and classifier jobs over HTTP: what is asked for, what comes out, what is refused, and how they end.

use super::labels::{FUNCTIONS, Lab, votes_if};
use crate::concepts::TrainingConfig;
use crate::concepts::record::{Id, JobStatus, SnorkelJob};
use crate::runs::{Job, NewRun, RunContext, RunError, RunId};
use async_trait::async_trait;
use axum::http::Method;
use serde_json::{Value as Json, json};
use std::sync::Arc;

const RUN: &str = "/concepts/1/snorkel/run";
const JOBS: &str = "/concepts/1/snorkel/jobs";
const CLASSIFY: &str = "/concepts/1/classifiers/run";
const CLASSIFIERS: &str = "/concepts/1/classifiers/jobs";

fn names(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("m{at:03}")).collect()
}

/// An index of so many things, and a rule that has the number of each.
async fn things(lab: &Lab, count: usize) -> Vec<String> {
    let macs = names(count);
    let known: Vec<&str> = macs.iter().map(String::as_str).collect();
    lab.index(&known.iter().map(|mac| Some(*mac)).collect::<Vec<_>>()).await;
    lab.rule(&known, &(0..count as i64).collect::<Vec<_>>()).await;
    macs
}

fn run(lf_ids: &[Id], snorkel: Json) -> Json {
    json!({"selectedIndex": 1, "selectedRules": [1], "selectedLFs": lf_ids, "snorkel": snorkel})
}

/// Runs a job to its end and answers its results.
async fn labelled(lab: &Lab, lf_ids: &[Id], snorkel: Json) -> Json {
    let job = lab.posted(RUN, run(lf_ids, snorkel), 201).await;
    assert_eq!(job["status"], "RUNNING");
    let path = format!("{JOBS}/{}", job["job_id"]);
    let ended = lab.ended(&path).await;
    assert_eq!(ended["status"], "COMPLETED", "{ended}");
    lab.get(&format!("{path}/results")).await
}

/// A job that works until it is told to stop.
struct Endless;

#[async_trait]
impl Job for Endless {
    async fn run(&self, ctx: RunContext, _: &Json) -> Result<Json, RunError> {
        ctx.cancelled().cancelled().await;
        Err(RunError::stopped())
    }
}

impl Lab {
    /// Takes all places at which runs work, so that others wait. Answers the runs that hold them.
    async fn fill(&self) -> Vec<RunId> {
        self.runs.register("endless", Arc::new(Endless));
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(self.runs.submit(NewRun { job_name: "endless".into(), ..NewRun::default() }).await.expect("a run"));
        }
        held
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_functions_are_summed_up_weighed_and_paged() {
    let lab = Lab::new().await;
    let macs = things(&lab, 10).await;
    let a = lab.approved("a", &[11, 12, 13], &votes_if("row['n'] < 6", "STATIC")).await;
    let b = lab.approved("b", &[11, 12, 13], &votes_if("row['n'] >= 4 and row['n'] < 8", "LAPTOP")).await;
    let c = lab.approved("c", &[11, 12, 13], &votes_if("row['n'] == 9", "PHONE")).await;
    let results = labelled(&lab, &[a, b, c], json!({})).await;
    assert_eq!((&results["status"], &results["output_type"]), (&json!("SUCCESS"), &json!("softmax")));
    assert!(results["result_path"].as_str().is_some_and(|path| path.ends_with("/snorkel_results/job_1/results.parquet")), "{results}");
    let told =
        |at: usize| ["coverage", "overlaps", "conflicts", "n_votes", "polarity"].map(|field| results["lf_summary"][at][field].clone());
    assert_eq!(told(0), [json!(0.6), json!(0.2), json!(0.2), json!(6), json!([11])]);
    assert_eq!(told(1), [json!(0.4), json!(0.2), json!(0.2), json!(4), json!([12])]);
    assert_eq!(told(2), [json!(0.1), json!(0.0), json!(0.0), json!(1), json!([13])]);
    assert_eq!(results["lf_summary"][0]["learned"], true);
    assert_eq!(results["label_matrix_class_distribution"], json!({"STATIC": 4, "LAPTOP": 2, "PHONE": 1, "ABSTAIN": 3}));
    assert_eq!(results["cv_id_to_index"], json!({"11": 0, "12": 1, "13": 2}));
    assert_eq!(results["cv_id_to_name"], json!({"11": "STATIC", "12": "LAPTOP", "13": "PHONE"}));
    let stats = json!({"n_samples": 10, "n_lfs": 3, "cardinality": 3, "total_coverage": 0.9, "mean_lf_coverage": 0.3667,
        "mean_lf_overlaps": 0.1333, "mean_lf_conflicts": 0.1333});
    assert_eq!(results["overall_stats"], stats);

    let predictions = &results["predictions"];
    assert_eq!(predictions["entity_ids"], json!(macs));
    assert_eq!(predictions["sample_ids"], json!((0..10).collect::<Vec<_>>()));
    for row in predictions["probabilities"].as_array().expect("rows") {
        let sum: f64 = row.as_array().expect("a row").iter().filter_map(Json::as_f64).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{row}");
    }
    let labels = &predictions["labels"];
    assert_eq!([&labels[0], &labels[6], &labels[8], &labels[9]], [&json!(11), &json!(12), &json!(-1), &json!(13)]);
    let page = lab.get(&format!("{JOBS}/1/results?limit=3&offset=8")).await["predictions"].clone();
    assert_eq!((&page["sample_ids"], &page["next_offset"]), (&json!([8, 9]), &Json::Null));
    let page = lab.get(&format!("{JOBS}/1/results?limit=3")).await["predictions"].clone();
    assert_eq!((&page["labels"].as_array().map(Vec::len), &page["next_offset"]), (&Some(3), &json!(3)));

    // What the model says of the functions stands in their records.
    let metrics = lab.get(&format!("{FUNCTIONS}/{a}/metrics")).await;
    assert_eq!([&metrics["metrics_available"], &metrics["coverage"], &metrics["conflicts"]], [&json!(true), &json!(0.6), &json!(2)]);
    assert_eq!(metrics["estimated_accuracy"], results["lf_summary"][0]["learned_weight"]);
    assert_eq!(lab.get(&format!("{FUNCTIONS}/{b}/metrics")).await["conflicts"], 2);
    let run_id = lab.get(&format!("{JOBS}/1")).await["dagster_run_id"].as_str().expect("a run").to_owned();
    assert_eq!(lab.get(&format!("/dagster/runs/{run_id}")).await["status"], "SUCCESS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_function_labels_what_it_votes_on_by_its_name_for_a_value() {
    let lab = Lab::new().await;
    // Values that are there twice, that are missing, and a thing without a row.
    lab.index(&[Some("b"), Some("a"), None, Some("b"), Some("c"), Some("d")]).await;
    lab.rule(&["a", "a", "b", "d", "stranger"], &[9, 1, 1, 9, 9]).await;
    let code = "STATIC = 1\nABSTAIN = -1\n\ndef labeling_function(row):\n    if row['n'] >= 5:\n        return STATIC\n    return ABSTAIN";
    let lf = lab.approved("one", &[11, 12, 13], code).await;
    let results = labelled(&lab, &[lf], json!({"epochs": 100, "lr": 0.01})).await;
    assert_eq!(results["predictions"]["entity_ids"], json!(["b", "a", "c", "d"]));
    assert_eq!(results["predictions"]["labels"], json!([-1, -1, -1, 11]), "of two rows the first in canonical order");
    assert_eq!(results["predictions"]["probabilities"][3][0], 0.7);
    let summary = ["learned", "learned_weight", "coverage", "n_votes"].map(|field| results["lf_summary"][0][field].clone());
    assert_eq!(summary, [json!(false), json!(0.7), json!(0.25), json!(1)]);
    let job = lab.get(&format!("{JOBS}/1")).await;
    assert_eq!(job["config"], json!({"epochs": 100, "lr": 0.01, "sample_size": null}));
    let logs = lab.get(&format!("/dagster/runs/{}/logs", job["dagster_run_id"].as_str().expect("a run"))).await;
    assert!(logs.to_string().contains("1 rows more than keys"), "{logs}");

    let hard = labelled(&lab, &[lf], json!({"output_type": "hard_labels"})).await;
    assert_eq!(hard["predictions"]["probabilities"], json!([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]));
    let jobs = lab.get(JOBS).await;
    assert_eq!([&jobs[0]["job_id"], &jobs[1]["job_id"]], [2, 1], "the newest first");
    assert_eq!(lab.get(&format!("{JOBS}?skip=1&limit=1")).await[0]["job_id"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_goes_wrong_abstains_and_the_job_goes_on() {
    let lab = Lab::new().await;
    things(&lab, 8).await;
    let good = lab.approved("good", &[11, 12], &votes_if("row['n'] < 4", "STATIC")).await;
    let half = lab.approved("half", &[11, 12], "def labeling_function(row):\n    return 12 if 1 / row['n'] < 0.3 else -1\n").await;
    let bad = lab.approved("bad", &[11, 12], &votes_if("row['nothing'] > 1", "STATIC")).await;
    let results = labelled(&lab, &[good, half, bad], json!({"seed": 7, "class_balance": [0.5, 0.5], "l2": 0.0})).await;
    let summary = &results["lf_summary"];
    assert_eq!((&summary[0]["n_votes"], &summary[0]["errors"]), (&json!(4), &json!([])));
    let fault = &summary[1]["errors"][0];
    assert_eq!([&fault["kind"], &fault["line"], &fault["rows"]], [&json!("exception"), &json!(2), &json!(1)], "{fault}");
    assert_eq!((&summary[2]["n_votes"], &summary[2]["learned_weight"]), (&json!(0), &Json::Null), "nothing is known of who never votes");
    assert_eq!(summary[2]["errors"][0]["rows"], 8);
    assert_eq!(lab.get(&format!("{FUNCTIONS}/{bad}/metrics")).await["metrics_available"], false);
    assert_eq!(lab.get(&format!("{JOBS}/1")).await["config"]["seed"], 7);
    assert_eq!(results["class_balance"], json!([0.5, 0.5]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_trained_is_refused_in_the_order_of_the_checks() {
    let lab = Lab::new().await;
    let body = json!({"name": "idle", "rule_id": 1, "applicable_cv_ids": [11, 12], "code": votes_if("row['n'] > 1", "STATIC")});
    lab.posted(FUNCTIONS, body, 201).await;
    let lf = lab.approved("lf", &[11, 12], &votes_if("row['n'] > 1", "STATIC")).await;
    let refused = |body: Json| {
        let lab = &lab;
        async move {
            let (status, reply) = lab.post(RUN, body).await;
            (status, reply["detail"].as_str().unwrap_or_default().to_owned())
        }
    };
    let wrong = json!({"selectedIndex": 1, "selectedRules": [1, 9], "selectedLFs": [1], "snorkel": {"output_type": "foo"}});
    assert_eq!(refused(wrong.clone()).await, (400, "Index 'macs' is not materialized. Please materialize it first.".to_owned()));
    lab.index(&[Some("a")]).await;
    assert_eq!(refused(wrong).await, (404, "Rule with ID 9 not found".to_owned()));
    let waiting = (400, "Rule 'rule1' is not materialized. Please materialize it first.".to_owned());
    assert_eq!(refused(run(&[1], json!({"output_type": "foo"}))).await, waiting);
    let own = json!({"selectedIndex": 1, "selectedLFs": [lf]});
    assert_eq!(refused(own).await, waiting, "the rule of a function, too, though it was not selected");
    lab.rule(&["a"], &[1]).await;
    assert_eq!(refused(run(&[99], json!({}))).await.0, 404);
    let inactive = refused(run(&[1, lf], json!({"output_type": "foo"}))).await;
    assert_eq!(inactive, (400, "Labeling functions are not active: 'idle'. Please approve them first.".to_owned()));
    let (status, reply) = lab.post(RUN, run(&[lf], json!({"output_type": "foo"}))).await;
    assert_eq!((status, &reply["errors"][0]["field"]), (400, &json!("snorkel.output_type")));
    assert_eq!(refused(run(&[], json!({}))).await.0, 400);
    assert_eq!(refused(run(&[lf, lf], json!({}))).await.0, 400);
    for (settings, field) in [
        (json!({"epochs": 0}), "epochs"),
        (json!({"lr": "fast"}), "lr"),
        (json!({"sample_size": -1}), "sample_size"),
        (json!({"class_balance": "guess"}), "class_balance"),
        (json!({"class_balance": [0.5]}), "snorkel.class_balance"),
        (json!({"seed": -1}), "seed"),
    ] {
        let (status, reply) = lab.post(RUN, run(&[lf], settings)).await;
        assert_eq!((status, &reply["errors"][0]["field"]), (400, &json!(field)), "{reply}");
    }
    assert_eq!(lab.post(RUN, json!({"snorkel": 7})).await.1["errors"].as_array().map(Vec::len), Some(3));
    assert_eq!(lab.post("/concepts/2/snorkel/run", run(&[lf], json!({}))).await.0, 404);
    assert_eq!(lab.get(JOBS).await, json!([]), "nothing was recorded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_never_changes_again_and_cancelling_goes_both_ways() {
    let lab = Lab::new().await;
    things(&lab, 5).await;
    let lf = lab.approved("lf", &[11, 12], &votes_if("row['n'] > 1", "STATIC")).await;
    let held = lab.fill().await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(lab.posted(RUN, run(&[lf], json!({})), 201).await);
    }
    let results = lab.get(&format!("{JOBS}/1/results")).await;
    assert_eq!(results, json!({"job_id": 1, "status": "RUNNING", "message": "Job is RUNNING. Results not available yet."}));
    let in_use = lab.ask(Method::DELETE, &format!("{FUNCTIONS}/{lf}"), Json::Null).await;
    assert_eq!((in_use.0, &in_use.1["code"]), (400, &json!("in_use")), "a job waits for it");

    let cancelled = lab.posted(&format!("{JOBS}/1/cancel"), Json::Null, 200).await;
    assert_eq!((&cancelled["status"], cancelled["completed_at"].is_string()), (&json!("CANCELLED"), true));
    let run_of = |at: usize| jobs[at]["dagster_run_id"].as_str().expect("a run").to_owned();
    assert_eq!(lab.get(&format!("/dagster/runs/{}", run_of(0))).await["status"], "CANCELLED");
    lab.posted(&format!("/dagster/runs/{}/cancel", run_of(1)), Json::Null, 200).await;
    assert_eq!(lab.get(&format!("{JOBS}/2")).await["status"], "CANCELLED", "at once, whoever asks");
    assert_eq!(lab.ask(Method::DELETE, &format!("{JOBS}/3"), Json::Null).await.0, 204, "a job that waits is removed, too");
    lab.until(&format!("/dagster/runs/{}", run_of(2)), |run| run["status"] == "CANCELLED").await;
    assert_eq!(lab.ask(Method::GET, &format!("{JOBS}/3"), Json::Null).await.0, 404);

    for run_id in &held {
        lab.runs.cancel(run_id).await.expect("it is at work");
    }
    let done = labelled(&lab, &[lf], json!({})).await;
    assert_eq!(done["job_id"], 4);
    for (job, status) in [(1, "CANCELLED"), (2, "CANCELLED"), (4, "COMPLETED")] {
        assert_eq!(lab.get(&format!("{JOBS}/{job}")).await["status"], status);
        let refused = lab.posted(&format!("{JOBS}/{job}/cancel"), Json::Null, 400).await;
        assert_eq!(refused["detail"], format!("Cannot cancel job with status {status}"));
    }
    assert_eq!(lab.get(&format!("{JOBS}/1/results")).await["message"], "Job is CANCELLED. Results not available yet.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_a_restart_finds_open_is_closed_with_the_reason() {
    let lab = Lab::new().await;
    things(&lab, 5).await;
    let lf = lab.approved("lf", &[11, 12], &votes_if("row['n'] > 1", "STATIC")).await;
    lab.fill().await;
    lab.posted(RUN, run(&[lf], json!({})), 201).await;
    lab.posted(RUN, run(&[lf], json!({})), 201).await;
    // A crash between the job's record and its run.
    let forgotten = lab.concepts.book().expect("begun").change(3_000_000, |draft| {
        let mut job = SnorkelJob::clone(draft.get::<SnorkelJob>(2)?);
        job.dagster_run_id = None;
        draft.put(job);
        Ok(())
    });
    forgotten.await.expect("it is kept");
    let again = lab.again();
    for (job, reason) in [(1, "its run is not known any more"), (2, "the server stopped before its run had begun")] {
        let ended = again.ended(&format!("{JOBS}/{job}")).await;
        assert_eq!((&ended["status"], &ended["error_message"]), (&json!("FAILED"), &json!(reason)));
    }
    assert!(again.concepts.book().expect("begun").read().all::<SnorkelJob>().all(|job| job.status == JobStatus::Failed));
}

/// Things of two kinds that a feature tells apart, labelled by three functions.
async fn learnable(lab: &Lab, count: usize) -> Json {
    let macs = things(lab, count).await;
    let macs: Vec<&str> = macs.iter().map(String::as_str).collect();
    let value = |at: usize| if at < count / 2 { at as f64 / 10.0 } else { 100.0 + at as f64 / 10.0 };
    lab.feature(1, &macs, "x", &(0..count).map(|at| Some(value(at))).collect::<Vec<_>>()).await;
    lab.feature(2, &macs[1..], "x", &(1..count).map(|at| (at % 3 > 0).then_some((at % 7) as f64)).collect::<Vec<_>>()).await;
    let half = count / 2;
    let mut lf_ids = Vec::new();
    for (name, shift) in [("a", 0), ("b", 1), ("c", 2)] {
        let code = format!("def labeling_function(row):\n    return LAPTOP if row['n'] >= {} else STATIC\n", half + shift);
        lf_ids.push(lab.approved(name, &[11, 12], &code).await);
    }
    labelled(lab, &lf_ids, json!({})).await
}

fn classify(config: Json) -> Json {
    json!({"snorkel_job_id": 1, "feature_ids": [1, 2], "config": config})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_is_trained_ranked_and_predicts() {
    let lab = Lab::with(TrainingConfig { threads: 2, ..TrainingConfig::default() }).await;
    learnable(&lab, 60).await;
    let config = json!({"threshold_method": "max_confidence", "threshold_value": 0.7, "min_labels_per_class": 10, "imbalance_factor": 3.0,
        "test_size": 0.2, "random_state": 42});
    let job = lab.posted(CLASSIFY, classify(config.clone()), 201).await;
    assert_eq!([&job["status"], &job["config"], &job["result_path"]], [&json!("RUNNING"), &config, &Json::Null]);
    let waiting = lab.get(&format!("{CLASSIFIERS}/1/results")).await;
    assert_eq!(waiting, json!({"job_id": 1, "status": "RUNNING", "message": "Job is RUNNING. Results not available yet."}));
    let ended = lab.ended(&format!("{CLASSIFIERS}/1")).await;
    assert_eq!(ended["status"], "COMPLETED", "{ended}");

    let results = lab.get(&format!("{CLASSIFIERS}/1/results")).await;
    let stats = &results["filtering_stats"];
    let (before, after) = (stats["samples_before_filter"].as_f64().expect("n"), stats["samples_after_filter"].as_f64().expect("n"));
    assert!(before == 60.0 && after <= before && after > 40.0, "{stats}");
    assert_eq!(stats["filter_retention_rate"], ((after / before) * 10_000.0).round() / 10_000.0);
    let classes: Vec<u64> =
        stats["class_distribution_after_filter"].as_object().expect("names").values().filter_map(Json::as_u64).collect();
    assert!(classes.iter().max() <= classes.iter().min().map(|min| min * 3).as_ref(), "{classes:?}");
    let scores = results["model_scores"].as_array().expect("scores");
    let accuracies: Vec<f64> = scores.iter().filter_map(|score| score["Accuracy"].as_f64()).collect();
    assert!(accuracies.len() == scores.len() && accuracies.is_sorted_by(|a, b| a >= b), "{accuracies:?}");
    assert!(accuracies[0] == 1.0 && scores.len() >= 28, "{} models", scores.len());
    let fields: Vec<&String> = scores[0].as_object().expect("a score").keys().collect();
    assert_eq!(fields, ["Accuracy", "Balanced Accuracy", "F1 Score", "Model", "Time Taken"]);
    assert_eq!((&results["num_models_trained"], &results["config_used"]), (&json!(scores.len()), &config));
    let failed = results["failed_models"].as_array().expect("a list").len();
    assert_eq!(scores.len() + failed, desireline_learning::classifiers::Kind::ALL.len());
    assert_eq!((&results["threshold_used"], &results["split"]), (&json!(0.7), &json!("stratified")));
    assert_eq!(results["features"], json!(["x", "x_feat2"]), "names that clash get a suffix");
    assert_eq!(results["feature_importances"][0]["feature"], "x");
    assert_eq!(results["exported_model"], scores[0]["Model"]);

    let path = format!("{CLASSIFIERS}/1/predict");
    let rows = json!({"rows": [{"x": 0.5, "x_feat2": null}, {"x": 104.0, "x_feat2": 1}]});
    let said = lab.posted(&path, rows, 200).await;
    assert_eq!(
        (&said["model"], &said["predictions"][0]["label"], &said["predictions"][1]["name"]),
        (&scores[0]["Model"], &json!(11), &json!("LAPTOP"))
    );
    let things = lab.posted(&path, json!({"entity_ids": ["m059", "m000"]}), 200).await;
    assert_eq!([&things["predictions"][0]["label"], &things["predictions"][1]["label"]], [12, 11]);
    let missing = lab.posted(&path, json!({"rows": [{"x": 1}, {"x_feat2": "7", "x": 1}]}), 400).await;
    let fields: Vec<_> = missing["errors"].as_array().expect("mistakes").iter().map(|error| error["field"].clone()).collect();
    assert_eq!(fields, ["rows[0].x_feat2", "rows[1].x_feat2"]);
    for (body, field) in [(json!({}), "rows"), (json!({"rows": []}), "rows"), (json!({"entity_ids": ["who"]}), "entity_ids")] {
        assert_eq!(lab.posted(&path, body, 400).await["errors"][0]["field"], field);
    }

    // Labels that classifiers were trained on stay.
    let (status, refused) = lab.ask(Method::DELETE, &format!("{JOBS}/1"), Json::Null).await;
    assert_eq!((status, &refused["code"]), (400, &json!("in_use")), "{refused}");
    assert_eq!(lab.posted(&format!("{CLASSIFIERS}/1/cancel"), Json::Null, 400).await["detail"], "Cannot cancel job with status COMPLETED");
    assert_eq!(lab.ask(Method::DELETE, &format!("{CLASSIFIERS}/1"), Json::Null).await.0, 204);
    assert_eq!(lab.ask(Method::GET, &format!("{CLASSIFIERS}/1"), Json::Null).await.0, 404);
    assert_eq!(lab.ask(Method::DELETE, &format!("{JOBS}/1"), Json::Null).await.0, 204);
    lab.until_gone("snorkel_results/job_1/results.parquet").await;
}

impl Lab {
    async fn until_gone(&self, object: &str) {
        let begun = std::time::Instant::now();
        while self.store.get(object).await.is_ok() {
            assert!(begun.elapsed().as_secs() < 20, "{object} is still there");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classifiers_that_cannot_be_trained_say_why() {
    let lab = Lab::new().await;
    assert_eq!(lab.post(CLASSIFY, classify(json!({}))).await.0, 404);
    things(&lab, 20).await;
    let lf = lab.approved("lf", &[11, 12], &votes_if("row['n'] > 1", "STATIC")).await;
    let held = lab.fill().await;
    lab.posted(RUN, run(&[lf], json!({})), 201).await;
    let (status, reply) = lab.post(CLASSIFY, classify(json!({}))).await;
    assert_eq!((status, reply["detail"].as_str()), (400, Some("Snorkel job 1 is not completed (status: RUNNING)")));
    for run_id in &held {
        lab.runs.cancel(run_id).await.expect("it is at work");
    }
    lab.ended(&format!("{JOBS}/1")).await;
    let (status, reply) = lab.post(CLASSIFY, classify(json!({}))).await;
    assert_eq!((status, reply["detail"].as_str()), (404, Some("Feature IDs [1, 2] not found for concept 1")));
    lab.feature_record(1, false).await;
    let macs = names(20);
    lab.feature(2, &macs.iter().map(String::as_str).collect::<Vec<_>>(), "y", &[Some(1.0); 20]).await;
    let (status, reply) = lab.post(CLASSIFY, classify(json!({"threshold_method": "x"}))).await;
    assert_eq!(
        (status, reply["detail"].as_str()),
        (400, Some("Features are not materialized: 'feature1'. Please materialize them first."))
    );
    let only = |config: Json| json!({"snorkel_job_id": 1, "feature_ids": [2], "config": config});
    let reply = lab.posted(CLASSIFY, only(json!({"threshold_method": "x"})), 400).await;
    assert_eq!(reply["errors"][0]["field"], "config.threshold_method");
    assert_eq!(lab.posted(CLASSIFY, json!({"snorkel_job_id": 1, "feature_ids": [2]}), 400).await["errors"][0]["field"], "config");

    // One function that votes for one class: there is nothing to tell apart.
    lab.posted(CLASSIFY, only(json!({})), 201).await;
    let ended = lab.ended(&format!("{CLASSIFIERS}/1")).await;
    let reason = ended["error_message"].as_str().expect("a reason");
    assert!(ended["status"] == "FAILED" && reason.contains("at least two classes"), "{ended}");
    // Things whose probabilities are all the same are certain of nothing.
    let none = lab.approved("none", &[11, 12], "def labeling_function(row):\n    return ABSTAIN\n").await;
    lab.posted(RUN, run(&[none], json!({})), 201).await;
    lab.ended(&format!("{JOBS}/2")).await;
    let uniform = json!({"snorkel_job_id": 2, "feature_ids": [2], "config": {"threshold_method": "entropy"}});
    lab.posted(CLASSIFY, uniform, 201).await;
    let ended = lab.ended(&format!("{CLASSIFIERS}/2")).await;
    let reason = ended["error_message"].as_str().expect("a reason");
    assert!(ended["status"] == "FAILED" && reason.contains("fewer than 2 samples remain"), "{ended}");
    assert_eq!(lab.get(&format!("{CLASSIFIERS}/2/results")).await["message"], "Job is FAILED. Results not available yet.");
    assert_eq!(lab.posted(&format!("{CLASSIFIERS}/2/predict"), json!({"entity_ids": ["m000"]}), 400).await["code"], "refused");
    let jobs = lab.get(CLASSIFIERS).await;
    assert_eq!([&jobs[0]["job_id"], &jobs[1]["job_id"]], [2, 1]);
}
