//! What of a count may be shown.
//!
//! One function for every place that prints numbers of devices: answers, datasets, alerts, the dashboard. It promises:
//! - with `wifi.randomized = "exclude"` devices with randomised addresses are not in the number; how many there were is still told apart;
//! - with `wifi.k_anonymity = k` no number above zero and below k is shown, of devices in all, of those with randomised addresses, or of those
//!   without: what is left over when one is taken from the other would tell the same.
//!
//! # Known limitation
//! Sums are judged by themselves: the number of a floor less those of all its rooms but one tells the number of that room. Whoever may not
//! know it should not be shown both.

use desireline_records::Cell;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privacy {
    /// Devices with randomised addresses are left out of numbers.
    pub exclude_randomized: bool,
    /// Numbers below this, but above zero, are withheld. 0 and 1: none are.
    pub k: u32,
}

/// A cell as it may be shown. Absent numbers are withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    pub number: Option<i64>,
    /// Devices (or visits, or moves) with randomised addresses; part of `number` unless they are excluded.
    pub randomized: Option<i64>,
}

impl Privacy {
    pub fn show(self, cell: Cell) -> Shown {
        let number = self.number(self.counted(cell));
        let others = self.number(cell.count - cell.randomized);
        let randomized = self.number(cell.randomized).filter(|_| self.exclude_randomized || number.is_some() && others.is_some());
        Shown { number, randomized }
    }

    /// What counts of a cell, shown or not.
    pub fn counted(self, cell: Cell) -> i64 {
        if self.exclude_randomized { cell.count - cell.randomized } else { cell.count }
    }

    /// A bare number of devices, if it may be shown.
    pub fn number(self, count: i64) -> Option<i64> {
        Some(count).filter(|count| *count <= 0 || *count >= i64::from(self.k))
    }

    /// Whether anything is ever withheld.
    pub fn withholds(self) -> bool {
        self.k > 1
    }
}

impl Shown {
    /// Nothing was there.
    pub fn is_empty(self) -> bool {
        self.number == Some(0)
    }

    pub fn is_withheld(self) -> bool {
        self.number.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(count: i64, randomized: i64) -> Cell {
        Cell { count, randomized, micros: 0 }
    }

    fn shown(exclude_randomized: bool, k: u32, count: i64, randomized: i64) -> (Option<i64>, Option<i64>) {
        let shown = Privacy { exclude_randomized, k }.show(cell(count, randomized));
        (shown.number, shown.randomized)
    }

    #[test]
    fn without_settings_everything_is_shown() {
        assert_eq!(shown(false, 0, 1, 1), (Some(1), Some(1)));
        assert_eq!(shown(false, 1, 1, 0), (Some(1), Some(0)));
        assert!(!Privacy { k: 1, ..Privacy::default() }.withholds() && Privacy { k: 2, ..Privacy::default() }.withholds());
    }

    #[test]
    fn randomised_addresses_can_be_left_out_and_are_still_counted_apart() {
        assert_eq!(shown(true, 0, 7, 3), (Some(4), Some(3)));
        assert_eq!(shown(true, 0, 3, 3), (Some(0), Some(3)));
        assert!(Privacy { exclude_randomized: true, k: 0 }.show(cell(3, 3)).is_empty());
    }

    #[test]
    fn small_numbers_are_withheld_and_so_is_what_would_tell_them() {
        assert_eq!(shown(false, 5, 4, 0), (None, None));
        assert_eq!(shown(false, 5, 5, 0), (Some(5), Some(0)));
        assert_eq!(shown(false, 5, 0, 0), (Some(0), Some(0)));
        assert_eq!(shown(false, 5, 20, 2), (Some(20), None), "two are few");
        assert_eq!(shown(false, 5, 20, 18), (Some(20), None), "two are left over");
        assert_eq!(shown(false, 5, 20, 10), (Some(20), Some(10)));
        assert_eq!(shown(false, 5, 20, 20), (Some(20), Some(20)));
        assert_eq!(shown(true, 5, 9, 6), (None, Some(6)));
        assert_eq!(shown(true, 5, 12, 4), (Some(8), None));
    }
}
