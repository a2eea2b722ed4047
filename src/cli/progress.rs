//! Progress bars, drawn on a terminal's standard error and nowhere else.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Rows,
}

/// A bar of known length, or a counter when `total` is absent.
pub fn bar(total: Option<u64>, unit: Unit, message: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(total, target);
    bar.set_style(style(total.is_some(), unit));
    bar.set_message(message.to_owned());
    bar
}

fn style(known: bool, unit: Unit) -> ProgressStyle {
    let template = match (known, unit) {
        (true, Unit::Bytes) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        (true, Unit::Rows) => "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}",
        (false, Unit::Bytes) => "{msg} {spinner} {bytes} {bytes_per_sec} {elapsed}",
        (false, Unit::Rows) => "{msg} {spinner} {human_pos} {per_sec} {elapsed}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_counts_even_when_hidden() {
        for (total, unit) in [(Some(10), Unit::Rows), (None, Unit::Rows), (Some(10), Unit::Bytes), (None, Unit::Bytes)] {
            let bar = bar(total, unit, "work");
            bar.inc(3);
            assert_eq!((bar.position(), bar.length()), (3, total));
        }
    }
}
