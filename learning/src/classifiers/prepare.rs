//! From the rows of a job to what the models are fitted on and scored with: filling gaps, bringing columns to one scale, splitting.
//!
//! * **Gaps.** A missing value is not a number. [`Imputation::Mean`] puts the mean of the column's known values in its place, as the
//!   pipelines that compare many models do; [`Imputation::Zero`] puts 0, as the original service's job does. A column without any
//!   known value is filled with 0 either way; whoever joins features leaves it out.
//! * **Scale.** Every column is brought to mean 0 and standard deviation 1 by the training rows' own, the deviation that divides by
//!   the number of rows. A constant column becomes 0.
//! * **Split.** [`split`] takes the same share of every class for testing, to the row, and draws within classes by a seed. When that
//!   cannot be (a class with a single row, or fewer rows on one side than classes) it draws from all rows alike and says so.
//!
//! A preparation is fitted on the training rows alone and is a value: it is stored beside the model, whose predictions need it.

use super::draw::Draw;
use super::{ModelError, SelectError, Table};
use serde::{Deserialize, Serialize};

/// What stands for a missing value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Imputation {
    #[default]
    Mean,
    Zero,
}

/// How each column is filled and scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredPreparation", into = "StoredPreparation")]
pub struct Preparation {
    names: Vec<String>,
    fills: Vec<f64>,
    means: Vec<f64>,
    deviations: Vec<f64>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPreparation {
    names: Vec<String>,
    fills: Vec<f64>,
    means: Vec<f64>,
    deviations: Vec<f64>,
}

impl From<Preparation> for StoredPreparation {
    fn from(from: Preparation) -> Self {
        Self { names: from.names, fills: from.fills, means: from.means, deviations: from.deviations }
    }
}

impl TryFrom<StoredPreparation> for Preparation {
    type Error = ModelError;

    fn try_from(from: StoredPreparation) -> Result<Self, ModelError> {
        let sized = [&from.fills, &from.means, &from.deviations].iter().all(|part| part.len() == from.names.len());
        let finite = from.fills.iter().chain(&from.means).all(|value| value.is_finite());
        if !sized || !finite || !from.deviations.iter().all(|value| value.is_finite() && *value > 0.0) {
            return Err(ModelError::Damaged("the parts of a preparation do not fit together".into()));
        }
        Ok(Self { names: from.names, fills: from.fills, means: from.means, deviations: from.deviations })
    }
}

impl Preparation {
    /// From the training rows. Infinite values are refused.
    pub fn fit(table: &Table, imputation: Imputation) -> Result<Self, ModelError> {
        if table.columns() == 0 || table.rows() == 0 {
            return Err(ModelError::Empty(if table.columns() == 0 { "columns" } else { "rows" }));
        }
        table.check_values(|value| !value.is_infinite())?;
        let (mut fills, mut means, mut deviations) = (Vec::new(), Vec::new(), Vec::new());
        for column in 0..table.columns() {
            let own = || table.values().iter().skip(column).step_by(table.columns()).copied();
            let fill = match imputation {
                Imputation::Mean => mean(own().filter(|value| !value.is_nan())),
                Imputation::Zero => 0.0,
            };
            let filled = || own().map(|value| if value.is_nan() { fill } else { value });
            let centre = mean(filled());
            let deviation = mean(filled().map(|value| (value - centre) * (value - centre))).sqrt();
            if !centre.is_finite() || !deviation.is_finite() {
                return Err(ModelError::NotFinite { column: table.names()[column].clone(), row: 0 });
            }
            // What rounding leaves of a constant column is no spread.
            let spreads = deviation > 10.0 * f64::EPSILON * centre.abs();
            fills.push(fill);
            means.push(centre);
            deviations.push(if spreads { deviation } else { 1.0 });
        }
        Ok(Self { names: table.names().to_vec(), fills, means, deviations })
    }

    /// The columns that it was fitted on, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What stands for a missing value of each column.
    pub fn fills(&self) -> &[f64] {
        &self.fills
    }

    /// The table filled and scaled. It must have the columns that the preparation was fitted on, in their order.
    pub fn apply(&self, table: &Table) -> Result<Table, ModelError> {
        if table.names() != self.names {
            return Err(ModelError::Columns { fitted: self.names.clone(), given: table.names().to_vec() });
        }
        table.check_values(|value| !value.is_infinite())?;
        let mut table = table.clone();
        for row in table.values_mut().chunks_exact_mut(self.names.len()) {
            for (((value, fill), mean), deviation) in row.iter_mut().zip(&self.fills).zip(&self.means).zip(&self.deviations) {
                *value = (if value.is_nan() { *fill } else { *value } - mean) / deviation;
            }
        }
        Ok(table)
    }
}

/// Of nothing: 0.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0u64);
    for value in values {
        sum += value;
        count += 1;
    }
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// Rows for training and for testing, each ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<usize>,
    pub test: Vec<usize>,
    /// Why the classes do not have the same share in both, if they do not.
    pub note: Option<String>,
}

/// Splits the rows with these labels: `test_size` of them, rounded up, are for testing.
pub fn split(labels: &[usize], classes: usize, test_size: f64, random_state: u64) -> Result<Split, SelectError> {
    if !(test_size > 0.0 && test_size < 1.0) {
        return Err(SelectError::TestSize(test_size));
    }
    let rows = labels.len();
    let tests = (test_size * rows as f64).ceil() as usize;
    if tests == 0 || tests >= rows {
        return Err(SelectError::TooFewToSplit { rows, test_size });
    }
    let mut members = vec![Vec::new(); classes];
    for (row, label) in labels.iter().enumerate() {
        match members.get_mut(*label) {
            Some(own) => own.push(row),
            None => return Err(SelectError::UnknownLabel { row, label: *label as i64, classes }),
        }
    }
    members.retain(|own| !own.is_empty());
    let mut draw = Draw::new(random_state, 0);
    let note = if members.iter().any(|own| own.len() < 2) {
        Some("not stratified: a class has a single sample".to_owned())
    } else if tests < members.len() || rows - tests < members.len() {
        Some("not stratified: there are more classes than samples on one side".to_owned())
    } else {
        None
    };
    let test = if note.is_some() { draw.sample(rows, tests) } else { stratified(&members, rows, tests, &mut draw) };
    let mut is_test = vec![false; rows];
    test.iter().for_each(|row| is_test[*row] = true);
    let train = (0..rows).filter(|row| !is_test[*row]).collect();
    Ok(Split { train, test, note })
}

/// `tests` rows, of each class its share; what rounding leaves over goes to the classes that lost most, the drawn first of them on a tie.
fn stratified(members: &[Vec<usize>], rows: usize, tests: usize, draw: &mut Draw) -> Vec<usize> {
    let exact = |own: &Vec<usize>| own.len() as f64 * tests as f64 / rows as f64;
    let mut counts: Vec<usize> = members.iter().map(|own| exact(own).floor() as usize).collect();
    let mut order: Vec<usize> = (0..members.len()).collect();
    draw.shuffle(&mut order);
    let lost = |class: usize| exact(&members[class]) - exact(&members[class]).floor();
    order.sort_by(|a, b| lost(*b).total_cmp(&lost(*a)));
    let missing = tests - counts.iter().sum::<usize>();
    for class in order.into_iter().cycle().filter(|class| counts[*class] < members[*class].len()).take(missing).collect::<Vec<_>>() {
        counts[class] += 1;
    }
    let mut test: Vec<usize> = Vec::with_capacity(tests);
    for (own, count) in members.iter().zip(counts) {
        test.extend(draw.sample(own.len(), count).into_iter().map(|at| own[at]));
    }
    test.sort_unstable();
    test
}
