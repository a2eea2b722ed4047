//! The bank: stops, limits, clocks, failures that stay by themselves, and what columns matter.

use super::support::{clouds, fitted};
use desireline_learning::classifiers::{
    BankData, BankSettings, Clock, Kind, ModelError, Stop, StopReason, Table, fit, importances, train_bank,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A clock that goes on by a millisecond whenever it is read.
fn counting() -> (Clock, Arc<AtomicU64>) {
    let reads = Arc::new(AtomicU64::new(0));
    let own = Arc::clone(&reads);
    (Arc::new(move || Duration::from_millis(own.fetch_add(1, Ordering::Relaxed))), reads)
}

fn data<'a>(table: &'a Table, labels: &'a [usize]) -> BankData<'a> {
    BankData { train: table, train_labels: labels, test: table, test_labels: labels, classes: 3 }
}

fn settings(threads: usize, stop: Stop, clock: Clock, model_time_max: Option<Duration>) -> BankSettings {
    BankSettings { threads, seed: 1, stop, clock, model_time_max }
}

#[test]
fn every_loop_asks_whether_to_stop() {
    // What is a pass or two over the rows does not ask again; a single tree does, but not on as few rows as these.
    let short = [
        Kind::DecisionTreeClassifier,
        Kind::ExtraTreeClassifier,
        Kind::BernoulliNB,
        Kind::DummyClassifier,
        Kind::GaussianNB,
        Kind::KNeighborsClassifier,
        Kind::LabelPropagation,
        Kind::NearestCentroid,
    ];
    let small = clouds(300, 3, 3, 30);
    let large = clouds(30_000, 3, 3, 30);
    let trees = short[..2].iter().map(|kind| (*kind, &large));
    for (kind, (table, labels)) in Kind::ALL.into_iter().map(|kind| (kind, &small)).chain(trees) {
        let (clock, reads) = counting();
        let patient = Stop::default().with_deadline(&clock, Duration::from_secs(1_000_000));
        let whole = fit(kind, table, labels, 3, 1, &patient);
        assert!(whole.is_ok(), "{kind}: {whole:?}");
        let asked = reads.load(Ordering::Relaxed);
        let few = table.rows() == 300 && short.contains(&kind);
        assert!(few || asked >= 3, "{kind} asked {asked} times");
        // Whenever the deadline passes, the next look is the last one.
        for at in [0, 1, asked / 2, asked - 1].map(|at| at.min(asked - 1)) {
            let (clock, reads) = counting();
            let stop = Stop::default().with_deadline(&clock, Duration::from_millis(at));
            let stopped = fit(kind, table, labels, 3, 1, &stop);
            assert_eq!(stopped, Err(ModelError::Stopped(StopReason::DeadlinePassed)), "{kind} at {at} of {asked}");
            assert_eq!(reads.load(Ordering::Relaxed), at + 1, "{kind}");
        }
    }
}

#[test]
fn predictions_and_importances_can_be_stopped() {
    let (table, labels) = clouds(300, 3, 3, 31);
    let model = fitted(Kind::KNeighborsClassifier, &table, &labels, 3).expect("a model");
    let (clock, reads) = counting();
    let late = Stop::default().with_deadline(&clock, Duration::from_millis(2));
    assert_eq!(model.predict_until(&table, &late), Err(ModelError::Stopped(StopReason::DeadlinePassed)));
    assert_eq!(reads.load(Ordering::Relaxed), 3, "asked on the way");
    let stop = Stop::default();
    stop.clone().cancel();
    let stopped = ModelError::Stopped(StopReason::Cancelled);
    assert_eq!(model.predict_until(&table, &stop), Err(stopped.clone()));
    assert_eq!(model.predict_proba_until(&table, &stop), Err(stopped));
    assert_eq!(importances(&model, &table, &labels, 1, 1, &stop).expect_err("stopped").code(), "cancelled");
}

#[test]
fn entries_come_in_the_order_asked_for_whatever_the_threads() {
    let (table, labels) = clouds(120, 3, 3, 32);
    let kinds = [Kind::GaussianNB, Kind::RandomForestClassifier, Kind::LinearSVC, Kind::QuadraticDiscriminantAnalysis];
    let told = Mutex::new(Vec::new());
    let run = |threads| {
        let (clock, _) = counting();
        train_bank(&kinds, &data(&table, &labels), &settings(threads, Stop::default(), clock, None), &|entry| {
            told.lock().expect("no panic").push(entry.kind);
        })
    };
    let (one, four) = (run(1), run(4));
    assert_eq!(one.iter().map(|entry| entry.kind).collect::<Vec<_>>(), kinds);
    for (a, b) in one.iter().zip(&four) {
        assert_eq!(a.outcome, b.outcome, "{}", a.kind);
        assert!(a.time >= Duration::from_millis(1), "two reads of the clock");
    }
    let told = told.into_inner().expect("no panic");
    assert_eq!(told.len(), 8);
    assert_eq!(told[0], Kind::RandomForestClassifier, "the dearest first");
}

#[test]
fn a_model_that_takes_too_long_or_panics_or_cannot_be_fitted_is_skipped() {
    let (table, labels) = clouds(120, 3, 3, 33);
    let reads = AtomicU64::new(0);
    let fragile: Clock = Arc::new(move || match reads.fetch_add(1, Ordering::Relaxed) {
        20 => panic!("the clock broke"),
        read => Duration::from_millis(read),
    });
    let kinds = [Kind::RandomForestClassifier, Kind::GaussianNB];
    let limit = Some(Duration::from_secs(3600));
    let entries = train_bank(&kinds, &data(&table, &labels), &settings(1, Stop::default(), fragile, limit), &|_| ());
    let panicked = ModelError::Panicked { kind: Kind::RandomForestClassifier, detail: "the clock broke".into() };
    assert_eq!(entries[0].outcome, Err(panicked));
    assert!(entries[1].outcome.is_ok());

    let (clock, _) = counting();
    let limit = Some(Duration::from_millis(50));
    let entries = train_bank(&kinds, &data(&table, &labels), &settings(1, Stop::default(), clock, limit), &|_| ());
    assert_eq!(entries[0].outcome, Err(ModelError::Stopped(StopReason::DeadlinePassed)));
    assert!(entries[1].outcome.is_ok(), "each model has its own limit");

    let one_class = vec![0; table.rows()];
    let (clock, _) = counting();
    let entries = train_bank(&kinds, &data(&table, &one_class), &settings(2, Stop::default(), clock, None), &|_| ());
    assert!(entries.iter().all(|entry| entry.outcome == Err(ModelError::OneClass)));
}

#[test]
fn a_cancelled_bank_answers_at_once() {
    let (table, labels) = clouds(120, 3, 3, 34);
    let stop = Stop::default();
    let (clock, _) = counting();
    let entries = train_bank(&Kind::ALL, &data(&table, &labels), &settings(1, stop.clone(), clock, None), &|_| stop.cancel());
    let fitted = entries.iter().filter(|entry| entry.outcome.is_ok()).count();
    assert_eq!(fitted, 1);
    let stopped = entries.iter().filter(|entry| entry.outcome == Err(ModelError::Stopped(StopReason::Cancelled))).count();
    assert_eq!(stopped, Kind::ALL.len() - 1);
}

#[test]
fn the_column_that_tells_the_classes_matters_most() {
    let (rows, labels) = clouds(200, 1, 2, 35);
    let (noise, _) = clouds(200, 2, 1, 36);
    let values = (0..200).flat_map(|row| [noise.row(row)[0], rows.row(row)[0], 3.0]).collect();
    let table = Table::new(vec!["noise".into(), "signal".into(), "constant".into()], 200, values).expect("a table");
    for kind in
        [Kind::LogisticRegression, Kind::RandomForestClassifier, Kind::AdaBoostClassifier, Kind::LGBMClassifier, Kind::KNeighborsClassifier]
    {
        let model = fitted(kind, &table, &labels, 2).expect("a model");
        let found = importances(&model, &table, &labels, 5, 7, &Stop::default()).expect("importances");
        assert_eq!(found.iter().map(|importance| importance.column.as_str()).collect::<Vec<_>>(), ["noise", "signal", "constant"]);
        assert!(found[1].mean > 0.3 && found[1].mean > 3.0 * found[0].mean, "{kind}: {found:?}");
        assert_eq!((found[2].mean, found[2].deviation), (0.0, 0.0), "{kind}");
        assert_eq!(found, importances(&model, &table, &labels, 5, 7, &Stop::default()).expect("importances"));
        match model.split_importances() {
            Some(shares) => {
                assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && shares[1] > 0.5 && shares[2] == 0.0, "{kind}: {shares:?}");
            }
            None => assert!([Kind::LogisticRegression, Kind::KNeighborsClassifier].contains(&kind)),
        }
    }
    let model = fitted(Kind::GaussianNB, &table, &labels, 2).expect("a model");
    assert_eq!(importances(&model, &table, &labels[1..], 1, 1, &Stop::default()).expect_err("too few labels").code(), "label_count");
}
