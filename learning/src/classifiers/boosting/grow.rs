//! Growing one tree on gradients and hessians.

use super::bins::Bins;
use crate::classifiers::ModelError;
use crate::classifiers::draw::Draw;
use crate::classifiers::stop::{Pace, Stop};
use crate::classifiers::tree::{Node, Tree};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Cells of histograms that are kept for the children of a node, over all open nodes: 48 MB. Beyond it a histogram is added up anew.
const KEPT_CELLS_MAX: usize = 2_000_000;
/// A split must gain more than this.
const GAIN_MIN: f64 = 1e-10;

/// How a tree grows. It always splits next where the gain is most; without a limit of leaves that is a tree by depth.
#[derive(Clone, Copy)]
pub(super) struct Growth {
    pub depth_max: usize,
    pub leaves_max: usize,
    /// λ, added to the hessian of every leaf.
    pub l2: f64,
    /// Of a child.
    pub hessian_min: f64,
    /// Of a child.
    pub rows_min: u32,
    /// Whether gains are counted with rows in the place of hessians.
    pub by_squares: bool,
    /// Columns drawn for every node.
    pub columns_max: usize,
}

/// Sums over the rows of a bin or a node.
#[derive(Clone, Copy, Default)]
struct Cell {
    gradient: f64,
    hessian: f64,
    rows: u32,
}

impl Cell {
    fn minus(self, other: Self) -> Self {
        Self { gradient: self.gradient - other.gradient, hessian: self.hessian - other.hessian, rows: self.rows - other.rows }
    }

    fn add(&mut self, other: Self) {
        self.gradient += other.gradient;
        self.hessian += other.hessian;
        self.rows += other.rows;
    }
}

struct Split {
    gain: f64,
    column: usize,
    /// The last bin that goes left.
    bin: usize,
    left: Cell,
}

/// A leaf that may be split.
struct Open {
    node: usize,
    place: Place,
    sum: Cell,
    split: Split,
    cells: Option<Vec<Cell>>,
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Open {}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        self.split.gain.total_cmp(&other.split.gain).then(other.node.cmp(&self.node))
    }
}

/// A node in the order of making.
struct Made {
    /// Column and threshold, and the children: the left one, which the right one follows.
    split: Option<(usize, f64, usize)>,
    value: f64,
}

/// A place in the order of rows, and how deep its node lies.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    end: usize,
    depth: usize,
}

impl Place {
    fn rows(self) -> usize {
        self.end - self.start
    }
}

pub(super) struct Grower<'a> {
    bins: &'a Bins,
    /// Gradient and hessian of each row of the table.
    slopes: &'a [(f64, f64)],
    growth: Growth,
    /// In the order of the nodes that hold them.
    rows: Vec<u32>,
    draw: Draw,
    pace: Pace<'a>,
    /// Where each column's bins begin in a histogram, and where the last one's end.
    offsets: Vec<usize>,
    order: Vec<usize>,
    /// All nodes, their parents first.
    made: Vec<Made>,
    /// Leaves that may be split, that of the most gain on top.
    open: BinaryHeap<Open>,
    /// Nodes that stay leaves, with their places.
    leaves: Vec<(usize, Place)>,
    kept_cells: usize,
    gathered: Vec<(f64, f64)>,
}

impl<'a> Grower<'a> {
    /// For the rows named; `slopes` has all rows of the table.
    pub(super) fn new(bins: &'a Bins, slopes: &'a [(f64, f64)], growth: Growth, rows: Vec<u32>, draw: Draw, stop: &'a Stop) -> Self {
        let mut offsets = vec![0];
        for column in 0..bins.columns {
            offsets.push(offsets[column] + bins.count(column));
        }
        let order = (0..bins.columns).collect();
        let (made, open, leaves) = (Vec::new(), BinaryHeap::new(), Vec::new());
        let pace = Pace::new(stop);
        Self { bins, slopes, growth, rows, draw, pace, offsets, order, made, open, leaves, kept_cells: 0, gathered: Vec::new() }
    }

    /// Tells `reached` every row's leaf value, already times `rate`, and adds every split's gain to its column.
    pub(super) fn grow(mut self, rate: f64, importances: &mut [f64], mut reached: impl FnMut(usize, f64)) -> Result<Tree, ModelError> {
        let all = Place { start: 0, end: self.rows.len(), depth: 0 };
        self.pace.walk(all.rows() * self.bins.columns)?;
        let cells = self.histogram(all);
        let sum = cells[..self.offsets[1]].iter().fold(Cell::default(), |mut sum, cell| {
            sum.add(*cell);
            sum
        });
        self.make(all, sum, Some(cells), rate);
        for _ in 1..self.growth.leaves_max {
            let Some(next) = self.open.pop() else { break };
            self.pace.walk(next.place.rows() * self.bins.columns + self.offsets[self.bins.columns])?;
            importances[next.split.column] += next.split.gain;
            self.split(next, rate);
        }
        let leaves = self.leaves.into_iter().chain(self.open.into_iter().map(|leaf| (leaf.node, leaf.place)));
        for (node, place) in leaves {
            for row in &self.rows[place.start..place.end] {
                reached(*row as usize, self.made[node].value);
            }
        }
        Ok(store(&self.made))
    }

    /// A node that is a leaf until it is split: open if there is a split worth it.
    fn make(&mut self, place: Place, sum: Cell, cells: Option<Vec<Cell>>, rate: f64) {
        let node = self.made.len();
        let weight = sum.hessian + self.growth.l2;
        self.made.push(Made { split: None, value: if weight > 0.0 { -rate * sum.gradient / weight } else { 0.0 } });
        let Some((cells, split)) = cells.and_then(|cells| self.best(&cells, sum).map(|split| (cells, split))) else {
            self.leaves.push((node, place));
            return;
        };
        let keep = self.kept_cells + cells.len() <= KEPT_CELLS_MAX;
        self.kept_cells += if keep { cells.len() } else { 0 };
        self.open.push(Open { node, place, sum, split, cells: keep.then_some(cells) });
    }

    /// Makes the children of a node. Those that are too small or too deep to be split need no histogram.
    fn split(&mut self, parent: Open, rate: f64) {
        let Split { column, bin, left, .. } = parent.split;
        let Place { start, end, depth } = parent.place;
        let middle = start + self.part(parent.place, column, bin);
        let threshold = self.bins.threshold(column, bin);
        self.made[parent.node].split = Some((column, threshold, self.made.len()));
        let right = parent.sum.minus(left);
        let places = [Place { start, end: middle, depth: depth + 1 }, Place { start: middle, end, depth: depth + 1 }];
        let may = places.map(|place| place.depth < self.growth.depth_max && place.rows() >= 2 * self.growth.rows_min as usize);
        let (small, large) = if places[0].rows() <= places[1].rows() { (0, 1) } else { (1, 0) };
        let mut cells = [None, None];
        self.kept_cells -= parent.cells.as_ref().map_or(0, Vec::len);
        if may[small] || may[large] {
            cells[small] = Some(self.histogram(places[small]));
        }
        if may[large] {
            cells[large] = match (parent.cells, &cells[small]) {
                (Some(mut whole), Some(other)) => {
                    whole.iter_mut().zip(other).for_each(|(cell, other)| *cell = cell.minus(*other));
                    Some(whole)
                }
                _ => Some(self.histogram(places[large])),
            };
        }
        let [left_cells, right_cells] = cells;
        self.make(places[0], left, left_cells.filter(|_| may[0]), rate);
        self.make(places[1], right, right_cells.filter(|_| may[1]), rate);
    }

    /// Brings the rows that go left before the others and answers their number.
    fn part(&mut self, place: Place, column: usize, bin: usize) -> usize {
        let codes = self.bins.of(column);
        let rows = &mut self.rows[place.start..place.end];
        let mut middle = 0;
        for at in 0..rows.len() {
            if usize::from(codes[rows[at] as usize]) <= bin {
                rows.swap(at, middle);
                middle += 1;
            }
        }
        middle
    }

    fn histogram(&mut self, place: Place) -> Vec<Cell> {
        let rows = &self.rows[place.start..place.end];
        self.gathered.clear();
        self.gathered.extend(rows.iter().map(|row| self.slopes[*row as usize]));
        let mut cells = vec![Cell::default(); self.offsets[self.bins.columns]];
        for column in 0..self.bins.columns {
            let codes = self.bins.of(column);
            let own = &mut cells[self.offsets[column]..self.offsets[column + 1]];
            for (row, (gradient, hessian)) in rows.iter().zip(&self.gathered) {
                let cell = &mut own[usize::from(codes[*row as usize])];
                cell.gradient += gradient;
                cell.hessian += hessian;
                cell.rows += 1;
            }
        }
        cells
    }

    /// The split of the largest gain; of equal ones the first in the order of the columns looked at.
    fn best(&mut self, cells: &[Cell], sum: Cell) -> Option<Split> {
        let columns = self.bins.columns;
        if self.growth.columns_max < columns {
            self.draw.shuffle(&mut self.order);
        }
        let mut best: Option<Split> = None;
        let worth = |cell: Cell| {
            let weight = if self.growth.by_squares { f64::from(cell.rows) } else { cell.hessian + self.growth.l2 };
            cell.gradient * cell.gradient / weight
        };
        let whole = worth(sum);
        let large = |cell: Cell| cell.rows >= self.growth.rows_min && cell.hessian >= self.growth.hessian_min;
        for column in self.order.iter().take(self.growth.columns_max).copied() {
            let own = &cells[self.offsets[column]..self.offsets[column + 1]];
            let mut left = Cell::default();
            for (bin, cell) in own.iter().enumerate().take(own.len() - 1) {
                if cell.rows == 0 {
                    continue;
                }
                left.add(*cell);
                let right = sum.minus(left);
                if right.rows == 0 {
                    break;
                }
                if !large(left) || !large(right) {
                    continue;
                }
                let gain = worth(left) + worth(right) - whole;
                if gain > GAIN_MIN && best.as_ref().is_none_or(|best| gain > best.gain) {
                    best = Some(Split { gain, column, bin, left });
                }
            }
        }
        best
    }
}

/// The nodes in the order in which they are stored.
fn store(made: &[Made]) -> Tree {
    let mut tree = Tree::default();
    // A node to store, and whose right child it is.
    let mut tasks: Vec<(usize, Option<usize>)> = vec![(0, None)];
    while let Some((node, right_of)) = tasks.pop() {
        let at = tree.nodes.len();
        if let Some(parent) = right_of {
            tree.nodes[parent].0 = at as u32;
        }
        match made[node].split {
            Some((column, threshold, left)) => {
                tree.nodes.push(Node(u32::MAX, column as u32, threshold));
                tasks.push((left + 1, Some(at)));
                tasks.push((left, None));
            }
            None => {
                tree.nodes.push(Node(0, tree.leaves.len() as u32, 0.0));
                tree.leaves.push(made[node].value);
            }
        }
    }
    tree
}
