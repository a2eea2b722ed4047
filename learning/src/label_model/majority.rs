//! The plain majority of votes, which needs no fit: the yardstick for every label model.

use super::LabelModelError;
use desireline_votes::{Shape, Votes};

/// The majority of one row: the classes with the most votes share the probability equally; all classes do when all abstain.
///
/// Errors: [`LabelModelError::LabelOutOfRange`], `TooLarge`, `BadSetting` without functions or classes.
pub fn majority(row: &[i8], classes: usize) -> Result<Vec<f64>, LabelModelError> {
    Shape::new(row.len(), classes)?.check_row(row)?;
    let mut counts = vec![0.0; classes];
    row.iter().for_each(|vote| count(&mut counts, *vote));
    share(&mut counts);
    Ok(counts)
}

/// The same for every row of a matrix: row-major, n rows of k. [`super::TieBreak::decide_all`] makes predictions of it.
///
/// Errors: as [`majority`].
pub fn majority_all(votes: &Votes<'_>, classes: usize) -> Result<Vec<f64>, LabelModelError> {
    Shape::new(votes.lfs(), classes)?.check(votes)?;
    let mut counts = vec![0.0; votes.rows() * classes];
    for column in &votes.columns {
        for (row, vote) in counts.chunks_exact_mut(classes).zip(*column) {
            count(row, *vote);
        }
    }
    counts.chunks_exact_mut(classes).for_each(share);
    Ok(counts)
}

fn count(counts: &mut [f64], vote: i8) {
    if let Ok(class) = usize::try_from(vote) {
        counts[class] += 1.0;
    }
}

fn share(counts: &mut [f64]) {
    let most = counts.iter().copied().fold(0.0, f64::max);
    let winners = counts.iter().filter(|count| **count == most).count() as f64;
    for count in counts {
        *count = if *count == most { 1.0 / winners } else { 0.0 };
    }
}
