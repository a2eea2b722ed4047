//! Properties of fits, and what goes beyond the reference library: class balance, convergence, standard errors.

use crate::support::{Function, Matrix, case, furthest, generate, wide};
use desireline_learning::label_model::{
    ABSTAIN, ClassBalance, FitConfig, LabelModel, SimulationConfig, Statistic, TieBreak, fit, jackknife, score, simulated_errors,
};
use proptest::prelude::*;

fn estimated(tolerance: Option<f64>) -> FitConfig {
    let epochs = if tolerance.is_some() { 20_000 } else { 100 };
    FitConfig { epochs, tolerance, balance: ClassBalance::Estimate, ..FitConfig::default() }
}

fn shares(matrix: &Matrix) -> Vec<f64> {
    let rows = |class: usize| matrix.truth.iter().filter(|truth| **truth as usize == class).count() as f64;
    (0..matrix.classes).map(|class| rows(class) / matrix.rows() as f64).collect()
}

/// The share of rows whose class is found.
fn found(model: &LabelModel, matrix: &Matrix) -> f64 {
    let predictions = model.predictor().predict_all(&matrix.votes(), TieBreak::Abstain).expect("labels in range");
    score(&predictions, &matrix.truth).expect("as many").correct as f64 / matrix.rows() as f64
}

/// Functions of middling quality that vote for every class.
fn functions(accuracies: &[f64], classes: i8) -> Vec<Function> {
    accuracies.iter().map(|accuracy| (*accuracy, 0.6, (0..classes).collect(), None)).collect()
}

#[test]
fn the_estimated_balance_is_near_the_truth() {
    for (name, rows, within) in [("b", 20_000, 0.03), ("d", 20_000, 0.03), ("g", 20_000, 0.01), ("big", 50_000, 0.02)] {
        let case = case(name);
        for seed in 1..4 {
            let matrix = case.matrix_of(seed, rows);
            let model = fit(&matrix.statistic(), &estimated(None)).expect("a model");
            let off = furthest(model.balance(), &shares(&matrix));
            assert!(off < within, "{name}, seed {seed}: {:?} is off by {off}", model.balance());
            assert!((model.balance().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }
}

/// What the estimate is for: with unequal classes more of them are found, and the weights are truer.
#[test]
fn an_estimated_balance_beats_a_uniform_one() {
    for (name, gain) in [("b", 0.05), ("d", 0.02), ("big", 0.03)] {
        let case = case(name);
        let matrix = case.matrix_of(5, 10_000);
        let statistic = matrix.graded();
        let uniform = fit(&statistic, &FitConfig::default()).expect("a model");
        let estimated = fit(&statistic, &estimated(Some(1e-5))).expect("a model");
        let (before, after) = (found(&uniform, &matrix), found(&estimated, &matrix));
        assert!(after > before + gain, "{name}: {after} after {before}");
        let truth: Vec<f64> = statistic.summary().lfs.iter().map(|lf| lf.accuracy.expect("graded")).collect();
        let off = |model: &LabelModel| furthest(&model.weights().into_iter().flatten().collect::<Vec<_>>(), &truth);
        assert!(off(&estimated) < off(&uniform), "{name}: {} after {}", off(&estimated), off(&uniform));
    }
}

/// Where votes hardly ever meet, the estimate stays between the majority's shares and sensible ones.
#[test]
fn few_votes_do_not_lead_far() {
    let case = case("e");
    for seed in 1..6 {
        let matrix = case.matrix_of(seed, 4_000);
        let model = fit(&matrix.statistic(), &estimated(None)).expect("a model");
        assert!(furthest(model.balance(), &[0.65, 0.35]) < 0.15, "seed {seed}: {:?}", model.balance());
    }
}

#[test]
fn a_converged_fit_stays_where_it_is() {
    let statistic = case("a").matrix().statistic();
    let config = |epochs, tolerance| FitConfig { epochs, tolerance, ..FitConfig::default() };
    let early = fit(&statistic, &config(10_000, Some(1e-6))).expect("a model");
    assert!(early.converged() && early.losses().len() < 1_000, "{} epochs", early.losses().len());
    let late = fit(&statistic, &config(10_000, None)).expect("a model");
    assert!(!late.converged() && late.losses().len() == 10_000);
    assert!(furthest(&wide(early.table()), &wide(late.table())) < 1e-4);
    let short = fit(&statistic, &config(20, Some(1e-6))).expect("a model");
    assert!(!short.converged() && short.losses().len() == 20);
    // Other starts come to the same point, which 100 epochs do not.
    let other = fit(&statistic, &FitConfig { seed: 5, ..config(10_000, Some(1e-6)) }).expect("a model");
    assert!(furthest(&wide(early.table()), &wide(other.table())) < 1e-3);
}

const SAMPLES: u64 = 40;
const SAMPLE_ROWS: usize = 1_500;

/// Samples of functions, how their weights really differ from sample to sample, and what methods say of the first five samples.
struct Repeated {
    samples: Vec<Matrix>,
    config: FitConfig,
    spread: Vec<f64>,
}

impl Repeated {
    fn new(functions: &[Function]) -> Self {
        let config = FitConfig { epochs: 400, ..FitConfig::default() };
        let samples: Vec<Matrix> = (0..SAMPLES).map(|seed| generate(1_000 + seed, SAMPLE_ROWS, &[0.5, 0.5], functions)).collect();
        let weights: Vec<Vec<f64>> = samples.iter().map(|sample| weights(&sample.statistic(), &config)).collect();
        let spread = |lf: usize| {
            let mean = weights.iter().map(|w| w[lf]).sum::<f64>() / SAMPLES as f64;
            (weights.iter().map(|w| (w[lf] - mean).powi(2)).sum::<f64>() / (SAMPLES - 1) as f64).sqrt()
        };
        let spread = (0..functions.len()).map(spread).collect();
        Self { samples, config, spread }
    }

    /// For each function the mean of what `errors` says, as a ratio to the truth.
    fn ratios(&self, errors: impl Fn(&Matrix, &FitConfig) -> Vec<Option<f64>>) -> Vec<f64> {
        let said: Vec<Vec<Option<f64>>> = self.samples.iter().take(5).map(|sample| errors(sample, &self.config)).collect();
        let mean = |lf: usize| said.iter().flat_map(|errors| errors[lf]).sum::<f64>() / said.len() as f64;
        self.spread.iter().enumerate().map(|(lf, truth)| mean(lf) / truth).collect()
    }
}

fn jackknifed(sample: &Matrix, config: &FitConfig) -> Vec<Option<f64>> {
    let rows = SAMPLE_ROWS / 15;
    let parts: Vec<Statistic> = (0..15).map(|part| sample.part(part * rows, rows).statistic()).collect();
    jackknife(&parts, config).expect("errors")
}

fn simulated(sample: &Matrix, config: &FitConfig) -> Vec<Option<f64>> {
    let simulation = SimulationConfig { draws: 20, rows_max: 700, seed: 1 };
    simulated_errors(&sample.statistic(), config, &simulation).expect("errors")
}

/// Standard errors against how weights really differ among 40 samples, itself known to a ninth.
#[test]
fn standard_errors_are_those_of_repeated_samples() {
    let repeated = Repeated::new(&functions(&[0.9, 0.8, 0.75, 0.65, 0.85], 2));
    for ratio in repeated.ratios(jackknifed).into_iter().chain(repeated.ratios(simulated)) {
        assert!((0.65..1.5).contains(&ratio), "{ratio}");
    }
}

/// The jackknife needs no independence among functions.
#[test]
fn the_jackknife_is_right_for_copies_too() {
    let mut functions = functions(&[0.9, 0.8, 0.75, 0.7, 0.85, 0.8], 2);
    functions[3].3 = Some((2, 0.5));
    functions[5].3 = Some((0, 0.3));
    let repeated = Repeated::new(&functions);
    for ratio in repeated.ratios(jackknifed) {
        assert!((0.65..1.5).contains(&ratio), "{ratio}");
    }
}

fn weights(statistic: &Statistic, config: &FitConfig) -> Vec<f64> {
    fit(statistic, config).expect("a model").weights().into_iter().flatten().collect()
}

#[test]
fn standard_errors_shrink_with_rows_and_repeat() {
    let functions = functions(&[0.9, 0.8, 0.75, 0.65], 3);
    let errors = |rows: usize, balance: ClassBalance| {
        let statistic = generate(3, rows, &[0.5, 0.3, 0.2], &functions).statistic();
        let config = FitConfig { balance, ..FitConfig::default() };
        let simulation = SimulationConfig { draws: 30, rows_max: 500, seed: 1 };
        let errors = simulated_errors(&statistic, &config, &simulation).expect("errors");
        assert_eq!(simulated_errors(&statistic, &config, &simulation), Ok(errors.clone()));
        errors.into_iter().flatten().collect::<Vec<f64>>()
    };
    for balance in [ClassBalance::Uniform, ClassBalance::Estimate] {
        let (few, many) = (errors(1_000, balance.clone()), errors(100_000, balance));
        for (few, many) in few.iter().zip(&many) {
            assert!(*many > 0.0 && *few > many * 3.0, "{few} and with a hundred times as many rows {many}");
        }
    }
}

#[test]
fn standard_errors_of_undefined_weights_are_undefined() {
    let mut statistic = Statistic::new(4, 2).expect("a small shape");
    for (row, rows) in [([0, 0, 0, ABSTAIN], 50), ([1, 1, 1, ABSTAIN], 50), ([0, 1, 1, ABSTAIN], 9)] {
        statistic.add(&row, rows).expect("labels in range");
    }
    let errors = simulated_errors(&statistic, &FitConfig::default(), &SimulationConfig::default()).expect("errors");
    assert!(errors[..3].iter().all(Option::is_some) && errors[3].is_none(), "{errors:?}");
    let errors = jackknife(&[statistic.clone(), statistic.clone()], &FitConfig::default()).expect("errors");
    assert_eq!(errors, [Some(0.0), Some(0.0), Some(0.0), None]);
    let alone = jackknife(std::slice::from_ref(&statistic), &FitConfig::default());
    assert_eq!(alone.expect_err("one part").code(), "bad_setting");
    for simulation in [SimulationConfig { draws: 1, ..SimulationConfig::default() }, SimulationConfig { rows_max: 0, ..Default::default() }]
    {
        assert_eq!(simulated_errors(&statistic, &FitConfig::default(), &simulation).expect_err("too few").code(), "bad_setting");
    }
}

/// Matrices with some truth in them: `(classes, columns)`.
fn columns() -> impl Strategy<Value = (usize, Vec<Vec<i8>>)> {
    (1..5usize, 3..8usize, 1..80usize).prop_flat_map(|(classes, lfs, rows)| {
        let vote = prop_oneof![3 => Just(None), 4 => Just(Some(0)), 2 => (0..classes as i8).prop_map(Some)];
        let rows = prop::collection::vec((0..classes as i8, prop::collection::vec(vote, lfs)), rows);
        rows.prop_map(move |rows| {
            let vote = |truth: i8, shift: Option<i8>| shift.map_or(ABSTAIN, |shift| (truth + shift) % classes as i8);
            (classes, (0..lfs).map(|lf| rows.iter().map(|(truth, votes)| vote(*truth, votes[lf])).collect()).collect())
        })
    })
}

fn matrix(classes: usize, columns: Vec<Vec<i8>>) -> Matrix {
    Matrix { truth: vec![0; columns[0].len()], columns, classes }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_statistic_has_a_sound_model((classes, columns) in columns(), seed in any::<u32>(), estimate in any::<bool>()) {
        let matrix = matrix(classes, columns);
        let balance = if estimate { ClassBalance::Estimate } else { ClassBalance::Uniform };
        let config = FitConfig { epochs: 60, seed, balance, ..FitConfig::default() };
        let model = fit(&matrix.statistic(), &config).expect("a model");
        prop_assert!(model.table().iter().all(|chance| *chance > 0.0 && *chance < 1.0));
        prop_assert!(model.weights().iter().flatten().all(|weight| (1e-6..=1.0).contains(weight)));
        let predictor = model.predictor();
        let all = predictor.predict_proba_all(&matrix.votes()).expect("labels in range");
        for (index, probabilities) in all.chunks_exact(classes).enumerate() {
            prop_assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12 && probabilities.iter().all(|p| (0.0..=1.0).contains(p)));
            prop_assert_eq!(&predictor.predict_proba(&matrix.row(index)).expect("labels in range"), probabilities);
        }
        for lf in 0..model.lfs() {
            let table = model.conditional_probs(lf);
            prop_assert_eq!(table.len(), classes + 1);
            for class in 0..classes {
                prop_assert!((table.iter().map(|row| row[class]).sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn functions_in_another_order_have_the_same_weights((classes, columns) in columns(), turn in 1..7usize) {
        let config = FitConfig { epochs: 60, ..FitConfig::default() };
        let turn = turn % columns.len();
        let model = fit(&matrix(classes, columns.clone()).statistic(), &config).expect("a model");
        let mut turned = columns;
        turned.rotate_left(turn);
        let other = fit(&matrix(classes, turned).statistic(), &config).expect("a model");
        let mut expected: Vec<f64> = model.weights().iter().map(|weight| weight.unwrap_or(-1.0)).collect();
        expected.rotate_left(turn);
        let weights: Vec<f64> = other.weights().iter().map(|weight| weight.unwrap_or(-1.0)).collect();
        prop_assert!(furthest(&weights, &expected) < 1e-4, "{:?} for {:?}", weights, expected);
    }

    #[test]
    fn classes_in_another_order_have_the_same_probabilities((classes, columns) in columns()) {
        let config = FitConfig { epochs: 60, ..FitConfig::default() };
        let reversed = |vote: &i8| if *vote == ABSTAIN { ABSTAIN } else { classes as i8 - 1 - vote };
        let one = matrix(classes, columns);
        let other = matrix(classes, one.columns.iter().map(|column| column.iter().map(reversed).collect()).collect());
        let probabilities = |matrix: &Matrix| {
            let model = fit(&matrix.statistic(), &config).expect("a model");
            model.predictor().predict_proba_all(&matrix.votes()).expect("labels in range")
        };
        let mut mirrored = probabilities(&other);
        mirrored.chunks_exact_mut(classes).for_each(<[f64]>::reverse);
        prop_assert!(furthest(&probabilities(&one), &mirrored) < 1e-3);
    }
}
