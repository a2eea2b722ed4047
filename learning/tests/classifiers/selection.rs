//! Confidence, thresholds and how they are lowered, the cap on unequal classes.

use desireline_learning::classifiers::SelectError;
use desireline_learning::classifiers::select::{Labelled, Method, SelectSettings, Selection, confidences, select};
use proptest::prelude::*;

fn plain() -> SelectSettings {
    SelectSettings { min_labels_per_class: 0, imbalance_factor: 1e9, ..SelectSettings::default() }
}

/// Two classes, each sample sure of its class by so much.
fn pick(sure: &[(i64, f64)], settings: &SelectSettings) -> Result<Selection, SelectError> {
    let labels: Vec<i64> = sure.iter().map(|(label, _)| *label).collect();
    let probabilities: Vec<f64> = sure.iter().flat_map(|(label, p)| if *label == 1 { [1.0 - p, *p] } else { [*p, 1.0 - p] }).collect();
    select(&Labelled { labels: &labels, probabilities: Some(&probabilities), classes: 2 }, settings)
}

#[test]
fn the_defaults_are_the_services() {
    let stored = serde_json::to_value(SelectSettings::default()).expect("JSON");
    let wanted = serde_json::json!({
        "threshold_method": "max_confidence", "threshold_value": 0.7, "min_labels_per_class": 10, "imbalance_factor": 3.0,
        "random_state": 42,
    });
    assert_eq!(stored, wanted);
    assert_eq!(serde_json::from_str::<SelectSettings>("{}").expect("defaults"), SelectSettings::default());
    assert!(serde_json::from_str::<SelectSettings>(r#"{"threshold": 0.5}"#).is_err());
}

#[test]
fn confidence_is_the_largest_probability_or_what_entropy_leaves() {
    let labelled = Labelled { labels: &[0, 1, 0], probabilities: Some(&[0.9, 0.05, 0.05, 0.2, 0.5, 0.3, 1.0, 0.0, 0.0]), classes: 3 };
    assert_eq!(confidences(&labelled, Method::MaxConfidence), [0.9, 0.5, 1.0]);
    let entropy = confidences(&labelled, Method::Entropy);
    // 1 - (0.9 ln 0.9 + 0.1 ln 0.05) / -ln 3, 1 - (0.2 ln 0.2 + 0.5 ln 0.5 + 0.3 ln 0.3) / -ln 3, and certainty.
    let wanted = [1.0 - 0.394_397_5 / 3f64.ln(), 1.0 - 1.029_653_0 / 3f64.ln(), 1.0];
    assert!(entropy.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{entropy:?} and {wanted:?}");
    let hard = Labelled { labels: &[0, -1], probabilities: None, classes: 3 };
    assert_eq!(confidences(&hard, Method::Entropy), [1.0, 1.0]);
    let one = Labelled { labels: &[0], probabilities: Some(&[1.0]), classes: 1 };
    assert_eq!(confidences(&one, Method::Entropy), [1.0]);
}

#[test]
fn what_is_sure_enough_and_has_a_label_is_kept() {
    let kept = pick(&[(0, 0.7), (1, 0.69), (1, 0.95), (-1, 0.99), (0, 0.8)], &plain()).expect("a selection");
    assert_eq!((kept.rows, kept.labels), (vec![0, 2, 4], vec![0, 1, 0]));
    assert_eq!((kept.threshold_used, kept.samples_before, kept.samples_after), (0.7, 5, 3));
    assert_eq!((kept.confidence_before, kept.confidence_after, kept.retention_rate), (0.826, 0.8167, 0.6));
    assert_eq!(kept.class_counts, [2, 1]);
}

#[test]
fn abstentions_of_hard_labels_are_dropped() {
    let labelled = Labelled { labels: &[2, -1, 0, -1, 2], probabilities: None, classes: 3 };
    let kept = select(&labelled, &plain()).expect("a selection");
    assert_eq!((kept.rows, kept.labels, kept.class_counts), (vec![0, 2, 4], vec![2, 0, 2], vec![1, 0, 2]));
    assert_eq!((kept.confidence_before, kept.confidence_after), (1.0, 1.0));
}

#[test]
fn the_threshold_falls_until_every_class_has_enough() {
    let settings = SelectSettings { min_labels_per_class: 2, ..plain() };
    let kept = pick(&[(0, 0.9), (0, 0.9), (1, 0.9), (1, 0.58), (1, 0.51)], &settings).expect("a selection");
    // 0.7, 0.65, 0.6, 0.55: the same steps of floating point.
    assert_eq!(kept.threshold_used, 0.7 - 0.05 - 0.05 - 0.05);
    assert_eq!(kept.rows, [0, 1, 2, 3]);
}

#[test]
fn a_class_that_has_nothing_lowers_the_threshold_too_down_to_the_last_step() {
    let settings = SelectSettings { min_labels_per_class: 1, ..plain() };
    let kept = pick(&[(0, 0.9), (0, 0.9), (1, 0.6)], &settings).expect("a selection");
    assert_eq!(kept.class_counts, [2, 1]);
    // The second class is nowhere: twelve steps from 0.7.
    let kept = pick(&[(0, 0.9), (0, 0.9), (0, 0.2)], &settings).expect("a selection");
    assert_eq!(kept.threshold_used, 0.099_999_999_999_999_91);
    assert_eq!(kept.threshold_used.to_string(), "0.09999999999999991");
    assert_eq!(kept.rows, [0, 1, 2]);
}

#[test]
fn a_threshold_of_at_most_a_tenth_is_never_lowered() {
    for threshold_value in [0.1, 0.05, 0.0] {
        let settings = SelectSettings { threshold_value, min_labels_per_class: 9, ..plain() };
        assert_eq!(pick(&[(0, 0.9), (0, 0.9)], &settings).expect("a selection").threshold_used, threshold_value);
    }
}

#[test]
fn large_classes_are_cut_beside_the_smallest() {
    let sure: Vec<(i64, f64)> = (0..20).map(|row| if row % 5 == 0 { (1, 0.9) } else { (0, 0.9) }).collect();
    // 16 and 4 rows: the whole part of 2.4 × 4 is 9.
    let settings = SelectSettings { imbalance_factor: 2.4, ..plain() };
    let kept = pick(&sure, &settings).expect("a selection");
    assert_eq!(kept.class_counts, [9, 4]);
    assert!(kept.rows.is_sorted());
    assert_eq!((kept.samples_after, kept.retention_rate), (13, 0.65));
    assert_eq!(kept, pick(&sure, &settings).expect("a selection"));
    assert_ne!(kept.rows, pick(&sure, &SelectSettings { random_state: 43, ..settings }).expect("a selection").rows);
}

#[test]
fn fewer_than_two_samples_are_an_error() {
    let refused = pick(&[(0, 0.9), (1, 0.6)], &plain()).expect_err("one sample");
    assert_eq!(refused, SelectError::TooFew { kept: 1, samples: 2, threshold: 0.7 });
    assert_eq!(refused.code(), "too_few_samples");
    let none = Labelled { labels: &[], probabilities: None, classes: 2 };
    assert!(matches!(select(&none, &plain()), Err(SelectError::TooFew { kept: 0, samples: 0, .. })));
    // A cap below one row leaves nothing.
    let refused = pick(&[(0, 0.9), (1, 0.9)], &SelectSettings { imbalance_factor: 0.5, ..plain() }).expect_err("no sample");
    assert!(matches!(refused, SelectError::TooFew { kept: 0, .. }));
}

#[test]
fn what_does_not_fit_is_refused() {
    let code = |labels: &[i64], probabilities: Option<&[f64]>, classes, settings: &SelectSettings| {
        select(&Labelled { labels, probabilities, classes }, settings).expect_err("refused").code()
    };
    assert_eq!(code(&[0, 1], Some(&[1.0, 0.0, 1.0]), 2, &plain()), "bad_shape");
    assert_eq!(code(&[0, 1], None, 0, &plain()), "bad_shape");
    assert_eq!(code(&[0, 2], None, 2, &plain()), "unknown_label");
    assert_eq!(code(&[0, -2], None, 2, &plain()), "unknown_label");
    for threshold_value in [f64::NAN, -0.1, 1.1, 1e300] {
        assert_eq!(code(&[0, 1], None, 2, &SelectSettings { threshold_value, ..plain() }), "bad_setting");
    }
    for imbalance_factor in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
        assert_eq!(code(&[0, 1], None, 2, &SelectSettings { imbalance_factor, ..plain() }), "bad_setting");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Against the rule as it is written: lower while a class lacks rows, keep, cut.
    #[test]
    fn the_rule_as_it_is_written(
        sure in prop::collection::vec((-1i64..2, 0.5f64..1.0), 0..60),
        threshold_value in 0.0f64..1.0,
        min_labels_per_class in 0usize..8,
        imbalance_factor in 0.5f64..4.0,
        random_state: u64,
    ) {
        let settings = SelectSettings { threshold_method: Method::MaxConfidence, threshold_value, min_labels_per_class, imbalance_factor, random_state };
        let kept_at = |threshold: f64, class: i64| sure.iter().filter(|(label, p)| *label == class && p.max(1.0 - p) >= threshold).count();
        let mut threshold = threshold_value;
        while threshold > 0.1 && (0..2).any(|class| kept_at(threshold, class) < min_labels_per_class) {
            threshold -= 0.05;
        }
        let counts = [kept_at(threshold, 0), kept_at(threshold, 1)];
        let smallest = counts.iter().copied().filter(|count| *count > 0).min().unwrap_or(0);
        let most = (imbalance_factor * smallest as f64).floor() as usize;
        let wanted = counts.map(|count| count.min(most));
        match pick(&sure, &settings) {
            Ok(kept) => {
                prop_assert_eq!(kept.threshold_used, threshold);
                prop_assert_eq!(kept.class_counts, wanted);
                prop_assert!(kept.rows.iter().zip(&kept.labels).all(|(row, label)| sure[*row].0 == *label as i64 && sure[*row].1 >= threshold));
            }
            Err(error) => {
                prop_assert_eq!(error.code(), "too_few_samples");
                prop_assert!(wanted.iter().sum::<usize>() < 2);
            }
        }
    }
}
