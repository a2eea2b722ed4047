//! Where rows are delivered. A sink takes rows into a buffer (`push`) and delivers them (`flush`); `finish` waits for the rest.

mod http;
mod kafka;
mod lines;

use super::options::{GenerateError, GenerateOptions, Target};
use super::{Endpoint, Format, Generated};

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows delivered, copies included.
    pub rows: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Requests that had to be made again.
    pub retries: u64,
    /// As the server counted them; HTTP only.
    pub inserted: u64,
    pub duplicates: u64,
    pub rejected: u64,
}

pub(super) enum Sink {
    Lines(lines::Lines),
    Http(http::Http),
    Kafka(kafka::Kafka),
}

impl Sink {
    pub(super) async fn open<E: Generated>(options: &GenerateOptions) -> Result<Self, GenerateError> {
        Ok(match &options.to {
            Target::Stdout => Self::Lines(lines::Lines::stdout(options.format())),
            Target::File(path) if options.is_csv() => Self::Lines(lines::Lines::csv(path, E::CSV_HEADER)?),
            Target::File(path) => Self::Lines(lines::Lines::json(path, options.format())?),
            Target::Http(base) => {
                let nowhere = || GenerateError::Option { option: "to", detail: format!("the server takes no {} over HTTP", options.kind) };
                Self::Http(http::Http::new(base, E::ENDPOINT.ok_or_else(nowhere)?, options)?)
            }
            Target::Kafka { brokers, topic } => Self::Kafka(kafka::Kafka::new(brokers, topic, options)?),
        })
    }

    pub(super) fn push<E: Generated>(&mut self, row: &E) {
        match self {
            Self::Lines(sink) => sink.push(row),
            Self::Http(sink) => sink.push(row),
            Self::Kafka(sink) => sink.push(row),
        }
    }

    /// False when nobody reads any more (a closed pipe): the run is over.
    pub(super) async fn flush(&mut self) -> Result<bool, GenerateError> {
        match self {
            Self::Lines(sink) => sink.flush(),
            Self::Http(sink) => sink.flush().await.map(|()| true),
            Self::Kafka(sink) => sink.flush().await.map(|()| true),
        }
    }

    pub(super) async fn finish(self) -> Result<Report, GenerateError> {
        match self {
            Self::Lines(sink) => sink.finish(),
            Self::Http(sink) => sink.finish().await,
            Self::Kafka(sink) => Ok(sink.finish()),
        }
    }
}
