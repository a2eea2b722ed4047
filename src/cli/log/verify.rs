//! `desireline log verify`.

use super::super::failure::{Exit, Failure};
use super::super::progress::{self, Unit};
use super::super::{ConfigArgs, out};
use clap::Args;
use desireline_connectors::cold;
use desireline_connectors::log::VerifyReport;

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  desireline log verify --data ./desireline-data

Exit code 0: all is as it was written. 4: damage, all of it listed by object.")]
pub struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub async fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let reader = super::open(&args.config)?;
    let bar = progress::bar(Some(0), Unit::Rows, "objects");
    let report = reader
        .verify(|progress| {
            bar.set_length(progress.objects);
            bar.set_position(progress.objects_done);
        })
        .await?;
    bar.finish_and_clear();
    out(&summary(&report));
    let (parts, damaged) = cold::verify_all(&super::store(&args.config)?)
        .await
        .map_err(|error| Failure::new(Exit::Failed, "the cold parts cannot be read").detail(error))?;
    out(&format!("{parts} cold parts, {} damaged\n", damaged.len()));
    if !damaged.is_empty() {
        let failure = Failure::new(Exit::Found, format!("{} cold parts are not what was written", damaged.len()));
        let failure = damaged.iter().fold(failure, Failure::detail);
        return Err(failure.hint("restore the named objects from a backup"));
    }
    if report.is_clean() { Ok(()) } else { Err(damage(&report)) }
}

fn summary(report: &VerifyReport) -> String {
    let counts = report.counts;
    format!(
        "{} objects, {} bytes: {} batches, {} events ({} late), {} dead letters, {} controls; last time {}\n",
        report.objects, report.bytes, report.batches, counts.events, counts.late, counts.dead_letters, counts.controls, report.last_time
    )
}

fn damage(report: &VerifyReport) -> Failure {
    let failure = Failure::new(Exit::Found, format!("the log has {} problems", report.problem_count));
    let listed = report.problems.iter().map(|problem| format!("{} [{}]: {}", problem.object, problem.code, problem.detail));
    let failure = listed.fold(failure, Failure::detail);
    let unlisted = report.problem_count.saturating_sub(report.problems.len() as u64);
    let failure = if unlisted > 0 { failure.detail(format!("… and {unlisted} more")) } else { failure };
    failure.hint("restore the named objects from a backup")
}
