//! Input that is legal and odd, and input that is refused.

use crate::support::{edge_case, edge_cases};
use desireline_learning::label_model::{
    ABSTAIN, ClassBalance, FitConfig, LabelModel, LabelModelError, Statistic, TieBreak, Votes, fit, majority, majority_all, score,
};

fn config(balance: ClassBalance) -> FitConfig {
    FitConfig { balance, ..FitConfig::default() }
}

/// Three functions that agree, and one row on which they do not.
fn small(classes: usize) -> Statistic {
    let mut statistic = Statistic::new(3, classes).expect("a small shape");
    for class in 0..classes as i8 {
        statistic.add(&[class; 3], 20).expect("labels in range");
    }
    statistic.add(&[0, ABSTAIN, classes as i8 - 1], 1).expect("labels in range");
    statistic
}

#[test]
fn the_references_refusals_have_codes() {
    let mut refused = Vec::new();
    for case in edge_cases() {
        let Some(message) = &case.error else { continue };
        let learning_rate = case.lr.expect("stored with every refusal");
        let matrix = case.matrix();
        let fitted = Statistic::of(&matrix.votes(), case.classes)
            .and_then(|statistic| fit(&statistic, &FitConfig { learning_rate, ..FitConfig::default() }));
        refused.push((fitted.expect_err(message).code(), message.clone()));
    }
    refused.sort();
    let messages = [
        ("label_out_of_range", "L_train has cardinality 4, cardinality=3 passed in."),
        ("loss_not_finite", "Loss is NaN. Consider reducing learning rate."),
        ("too_few_lfs", "L_train should have at least 3 labeling functions"),
    ];
    assert_eq!(refused, messages.map(|(code, message)| (code, message.to_owned())));
}

#[test]
fn a_diverging_fit_says_what_to_do() {
    let statistic = edge_case("lr_too_high").matrix().statistic();
    let error = fit(&statistic, &FitConfig { learning_rate: 0.5, ..FitConfig::default() }).expect_err("too steep");
    assert!(matches!(error, LabelModelError::Diverged { learning_rate: 0.5, epoch: 2..=100 }), "{error:?}");
    assert!(error.to_string().ends_with("a learning rate below 0.5 may help"), "{error}");
    // In the very last epoch nothing looks at the loss any more, but the table still is no result.
    for epochs in 1..40 {
        match fit(&statistic, &FitConfig { epochs, learning_rate: 0.5, ..FitConfig::default() }) {
            Ok(model) => assert!(model.table().iter().all(|chance| *chance > 0.0 && *chance < 1.0), "{epochs} epochs"),
            Err(error) => assert_eq!(error.code(), "loss_not_finite"),
        }
    }
}

#[test]
fn a_function_that_never_votes_has_no_weight() {
    let case = edge_case("never_votes_lf");
    let model = fit(&case.matrix().statistic(), &FitConfig::default()).expect("a model");
    let silent: Vec<usize> = (0..case.lfs).filter(|lf| model.weights()[*lf].is_none()).collect();
    assert_eq!((silent, model.coverage()[2]), (vec![2], 0.0));
    // What the reference reports for it, 1, is in the stored weights; all others are compared in `agreement.rs`.
    assert_eq!(case.run.expect("a fit").weights[2], 1.0);
}

#[test]
fn rows_without_votes_have_the_class_balance() {
    let statistic = small(3);
    let silent = [ABSTAIN; 3];
    let uniform = fit(&statistic, &FitConfig::default()).expect("a model").predictor();
    let probabilities = uniform.predict_proba(&silent).expect("labels in range");
    assert!(probabilities.iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-15), "{probabilities:?}");
    assert_eq!(uniform.predict(&silent, 0, TieBreak::Abstain), Ok(ABSTAIN));

    let given = fit(&statistic, &config(ClassBalance::Given(vec![0.2, 0.5, 0.3]))).expect("a model").predictor();
    let probabilities = given.predict_proba(&silent).expect("labels in range");
    assert!((probabilities[1] - 0.5).abs() < 1e-15, "{probabilities:?}");
    assert_eq!(given.predict(&silent, 0, TieBreak::Abstain), Ok(1), "the most likely class, as nothing speaks against it");
}

#[test]
fn nobody_ever_votes() {
    let mut statistic = Statistic::new(4, 3).expect("a small shape");
    statistic.add(&[ABSTAIN; 4], 10).expect("labels in range");
    for balance in [ClassBalance::Uniform, ClassBalance::Estimate] {
        let model = fit(&statistic, &config(balance)).expect("a model");
        assert_eq!((model.weights(), model.order()), (vec![None; 4], [0, 1, 2].as_slice()));
        assert_eq!(model.predictor().predict(&[ABSTAIN; 4], 0, TieBreak::Abstain), Ok(ABSTAIN));
    }
    let summary = statistic.summary();
    assert!(summary.lfs.iter().all(|lf| lf.coverage == 0.0 && lf.polarity.is_empty() && lf.accuracy.is_none()));
    let error = fit(&Statistic::new(4, 3).expect("a small shape"), &FitConfig::default()).expect_err("no rows at all");
    assert_eq!(error.code(), "no_rows");
}

/// One class alone, and a balance that all but rules the others out.
#[test]
fn one_class() {
    for balance in [ClassBalance::Uniform, ClassBalance::Estimate, ClassBalance::Given(vec![1.0])] {
        let model = fit(&small(1), &config(balance)).expect("a model");
        let predictor = model.predictor();
        for row in [[0, 0, 0], [ABSTAIN; 3]] {
            assert_eq!(predictor.predict_proba(&row), Ok(vec![1.0]));
            assert_eq!(predictor.predict(&row, 0, TieBreak::Abstain), Ok(0));
        }
    }
    let model = fit(&small(3), &config(ClassBalance::Given(vec![0.999_998, 1e-6, 1e-6]))).expect("a model");
    let probabilities = model.predictor().predict_proba(&[ABSTAIN; 3]).expect("labels in range");
    assert!(probabilities[0] > 0.999_99 && probabilities.iter().all(|p| p.is_finite() && *p > 0.0), "{probabilities:?}");
}

/// The chance of the votes of 2,000 functions is far below the least number, in every class.
#[test]
fn very_many_functions_do_not_underflow() {
    let lfs = 2_000;
    let mut statistic = Statistic::new(lfs, 2).expect("a large shape");
    let row =
        |class: i8, turn: usize| -> Vec<i8> { (0..lfs).map(|lf| if (lf + turn).is_multiple_of(3) { 1 - class } else { class }).collect() };
    for turn in 0..6 {
        statistic.add(&row((turn % 2) as i8, turn), 1).expect("labels in range");
    }
    let model = fit(&statistic, &FitConfig { epochs: 1, learning_rate: 1e-6, ..FitConfig::default() }).expect("a model");
    let predictor = model.predictor();
    for class in [0, 1] {
        let row = row(class, 0);
        let logarithms = |c: usize| row.iter().enumerate().map(|(lf, y)| model.table()[(lf * 2 + *y as usize) * 2 + c].ln()).sum::<f32>();
        assert!(logarithms(0) < -800.0 && logarithms(1) < -800.0, "not small enough to prove anything");
        let probabilities = predictor.predict_proba(&row).expect("labels in range");
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{probabilities:?}");
        assert_eq!(predictor.predict(&row, 0, TieBreak::Abstain), Ok(class));
    }
}

/// With a strong pull the table stays near its start; with none it leaves it.
#[test]
fn l2_pulls_towards_the_start() {
    let statistic = edge_case("l2").matrix().statistic();
    let table = |l2: f64, epochs: u32| {
        let config = FitConfig { l2, epochs, start_scale: Some(1.0), ..FitConfig::default() };
        fit(&statistic, &config).expect("a model").table().to_vec()
    };
    let start = table(0.0, 0);
    let away = |table: Vec<f32>| table.iter().zip(&start).map(|(a, b)| f64::from((a - b) * (a - b))).sum::<f64>().sqrt();
    let (free, pulled) = (away(table(0.0, 400)), away(table(3.0, 400)));
    assert!(pulled < free && free > 0.2, "{pulled} {free}");
}

#[test]
fn settings_are_checked() {
    let statistic = small(2);
    let good = FitConfig::default();
    assert!(fit(&statistic, &good).is_ok());
    for (bad, code) in [
        (FitConfig { epochs: u32::MAX, ..good.clone() }, "bad_setting"),
        (FitConfig { learning_rate: 0.0, ..good.clone() }, "bad_setting"),
        (FitConfig { learning_rate: f64::NAN, ..good.clone() }, "bad_setting"),
        (FitConfig { l2: -0.1, ..good.clone() }, "bad_setting"),
        (FitConfig { start_scale: Some(1.5), ..good.clone() }, "bad_setting"),
        (FitConfig { start_precision: vec![f64::NAN], ..good.clone() }, "bad_setting"),
        (FitConfig { start_precision: vec![], ..good.clone() }, "wrong_width"),
        (FitConfig { start_precision: vec![0.7; 2], ..good.clone() }, "wrong_width"),
        (FitConfig { floor: Some(0.5), ..good.clone() }, "bad_setting"),
        (FitConfig { floor: Some(1e-60), ..good.clone() }, "bad_setting"),
        (FitConfig { tolerance: Some(0.0), ..good.clone() }, "bad_setting"),
        (config(ClassBalance::Given(vec![0.5; 3])), "class_balance_length"),
        (config(ClassBalance::Given(vec![1.0, 0.0])), "class_balance_range"),
        (config(ClassBalance::Given(vec![f64::NAN, 0.5])), "class_balance_range"),
        (config(ClassBalance::Given(vec![1e-60, 0.5])), "class_balance_range"),
        (config(ClassBalance::Gold), "class_balance_no_gold"),
    ] {
        assert_eq!(fit(&statistic, &bad).expect_err("a bad setting").code(), code, "{bad:?}");
    }
    let mut half = statistic.clone();
    half.grade(&[0; 3], 0, 5).expect("labels in range");
    let error = fit(&half, &config(ClassBalance::Gold)).expect_err("no gold label of class 1");
    assert_eq!(error, LabelModelError::ClassBalanceNoGold { class: 1 });
    let mut negative = statistic;
    negative.add(&[1, 0, ABSTAIN], -1).expect("labels in range");
    assert_eq!(fit(&negative, &good).expect_err("a row that was never there").code(), "negative_counts");
    let mut stored = serde_json::to_value(&half).expect("integers");
    stored["counts"][0] = 30.into();
    let fewer: Statistic = serde_json::from_value(stored).expect("the right shape");
    assert_eq!(fit(&fewer, &good).expect_err("41 votes on 30 rows").code(), "damaged");
}

#[test]
fn rows_of_another_width_are_refused() {
    let predictor = fit(&small(2), &FitConfig::default()).expect("a model").predictor();
    assert_eq!(predictor.predict_proba(&[0, 1]).expect_err("two votes").code(), "wrong_width");
    assert_eq!(predictor.predict_proba(&[0, 1, 2]).expect_err("2 is no class").code(), "label_out_of_range");
    let columns: [&[i8]; 2] = [&[0], &[1]];
    assert_eq!(predictor.predict_proba_all(&Votes::new(columns.to_vec()).expect("one length")).expect_err("two").code(), "wrong_width");
    assert_eq!(majority(&[0, 3], 3).expect_err("3 is no class").code(), "label_out_of_range");
    assert_eq!(score(&[0, 1], &[0]).expect_err("two for one").code(), "wrong_width");
}

#[test]
fn ties() {
    let pick = |index: u64, tied: usize| index as usize + tied;
    let tied = [0.2, 0.4, 0.4 - 0.9e-5];
    assert_eq!(TieBreak::Abstain.decide(&tied, 0), ABSTAIN);
    assert_eq!(TieBreak::Abstain.decide(&[0.2, 0.4, 0.4 - 1.1e-5], 0), 1);
    assert_eq!(TieBreak::Pick(&pick).decide_all(&[tied, tied, tied].concat(), 3), [1, 2, 1]);
    assert_eq!(TieBreak::Pick(&pick).decide(&[f64::NAN; 2], 0), ABSTAIN);
    assert_eq!(TieBreak::Abstain.decide(&[], 0), ABSTAIN);
}

#[test]
fn majorities() {
    assert_eq!(majority(&[0, 1, 1, ABSTAIN], 3), Ok(vec![0.0, 1.0, 0.0]));
    assert_eq!(majority(&[0, 1, ABSTAIN, ABSTAIN], 3), Ok(vec![0.5, 0.5, 0.0]));
    assert_eq!(majority(&[ABSTAIN; 2], 4), Ok(vec![0.25; 4]));
    let columns: [&[i8]; 2] = [&[0, 1, 1], &[1, ABSTAIN, 1]];
    let all = majority_all(&Votes::new(columns.to_vec()).expect("one length"), 2).expect("labels in range");
    assert_eq!(TieBreak::Abstain.decide_all(&all, 2), [ABSTAIN, 1, 1]);
}

#[test]
fn scores_leave_out_abstentions() {
    let result = score(&[0, 1, ABSTAIN, 1, 0], &[0, 0, 1, ABSTAIN, 0]).expect("as many");
    assert_eq!((result.correct, result.decided, result.abstained), (2, 3, 1));
    assert_eq!(result.accuracy(), Some(2.0 / 3.0));
    assert_eq!(score(&[ABSTAIN], &[0]).expect("as many").accuracy(), None);
}

#[test]
fn models_are_stored_and_damage_is_noticed() {
    let model = fit(&small(3), &FitConfig::default()).expect("a model");
    let stored = serde_json::to_value(&model).expect("numbers");
    assert_eq!(serde_json::from_value::<LabelModel>(stored.clone()).expect("what was written"), model);
    for (field, value) in [("balance", serde_json::json!([0.5, 0.5])), ("lfs", 4.into()), ("balance", serde_json::json!([0.5, 0.5, 0.0]))] {
        let mut damaged = stored.clone();
        damaged[field] = value;
        assert!(serde_json::from_value::<LabelModel>(damaged).is_err(), "{field}");
    }
    let config: FitConfig = serde_json::from_str(r#"{"epochs": 500, "balance": {"given": [0.5, 0.5]}}"#).expect("a configuration");
    assert_eq!(config, FitConfig { epochs: 500, balance: ClassBalance::Given(vec![0.5, 0.5]), ..FitConfig::default() });
    assert!(serde_json::from_str::<FitConfig>(r#"{"epoch": 500}"#).is_err());
}
