//! Filling, scaling and splitting.

use desireline_learning::classifiers::Table;
use desireline_learning::classifiers::prepare::{Imputation, Preparation, split};
use proptest::prelude::*;

const GAP: f64 = f64::NAN;

fn table(values: &[f64]) -> Table {
    Table::new(vec!["a".into(), "b".into()], values.len() / 2, values.to_vec()).expect("a table")
}

#[test]
fn gaps_are_filled_and_columns_scaled_by_the_training_rows() {
    let train = table(&[1.0, 5.0, GAP, 5.0, 3.0, 5.0, 4.0, 5.0]);
    for (imputation, fill, mean, deviation) in [
        // 1, 8/3, 3, 4: the mean of the three known ones leaves the mean as it is.
        (Imputation::Mean, 8.0 / 3.0, 8.0 / 3.0, (42.0f64 / 36.0).sqrt()),
        (Imputation::Zero, 0.0, 2.0, 2.5f64.sqrt()),
    ] {
        let preparation = Preparation::fit(&train, imputation).expect("a preparation");
        assert!((preparation.fills()[0] - fill).abs() < 1e-12);
        let applied = preparation.apply(&table(&[GAP, 5.0, 10.0, 7.0])).expect("a table");
        let wanted = [(fill - mean) / deviation, 0.0, (10.0 - mean) / deviation, 2.0];
        assert!(applied.values().iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{imputation:?}: {applied:?} and {wanted:?}");
        let own = preparation.apply(&train).expect("a table");
        let first = || own.values().iter().step_by(2);
        assert!(first().sum::<f64>().abs() < 1e-12 && (first().map(|value| value * value).sum::<f64>() / 4.0 - 1.0).abs() < 1e-12);
    }
}

#[test]
fn a_column_without_values_and_one_that_rounds_to_a_constant_become_zero() {
    let train = table(&[GAP, 0.1 + 0.2, GAP, 0.3, GAP, 0.1 + 0.2]);
    for imputation in [Imputation::Mean, Imputation::Zero] {
        let applied = Preparation::fit(&train, imputation).and_then(|preparation| preparation.apply(&train)).expect("a table");
        assert!(applied.values().iter().all(|value| value.abs() < 1e-12), "{applied:?}");
    }
}

#[test]
fn infinities_other_columns_and_empty_tables_are_refused() {
    let refused = Preparation::fit(&table(&[1.0, f64::INFINITY]), Imputation::Mean).expect_err("infinite");
    assert_eq!(refused.to_string(), "column 'b' has a value that is not a number, or is too large, in row 0");
    assert_eq!(Preparation::fit(&table(&[1.7e308, 0.0, -1.7e308, 0.0]), Imputation::Mean).expect_err("too large").code(), "not_finite");
    let preparation = Preparation::fit(&table(&[1.0, 2.0]), Imputation::Mean).expect("a preparation");
    let other = Table::new(vec!["b".into(), "a".into()], 1, vec![1.0, 2.0]).expect("a table");
    assert_eq!(preparation.apply(&other).expect_err("other columns").code(), "other_columns");
    assert_eq!(preparation.apply(&table(&[f64::NEG_INFINITY, 0.0])).expect_err("infinite").code(), "not_finite");
    assert_eq!(Preparation::fit(&table(&[]), Imputation::Mean).expect_err("no rows").code(), "empty_table");
}

#[test]
fn a_preparation_is_stored_and_a_damaged_one_refused() {
    let preparation = Preparation::fit(&table(&[1.0, 2.0, 2.0, 4.0]), Imputation::Mean).expect("a preparation");
    let stored = serde_json::to_value(&preparation).expect("JSON");
    assert_eq!(serde_json::from_value::<Preparation>(stored.clone()).expect("the stored form"), preparation);
    for damage in [serde_json::json!([1.0]), serde_json::json!([0.0, 1.0])] {
        let mut damaged = stored.clone();
        damaged["deviations"] = damage;
        assert!(serde_json::from_value::<Preparation>(damaged).is_err());
    }
}

#[test]
fn every_class_has_its_share_in_the_test_part() {
    // 60, 30 and 10 rows.
    let labels: Vec<usize> = (0..100)
        .map(|row| {
            if row % 10 == 0 {
                2
            } else if row % 10 < 4 {
                1
            } else {
                0
            }
        })
        .collect();
    let made = split(&labels, 3, 0.2, 42).expect("a split");
    assert_eq!(made.note, None);
    let counts = |rows: &[usize]| (0..3).map(|class| rows.iter().filter(|row| labels[**row] == class).count()).collect::<Vec<_>>();
    assert_eq!(counts(&made.test), [12, 6, 2]);
    assert_eq!(counts(&made.train), [48, 24, 8]);
    assert_eq!(made, split(&labels, 3, 0.2, 42).expect("a split"));
    assert_ne!(made, split(&labels, 3, 0.2, 43).expect("a split"));
}

#[test]
fn a_class_with_one_row_and_too_few_rows_are_split_all_the_same() {
    let mut labels = [0, 1].repeat(10);
    labels.push(2);
    let made = split(&labels, 3, 0.2, 1).expect("a split");
    assert_eq!(made.note.as_deref(), Some("not stratified: a class has a single sample"));
    assert_eq!((made.train.len(), made.test.len()), (16, 5));
    let made = split(&[0, 0, 1, 1, 2, 2], 3, 0.2, 1).expect("a split");
    assert_eq!(made.note.as_deref(), Some("not stratified: there are more classes than samples on one side"));
    assert_eq!((made.train.len(), made.test.len()), (4, 2));
}

#[test]
fn what_cannot_be_split_is_refused() {
    let code = |labels: &[usize], share| split(labels, 2, share, 1).expect_err("refused").code();
    assert_eq!(code(&[0, 1, 0, 1], 0.0), "bad_test_size");
    assert_eq!(code(&[0, 1, 0, 1], 1.0), "bad_test_size");
    assert_eq!(code(&[0, 1, 0, 1], f64::NAN), "bad_test_size");
    assert_eq!(code(&[0], 0.5), "too_few_to_split");
    assert_eq!(code(&[0, 1], 0.9), "too_few_to_split");
    assert_eq!(code(&[0, 2, 1], 0.5), "unknown_label");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every row is on one side; stratified, no class is off its share by a row or more.
    #[test]
    fn a_split_is_a_partition(labels in prop::collection::vec(0usize..4, 2..120), share in 0.05f64..0.95, seed: u64) {
        let Ok(made) = split(&labels, 4, share, seed) else { return Ok(()) };
        let mut all: Vec<usize> = made.train.iter().chain(&made.test).copied().collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
        let tests = (share * labels.len() as f64).ceil();
        prop_assert_eq!(made.test.len() as f64, tests);
        prop_assert!(made.train.is_sorted() && made.test.is_sorted());
        if made.note.is_none() {
            for class in 0..4 {
                let of = |rows: &[usize]| rows.iter().filter(|row| labels[**row] == class).count() as f64;
                let exact = of(&(0..labels.len()).collect::<Vec<_>>()) * tests / labels.len() as f64;
                prop_assert!((of(&made.test) - exact).abs() < 1.0);
            }
        }
    }
}
