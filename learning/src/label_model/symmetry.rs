//! Which column of the fitted table is which class.
//!
//! Votes alone cannot tell classes of equal share apart: any exchange of their columns explains the counts as well. The columns
//! of such classes are assigned so that labeling functions vote for the right class as often as possible.

/// Puts the columns of a table in the order of classes and says which column became which: `order[new] = old`.
///
/// `table` is row-major, `m k` rows (labeling function j, vote y at `j * k + y`) of k columns; `balance` has k entries. Classes
/// are exchanged only within groups whose share is the same number of thousandths (rounded in `f32`, ties to even). Within a
/// group the sum over functions and classes of balance times P(vote c | class c) is made as large as possible by the Hungarian
/// method; if the order as it is is among the best it stays.
pub fn break_symmetry(table: &mut [f32], balance: &[f64]) -> Vec<usize> {
    let classes = balance.len();
    let mut order: Vec<usize> = (0..classes).collect();
    let mut agreement = vec![0.0; classes * classes];
    for (indicator, row) in table.chunks_exact(classes).enumerate() {
        for (column, value) in row.iter().enumerate() {
            agreement[(indicator % classes) * classes + column] += f64::from(*value) * balance[column];
        }
    }
    let thousandths: Vec<f32> = balance.iter().map(|share| (*share as f32 * 1000.0).round_ties_even()).collect();
    let mut grouped = vec![false; classes];
    for first in 0..classes {
        let group: Vec<usize> = (first..classes).filter(|c| !grouped[*c] && thousandths[*c] == thousandths[first]).collect();
        for class in &group {
            grouped[*class] = true;
        }
        if group.len() < 2 {
            continue;
        }
        let gain = |target: usize, source: usize| agreement[group[target] * classes + group[source]];
        let best = assign(group.len(), gain);
        let total = |sources: &[usize]| sources.iter().enumerate().map(|(target, source)| gain(target, *source)).sum::<f64>();
        let unchanged: Vec<usize> = (0..group.len()).collect();
        if total(&best) > total(&unchanged) {
            for (target, source) in best.iter().enumerate() {
                order[group[target]] = group[*source];
            }
        }
    }
    let mut old = vec![0.0; classes];
    for row in table.chunks_exact_mut(classes) {
        old.copy_from_slice(row);
        for (value, source) in row.iter_mut().zip(&order) {
            *value = old[*source];
        }
    }
    order
}

/// For each target its source, one to one, with the largest sum of gains: the Hungarian method (Kuhn 1955) by shortest
/// augmenting paths with potentials (Jonker and Volgenant 1987), O(size^3).
fn assign(size: usize, gain: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    // Rows and columns count from 1; 0 is the column where a path begins.
    let mut row_potential = vec![0.0; size + 1];
    let mut column_potential = vec![0.0; size + 1];
    let mut row_of = vec![0; size + 1];
    for row in 1..=size {
        let mut slack = vec![f64::INFINITY; size + 1];
        let mut came_from = vec![0; size + 1];
        let mut visited = vec![false; size + 1];
        row_of[0] = row;
        let mut column = 0;
        while row_of[column] != 0 || column == 0 {
            visited[column] = true;
            let (mut least, mut next) = (f64::INFINITY, column);
            for other in (1..=size).filter(|other| !visited[*other]) {
                let at = row_of[column];
                let reduced = -gain(at - 1, other - 1) - row_potential[at] - column_potential[other];
                if reduced < slack[other] {
                    (slack[other], came_from[other]) = (reduced, column);
                }
                if slack[other] < least {
                    (least, next) = (slack[other], other);
                }
            }
            for other in 0..=size {
                if visited[other] {
                    row_potential[row_of[other]] += least;
                    column_potential[other] -= least;
                } else {
                    slack[other] -= least;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[came_from[column]];
            column = came_from[column];
        }
    }
    let mut sources = vec![0; size];
    for column in 1..=size {
        sources[row_of[column] - 1] = column - 1;
    }
    sources
}
