//! Tables that leave little to learn from, and those that are refused. Every answer is a model of finite numbers or an error.

use super::support::{Noise, clouds, fitted, names};
use desireline_learning::classifiers::{CLASSES_MAX, Kind, ModelError, Table, VALUE_MAX};

fn table(columns: usize, values: &[f64]) -> Table {
    Table::new(names(columns), values.len() / columns, values.to_vec()).expect("a table")
}

/// A model answers for every row with a class that there is; or there is none, with a reason.
fn sound(kind: Kind, table: &Table, labels: &[usize], classes: usize) {
    match fitted(kind, table, labels, classes) {
        Ok(model) => {
            let predicted = model.predict(table).expect("predictions");
            assert!(predicted.iter().all(|class| *class < classes), "{kind}");
            if let Some(shares) = model.predict_proba(table).expect("probabilities") {
                assert!(shares.iter().all(|share| share.is_finite()), "{kind}: {shares:?}");
            }
        }
        Err(ModelError::Degenerate { .. }) => {}
        Err(error) => panic!("{kind}: {error}"),
    }
}

#[test]
fn tiny_tables() {
    for kind in Kind::ALL {
        sound(kind, &table(1, &[0.0, 1.0]), &[0, 1], 2);
        sound(kind, &table(2, &[0.0, 1.0, 1.0, 0.0, 3.0, 3.0]), &[0, 1, 2], 3);
        sound(kind, &table(1, &[1.0, 2.0, 3.0, 4.0, 5.0]), &[0, 0, 0, 0, 1], 2);
    }
}

#[test]
fn rows_that_are_all_the_same() {
    for kind in Kind::ALL {
        sound(kind, &table(2, &[5.0; 40]), &[0, 1].repeat(10), 2);
        sound(kind, &table(2, &[0.0; 60]), &[0, 1, 2].repeat(10), 3);
    }
}

#[test]
fn more_columns_than_rows_copied_columns_and_a_single_one() {
    let mut noise = Noise::new(3);
    let wide: Vec<f64> = (0..12 * 20).map(|_| noise.unit()).collect();
    let copied: Vec<f64> = (0..60).flat_map(|_| [noise.unit()].repeat(3)).collect();
    let single: Vec<f64> = (0..60).map(|row| f64::from(row % 2) + noise.unit()).collect();
    for kind in Kind::ALL {
        sound(kind, &table(20, &wide), &[0, 1, 2].repeat(4), 3);
        sound(kind, &table(3, &copied), &[0, 1].repeat(30), 2);
        sound(kind, &table(1, &single), &[0, 1].repeat(30), 2);
    }
}

#[test]
fn the_largest_the_smallest_and_mixed_magnitudes() {
    let mut noise = Noise::new(4);
    for magnitude in [VALUE_MAX, 1e30, 1e-30, 1e-300, f64::MIN_POSITIVE] {
        let values: Vec<f64> = (0..80).map(|_| magnitude * (2.0 * noise.unit() - 1.0)).collect();
        let mixed: Vec<f64> = values.iter().enumerate().map(|(at, value)| if at % 2 == 0 { *value } else { noise.unit() }).collect();
        for kind in Kind::ALL {
            sound(kind, &table(2, &values), &[0, 1].repeat(20), 2);
            sound(kind, &table(2, &mixed), &[0, 1, 2, 3].repeat(10), 4);
        }
    }
}

#[test]
fn a_class_with_a_single_row() {
    let (rows, mut labels) = clouds(41, 2, 2, 16);
    labels[40] = 2;
    for kind in Kind::ALL {
        sound(kind, &rows, &labels, 3);
    }
    let refused = fitted(Kind::QuadraticDiscriminantAnalysis, &rows, &labels, 3).expect_err("no spread");
    assert_eq!(refused.code(), "degenerate");
    assert_eq!(refused.to_string(), "QuadraticDiscriminantAnalysis cannot be fitted to these rows: class 2 has a single row");
    assert!(matches!(fitted(Kind::CalibratedClassifierCV, &rows, &labels, 3), Err(ModelError::Degenerate { .. })));
}

#[test]
fn what_is_no_number_is_refused_with_its_column() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2.0 * VALUE_MAX] {
        let rows = table(2, &[1.0, 2.0, 3.0, bad, 5.0, 6.0]);
        for kind in Kind::ALL {
            let refused = fitted(kind, &rows, &[0, 1, 0], 2).expect_err("no number");
            assert_eq!(refused, ModelError::NotFinite { column: "x1".into(), row: 1 });
        }
        let (good, labels) = clouds(20, 2, 2, 17);
        let model = fitted(Kind::DecisionTreeClassifier, &good, &labels, 2).expect("a model");
        assert_eq!(model.predict(&rows).expect_err("no number").code(), "not_finite");
    }
    let said = fitted(Kind::SVC, &table(1, &[f64::NAN, 1.0]), &[0, 1], 2).expect_err("no number").to_string();
    assert_eq!(said, "column 'x0' has a value that is not a number, or is too large, in row 0");
}

#[test]
fn tables_and_labels_that_do_not_fit() {
    let rows = table(1, &[1.0, 2.0]);
    let code = |labels: &[usize], classes| fitted(Kind::GaussianNB, &rows, labels, classes).expect_err("refused").code();
    assert_eq!(code(&[0], 2), "label_count");
    assert_eq!(code(&[0, 2], 2), "unknown_label");
    assert_eq!(code(&[1, 1], 2), "one_class");
    assert_eq!(code(&[0, 1], CLASSES_MAX + 1), "too_many_classes");
    assert_eq!(Table::new(names(2), 2, vec![0.0; 3]).expect_err("refused").code(), "bad_shape");
    assert_eq!(Table::from_columns(vec![("a".into(), vec![1.0]), ("b".into(), vec![])]).expect_err("refused").code(), "bad_shape");
    let empty = |columns, rows| Table::new(names(columns), rows, Vec::new()).expect("a table");
    assert_eq!(fitted(Kind::SVC, &empty(0, 3), &[0, 1, 0], 2).expect_err("refused"), ModelError::Empty("columns"));
    assert_eq!(fitted(Kind::SVC, &empty(3, 0), &[], 2).expect_err("refused"), ModelError::Empty("rows"));
}

#[test]
fn columns_and_rows_make_the_same_table() {
    let made = Table::from_columns(vec![("a".into(), vec![1.0, 2.0]), ("b".into(), vec![3.0, 4.0])]).expect("a table");
    assert_eq!(made, Table::new(vec!["a".into(), "b".into()], 2, vec![1.0, 3.0, 2.0, 4.0]).expect("a table"));
    assert_eq!(made.select(&[1, 1]).values(), [2.0, 4.0, 2.0, 4.0]);
}

#[test]
fn too_many_rows_are_refused_before_any_work() {
    for kind in [Kind::SVC, Kind::NuSVC, Kind::LabelPropagation, Kind::LabelSpreading] {
        let rows = kind.rows_max() + 1;
        let labels: Vec<usize> = (0..rows).map(|row| row % 2).collect();
        let refused = fitted(kind, &table(1, &vec![0.5; rows]), &labels, 2).expect_err("too many");
        assert_eq!(refused, ModelError::TooManyRows { kind, rows, rows_max: rows - 1 });
        assert!(refused.to_string().starts_with(kind.name()), "{refused}");
    }
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    assert!(Kind::ALL.len() >= 30);
    for kind in Kind::ALL {
        assert_eq!(Kind::from_name(kind.name()), Some(kind));
        assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.name());
    }
    assert_eq!(Kind::from_name("RandomForest"), None);
}
