//! What labeling functions say: a class or nothing.

use super::LabelModelError;

/// The vote of a labeling function that has no opinion on a row. Classes are `0..classes`.
pub const ABSTAIN: i8 = -1;

/// Most classes of one model. The table of thirds holds `(classes + 1)^3` counts.
pub const CLASSES_MAX: usize = 64;

/// Most pairs (labeling function, class) of one model, m k. The pair counts then take 67 MB, and an epoch `2 (m k)^2 k`
/// multiplications: 67 million with 2 classes, 2 billion with 64.
pub const INDICATORS_MAX: usize = 4096;

/// How many labeling functions, m, and how many classes, k. The pair (labeling function j, class y) has the index `j * k + y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub lfs: usize,
    pub classes: usize,
}

impl Shape {
    pub fn new(lfs: usize, classes: usize) -> Result<Self, LabelModelError> {
        if classes == 0 {
            return Err(LabelModelError::BadSetting { name: "classes", must: "must be at least 1" });
        }
        if lfs == 0 {
            return Err(LabelModelError::BadSetting { name: "lfs", must: "must be at least 1" });
        }
        let limit = if classes > CLASSES_MAX {
            Some("64 classes")
        } else if lfs.saturating_mul(classes) > INDICATORS_MAX {
            Some("4096 pairs of a labeling function and a class")
        } else {
            None
        };
        match limit {
            Some(limit) => Err(LabelModelError::TooLarge { lfs, classes, limit }),
            None => Ok(Self { lfs, classes }),
        }
    }

    /// Pairs (labeling function, class).
    pub fn indicators(self) -> usize {
        self.lfs * self.classes
    }

    pub fn check_row(self, row: &[i8]) -> Result<(), LabelModelError> {
        if row.len() != self.lfs {
            return Err(LabelModelError::WrongWidth { given: row.len(), expected: self.lfs });
        }
        match row.iter().position(|vote| !self.allows(*vote)) {
            Some(lf) => Err(self.out_of_range(0, lf, row[lf])),
            None => Ok(()),
        }
    }

    pub fn check(self, votes: &Votes<'_>) -> Result<(), LabelModelError> {
        if votes.lfs() != self.lfs {
            return Err(LabelModelError::WrongWidth { given: votes.lfs(), expected: self.lfs });
        }
        for (lf, column) in votes.columns.iter().enumerate() {
            // Without branches, so that a whole column is checked many votes at a time.
            let wrong = column.iter().fold(false, |wrong, vote| wrong | !self.allows(*vote));
            if wrong {
                let row = column.iter().position(|vote| !self.allows(*vote)).unwrap_or_default();
                return Err(self.out_of_range(row, lf, column[row]));
            }
        }
        Ok(())
    }

    fn allows(self, vote: i8) -> bool {
        vote >= ABSTAIN && (vote as isize) < self.classes as isize
    }

    fn out_of_range(self, row: usize, lf: usize, label: i8) -> LabelModelError {
        LabelModelError::LabelOutOfRange { row, lf, label: label.into(), classes: self.classes }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} labeling functions and {} classes", self.lfs, self.classes)
    }
}

/// A label matrix, one column per labeling function: `columns[j][i]` is what labeling function j says of row i.
#[derive(Clone, Debug)]
pub struct Votes<'a> {
    pub columns: Vec<&'a [i8]>,
}

impl<'a> Votes<'a> {
    /// Errors: [`LabelModelError::Ragged`] when the columns differ in length.
    pub fn new(columns: Vec<&'a [i8]>) -> Result<Self, LabelModelError> {
        let expected = columns.first().map_or(0, |column| column.len());
        match columns.iter().position(|column| column.len() != expected) {
            Some(lf) => Err(LabelModelError::Ragged { lf, given: columns[lf].len(), expected }),
            None => Ok(Self { columns }),
        }
    }

    /// The number of rows, n; 0 without columns.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.len())
    }

    /// The number of columns, m.
    pub fn lfs(&self) -> usize {
        self.columns.len()
    }

    /// The votes on one row, in the order of the labeling functions.
    pub fn row(&self, index: usize) -> impl Iterator<Item = i8> + '_ {
        self.columns.iter().map(move |column| column[index])
    }
}
