//! The statistic against counting by plain loops, and itself in other orders.

use desireline_learning::label_model::{ABSTAIN, CLASSES_MAX, INDICATORS_MAX, Statistic, Votes};
use proptest::prelude::*;

/// Rows of votes and their true classes.
#[derive(Clone, Debug)]
struct Rows {
    lfs: usize,
    classes: usize,
    rows: Vec<Vec<i8>>,
    gold: Vec<i8>,
}

impl Rows {
    fn columns(&self) -> Vec<Vec<i8>> {
        (0..self.lfs).map(|lf| self.rows.iter().map(|row| row[lf]).collect()).collect()
    }

    fn by_column(&self) -> Statistic {
        let columns = self.columns();
        let votes = Votes::new(columns.iter().map(Vec::as_slice).collect()).expect("columns of one length");
        Statistic::of(&votes, self.classes).expect("labels in range")
    }

    fn by_row(&self, order: impl Iterator<Item = usize>) -> Statistic {
        let mut statistic = Statistic::new(self.lfs, self.classes).expect("a small shape");
        for index in order {
            statistic.add(&self.rows[index], 1).expect("labels in range");
        }
        statistic
    }
}

/// Dense and sparse matrices, of fewer and of more rows than are counted at a time.
fn rows() -> impl Strategy<Value = Rows> {
    (1..9usize, 1..6usize, 0..200usize, prop_oneof![Just(0.9), Just(0.4), Just(0.03)]).prop_flat_map(|(lfs, classes, rows, share)| {
        let vote = (prop::bool::weighted(share), 0..classes as i8).prop_map(|(votes, class)| if votes { class } else { ABSTAIN });
        let rows = prop::collection::vec((prop::collection::vec(vote, lfs), 0..classes as i8), rows);
        rows.prop_map(move |rows| {
            let (rows, gold) = rows.into_iter().unzip();
            Rows { lfs, classes, rows, gold }
        })
    })
}

fn count(rows: &[Vec<i8>], is: impl Fn(&[i8]) -> bool) -> i64 {
    rows.iter().filter(|row| is(row)).count() as i64
}

fn share(part: i64, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn votes(row: &[i8]) -> usize {
    row.iter().filter(|vote| **vote != ABSTAIN).count()
}

fn disputed(row: &[i8]) -> bool {
    let mut said: Vec<i8> = row.iter().copied().filter(|vote| *vote != ABSTAIN).collect();
    said.dedup();
    said.len() > 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn counts_are_those_of_plain_loops(matrix in rows()) {
        let statistic = matrix.by_column();
        let (lfs, classes, rows) = (matrix.lfs, matrix.classes, &matrix.rows);
        prop_assert_eq!(statistic.rows(), rows.len() as i64);
        for one in 0..lfs * classes {
            for other in 0..lfs * classes {
                let says = |row: &[i8], indicator: usize| row[indicator / classes] == (indicator % classes) as i8;
                let together = count(rows, |row| says(row, one) && says(row, other));
                prop_assert_eq!(statistic.pair((one / classes, one % classes), (other / classes, other % classes)), together);
            }
        }
        let summary = statistic.summary();
        let all = rows.len() as i64;
        prop_assert_eq!(summary.label_coverage, share(count(rows, |row| votes(row) > 0), all));
        prop_assert_eq!(summary.label_overlap, share(count(rows, |row| votes(row) > 1), all));
        prop_assert_eq!(summary.label_conflict, share(count(rows, disputed), all));
        for (lf, one) in summary.lfs.iter().enumerate() {
            prop_assert_eq!(one.coverage, share(count(rows, |row| row[lf] != ABSTAIN), all));
            prop_assert_eq!(one.overlaps, share(count(rows, |row| row[lf] != ABSTAIN && votes(row) > 1), all));
            prop_assert_eq!(one.conflicts, share(count(rows, |row| row[lf] != ABSTAIN && disputed(row)), all));
            let polarity: Vec<u8> = (0..classes as u8).filter(|class| rows.iter().any(|row| row[lf] == *class as i8)).collect();
            prop_assert_eq!(&one.polarity, &polarity);
            prop_assert_eq!(one.accuracy, None);
        }
    }

    #[test]
    fn neither_order_nor_parts_can_be_seen(matrix in rows(), turn in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>()) {
        let bulk = matrix.by_column();
        let length = matrix.rows.len();
        prop_assert_eq!(&matrix.by_row(0..length), &bulk);
        prop_assert_eq!(&matrix.by_row((0..length).rev()), &bulk);
        if length > 0 {
            let turn = turn.index(length);
            prop_assert_eq!(&matrix.by_row((turn..length).chain(0..turn)), &bulk);
        }
        let cut = cut.index(length + 1);
        let (front, back) = (matrix.by_row(0..cut), matrix.by_row(cut..length));
        let mut merged = back.clone();
        merged.merge(&front, 1).expect("one shape");
        prop_assert_eq!(&merged, &bulk);
        merged.merge(&back, -1).expect("one shape");
        prop_assert_eq!(&merged, &front);
    }

    /// Rows are taken away before and after others are added, and relabeled.
    #[test]
    fn what_is_taken_away_leaves_no_trace(matrix in rows(), extra in rows()) {
        let mut statistic = Statistic::new(matrix.lfs, matrix.classes).expect("a small shape");
        let foreign: Vec<Vec<i8>> = extra.rows.iter().map(|row| {
            (0..matrix.lfs).map(|lf| row[lf % extra.lfs].min(matrix.classes as i8 - 1)).collect()
        }).collect();
        for row in &foreign {
            statistic.add(row, -1).expect("labels in range");
        }
        let columns = matrix.columns();
        let votes = Votes::new(columns.iter().map(Vec::as_slice).collect()).expect("columns of one length");
        statistic.add_all(&votes, 3).expect("labels in range");
        for (row, gold) in matrix.rows.iter().zip(&matrix.gold) {
            statistic.grade(row, *gold, 1).expect("labels in range");
        }
        for row in foreign.iter().rev() {
            statistic.add(row, 1).expect("labels in range");
        }
        for (row, gold) in matrix.rows.iter().zip(&matrix.gold).rev() {
            statistic.add(row, -2).expect("labels in range");
            statistic.grade(row, *gold, -1).expect("labels in range");
        }
        prop_assert_eq!(&statistic, &matrix.by_column());
        statistic.add_all(&votes, -1).expect("labels in range");
        prop_assert!(statistic.is_zero());
    }

    #[test]
    fn grades_count_right_and_wrong_votes(matrix in rows()) {
        let mut statistic = matrix.by_column();
        for (row, gold) in matrix.rows.iter().zip(&matrix.gold) {
            statistic.grade(row, *gold, 1).expect("labels in range");
        }
        for (lf, one) in statistic.summary().lfs.iter().enumerate() {
            let graded = || matrix.rows.iter().zip(&matrix.gold).filter(|(row, _)| row[lf] != ABSTAIN);
            let correct = graded().filter(|(row, gold)| row[lf] == **gold).count() as i64;
            prop_assert_eq!((one.correct, one.correct + one.incorrect), (correct, graded().count() as i64));
        }
        let balance = statistic.gold_balance();
        prop_assert_eq!(balance.is_none(), matrix.gold.is_empty());
        for (class, share) in balance.iter().flatten().enumerate() {
            let rows = matrix.gold.iter().filter(|gold| **gold as usize == class).count();
            prop_assert_eq!(*share, rows as f64 / matrix.gold.len() as f64);
        }
    }

    #[test]
    fn storage_keeps_everything(matrix in rows()) {
        let statistic = matrix.by_column();
        let text = serde_json::to_string(&statistic).expect("integers");
        prop_assert_eq!(serde_json::from_str::<Statistic>(&text).expect("what was written"), statistic);
    }
}

#[test]
fn damaged_storage_is_refused() {
    for text in [
        r#"{"lfs":3,"classes":2,"counts":[1,2,3]}"#,
        r#"{"lfs":3,"classes":0,"counts":[]}"#,
        r#"{"lfs":18446744073709551615,"classes":2,"counts":[]}"#,
    ] {
        assert!(serde_json::from_str::<Statistic>(text).is_err(), "{text}");
    }
}

#[test]
fn a_refused_row_changes_nothing() {
    let mut statistic = Statistic::new(3, 2).expect("a small shape");
    statistic.add(&[0, 1, ABSTAIN], 1).expect("labels in range");
    let before = statistic.clone();
    let codes = [
        statistic.add(&[0, 2, 1], 1).expect_err("2 is no class").code(),
        statistic.add(&[0, -2, 1], 1).expect_err("-2 is no vote").code(),
        statistic.add(&[0, 1], 1).expect_err("two votes").code(),
        statistic.grade(&[0, 1, 1], ABSTAIN, 1).expect_err("no gold label").code(),
        statistic.grade(&[0, 1, 1], 2, 1).expect_err("no gold label").code(),
    ];
    assert_eq!(codes, ["label_out_of_range", "label_out_of_range", "wrong_width", "label_out_of_range", "label_out_of_range"]);
    let columns: [&[i8]; 3] = [&[0, 1], &[1, 0], &[1, 5]];
    let error = statistic.add_all(&Votes::new(columns.to_vec()).expect("one length"), 1).expect_err("5 is no class");
    assert_eq!(error.to_string(), "row 1: labeling function 2 says 5; with 2 classes a label is -1 (abstain) to 1");
    let ragged: [&[i8]; 2] = [&[0, 1], &[1]];
    assert_eq!(Votes::new(ragged.to_vec()).expect_err("one column is shorter").code(), "ragged_columns");
    assert_eq!(statistic.merge(&Statistic::new(3, 3).expect("a small shape"), 1).expect_err("three classes").code(), "other_shape");
    assert_eq!(statistic, before);
}

#[test]
fn shapes_are_limited() {
    assert_eq!(Statistic::new(3, CLASSES_MAX + 1).expect_err("too many classes").code(), "too_large");
    assert_eq!(Statistic::new(INDICATORS_MAX / 2 + 1, 2).expect_err("too many functions").code(), "too_large");
    assert_eq!(Statistic::new(usize::MAX, 2).expect_err("too many functions").code(), "too_large");
    assert_eq!(Statistic::new(0, 2).expect_err("no functions").code(), "bad_setting");
    assert_eq!(Statistic::new(3, 0).expect_err("no classes").code(), "bad_setting");
    assert!(Statistic::new(INDICATORS_MAX / CLASSES_MAX, CLASSES_MAX).is_ok());
}
