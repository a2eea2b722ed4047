//! Models as JSON: read again they answer the same, and what is damaged is refused or at least answers without a panic.

use super::support::{Noise, clouds, fitted};
use desireline_learning::classifiers::{FORMAT_VERSION, Kind, Model, ModelError};
use serde_json::Value;

#[test]
fn a_model_that_was_stored_answers_the_same() {
    for classes in [2, 3] {
        let (table, labels) = clouds(60, 3, classes, 20);
        for kind in Kind::ALL {
            let model = fitted(kind, &table, &labels, classes).expect("a model");
            let read = Model::from_json(&model.to_json()).expect("the stored form");
            assert_eq!(read, model);
            assert_eq!(read.predict(&table), model.predict(&table));
            let by_serde: Model = serde_json::from_value(serde_json::to_value(&model).expect("JSON")).expect("the stored form");
            assert_eq!(by_serde, model);
            assert_eq!((read.kind(), read.columns(), read.classes()), (kind, table.names(), classes));
        }
    }
}

#[test]
fn another_version_and_another_kind_are_refused() {
    let (table, labels) = clouds(30, 2, 2, 21);
    let model = fitted(Kind::GaussianNB, &table, &labels, 2).expect("a model");
    let mut stored = serde_json::to_value(&model).expect("JSON");
    stored["version"] = (FORMAT_VERSION + 1).into();
    // What else another version holds does not matter.
    stored["fitted"] = Value::Null;
    let refused = Model::from_json(stored.to_string().as_bytes()).expect_err("another version");
    assert_eq!(refused, ModelError::Version { found: FORMAT_VERSION + 1, known: FORMAT_VERSION });
    let mut stored = serde_json::to_value(&model).expect("JSON");
    stored["kind"] = "SVC".into();
    let refused = Model::from_json(stored.to_string().as_bytes()).expect_err("another kind");
    assert_eq!(refused.to_string(), "the stored model is damaged: what is stored is no SVC");
    assert_eq!(Model::from_json(b"").expect_err("nothing").code(), "damaged");
}

/// A place in a JSON document: the values on the way to a leaf or an array.
fn places(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, inner)| places(inner, &format!("{pointer}/{key}"), found)),
        Value::Array(items) => {
            found.push(pointer.to_owned());
            items.iter().enumerate().take(40).for_each(|(at, inner)| places(inner, &format!("{pointer}/{at}"), found));
        }
        _ => found.push(pointer.to_owned()),
    }
}

#[test]
fn no_damage_to_a_stored_model_is_a_panic() {
    let (table, labels) = clouds(30, 2, 3, 22);
    let mut noise = Noise::new(22);
    let (mut refused, mut taken) = (0, 0);
    for kind in Kind::ALL {
        let stored = serde_json::to_value(fitted(kind, &table, &labels, 3).expect("a model")).expect("JSON");
        let mut all = Vec::new();
        places(&stored, "", &mut all);
        for _ in 0..60 {
            let mut damaged = stored.clone();
            let place = damaged.pointer_mut(&all[noise.below(all.len())]).expect("a place");
            match place {
                Value::Array(items) if noise.unit() < 0.5 => drop(items.pop()),
                Value::Array(items) => items.push(items.first().cloned().unwrap_or(Value::Null)),
                place => {
                    *place = [0.into(), 1.into(), (-1).into(), 4_294_967_295u32.into(), 1e300.into(), Value::Null][noise.below(6)].clone()
                }
            }
            match Model::from_json(damaged.to_string().as_bytes()) {
                Ok(model) => {
                    taken += 1;
                    let _ = model.predict(&table).map(|_| model.predict_proba(&table));
                }
                Err(error) => {
                    assert!(["damaged", "other_version"].contains(&error.code()), "{error}");
                    refused += 1;
                }
            }
        }
        // An array that lost its last entry never fits.
        let mut short = stored.clone();
        short["present"].as_array_mut().expect("an array").pop();
        assert!(kind == Kind::DummyClassifier || Model::from_json(short.to_string().as_bytes()).is_err(), "{kind}");
    }
    // A number in the place of another one cannot be told.
    assert!(refused > taken, "{refused} refused, {taken} taken");
}
