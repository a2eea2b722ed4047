//! Which samples are sure enough to learn from.
//!
//! A label model gives every sample a class and, usually, probabilities. A classifier is fitted on the samples whose label is certain,
//! with classes that are not too unequal:
//!
//! 1. **Confidence.** The largest probability ([`Method::MaxConfidence`]), or 1 - H / ln K with H = -Σ p ln(p + 10⁻¹⁰) the entropy of
//!    the K probabilities ([`Method::Entropy`]). Hard labels have confidence 1. For K = 1 the entropy says nothing, and it is 1.
//! 2. **Threshold.** A sample is kept when its confidence is at least the threshold and it has a label (not -1).
//! 3. **Lowering.** While any class of the job has fewer than the wanted samples, a class without any included, and the threshold is
//!    above 0.1, it is lowered by 0.05. The steps are those of floating point: 0.7 ends at 0.09999999999999991 after twelve.
//! 4. **Cap.** Every class is cut, by a seeded draw, to the whole part of the factor times the rows of the smallest class that has any;
//!    the order stays.
//!
//! What was asked and what was used are both told. Fewer than two samples are an error.

use super::SelectError;
use super::draw::Draw;
use super::score::round4;
use serde::{Deserialize, Serialize};

/// Thresholds are not lowered at or below this.
pub const THRESHOLD_FLOOR: f64 = 0.1;
/// One lowering.
pub const THRESHOLD_STEP: f64 = 0.05;
/// Keeps the logarithm of a probability of 0 finite.
pub const EPSILON: f64 = 1e-10;
/// Samples that must be left.
pub const SAMPLES_MIN: usize = 2;

/// What confidence is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    #[default]
    MaxConfidence,
    Entropy,
}

/// What to keep. The defaults are the service's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectSettings {
    pub threshold_method: Method,
    pub threshold_value: f64,
    pub min_labels_per_class: usize,
    pub imbalance_factor: f64,
    /// Fixes which samples the cap takes.
    pub random_state: u64,
}

impl Default for SelectSettings {
    fn default() -> Self {
        Self {
            threshold_method: Method::MaxConfidence,
            threshold_value: 0.7,
            min_labels_per_class: 10,
            imbalance_factor: 3.0,
            random_state: 42,
        }
    }
}

/// Labels of samples: a class from 0 on, or -1 for none.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    pub labels: &'a [i64],
    /// Sample by sample, a probability per class; nothing for hard labels.
    pub probabilities: Option<&'a [f64]>,
    pub classes: usize,
}

/// The samples kept, and how it came to them. Shares and confidences of the statistics have four decimals.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Positions of the samples kept, ascending.
    pub rows: Vec<usize>,
    /// Their classes.
    pub labels: Vec<usize>,
    /// The threshold after lowering.
    pub threshold_used: f64,
    pub samples_before: usize,
    pub samples_after: usize,
    /// Mean over all samples, those without a label included.
    pub confidence_before: f64,
    /// Mean over the samples kept.
    pub confidence_after: f64,
    /// `samples_after` / `samples_before`.
    pub retention_rate: f64,
    /// Samples kept, per class of the job.
    pub class_counts: Vec<usize>,
}

/// Confidence of each sample, in [0, 1] for probabilities.
pub fn confidences(labelled: &Labelled, method: Method) -> Vec<f64> {
    let Some(probabilities) = labelled.probabilities else { return vec![1.0; labelled.labels.len()] };
    let of_row = |row: &[f64]| match method {
        Method::MaxConfidence => row.iter().copied().fold(f64::NAN, f64::max),
        Method::Entropy if row.len() < 2 => 1.0,
        Method::Entropy => {
            let entropy = -row.iter().map(|p| p * (p + EPSILON).ln()).sum::<f64>();
            1.0 - entropy / (row.len() as f64).ln()
        }
    };
    probabilities.chunks_exact(labelled.classes).map(of_row).collect()
}

/// Keeps what is sure enough.
pub fn select(labelled: &Labelled, settings: &SelectSettings) -> Result<Selection, SelectError> {
    check(labelled, settings)?;
    let confidences = confidences(labelled, settings.threshold_method);
    let samples = labelled.labels.len();
    let (threshold, counts) = lower(labelled, &confidences, settings);
    let kept = |row: &usize| labelled.labels[*row] >= 0 && confidences[*row] >= threshold;
    let rows: Vec<usize> = (0..samples).filter(kept).collect();
    let rows = cap(rows, labelled.labels, &counts, settings);
    if rows.len() < SAMPLES_MIN {
        return Err(SelectError::TooFew { kept: rows.len(), samples, threshold });
    }
    let labels: Vec<usize> = rows.iter().map(|row| labelled.labels[*row] as usize).collect();
    let mut class_counts = vec![0; labelled.classes];
    labels.iter().for_each(|label| class_counts[*label] += 1);
    let mean = |values: &mut dyn Iterator<Item = f64>, count: usize| round4(values.sum::<f64>() / count as f64);
    Ok(Selection {
        threshold_used: threshold,
        samples_before: samples,
        samples_after: rows.len(),
        confidence_before: mean(&mut confidences.iter().copied(), samples),
        confidence_after: mean(&mut rows.iter().map(|row| confidences[*row]), rows.len()),
        retention_rate: round4(rows.len() as f64 / samples as f64),
        class_counts,
        rows,
        labels,
    })
}

fn check(labelled: &Labelled, settings: &SelectSettings) -> Result<(), SelectError> {
    let (rows, classes) = (labelled.labels.len(), labelled.classes);
    if classes == 0 {
        return Err(SelectError::Shape { what: "classes", given: 0, rows, classes });
    }
    if let Some(given) = labelled.probabilities.map(<[f64]>::len).filter(|given| Some(*given) != rows.checked_mul(classes)) {
        return Err(SelectError::Shape { what: "probabilities", given, rows, classes });
    }
    let strange = |label: &i64| *label < -1 || *label >= classes as i64;
    if let Some(row) = labelled.labels.iter().position(strange) {
        return Err(SelectError::UnknownLabel { row, label: labelled.labels[row], classes });
    }
    if !(0.0..=1.0).contains(&settings.threshold_value) {
        return Err(SelectError::Setting { name: "threshold_value", rule: "lie between 0 and 1" });
    }
    if !settings.imbalance_factor.is_finite() || settings.imbalance_factor <= 0.0 {
        return Err(SelectError::Setting { name: "imbalance_factor", rule: "be a finite number above 0" });
    }
    Ok(())
}

/// The threshold at which every class has enough samples, or the last one tried, and the samples per class at it.
fn lower(labelled: &Labelled, confidences: &[f64], settings: &SelectSettings) -> (f64, Vec<usize>) {
    let counts_at = |threshold: f64| {
        let mut counts = vec![0; labelled.classes];
        for (label, confidence) in labelled.labels.iter().zip(confidences) {
            if *label >= 0 && *confidence >= threshold {
                counts[*label as usize] += 1;
            }
        }
        counts
    };
    let mut threshold = settings.threshold_value;
    let mut counts = counts_at(threshold);
    while threshold > THRESHOLD_FLOOR && counts.iter().any(|count| *count < settings.min_labels_per_class) {
        threshold -= THRESHOLD_STEP;
        counts = counts_at(threshold);
    }
    (threshold, counts)
}

/// Cuts the classes that have too many samples beside the smallest.
fn cap(rows: Vec<usize>, labels: &[i64], counts: &[usize], settings: &SelectSettings) -> Vec<usize> {
    let Some(smallest) = counts.iter().copied().filter(|count| *count > 0).min() else { return rows };
    // The whole part, as a cast takes it; beyond the largest number there is no cap.
    let most = (settings.imbalance_factor * smallest as f64) as usize;
    let mut draw = Draw::new(settings.random_state, 1);
    let mut kept: Vec<usize> = Vec::with_capacity(rows.len());
    for (class, count) in counts.iter().enumerate() {
        let own = || rows.iter().copied().filter(|row| labels[*row] == class as i64);
        if *count <= most {
            kept.extend(own());
        } else {
            let members: Vec<usize> = own().collect();
            kept.extend(draw.sample(members.len(), most).into_iter().map(|at| members[at]));
        }
    }
    kept.sort_unstable();
    kept
}
