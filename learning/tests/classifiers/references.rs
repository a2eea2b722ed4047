//! Trees and boosting against what plain loops find, on rows so few that every possibility can be tried.

use super::support::{Noise, fitted, names};
use desireline_learning::classifiers::{Kind, Table};

/// Σ over both sides of rows × (1 - Σ shares²): what the best split makes least.
fn impurity(table: &Table, labels: &[usize], classes: usize, column: usize, threshold: f64) -> f64 {
    let mut counts = vec![[0.0; 2]; classes];
    for (row, label) in labels.iter().enumerate() {
        counts[*label][usize::from(table.row(row)[column] > threshold)] += 1.0;
    }
    let side = |side: usize| {
        let rows: f64 = counts.iter().map(|count| count[side]).sum();
        if rows == 0.0 { 0.0 } else { rows - counts.iter().map(|count| count[side] * count[side]).sum::<f64>() / rows }
    };
    side(0) + side(1)
}

#[test]
fn the_first_split_of_a_tree_is_the_purest_of_all() {
    for seed in 0..40 {
        let mut noise = Noise::new(seed);
        // Few distinct values, so that there are ties and equal neighbours.
        let values: Vec<f64> = (0..90).map(|_| noise.below(12) as f64).collect();
        let labels: Vec<usize> = (0..30).map(|_| noise.below(3)).collect();
        let table = Table::new(names(3), 30, values).expect("a table");
        let stored: serde_json::Value =
            serde_json::from_slice(&fitted(Kind::DecisionTreeClassifier, &table, &labels, 3).expect("a model").to_json()).expect("JSON");
        let root = &stored["fitted"]["forest"]["trees"][0]["nodes"][0];
        let (column, threshold) = (root[1].as_u64().expect("a column") as usize, root[2].as_f64().expect("a threshold"));
        let all = (0..3).flat_map(|column| (0..12).map(move |value| (column, f64::from(value) + 0.5)));
        let least = all.map(|(column, threshold)| impurity(&table, &labels, 3, column, threshold)).fold(f64::INFINITY, f64::min);
        let found = impurity(&table, &labels, 3, column, threshold);
        assert!((found - least).abs() < 1e-9, "seed {seed}: {found} and {least}");
    }
}

/// What the boosters differ in, as their documents say it.
struct Booster {
    kind: Kind,
    rate: f64,
    l2: f64,
    hessian_min: f64,
    rows_min: f64,
    /// For three classes; 1 for two.
    hessian_factor: f64,
    /// Whether gains count rows in the place of hessians.
    by_squares: bool,
}

const BOOSTERS: [Booster; 4] = [
    Booster { kind: Kind::XGBClassifier, rate: 0.3, l2: 1.0, hessian_min: 1.0, rows_min: 1.0, hessian_factor: 2.0, by_squares: false },
    Booster { kind: Kind::LGBMClassifier, rate: 0.1, l2: 0.0, hessian_min: 1e-3, rows_min: 20.0, hessian_factor: 1.5, by_squares: false },
    Booster {
        kind: Kind::HistGradientBoostingClassifier,
        rate: 0.1,
        l2: 0.0,
        hessian_min: 1e-3,
        rows_min: 20.0,
        hessian_factor: 1.0,
        by_squares: false,
    },
    Booster {
        kind: Kind::GradientBoostingClassifier,
        rate: 0.1,
        l2: 0.0,
        hessian_min: 0.0,
        rows_min: 1.0,
        hessian_factor: 1.5,
        by_squares: true,
    },
];

impl Booster {
    /// One tree on two groups of rows, (gradient, hessian, rows) each: what it adds to either group's score.
    fn tree(&self, groups: [(f64, f64, f64); 2]) -> [f64; 2] {
        let worth =
            |(gradient, hessian, rows): (f64, f64, f64)| gradient * gradient / if self.by_squares { rows } else { hessian + self.l2 };
        let whole = (groups[0].0 + groups[1].0, groups[0].1 + groups[1].1, groups[0].2 + groups[1].2);
        let large = groups.iter().all(|group| group.1 >= self.hessian_min && group.2 >= self.rows_min);
        let value = |group: (f64, f64, f64)| -self.rate * group.0 / (group.1 + self.l2);
        if large && worth(groups[0]) + worth(groups[1]) - worth(whole) > 1e-10 { groups.map(value) } else { [value(whole); 2] }
    }

    /// A hundred rounds on rows of which only a column of two values is known: `counts[value][class]`. Answers probabilities.
    fn boost(&self, counts: [&[f64]; 2]) -> [Vec<f64>; 2] {
        let classes = counts[0].len();
        let rows = counts.map(|group| group.iter().sum::<f64>());
        let shares: Vec<f64> = (0..classes).map(|class| (counts[0][class] + counts[1][class]) / (rows[0] + rows[1])).collect();
        // For two classes the score of the first stays at 0.
        let first = usize::from(classes == 2);
        let base: Vec<f64> =
            (0..classes).map(|class| if classes == 2 { (shares[class] / shares[0]).ln() } else { shares[class].ln() }).collect();
        let mut scores = [base.clone(), base];
        let chances = |scores: &[f64]| {
            let sum: f64 = scores.iter().map(|score| score.exp()).sum();
            scores.iter().map(|score| score.exp() / sum).collect::<Vec<f64>>()
        };
        for _ in 0..100 {
            let before = [chances(&scores[0]), chances(&scores[1])];
            for class in first..classes {
                let factor = if classes == 2 { 1.0 } else { self.hessian_factor };
                let group = |at: usize| {
                    let chance = before[at][class];
                    (rows[at] * chance - counts[at][class], factor * rows[at] * chance * (1.0 - chance), rows[at])
                };
                let added = self.tree([group(0), group(1)]);
                scores[0][class] += added[0];
                scores[1][class] += added[1];
            }
        }
        [chances(&scores[0]), chances(&scores[1])]
    }
}

#[test]
fn boosters_add_up_what_their_formulas_say() {
    for counts in
        [[&[30.0, 10.0][..], &[5.0, 40.0][..]], [&[30.0, 12.0, 7.0][..], &[5.0, 25.0, 30.0][..]], [&[3.0, 2.0][..], &[1.0, 9.0][..]]]
    {
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for (value, group) in counts.iter().enumerate() {
            for (class, count) in group.iter().enumerate() {
                (0..*count as usize).for_each(|_| {
                    values.push(value as f64);
                    labels.push(class);
                });
            }
        }
        let table = Table::new(names(1), labels.len(), values).expect("a table");
        let asked = Table::new(names(1), 2, vec![0.0, 1.0]).expect("a table");
        for booster in &BOOSTERS {
            let model = fitted(booster.kind, &table, &labels, counts[0].len()).expect("a model");
            let found = model.predict_proba(&asked).expect("predictions").expect("probabilities");
            let wanted = booster.boost(counts).concat();
            let near = found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(near, "{} on {counts:?}: {found:?} and {wanted:?}", booster.kind);
        }
    }
}
