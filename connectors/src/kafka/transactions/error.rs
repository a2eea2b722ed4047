//! What went wrong, told apart by what helps.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WriterError {
    /// The same again may work, after a new claim.
    #[error("{0}")]
    Unavailable(String),
    /// Somebody has to change something: rights, a password, a setting of the brokers.
    #[error("{0}")]
    Refused(String),
    /// Another producer has claimed the name.
    #[error("{0}")]
    Fenced(String),
    /// A topic is gone.
    #[error("{0}")]
    Missing(String),
}

impl WriterError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "kafka_unavailable",
            Self::Refused(_) => "kafka_refused",
            Self::Fenced(_) => "kafka_fenced",
            Self::Missing(_) => "kafka_topic_missing",
        }
    }

    pub fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// `doing` says what was attempted.
    pub(super) fn of(doing: &str, error: &KafkaError) -> Self {
        if let KafkaError::ClientConfig(_, description, key, _) = error {
            // The value may be a secret.
            return Self::Refused(format!("{doing}: the option `{key}`: {description}"));
        }
        match error.rdkafka_error_code() {
            Some(code) => Self::of_code(&format!("{doing}: {error}"), code),
            None => Self::Unavailable(format!("{doing}: {error}")),
        }
    }

    pub(super) fn of_code(text: &str, code: Code) -> Self {
        let text = text.to_owned();
        match code {
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Self::Fenced(text),
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::UnknownTopicId => Self::Missing(text),
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::PolicyViolation
            | Code::InvalidConfig
            | Code::InvalidTopic
            | Code::InvalidReplicationFactor => Self::Refused(text),
            _ => Self::Unavailable(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_what_helps() {
        for (code, expected) in [
            (Code::Fenced, "kafka_fenced"),
            (Code::ProducerFenced, "kafka_fenced"),
            (Code::TopicAuthorizationFailed, "kafka_refused"),
            (Code::InvalidReplicationFactor, "kafka_refused"),
            (Code::UnknownTopicOrPartition, "kafka_topic_missing"),
            (Code::AllBrokersDown, "kafka_unavailable"),
            (Code::OperationTimedOut, "kafka_unavailable"),
        ] {
            assert_eq!(WriterError::of("writing", &KafkaError::MessageProduction(code)).code(), expected, "{code:?}");
        }
    }
}
