//! What a client of datasets does: asks, waits, looks at rows and at runs.

use crate::support::http::Http;
use crate::support::wait::{DEADLINE, eventually};
use serde_json::{Value, json};

/// Rows as `(begin, number)`.
pub type Rows = Vec<(String, i64)>;

pub struct Client<'a>(pub &'a Http);

impl Client<'_> {
    /// Asks for a dataset of root 10, by the hour, unless `more` says otherwise.
    #[track_caller]
    pub fn create(&self, name: &str, range: (&str, &str), more: &Value) -> Value {
        let mut body = json!({"name": name, "root_space_id": 10, "interval_seconds": 3600, "chunk_days": 30});
        for (field, time) in [("start_time", range.0), ("end_time", range.1)] {
            if !time.is_empty() {
                body[field] = json!(time);
            }
        }
        for (field, value) in more.as_object().into_iter().flatten() {
            body[field] = value.clone();
        }
        let begin = std::time::Instant::now();
        let reply = self.0.post_json("/occupancy/datasets", &body).expect_status(201).json();
        assert!(begin.elapsed().as_secs_f64() < 1.0, "answered after {:?}", begin.elapsed());
        reply
    }

    /// The path of a dataset.
    fn path(dataset: &Value) -> String {
        format!("/occupancy/datasets/{}", dataset["dataset_id"])
    }

    #[track_caller]
    pub fn get(&self, dataset: &Value) -> Value {
        self.0.get_json(&Self::path(dataset))
    }

    #[track_caller]
    pub fn results(&self, dataset: &Value, space: Option<i32>) -> Value {
        let query = space.map_or(String::new(), |space| format!("?space_id={space}"));
        self.0.get_json(&format!("{}/results{query}", Self::path(dataset)))
    }

    /// Waits until the results of a space have a status; never another that is final.
    #[track_caller]
    pub fn wait(&self, dataset: &Value, space: Option<i32>, status: &str) -> Value {
        eventually(&format!("results that are {status}"), DEADLINE, || {
            let results = self.results(dataset, space);
            let (done, total) = (results["completed_chunks"].as_u64().unwrap(), results["total_chunks"].as_u64().unwrap());
            assert!(done <= total, "{results}");
            if results["status"] == status { Ok(results) } else { Err(results.to_string()) }
        })
    }

    /// The rows of a space once they are complete.
    #[track_caller]
    pub fn rows(&self, dataset: &Value, space: Option<i32>) -> Rows {
        rows_of(&self.wait(dataset, space, "COMPLETED"))
    }

    /// Waits until the rows of a space are these.
    #[track_caller]
    pub fn wait_rows(&self, dataset: &Value, space: Option<i32>, expected: &[(&str, i64)]) {
        let expected = rows(expected);
        eventually("the corrected rows", DEADLINE, || {
            let results = self.results(dataset, space);
            if results["status"] == "COMPLETED" && rows_of(&results) == expected { Ok(()) } else { Err(results.to_string()) }
        });
    }

    /// The runs of chunks: `(job, space, begin of the window, status)`, the oldest first.
    pub fn runs(&self) -> Vec<Value> {
        let mut runs = self.0.get_json("/dagster/runs?limit=1000")["runs"].as_array().unwrap().clone();
        runs.retain(|run| run["job_name"].as_str().is_some_and(|job| job.starts_with("materialize_")));
        runs.reverse();
        runs
    }

    #[track_caller]
    pub fn retry(&self, dataset: &Value) -> Value {
        self.0.post_json(&format!("{}/retry", Self::path(dataset)), &json!({})).expect_status(200).json()
    }

    #[track_caller]
    pub fn delete(&self, dataset: &Value) {
        self.0.delete(&Self::path(dataset)).expect_status(204);
    }
}

pub fn rows_of(results: &Value) -> Rows {
    let row = |row: &Value| (row["interval_begin_time"].as_str().unwrap().to_owned(), row["number_connections"].as_i64().unwrap());
    results["rows"].as_array().unwrap().iter().map(row).collect()
}

pub fn rows(expected: &[(&str, i64)]) -> Rows {
    expected.iter().map(|(begin, number)| ((*begin).to_owned(), *number)).collect()
}
