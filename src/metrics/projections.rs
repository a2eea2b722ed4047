//! The numbers of the projections, read from their followers at each scrape.

use super::gauge_of;
use crate::projections::{FollowerState, ProjectionStatus};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use std::fmt::Error;

const STATES: [FollowerState; 7] = [
    FollowerState::Starting,
    FollowerState::CatchingUp,
    FollowerState::Rebuilding,
    FollowerState::Live,
    FollowerState::Paused,
    FollowerState::Failing,
    FollowerState::Fenced,
];

type Number = (&'static str, &'static str, fn(&ProjectionStatus) -> Option<f64>);
type Count = (&'static str, &'static str, fn(&ProjectionStatus) -> u64);

const GAUGES: [Number; 3] = [
    ("projection_applied_time_seconds", "The logical time up to which the target has everything", |p| p.applied.map(|ms| ms as f64 / 1e3)),
    ("projection_lag_seconds", "By how much the target lags the views", |p| p.lag_ms.map(|ms| ms as f64 / 1e3)),
    ("projection_lag_rows", "Changes that wait in memory for the target", |p| Some(p.lag_rows as f64)),
];

/// With `_total` appended by the format.
const COUNTERS: [Count; 3] = [
    ("projection_rows_applied", "Rows put or taken away in the target", |p| p.rows_applied),
    ("projection_rows_refused", "Rows that the target itself refused", |p| p.rows_refused),
    ("projection_failures", "Times that the target failed", |p| p.failures),
];

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, projections: &[ProjectionStatus]) -> Result<(), Error> {
    for (name, help, read) in GAUGES {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for projection in projections {
            if let Some(value) = read(projection) {
                gauge_of(&mut metric, &[("projection", projection.name.as_str())], value)?;
            }
        }
    }
    for (name, help, read) in COUNTERS {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for projection in projections {
            let labels = [("projection", projection.name.as_str())];
            ConstCounter::new(read(projection)).encode(metric.encode_family(&labels)?)?;
        }
    }
    let mut metric = encoder.encode_descriptor("projection_state", "1 for the state that the projection is in", None, MetricType::Gauge)?;
    for projection in projections {
        for state in STATES {
            let labels = [("projection", projection.name.as_str()), ("state", state.word())];
            gauge_of(&mut metric, &labels, f64::from(u8::from(projection.state == state)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::metrics::{Metrics, RunNumbers};
    use crate::projections::{FollowerState, ProjectionStatus};

    #[test]
    fn each_projection_has_its_numbers_and_one_state() {
        let live = ProjectionStatus {
            name: "postgres".into(),
            state: FollowerState::Live,
            applied: Some(1_500),
            lag_ms: Some(250),
            lag_rows: 7,
            rows_applied: 11,
            rows_refused: 2,
            failures: 3,
            ..ProjectionStatus::default()
        };
        let new = ProjectionStatus { name: "redis".into(), ..ProjectionStatus::default() };
        let text = Metrics::default().print(None, RunNumbers::default(), vec![live, new]);
        for line in [
            "desireline_projection_applied_time_seconds{projection=\"postgres\"} 1.5",
            "desireline_projection_lag_seconds{projection=\"postgres\"} 0.25",
            "desireline_projection_lag_rows{projection=\"postgres\"} 7.0",
            "desireline_projection_rows_applied_total{projection=\"postgres\"} 11",
            "desireline_projection_rows_refused_total{projection=\"postgres\"} 2",
            "desireline_projection_failures_total{projection=\"postgres\"} 3",
            "desireline_projection_state{projection=\"postgres\",state=\"live\"} 1.0",
            "desireline_projection_state{projection=\"postgres\",state=\"failing\"} 0.0",
            "desireline_projection_state{projection=\"redis\",state=\"starting\"} 1.0",
        ] {
            assert!(text.lines().any(|l| l == line), "missing: {line}\n{text}");
        }
        assert!(!text.contains("applied_time_seconds{projection=\"redis\"}"), "it was never reached");
    }
}
