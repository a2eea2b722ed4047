//! The reference library's numbers.
//!
//! Given the same start scale: parameters and weights within 2e-5, probabilities within 1e-4, losses within 1e-4 of themselves,
//! at least 999 of 1000 predictions equal. Both sides train in `f32`, so the rest is the order of additions. Counts, majorities
//! and summaries are exact. With a start of our own: weights within what the reference library's vary by, and 0.02.

use crate::support::{CASES, Case, Matrix, Run, StoredSummary, case, edge_cases, furthest, labels, wide};
use desireline_learning::label_model::{
    ABSTAIN, FitConfig, LabelModel, Statistic, TieBreak, break_symmetry, first_uniform, fit, majority, majority_all, score,
};

fn check_counts(case: &Case, statistic: &Statistic) {
    let (lfs, classes) = (case.lfs.len(), case.classes);
    let mut stored = case.counts.iter();
    for one in 0..lfs * classes {
        for other in one..lfs * classes {
            let ours = statistic.pair((one / classes, one % classes), (other / classes, other % classes));
            assert_eq!(Some(&ours), stored.next(), "{one} with {other}");
        }
    }
    assert_eq!(stored.next(), None);
}

fn check_summary(stored: &StoredSummary, statistic: &Statistic) {
    let ours = statistic.summary();
    assert_eq!(ours.lfs.len(), stored.lfs.len());
    for (ours, (polarity, coverage, overlaps, conflicts, correct, incorrect, accuracy, overlaps_n, conflicts_n)) in
        ours.lfs.iter().zip(&stored.lfs)
    {
        assert_eq!((&ours.polarity, ours.correct, ours.incorrect), (polarity, *correct, *incorrect));
        let shares = [ours.coverage, ours.overlaps, ours.conflicts, ours.overlaps_normalized, ours.conflicts_normalized];
        assert!(furthest(&shares, &[*coverage, *overlaps, *conflicts, *overlaps_n, *conflicts_n]) < 1e-12, "{ours:?}");
        assert!((ours.accuracy.unwrap_or(0.0) - accuracy).abs() < 1e-12, "{ours:?}");
    }
    assert!(furthest(&[ours.label_coverage, ours.label_overlap, ours.label_conflict], &stored.totals) < 1e-12);
}

fn check_model(name: &str, run: &Run, model: &LabelModel) {
    let table = furthest(&wide(model.table()), &wide(&run.table));
    let weights: Vec<f64> = model.weights().iter().map(|weight| weight.unwrap_or(1.0)).collect();
    let weights = furthest(&weights, &run.weights);
    let loss = |(epoch, theirs): &(usize, f32)| f64::from((model.losses()[epoch - 1] - theirs).abs() / theirs.abs().max(1e-30));
    let losses = run.losses.iter().map(loss).fold(0.0, f64::max);
    println!("{name}, {} epochs: table {table:.1e}, weights {weights:.1e}, losses {losses:.1e}", run.epochs);
    assert!(table < 2e-5 && weights < 2e-5 && losses < 1e-4, "{name}: {table} {weights} {losses}");
    let last: Vec<f32> = model.conditional_probs(model.lfs() - 1).concat();
    assert!(furthest(&wide(&last), &wide(&run.conditional_probs_last)) < 6e-5, "{name}");
    assert_eq!(model.losses().len(), run.epochs as usize);
    // Columns of a table without any votes are equal, and then every order is as good.
    if let Some(order) = run.order.as_ref().filter(|_| model.coverage().iter().any(|share| *share > 0.0)) {
        assert_eq!(model.order(), order, "{name}");
    }
    if run.options.seed.is_some() {
        assert_eq!(first_uniform(run.options.seed.unwrap_or_default()), run.r, "{name}");
    }
    if let Some(floor) = run.floor {
        let least = model.table().iter().copied().fold(1.0, f32::min);
        assert!(f64::from(least) >= floor * 0.999_999, "{name}: {least} is below {floor}");
    }
}

fn check_predictions(name: &str, run: &Run, model: &LabelModel, matrix: &Matrix) {
    let predictor = model.predictor();
    let ours = predictor.predict_proba_all(&matrix.votes()).expect("labels in range");
    let classes = matrix.classes;
    let far = furthest(&ours[..run.probabilities.len()], &run.probabilities);
    let mean = |class: usize| ours.iter().skip(class).step_by(classes).sum::<f64>() / matrix.rows() as f64;
    let means: Vec<f64> = (0..classes).map(mean).collect();
    let means = furthest(&means, &run.mean_proba);
    let predictions = TieBreak::Abstain.decide_all(&ours, classes);
    assert_eq!(predictor.predict_all(&matrix.votes(), TieBreak::Abstain).as_ref(), Ok(&predictions));
    let theirs = labels(&run.predictions);
    let same = predictions.iter().zip(&theirs).filter(|(a, b)| a == b).count() as f64 / theirs.len() as f64;
    println!("{name}, {} epochs: probabilities {far:.1e}, their means {means:.1e}, predictions {same}", run.epochs);
    assert!(far < 1e-4 && means < 1e-4 && same >= 0.999, "{name}: {far} {means} {same}");
    let score = score(&predictions, &matrix.truth).expect("as many");
    let abstained = score.abstained as f64 / matrix.rows() as f64;
    assert!((abstained - run.abstained).abs() <= 0.001, "{name}: {abstained}");
    match (score.accuracy(), run.accuracy) {
        (Some(ours), Some(theirs)) => assert!((ours - theirs).abs() <= 0.001, "{name}: {ours}"),
        (ours, theirs) => assert_eq!(ours, theirs, "{name}"),
    }
    for (class, count) in run.pred_counts.iter().flatten() {
        let ours = predictions.iter().filter(|said| *said == class).count();
        assert!(ours.abs_diff(*count) <= matrix.rows() / 10_000, "{name}: {ours} rows of {class} for {count}");
    }
}

fn check_majority(case: &Case, matrix: &Matrix) {
    let Some(stored) = &case.majority else { return };
    let ours = majority_all(&matrix.votes(), matrix.classes).expect("labels in range");
    assert!(furthest(&ours[..stored.probabilities.len()], &stored.probabilities) < 1e-12);
    assert_eq!(TieBreak::Abstain.decide_all(&ours, matrix.classes), labels(&stored.predictions));
    for index in 0..matrix.rows().min(50) {
        let row = majority(&matrix.row(index), matrix.classes).expect("labels in range");
        assert_eq!(row, ours[index * matrix.classes..(index + 1) * matrix.classes]);
    }
}

fn check(name: &str) {
    let case = case(name);
    let matrix = case.matrix();
    let statistic = matrix.graded();
    check_counts(&case, &statistic);
    check_summary(&case.summary, &statistic);
    check_majority(&case, &matrix);
    for run in &case.runs {
        let model = fit(&statistic, &run.config()).expect("a model");
        check_model(name, run, &model);
        // Predictions for a million rows are compared once.
        if matrix.rows() <= 100_000 || run.epochs == 100 {
            check_predictions(name, run, &model, &matrix);
        }
    }
}

#[test]
fn two_classes_balanced_and_not() {
    check("a");
    check("b");
}

#[test]
fn correlated_functions() {
    check("c");
}

#[test]
fn functions_for_one_class_each() {
    check("d");
}

#[test]
fn sparse_votes() {
    check("e");
}

#[test]
fn functions_worse_than_chance() {
    check("f");
}

#[test]
fn twenty_five_functions_and_five_classes() {
    check("g");
}

#[test]
fn a_million_rows() {
    check("big");
}

#[test]
fn unusual_configurations_and_votes() {
    let mut fitted = 0;
    for case in edge_cases() {
        let Some(run) = &case.run else { continue };
        let matrix = case.matrix();
        let mut statistic = matrix.graded();
        check_summary(case.summary.as_ref().expect("stored with every fit"), &statistic);
        if let Some(gold) = &run.gold {
            statistic = matrix.statistic();
            for label in labels(gold) {
                statistic.grade(&vec![ABSTAIN; case.lfs], label, 1).expect("a class");
            }
        }
        let model = fit(&statistic, &run.config()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        check_model(&case.name, run, &model);
        check_predictions(&case.name, run, &model, &matrix);
        fitted += 1;
    }
    assert_eq!(fitted, 13);
}

#[test]
fn column_orders() {
    #[derive(serde::Deserialize)]
    struct Stored {
        balance: Vec<f64>,
        table: Vec<f32>,
        order: Vec<usize>,
    }
    let cases: Vec<Stored> = serde_json::from_str(include_str!("../data/label_model/symmetry.json")).expect("stored cases");
    assert_eq!(cases.len(), 28);
    for case in cases {
        let classes = case.balance.len();
        let mut table = case.table.clone();
        assert_eq!(break_symmetry(&mut table, &case.balance), case.order, "{:?}", case.balance);
        for (new, old) in table.chunks_exact(classes).zip(case.table.chunks_exact(classes)) {
            assert!((0..classes).all(|class| new[class] == old[case.order[class]]));
        }
    }
}

#[test]
fn the_generators_first_number() {
    // NumPy's RandomState(seed).random_sample().
    assert_eq!(first_uniform(123), 0.6964691855978616);
    assert_eq!(first_uniform(612_414), 0.3808239575609095);
    for sweep in &case("a").sweep {
        for (seed, r) in sweep.seeds.iter().zip(&sweep.r) {
            assert_eq!(first_uniform(*seed), *r, "{seed}");
        }
    }
}

/// A start of our own leads where the reference library's own starts lead.
#[test]
fn other_seeds_stay_within_the_references_spread() {
    for name in CASES {
        let case = case(name);
        let matrix = case.matrix();
        let statistic = matrix.statistic();
        let first = matrix.part(0, 2_000);
        for sweep in &case.sweep {
            let config = |seed| FitConfig { epochs: sweep.epochs, seed, ..FitConfig::default() };
            let model = fit(&statistic, &config(7)).expect("a model");
            for ((weight, least), most) in model.weights().iter().zip(&sweep.min).zip(&sweep.max) {
                let weight = weight.expect("every function votes");
                assert!(weight >= least - 0.02 && weight <= most + 0.02, "{name}: {weight} outside of {least} to {most}");
            }
            let predictions = model.predictor().predict_all(&first.votes(), TieBreak::Abstain).expect("labels in range");
            let right = predictions.iter().zip(&first.truth).filter(|(a, b)| a == b).count() as f64 / first.rows() as f64;
            assert!(right >= sweep.accuracy_min - 0.01, "{name}: {right}");
            for (seed, weights) in sweep.seeds.iter().zip(&sweep.weights) {
                let model = fit(&statistic, &config(*seed)).expect("a model");
                let ours: Vec<f64> = model.weights().into_iter().flatten().collect();
                assert!(furthest(&ours, weights) < 2.1e-5, "{name}, seed {seed}");
            }
        }
    }
}
