//! From votes to labels: the statistic, the fit, and what is said of every row. Pure functions; they may take seconds.
//!
//! What it promises:
//! - The same votes and settings give the same labels, to the bit. A sample that is fitted on is drawn with the seed.
//! - Everything is predicted, also what was not in the sample.
//! - A row whose best classes are tied has no label, and neither has a row without votes, unless a class balance was given or estimated that
//!   prefers a class.
//! - A label model needs three functions to tell them apart by how they agree. With fewer, each is taken to be right in
//!   [`PRIOR_PRECISION`] of its votes, nothing is learned, and the posterior is the same: Bayes' rule over independent functions.

use super::record::{Balance, OutputType, SnorkelConfig};
use desireline_learning::label_model::{
    ClassBalance, EPOCHS_MAX, FitConfig, LFS_MIN, LabelModelError, SimulationConfig, Statistic, TieBreak, Votes, fit, simulated_errors,
};
use desireline_votes::{ABSTAIN, verdict};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// In which share of its votes a function is right of which nothing could be learned.
pub const PRIOR_PRECISION: f64 = 0.7;
pub const SEED: u32 = 123;
/// Multiplications up to which standard errors are computed: some seconds.
const ERRORS_WORK_MAX: f64 = 2e10;
/// Multiplications that one fit may take: some minutes.
const WORK_MAX: f64 = 1e12;

/// What is known of one function.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The classes that it votes for, ascending.
    pub polarity: Vec<u8>,
    /// Shares of all rows.
    pub coverage: f64,
    pub overlaps: f64,
    pub conflicts: f64,
    pub votes: u64,
    /// Rows that it votes on and whose votes are not all the same.
    pub disputed: u64,
    /// How precise it is; nothing of one that never votes.
    pub weight: Option<f64>,
    /// The standard error of the weight; nothing where nothing was learned, or where it would take too long.
    pub weight_error: Option<f64>,
}

/// What votes lead to.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// Row by row, one per class.
    pub probabilities: Vec<f64>,
    /// The class of every row, or -1.
    pub labels: Vec<i8>,
    /// The largest probability of every row that has a label; 0 of one that has none and was to get a hard one.
    pub confidence: Vec<f64>,
    pub functions: Vec<Judged>,
    /// The share of rows with a vote.
    pub covered: f64,
    /// Rows by what most of their votes say; the last is for ties and rows without votes.
    pub majority: Vec<u64>,
    /// Rows by label, likewise.
    pub labelled: Vec<u64>,
    /// The class balance that was fitted with, and whether anything was.
    pub balance: Vec<f64>,
    pub is_learned: bool,
    pub epochs: usize,
    /// Rows fitted on.
    pub fitted_rows: usize,
}

/// Why settings cannot be used with so many functions and classes.
pub fn check(config: &SnorkelConfig, lfs: usize, classes: usize) -> Result<(), (&'static str, String)> {
    if let Err(error) = Statistic::new(lfs, classes) {
        return Err(("selectedLFs", error.to_string()));
    }
    if config.epochs > EPOCHS_MAX {
        return Err(("snorkel.epochs", format!("must be at most {EPOCHS_MAX}")));
    }
    let work = 2.0 * f64::from(config.epochs) * ((lfs * classes) as f64).powi(2) * classes as f64;
    if work > WORK_MAX {
        return Err(("snorkel.epochs", format!("{lfs} functions, {classes} classes and {} epochs are too much work", config.epochs)));
    }
    match &config.class_balance {
        Some(Balance::Given(shares)) if shares.len() != classes => {
            let detail = format!("must have {classes} entries, one for each class by ascending cv_id; it has {}", shares.len());
            Err(("snorkel.class_balance", detail))
        }
        _ => Ok(()),
    }
}

/// `votes` has a column per function.
pub fn label(votes: &Votes<'_>, classes: usize, config: &SnorkelConfig, output: OutputType) -> Result<Labelled, LabelModelError> {
    let whole = Statistic::of(votes, classes)?;
    if votes.rows() == 0 {
        return Err(LabelModelError::NoRows);
    }
    let sample = sample(votes, config);
    let fitted_on = match &sample {
        Some(columns) => Statistic::of(&Votes::new(columns.iter().map(Vec::as_slice).collect())?, classes)?,
        None => whole.clone(),
    };
    let (probabilities, learned) = posterior(votes, classes, &fitted_on, config)?;
    let mut labels = TieBreak::Abstain.decide_all(&probabilities, classes);
    if classes == 1 {
        // The only class is never tied with another: what says nothing is nothing all the same.
        for (row, label) in labels.iter_mut().enumerate() {
            *label = if votes.row(row).any(|vote| vote != ABSTAIN) { *label } else { ABSTAIN };
        }
    }
    let is_learned = learned.is_some();
    let Learned { weights, errors, balance, epochs } = learned.unwrap_or_else(|| Learned {
        weights: vec![Some(PRIOR_PRECISION); votes.lfs()],
        errors: vec![None; votes.lfs()],
        balance: prior(config, classes),
        epochs: 0,
    });
    let mut labelled = Labelled {
        confidence: probabilities.chunks_exact(classes).map(|row| row.iter().copied().fold(0.0, f64::max)).collect(),
        functions: judged(&whole, weights, errors),
        covered: whole.summary().label_coverage,
        majority: majority(votes, classes),
        labelled: counts(&labels, classes),
        probabilities,
        labels,
        balance,
        is_learned,
        epochs,
        fitted_rows: usize::try_from(fitted_on.rows()).unwrap_or_default(),
    };
    if output == OutputType::HardLabels {
        harden(&mut labelled, classes);
    }
    Ok(labelled)
}

/// What a fit says.
struct Learned {
    weights: Vec<Option<f64>>,
    /// Standard errors of the weights.
    errors: Vec<Option<f64>>,
    balance: Vec<f64>,
    epochs: usize,
}

/// The probabilities of every row; and weights, class balance and epochs where something was learned.
fn posterior(
    votes: &Votes<'_>,
    classes: usize,
    fitted_on: &Statistic,
    config: &SnorkelConfig,
) -> Result<(Vec<f64>, Option<Learned>), LabelModelError> {
    if votes.lfs() < LFS_MIN {
        return Ok((unlearned(votes, &prior(config, classes)), None));
    }
    let balance = match &config.class_balance {
        None => ClassBalance::Uniform,
        Some(Balance::Estimate) => ClassBalance::Estimate,
        Some(Balance::Given(shares)) => ClassBalance::Given(shares.clone()),
    };
    let settings = FitConfig {
        epochs: config.epochs,
        learning_rate: config.lr,
        l2: config.l2.unwrap_or_default(),
        seed: config.seed.unwrap_or(SEED),
        balance,
        ..FitConfig::default()
    };
    let model = fit(fitted_on, &settings)?;
    let probabilities = model.predictor().predict_proba_all(votes)?;
    let errors = standard_errors(fitted_on, &settings);
    let learned = Learned { weights: model.weights(), errors, balance: model.balance().to_vec(), epochs: model.losses().len() };
    Ok((probabilities, Some(learned)))
}

/// How far the weights are off, by simulation. A model without them is a model all the same.
fn standard_errors(statistic: &Statistic, settings: &FitConfig) -> Vec<Option<f64>> {
    let (simulation, indicators) = (SimulationConfig::default(), (statistic.lfs() * statistic.classes()) as f64);
    let work = 2.0 * f64::from(settings.epochs) * indicators.powi(2) * statistic.classes() as f64 * f64::from(simulation.draws);
    let errors = (work <= ERRORS_WORK_MAX).then(|| simulated_errors(statistic, settings, &simulation).ok()).flatten();
    errors.unwrap_or_else(|| vec![None; statistic.lfs()])
}

/// The class balance where nothing is fitted: what was given, else uniform.
fn prior(config: &SnorkelConfig, classes: usize) -> Vec<f64> {
    let shares = match &config.class_balance {
        Some(Balance::Given(shares)) => shares.clone(),
        None | Some(Balance::Estimate) => vec![1.0; classes],
    };
    let sum: f64 = shares.iter().sum();
    shares.iter().map(|share| share / sum).collect()
}

/// Bayes' rule with functions that are right in [`PRIOR_PRECISION`] of their votes and spread the rest as the classes are.
pub fn unlearned(votes: &Votes<'_>, prior: &[f64]) -> Vec<f64> {
    let classes = prior.len();
    let given = |class: usize, vote: usize| match prior[vote] {
        _ if classes == 1 => 1.0,
        _ if class == vote => PRIOR_PRECISION,
        share => (1.0 - PRIOR_PRECISION) * prior[class] / (1.0 - share),
    };
    let mut probabilities = Vec::with_capacity(votes.rows() * classes);
    for row in 0..votes.rows() {
        let said: Vec<usize> = votes.row(row).filter_map(|vote| usize::try_from(vote).ok()).collect();
        let mut own: Vec<f64> = match said.as_slice() {
            [] => prior.to_vec(),
            // The shares sum to 1 as they are, and the precision is exactly what it is said to be.
            [vote] => (0..classes).map(|class| given(class, *vote)).collect(),
            said => {
                (0..classes).map(|class| said.iter().fold(prior[class], |sum, vote| sum * given(class, *vote) / prior[class])).collect()
            }
        };
        let sum: f64 = own.iter().sum();
        if said.len() > 1 {
            own.iter_mut().for_each(|share| *share /= sum);
        }
        probabilities.extend(own);
    }
    probabilities
}

/// The votes on so many rows, drawn without replacement; nothing when these are all.
fn sample(votes: &Votes<'_>, config: &SnorkelConfig) -> Option<Vec<Vec<i8>>> {
    let wanted = usize::try_from(config.sample_size?).ok().filter(|wanted| *wanted < votes.rows())?;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(config.seed.unwrap_or(SEED).into());
    let mut columns = vec![Vec::with_capacity(wanted); votes.lfs()];
    let mut left = wanted;
    for row in 0..votes.rows() {
        // Every choice of so many rows is as likely as any other.
        if random.random_range(0..votes.rows() - row) < left {
            left -= 1;
            votes.row(row).zip(&mut columns).for_each(|(vote, column)| column.push(vote));
        }
    }
    Some(columns)
}

fn judged(statistic: &Statistic, weights: Vec<Option<f64>>, errors: Vec<Option<f64>>) -> Vec<Judged> {
    let (layout, summary) = (statistic.layout(), statistic.summary());
    let disputed = statistic.section(layout.conflicts());
    let votes = statistic.section(layout.votes()).chunks_exact(statistic.classes()).map(|votes| votes.iter().sum::<i64>());
    let weights = weights.into_iter().zip(errors);
    let judge = |((lf, (weight, weight_error)), (disputed, votes)): ((desireline_votes::LfSummary, _), (&i64, i64))| Judged {
        polarity: lf.polarity,
        coverage: lf.coverage,
        overlaps: lf.overlaps,
        conflicts: lf.conflicts,
        votes: votes.unsigned_abs(),
        disputed: disputed.unsigned_abs(),
        weight,
        weight_error,
    };
    summary.lfs.into_iter().zip(weights).zip(disputed.iter().zip(votes)).map(judge).collect()
}

/// How many rows most votes say each class of; ties and silence come last.
fn majority(votes: &Votes<'_>, classes: usize) -> Vec<u64> {
    let (mut rows, mut tally) = (vec![0; classes + 1], vec![0u16; classes]);
    for row in 0..votes.rows() {
        tally.fill(0);
        votes.row(row).filter_map(|vote| usize::try_from(vote).ok()).for_each(|class| tally[class] += 1);
        rows[verdict(&tally)] += 1;
    }
    rows
}

fn counts(labels: &[i8], classes: usize) -> Vec<u64> {
    let mut rows = vec![0; classes + 1];
    labels.iter().for_each(|label| rows[usize::try_from(*label).unwrap_or(classes)] += 1);
    rows
}

/// One class or none instead of probabilities.
fn harden(labelled: &mut Labelled, classes: usize) {
    labelled.probabilities.fill(0.0);
    for (row, label) in labelled.labels.iter().enumerate() {
        let class = usize::try_from(*label).ok();
        labelled.confidence[row] = if class.is_some() { 1.0 } else { 0.0 };
        if let Some(class) = class {
            labelled.probabilities[row * classes + class] = 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SnorkelConfig {
        SnorkelConfig { epochs: 100, lr: 0.01, sample_size: None, class_balance: None, seed: None, l2: None }
    }

    fn labelled(columns: &[Vec<i8>], classes: usize, config: &SnorkelConfig, output: OutputType) -> Labelled {
        let votes = Votes::new(columns.iter().map(Vec::as_slice).collect()).expect("equally long");
        label(&votes, classes, config, output).expect("labels")
    }

    /// Function 0 is always right, 1 mostly, 2 at times.
    fn columns(rows: usize) -> Vec<Vec<i8>> {
        let truth = |row: usize| i8::from(row.is_multiple_of(3));
        let column =
            |wrong_every: usize| (0..rows).map(|row| if (row / 3) % wrong_every == 1 { 1 - truth(row) } else { truth(row) }).collect();
        vec![(0..rows).map(truth).collect(), column(5), column(3)]
    }

    #[test]
    fn one_function_is_believed_as_much_as_its_prior_says() {
        let votes = vec![vec![0, -1, 2]];
        let one = labelled(&votes, 3, &config(), OutputType::Softmax);
        assert_eq!(one.labels, [0, -1, 2]);
        assert_eq!(one.probabilities[0], 0.7, "exactly, so that a threshold of 0.7 keeps it");
        assert!((one.probabilities[1] - 0.15).abs() < 1e-12 && (one.probabilities[4] - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((one.is_learned, one.functions[0].weight, one.epochs), (false, Some(0.7), 0));
        assert_eq!((one.majority, one.labelled), (vec![1, 0, 1, 1], vec![1, 0, 1, 1]));
    }

    #[test]
    fn two_functions_that_contradict_each_other_say_nothing() {
        let two = labelled(&[vec![0, 0, -1], vec![1, 0, -1]], 2, &config(), OutputType::Softmax);
        assert_eq!(two.labels, [-1, 0, -1]);
        assert!((two.probabilities[2] - 0.49 / 0.58).abs() < 1e-12, "{:?}", two.probabilities);
        let given = SnorkelConfig { class_balance: Some(Balance::Given(vec![0.2, 0.8])), ..config() };
        let two = labelled(&[vec![0, 0, -1], vec![1, 0, -1]], 2, &given, OutputType::Softmax);
        assert_eq!(two.labels[2], 1, "a row without votes is what most rows are");
        assert_eq!(two.functions[0].disputed, 1);
    }

    #[test]
    fn three_functions_are_weighed_and_everything_is_reproducible() {
        let votes = columns(3_000);
        let learned = labelled(&votes, 2, &config(), OutputType::Softmax);
        assert!(learned.is_learned && learned.epochs == 100 && learned.fitted_rows == 3_000);
        let weights: Vec<f64> = learned.functions.iter().filter_map(|f| f.weight).collect();
        assert!(weights[0] > weights[1] && weights[1] > weights[2], "{weights:?}");
        assert!(
            learned.functions.iter().all(|f| f.weight_error.is_some_and(|error| error > 0.0 && error < 0.1)),
            "{:?}",
            learned.functions
        );
        assert!(learned.probabilities.chunks_exact(2).all(|row| (row[0] + row[1] - 1.0).abs() < 1e-9));
        assert_eq!(labelled(&votes, 2, &config(), OutputType::Softmax), learned);
        let other = labelled(&votes, 2, &SnorkelConfig { seed: Some(7), ..config() }, OutputType::Softmax);
        assert_ne!(other.probabilities, learned.probabilities);
    }

    #[test]
    fn a_sample_is_fitted_on_and_everything_is_predicted() {
        let votes = columns(3_000);
        let sampled = SnorkelConfig { sample_size: Some(500), ..config() };
        let (one, two) = (labelled(&votes, 2, &sampled, OutputType::Softmax), labelled(&votes, 2, &sampled, OutputType::Softmax));
        assert_eq!((one.fitted_rows, one.labels.len()), (500, 3_000));
        assert_eq!(one, two, "the same sample");
        assert_eq!(one.functions[0].coverage, 1.0, "what is said of functions is said of all rows");
        let larger = SnorkelConfig { sample_size: Some(3_000), ..config() };
        assert_eq!(labelled(&votes, 2, &larger, OutputType::Softmax), labelled(&votes, 2, &config(), OutputType::Softmax));
    }

    #[test]
    fn hard_labels_are_one_class_or_none() {
        let hard = labelled(&[vec![0, 0, -1], vec![1, 0, -1]], 2, &config(), OutputType::HardLabels);
        assert_eq!((hard.probabilities, hard.confidence), (vec![0.0, 0.0, 1.0, 0.0, 0.0, 0.0], vec![0.0, 1.0, 0.0]));
    }

    #[test]
    fn a_single_class_is_given_only_where_somebody_votes() {
        assert_eq!(labelled(&[vec![0, -1]], 1, &config(), OutputType::Softmax).labels, [0, -1]);
        let three = [vec![0, -1, 0], vec![0, -1, -1], vec![0, -1, 0]];
        assert_eq!(labelled(&three, 1, &config(), OutputType::Softmax).labels, [0, -1, 0]);
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let balance = SnorkelConfig { class_balance: Some(Balance::Given(vec![0.5, 0.5])), ..config() };
        assert_eq!(check(&balance, 3, 3).expect_err("too short").0, "snorkel.class_balance");
        let epochs = SnorkelConfig { epochs: 1_000_000, ..config() };
        assert_eq!(check(&epochs, 60, 60).expect_err("too much").0, "snorkel.epochs");
        assert_eq!(check(&config(), 100, 64).expect_err("too many").0, "selectedLFs");
        assert_eq!(check(&config(), 3, 3), Ok(()));
    }
}
