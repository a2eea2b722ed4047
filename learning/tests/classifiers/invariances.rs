//! What must not change an answer, and what every answer must be: for all models, on clouds of rows of two to six classes.

use super::support::{Noise, clouds, fitted, names};
use desireline_learning::classifiers::{Kind, ModelError, Stop, Table, fit};

/// Share of rows that a model must find in clouds four deviations apart.
const FOUND_MIN: f64 = 0.8;

/// Models whose answer is one by definition, so that the names of the classes cannot matter; ties between classes aside.
const FIXED: [Kind; 16] = [
    Kind::BernoulliNB,
    Kind::GaussianNB,
    Kind::KNeighborsClassifier,
    Kind::LabelPropagation,
    Kind::LabelSpreading,
    Kind::LinearDiscriminantAnalysis,
    Kind::LinearSVC,
    Kind::LogisticRegression,
    Kind::NearestCentroid,
    Kind::NuSVC,
    Kind::QuadraticDiscriminantAnalysis,
    Kind::RidgeClassifier,
    Kind::RidgeClassifierCV,
    Kind::SVC,
    Kind::GradientBoostingClassifier,
    Kind::XGBClassifier,
];

fn agreement(a: &[usize], b: &[usize]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64
}

#[test]
fn every_model_finds_clouds_that_lie_apart() {
    for classes in 2..=6 {
        let (table, labels) = clouds(60 * classes, 4, classes, classes as u64);
        let (fresh, truth) = clouds(20 * classes, 4, classes, classes as u64);
        for kind in Kind::ALL {
            // Signs alone do not tell the classes apart, the largest class does not either.
            if kind == Kind::DummyClassifier || kind == Kind::BernoulliNB {
                continue;
            }
            let model = fitted(kind, &table, &labels, classes).expect("a model");
            let found = agreement(&model.predict(&fresh).expect("predictions"), &truth);
            // A stump of two leaves tells two classes apart; adding up stumps need not bring the others.
            let needed = if kind == Kind::AdaBoostClassifier { 2.0 / classes as f64 } else { FOUND_MIN };
            assert!(found >= needed, "{kind} finds {found} of {classes} classes");
        }
    }
}

#[test]
fn probabilities_add_up_to_one_and_name_the_class_that_is_predicted() {
    for classes in [2, 3] {
        let (table, labels) = clouds(40 * classes, 3, classes, 5);
        for kind in Kind::ALL {
            let model = fitted(kind, &table, &labels, classes).expect("a model");
            let predicted = model.predict(&table).expect("predictions");
            let Some(probabilities) = model.predict_proba(&table).expect("probabilities") else {
                assert!(!model.has_probabilities());
                continue;
            };
            assert!(model.has_probabilities());
            assert_eq!(probabilities.len(), table.rows() * classes);
            for (row, class) in probabilities.chunks_exact(classes).zip(predicted) {
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{kind}: {row:?}");
                assert!(row.iter().all(|share| (0.0..=1.0 + 1e-12).contains(share) && *share <= row[class]), "{kind}: {row:?} and {class}");
            }
        }
    }
}

#[test]
fn the_order_of_rows_does_not_change_a_bit() {
    let (table, labels) = clouds(90, 3, 3, 6);
    let mut noise = Noise::new(1);
    let mut order: Vec<usize> = (0..table.rows()).collect();
    order.sort_by_cached_key(|_| noise.below(1 << 30));
    let (turned, turned_labels) = (table.select(&order), order.iter().map(|row| labels[*row]).collect::<Vec<_>>());
    for kind in Kind::ALL {
        let (a, b) = (fitted(kind, &table, &labels, 3), fitted(kind, &turned, &turned_labels, 3));
        assert_eq!(a, b, "{kind}");
        assert!(a.is_ok(), "{kind}: {a:?}");
    }
}

#[test]
fn a_seed_fixes_a_model_and_another_one_changes_those_that_draw() {
    let (table, labels) = clouds(90, 3, 3, 7);
    for kind in Kind::ALL {
        let of = |seed| fit(kind, &table, &labels, 3, seed, &Stop::default()).expect("a model");
        assert_eq!(of(1), of(1), "{kind}");
        let draws =
            [Kind::RandomForestClassifier, Kind::ExtraTreesClassifier, Kind::BaggingClassifier, Kind::MLPClassifier, Kind::XGBRFClassifier];
        if draws.contains(&kind) {
            assert_ne!(of(1), of(2), "{kind}");
        }
    }
}

#[test]
fn names_of_classes_do_not_matter() {
    let (table, labels) = clouds(120, 3, 3, 8);
    let (fresh, _) = clouds(300, 3, 3, 8);
    let renamed: Vec<usize> = labels.iter().map(|label| [2, 0, 1][*label]).collect();
    for kind in FIXED {
        let plain = fitted(kind, &table, &labels, 3).and_then(|model| model.predict(&fresh)).expect("predictions");
        let other = fitted(kind, &table, &renamed, 3).and_then(|model| model.predict(&fresh)).expect("predictions");
        let back: Vec<usize> = plain.iter().map(|label| [2, 0, 1][*label]).collect();
        assert!(agreement(&back, &other) >= 0.99, "{kind}: {}", agreement(&back, &other));
    }
}

#[test]
fn a_class_without_rows_is_never_predicted() {
    let (table, labels) = clouds(60, 3, 2, 9);
    let apart: Vec<usize> = labels.iter().map(|label| label * 3 + 1).collect();
    for kind in Kind::ALL {
        let (with_gaps, plain) = (fitted(kind, &table, &apart, 6).expect("a model"), fitted(kind, &table, &labels, 2).expect("a model"));
        let wanted: Vec<usize> = plain.predict(&table).expect("predictions").iter().map(|label| label * 3 + 1).collect();
        assert_eq!(with_gaps.predict(&table).expect("predictions"), wanted, "{kind}");
        assert_eq!(with_gaps.classes(), 6);
        if let Some(probabilities) = with_gaps.predict_proba(&table).expect("probabilities") {
            assert!(probabilities.chunks_exact(6).all(|row| [0, 2, 3, 5].iter().all(|class| row[*class] == 0.0)), "{kind}");
        }
    }
}

/// Of a column that says nothing no model may be disturbed, but for those that draw columns.
#[test]
fn a_constant_column_changes_nothing() {
    let (table, labels) = clouds(120, 2, 3, 10);
    let (fresh, _) = clouds(240, 2, 3, 10);
    let widen = |table: &Table| {
        let values = (0..table.rows()).flat_map(|row| [table.row(row), &[7.5]].concat()).collect();
        Table::new(names(3), table.rows(), values).expect("a table")
    };
    for kind in FIXED {
        let plain = fitted(kind, &table, &labels, 3).and_then(|model| model.predict(&fresh)).expect("predictions");
        let wider = fitted(kind, &widen(&table), &labels, 3).and_then(|model| model.predict(&widen(&fresh))).expect("predictions");
        // The kernel of a support vector machine falls with the variance of all values, constant ones included; a linear one penalises
        // its intercept, which the constant column takes over.
        let scaled = [Kind::SVC, Kind::NuSVC, Kind::LinearSVC, Kind::LogisticRegression].contains(&kind);
        assert!(agreement(&plain, &wider) >= if scaled { 0.95 } else { 0.99 }, "{kind}: {}", agreement(&plain, &wider));
    }
}

#[test]
fn a_tree_is_right_about_every_row_it_has_seen_and_doubled_rows_say_the_same() {
    let (table, labels) = clouds(150, 2, 3, 11);
    let doubled: Vec<usize> = (0..table.rows()).chain(0..table.rows()).collect();
    let twice: Vec<usize> = doubled.iter().map(|row| labels[*row]).collect();
    for kind in [Kind::DecisionTreeClassifier, Kind::ExtraTreeClassifier, Kind::ExtraTreesClassifier] {
        for (table, labels) in [(table.clone(), labels.clone()), (table.select(&doubled), twice.clone())] {
            let model = fitted(kind, &table, &labels, 3).expect("a model");
            assert_eq!(model.predict(&table).expect("predictions"), labels, "{kind}");
        }
    }
}

/// Two columns of which neither alone says anything: the first split of a tree gains nothing.
#[test]
fn trees_find_what_only_two_columns_together_say() {
    let values: Vec<f64> = (0..40).flat_map(|row| [f64::from(row & 1), f64::from(row >> 1 & 1)]).collect();
    let labels: Vec<usize> = (0..40).map(|row| (row ^ row >> 1) & 1).collect();
    let table = Table::new(names(2), 40, values).expect("a table");
    for kind in [Kind::DecisionTreeClassifier, Kind::ExtraTreesClassifier, Kind::SVC, Kind::KNeighborsClassifier] {
        let model = fitted(kind, &table, &labels, 2).expect("a model");
        assert_eq!(model.predict(&table).expect("predictions"), labels, "{kind}");
    }
}

#[test]
fn nearest_neighbours_are_those_that_sorting_finds() {
    let (table, labels) = clouds(200, 3, 4, 12);
    let (fresh, _) = clouds(100, 3, 4, 13);
    let model = fitted(Kind::KNeighborsClassifier, &table, &labels, 4).expect("a model");
    let probabilities = model.predict_proba(&fresh).expect("predictions").expect("probabilities");
    for (row, shares) in probabilities.chunks_exact(4).enumerate() {
        let distance = |other: usize| table.row(other).iter().zip(fresh.row(row)).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let mut order: Vec<usize> = (0..table.rows()).collect();
        order.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        let mut wanted = [0.0; 4];
        order[..5].iter().for_each(|other| wanted[labels[*other]] += 0.2);
        assert!(shares.iter().zip(wanted).all(|(share, wanted)| (share - wanted).abs() < 1e-9), "row {row}: {shares:?} and {wanted:?}");
    }
}

/// The gradient of logistic regression's objective, written down plainly, is 0 where the model says the minimum is.
#[test]
fn logistic_regression_stands_at_its_minimum() {
    for classes in [2, 3] {
        let (table, labels) = clouds(90, 2, classes, 14);
        let model = fitted(Kind::LogisticRegression, &table, &labels, classes).expect("a model");
        let probabilities = model.predict_proba(&table).expect("predictions").expect("probabilities");
        let stored: serde_json::Value = serde_json::from_slice(&model.to_json()).expect("JSON");
        let weights: Vec<f64> = serde_json::from_value(stored["fitted"]["linear"]["weights"].clone()).expect("weights");
        let first = if classes == 2 { 1 } else { 0 };
        for class in first..classes {
            let error = |row: usize| probabilities[row * classes + class] - if labels[row] == class { 1.0 } else { 0.0 };
            for column in 0..2 {
                let data: f64 = (0..table.rows()).map(|row| error(row) * table.row(row)[column]).sum();
                let slope = data + weights[(class - first) * 2 + column];
                assert!(slope.abs() < 1e-3, "class {class}, column {column}: {slope}");
            }
            assert!((0..table.rows()).map(error).sum::<f64>().abs() < 1e-3, "the intercept is free");
        }
    }
}

#[test]
fn other_columns_are_refused() {
    let (table, labels) = clouds(40, 2, 2, 15);
    let model = fitted(Kind::GaussianNB, &table, &labels, 2).expect("a model");
    let turned = Table::new(vec!["x1".into(), "x0".into()], 40, table.values().to_vec()).expect("a table");
    let refused = model.predict(&turned).expect_err("other columns");
    assert_eq!(refused.code(), "other_columns");
    assert_eq!(refused.to_string(), "the model was fitted on the columns [x0, x1], and the table has [x1, x0]");
    assert!(matches!(model.predict_proba(&turned), Err(ModelError::Columns { .. })));
}
