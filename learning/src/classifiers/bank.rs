//! Fitting many models on the same rows, a few at a time.
//!
//! Models are fitted on as many threads as are given, one thread each, the dearest first. A model that fails, panics or takes too long
//! is reported and skipped; the others go on. Time is read from the caller's clock on the model's own thread, before its fit and after
//! its predictions for the test rows: with a clock of the thread's processor time it is what the model cost, whatever else ran.

use super::score::{Scores, score};
use super::stop::{Clock, Stop};
use super::{Kind, Model, ModelError, Table, fit};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Prepared rows: filled and scaled, in two parts with the same columns.
#[derive(Clone, Copy, Debug)]
pub struct BankData<'a> {
    pub train: &'a Table,
    pub train_labels: &'a [usize],
    pub test: &'a Table,
    pub test_labels: &'a [usize],
    pub classes: usize,
}

/// How to fit them.
#[derive(Clone)]
pub struct BankSettings {
    /// Models fitted at once; 0 counts as 1.
    pub threads: usize,
    /// Fixes every draw, together with the kind.
    pub seed: u64,
    pub stop: Stop,
    /// Read on the thread of the model.
    pub clock: Clock,
    /// By the clock, for each model.
    pub model_time_max: Option<Duration>,
}

/// What became of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub kind: Kind,
    /// For the fit and the predictions of the test rows, by the caller's clock.
    pub time: Duration,
    pub outcome: Result<Trained, ModelError>,
}

/// A fitted model and how it does on the test rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    pub model: Model,
    pub scores: Scores,
}

/// Fits and scores all of `kinds` and tells `on_done` each one's entry when it is done, on the thread that fitted it. The entries are
/// answered in the order of `kinds`. After a stop the rest is answered as stopped at once.
pub fn train_bank(kinds: &[Kind], data: &BankData, settings: &BankSettings, on_done: &(dyn Fn(&Entry) + Sync)) -> Vec<Entry> {
    let mut order: Vec<usize> = (0..kinds.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(kinds[*at].cost()));
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Entry)>> = Mutex::new(Vec::with_capacity(kinds.len()));
    std::thread::scope(|scope| {
        for _ in 0..settings.threads.clamp(1, kinds.len().max(1)) {
            scope.spawn(|| {
                while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let entry = train_one(kinds[*at], data, settings);
                    on_done(&entry);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((*at, entry));
                }
            });
        }
    });
    let mut entries = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    entries.sort_by_key(|(at, _)| *at);
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn train_one(kind: Kind, data: &BankData, settings: &BankSettings) -> Entry {
    let start = (settings.clock)();
    let stop = match settings.model_time_max {
        Some(most) => settings.stop.with_deadline(&settings.clock, start.saturating_add(most)),
        None => settings.stop.clone(),
    };
    let work = || {
        let model = fit(kind, data.train, data.train_labels, data.classes, settings.seed, &stop)?;
        let predictions = model.predict_until(data.test, &stop)?;
        Ok(Trained { model, scores: score(data.test_labels, &predictions, data.classes) })
    };
    // A fit owns what it works on, so nothing half-done is seen after a panic.
    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(ModelError::Panicked { kind, detail: said(&*panic) }));
    Entry { kind, time: (settings.clock)().saturating_sub(start), outcome }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked").to_owned()
}

/// The entries that were fitted, the best first: by accuracy, then balanced accuracy, then name.
pub fn ranked(entries: &[Entry]) -> Vec<(&Entry, &Trained)> {
    let mut fitted: Vec<(&Entry, &Trained)> = entries.iter().filter_map(|entry| Some((entry, entry.outcome.as_ref().ok()?))).collect();
    fitted.sort_by(|(a, x), (b, y)| x.scores.rank(&y.scores).then_with(|| a.kind.name().cmp(b.kind.name())));
    fitted
}
