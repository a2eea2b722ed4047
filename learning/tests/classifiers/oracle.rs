//! Accuracy, balanced accuracy and F1 of every model on two stored cases, and each prediction of the models with one right answer.

use super::support::Case;
use desireline_learning::classifiers::{BankData, BankSettings, Kind, ModelError, Stop, Trained, ranked, train_bank};
use std::sync::Arc;
use std::time::Instant;

/// Share of predictions of the models with one right answer that are the reference's.
const AGREEMENT_MIN: f64 = 0.99;

fn check(name: &str, refused: &[Kind]) {
    let case = Case::read(name);
    let data = BankData {
        train: &case.train,
        train_labels: &case.train_labels,
        test: &case.test,
        test_labels: &case.test_labels,
        classes: case.classes,
    };
    let start = Instant::now();
    let settings =
        BankSettings { threads: 2, seed: 42, stop: Stop::default(), clock: Arc::new(move || start.elapsed()), model_time_max: None };
    let entries = train_bank(&Kind::ALL, &data, &settings, &|_| ());
    assert_eq!(entries.iter().map(|entry| entry.kind).collect::<Vec<_>>(), Kind::ALL);
    let mut faults = Vec::new();
    for entry in &entries {
        match (&entry.outcome, refused.contains(&entry.kind)) {
            (Ok(trained), false) => faults.extend(compare(&case, entry.kind, trained)),
            (Err(ModelError::Degenerate { .. }), true) => {}
            (outcome, _) => faults.push(format!("{}: {:?}", entry.kind, outcome.as_ref().map(|trained| &trained.scores))),
        }
        println!(
            "{:32} {:>8.1?} {:?}",
            entry.kind.name(),
            entry.time,
            entry.outcome.as_ref().map(|t| (t.scores.accuracy, t.scores.balanced_accuracy, t.scores.f1_weighted))
        );
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let ranks = ranked(&entries);
    assert_eq!(ranks.len(), Kind::ALL.len() - refused.len());
    assert!(ranks.windows(2).all(|pair| pair[0].1.scores.accuracy >= pair[1].1.scores.accuracy), "ranked by accuracy");
}

fn compare(case: &Case, kind: Kind, trained: &Trained) -> Vec<String> {
    let Some(expected) = case.facts.models.get(kind.name()) else { return Vec::new() };
    let scores = &trained.scores;
    let mut faults = Vec::new();
    for (what, value, (low, high)) in [
        ("accuracy", scores.accuracy, expected.accuracy),
        ("balanced accuracy", scores.balanced_accuracy, expected.balanced_accuracy),
        ("F1", scores.f1_weighted, expected.f1_weighted),
    ] {
        if value < low || high.is_some_and(|high| value > high) {
            faults.push(format!("{kind}: {what} {value:.4} is outside of {low} to {high:?}"));
        }
    }
    assert_eq!(expected.family == "fixed", expected.predictions.is_some());
    if let Some(stored) = &expected.predictions {
        let predicted = trained.model.predict(&case.test).expect("predictions");
        let same = stored.bytes().zip(&predicted).filter(|(a, b)| usize::from(a - b'0') == **b).count();
        let agreement = same as f64 / predicted.len() as f64;
        if agreement < AGREEMENT_MIN {
            faults.push(format!("{kind}: {agreement:.4} of the predictions are the reference's"));
        }
    }
    faults
}

#[test]
fn three_classes() {
    check("a", &[]);
}

/// One row in six is of the second class: too few for ν = 0.5, there as here.
#[test]
fn two_unequal_classes() {
    check("b", &[Kind::NuSVC]);
}
