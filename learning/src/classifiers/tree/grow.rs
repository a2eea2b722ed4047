//! Growing one tree.

use super::ranks::Ranks;
use super::{Node, Tree};
use crate::classifiers::ModelError;
use crate::classifiers::draw::Draw;
use crate::classifiers::stop::{Pace, Stop};

/// How a tree grows.
#[derive(Clone, Copy)]
pub(super) struct Growth {
    pub depth_max: usize,
    /// Columns that are not constant among a node's rows and are looked at.
    pub columns_max: usize,
    /// Whether a column's threshold is drawn between its least and greatest value, or is the best.
    pub drawn: bool,
}

/// What trees are grown on.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub ranks: &'a Ranks,
    pub labels: &'a [usize],
    pub classes: usize,
    pub stop: &'a Stop,
}

/// A tree and how much each column's splits took from the impurity, as shares that add up to 1 if anything was split.
pub(super) struct Grown {
    pub tree: Tree,
    pub importances: Vec<f64>,
}

/// A place to split: rows whose rank is below `bound` go left.
struct Split {
    column: usize,
    bound: u32,
    threshold: f64,
    /// Σ over both sides of Σ weights² / weight: the higher, the purer.
    purity: f64,
}

/// A node to be made.
struct Task {
    start: usize,
    end: usize,
    depth: usize,
    /// Whose right child it is.
    right_of: Option<usize>,
}

pub(super) struct Grower<'a> {
    ground: Ground<'a>,
    weights: &'a [f64],
    growth: Growth,
    draw: Draw,
    /// Rows in the order of the nodes that hold them.
    samples: Vec<u32>,
    /// Columns, in the order in which the node at hand looks at them.
    order: Vec<usize>,
    /// Ranks and rows of the node at hand, packed into one word.
    packed: Vec<u64>,
    left: Vec<f64>,
    right: Vec<f64>,
}

impl<'a> Grower<'a> {
    /// Rows of weight 0 are not looked at.
    pub(super) fn new(ground: Ground<'a>, weights: &'a [f64], growth: Growth, draw: Draw) -> Self {
        let samples = (0..ground.ranks.rows as u32).filter(|row| weights[*row as usize] > 0.0).collect();
        let order = (0..ground.ranks.columns).collect();
        let sums = || vec![0.0; ground.classes];
        Self { ground, weights, growth, draw, samples, order, packed: Vec::new(), left: sums(), right: sums() }
    }

    pub(super) fn grow(mut self) -> Result<Grown, ModelError> {
        let mut tree = Tree::default();
        let mut importances = vec![0.0; self.ground.ranks.columns];
        let mut tasks = vec![Task { start: 0, end: self.samples.len(), depth: 0, right_of: None }];
        let mut pace = Pace::new(self.ground.stop);
        while let Some(task) = tasks.pop() {
            pace.walk((task.end - task.start) * self.growth.columns_max)?;
            let at = tree.nodes.len();
            if let Some(parent) = task.right_of {
                tree.nodes[parent].0 = at as u32;
            }
            let sums = self.sums(&task);
            let weight: f64 = sums.iter().sum();
            let pure = sums.iter().filter(|sum| **sum > 0.0).count() < 2;
            let split = if pure || task.depth >= self.growth.depth_max { None } else { self.split(&task, &sums) };
            let Some(split) = split else {
                tree.nodes.push(Node(0, (tree.leaves.len() / sums.len()) as u32, 0.0));
                tree.leaves.extend(sums.iter().map(|sum| sum / weight));
                continue;
            };
            importances[split.column] += (split.purity - squares(&sums) / weight).max(0.0);
            // The right child's number is known when it is made.
            tree.nodes.push(Node(u32::MAX, split.column as u32, split.threshold));
            let middle = task.start + self.part(&task, &split);
            tasks.push(Task { start: middle, end: task.end, depth: task.depth + 1, right_of: Some(at) });
            tasks.push(Task { start: task.start, end: middle, depth: task.depth + 1, right_of: None });
        }
        let total: f64 = importances.iter().sum();
        if total > 0.0 {
            importances.iter_mut().for_each(|share| *share /= total);
        }
        Ok(Grown { tree, importances })
    }

    /// Weight of each class.
    fn sums(&self, task: &Task) -> Vec<f64> {
        let mut sums = vec![0.0; self.ground.classes];
        for row in &self.samples[task.start..task.end] {
            sums[self.ground.labels[*row as usize]] += self.weights[*row as usize];
        }
        sums
    }

    /// Brings the rows that go left before the others and answers their number.
    fn part(&mut self, task: &Task, split: &Split) -> usize {
        let ranks = self.ground.ranks.of(split.column);
        let samples = &mut self.samples[task.start..task.end];
        let mut middle = 0;
        for at in 0..samples.len() {
            if ranks[samples[at] as usize] < split.bound {
                samples.swap(at, middle);
                middle += 1;
            }
        }
        middle
    }

    /// The best split of the columns looked at, in a drawn order; none when all of them are constant.
    fn split(&mut self, task: &Task, sums: &[f64]) -> Option<Split> {
        let mut best: Option<Split> = None;
        let mut looked = 0;
        for at in 0..self.order.len() {
            let other = at + self.draw.below(self.order.len() - at);
            self.order.swap(at, other);
            let column = self.order[at];
            let split = if self.growth.drawn { self.drawn_split(task, sums, column) } else { self.best_split(task, sums, column) };
            let Some(split) = split else { continue };
            if best.as_ref().is_none_or(|best| split.purity > best.purity) {
                best = Some(split);
            }
            looked += 1;
            if looked >= self.growth.columns_max {
                break;
            }
        }
        best
    }

    /// The purest threshold between two distinct values.
    fn best_split(&mut self, task: &Task, sums: &[f64], column: usize) -> Option<Split> {
        let ranks = self.ground.ranks.of(column);
        self.packed.clear();
        self.packed.extend(self.samples[task.start..task.end].iter().map(|row| u64::from(ranks[*row as usize]) << 32 | u64::from(*row)));
        self.packed.sort_unstable();
        self.left.fill(0.0);
        self.right.copy_from_slice(sums);
        let (mut weight_left, mut weight_right) = (0.0, sums.iter().sum::<f64>());
        let (mut squares_left, mut squares_right) = (0.0, squares(sums));
        let mut best: Option<(u32, u32, f64)> = None;
        for pair in self.packed.windows(2) {
            let row = (pair[0] & 0xffff_ffff) as usize;
            let (label, weight) = (self.ground.labels[row], self.weights[row]);
            // (s + w)² - s² and (s - w)² - s².
            squares_left += weight * (2.0 * self.left[label] + weight);
            squares_right -= weight * (2.0 * self.right[label] - weight);
            self.left[label] += weight;
            self.right[label] -= weight;
            weight_left += weight;
            weight_right -= weight;
            let (rank, next) = ((pair[0] >> 32) as u32, (pair[1] >> 32) as u32);
            if rank != next && weight_right > 0.0 {
                let purity = squares_left / weight_left + squares_right / weight_right;
                if best.is_none_or(|(_, _, known)| purity > known) {
                    best = Some((rank, next, purity));
                }
            }
        }
        let (low, high, purity) = best?;
        Some(Split { column, bound: high, threshold: self.ground.ranks.between(column, low, high), purity })
    }

    /// A threshold drawn between the least and the greatest value.
    fn drawn_split(&mut self, task: &Task, sums: &[f64], column: usize) -> Option<Split> {
        let ranks = self.ground.ranks.of(column);
        let samples = &self.samples[task.start..task.end];
        let (mut least, mut most) = (u32::MAX, 0);
        for row in samples {
            let rank = ranks[*row as usize];
            least = least.min(rank);
            most = most.max(rank);
        }
        if least >= most {
            return None;
        }
        let (low, high) = (self.ground.ranks.value(column, least), self.ground.ranks.value(column, most));
        let drawn = low + self.draw.unit() * (high - low);
        let threshold = if drawn >= low && drawn < high { drawn } else { low };
        let bound = self.ground.ranks.below(column, threshold);
        self.left.fill(0.0);
        for row in samples.iter().filter(|row| ranks[**row as usize] < bound) {
            self.left[self.ground.labels[*row as usize]] += self.weights[*row as usize];
        }
        let mut purity = squares(&self.left) / self.left.iter().sum::<f64>();
        for ((right, sum), left) in self.right.iter_mut().zip(sums).zip(&self.left) {
            *right = sum - left;
        }
        purity += squares(&self.right) / self.right.iter().sum::<f64>();
        Some(Split { column, bound, threshold, purity })
    }
}

fn squares(sums: &[f64]) -> f64 {
    sums.iter().map(|sum| sum * sum).sum()
}
