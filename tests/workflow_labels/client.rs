//! What a data scientist does with curl: makes, changes, runs, and waits.

use crate::support::http::Http;
use crate::support::wait::{DEADLINE, eventually};
use reqwest::Method;
use serde_json::Value;

/// Below one concept or above all.
#[derive(Clone, Copy)]
pub struct Client<'a>(pub &'a Http);

impl Client<'_> {
    #[track_caller]
    pub fn ask(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let reply = self.0.send(method, path, &[("content-type", "application/json")], bytes);
        (reply.status, if reply.body.is_empty() { Value::Null } else { reply.json() })
    }

    /// What is made.
    #[track_caller]
    pub fn make(&self, path: &str, body: &Value) -> Value {
        let (status, reply) = self.ask(Method::POST, path, body);
        assert_eq!(status, 201, "{path} {body}: {reply}");
        reply
    }

    /// A `POST` that answers with what is there.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let (status, reply) = self.ask(Method::POST, path, body);
        assert_eq!(status, 200, "{path} {body}: {reply}");
        reply
    }

    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Value {
        let (status, reply) = self.ask(Method::PATCH, path, body);
        assert_eq!(status, 200, "{path} {body}: {reply}");
        reply
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.0.get_json(path)
    }

    #[track_caller]
    pub fn delete(&self, path: &str) {
        let (status, reply) = self.ask(Method::DELETE, path, &Value::Null);
        assert_eq!((status, &reply), (204, &Value::Null), "{path}");
    }

    /// The detail of a request that must be refused with this status.
    #[track_caller]
    pub fn refused(&self, status: u16, method: Method, path: &str, body: &Value) -> String {
        let (found, reply) = self.ask(method.clone(), path, body);
        assert_eq!(found, status, "{method} {path} {body}: {reply}");
        reply["detail"].as_str().unwrap().to_owned()
    }

    /// The run, once it has ended like this.
    #[track_caller]
    pub fn run(&self, id: &Value, status: &str) -> Value {
        let path = format!("/dagster/runs/{}", id.as_str().unwrap());
        let ended = ["SUCCESS", "FAILURE", "CANCELLED"];
        let run = eventually("a run to end", DEADLINE, || {
            let run = self.get(&path);
            if ended.contains(&run["status"].as_str().unwrap()) { Ok(run) } else { Err(run.to_string()) }
        });
        assert_eq!(run["status"], status, "{run}");
        run
    }

    /// Materialises a record and gives it as it then is.
    #[track_caller]
    pub fn materialize(&self, path: &str) -> Value {
        let started = self.post(&format!("{path}/materialize"), &Value::Null);
        assert_eq!(started["status"], "STARTED", "{started}");
        self.run(&started["dagster_run_id"], "SUCCESS");
        let made = self.get(path);
        assert_eq!(made["is_materialized"], true, "{made}");
        made
    }

    /// A job, once it is neither pending nor running.
    #[track_caller]
    pub fn job(&self, path: &str) -> Value {
        eventually("a job to end", DEADLINE, || {
            let job = self.get(path);
            let is_open = ["PENDING", "RUNNING"].contains(&job["status"].as_str().unwrap());
            if is_open { Err(job.to_string()) } else { Ok(job) }
        })
    }
}
