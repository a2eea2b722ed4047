//! Scores against numbers worked out by hand.

use desireline_learning::classifiers::score::{Scores, round4, score};
use std::cmp::Ordering;

#[test]
fn three_classes_by_hand() {
    let labels = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2];
    let predicted = [0, 0, 0, 1, 1, 1, 2, 2, 0, 0];
    let scores = score(&labels, &predicted, 3);
    assert_eq!(scores.confusion, [[3, 1, 0], [0, 2, 1], [2, 0, 1]]);
    assert!((scores.accuracy - 0.6).abs() < 1e-12);
    assert!((scores.balanced_accuracy - (3.0 / 4.0 + 2.0 / 3.0 + 1.0 / 3.0) / 3.0).abs() < 1e-12);
    // 2 × found / (predicted + present): 6/9, 4/6, 2/5.
    assert!((scores.f1_weighted - (0.4 * 6.0 / 9.0 + 0.3 * 4.0 / 6.0 + 0.3 * 2.0 / 5.0)).abs() < 1e-12);
}

#[test]
fn classes_that_are_absent_do_not_count_and_predictions_of_them_are_wrong() {
    let scores = score(&[0, 0, 2, 2], &[0, 1, 2, 9], 4);
    assert!((scores.accuracy - 0.5).abs() < 1e-12);
    assert!((scores.balanced_accuracy - 0.5).abs() < 1e-12);
    assert!((scores.f1_weighted - (0.5 * 2.0 / 3.0 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
    let nothing = score(&[], &[], 2);
    assert_eq!((nothing.accuracy, nothing.balanced_accuracy, nothing.f1_weighted), (0.0, 0.0, 0.0));
}

#[test]
fn ranked_by_accuracy_then_balanced_accuracy_and_what_is_no_number_last() {
    let of = |accuracy, balanced_accuracy| Scores { accuracy, balanced_accuracy, f1_weighted: 0.0, confusion: Vec::new() };
    assert_eq!(of(0.9, 0.1).rank(&of(0.8, 0.9)), Ordering::Less);
    assert_eq!(of(0.9, 0.1).rank(&of(0.9, 0.2)), Ordering::Greater);
    assert_eq!(of(f64::NAN, 1.0).rank(&of(0.0, 0.0)), Ordering::Greater);
    assert_eq!(of(0.5, f64::NAN).rank(&of(0.5, f64::NAN)), Ordering::Equal);
}

#[test]
fn four_decimals() {
    assert_eq!(round4(2.0 / 3.0), 0.6667);
    assert_eq!(round4(0.1), 0.1);
    assert_eq!(round4(1.0 - 1e-9), 1.0);
}
