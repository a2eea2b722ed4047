//! One session: from asking the log for its positions to the first failure whose outcome is not known.
//!
//! A session owns one client. When anything makes it doubtful what has been read or committed, the session ends, the client is
//! thrown away with everything it had fetched, and the next session starts from the log.

use super::batch::Batch;
use super::client::{self, Bounds, Client, Probe, ProbeError};
use super::forward::{Forwarder, Rejected};
use super::partitions::{Decision, Memory, Reading, Stop, beyond, decide, lag};
use super::{KafkaConfig, KafkaError, Sink, SinkError};
use desireline_records::time::now_micros;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// How a session ends well enough to go on or to leave.
pub(super) enum End {
    Stopped,
    /// Start over from the log, for this reason.
    Restart(String),
}

/// Messages taken from librdkafka's queue before other things get their turn.
const DRAIN_MESSAGES: usize = 1_024;

struct InFlight {
    commit: BoxFuture<'static, Result<(), SinkError>>,
    /// How far each partition is once it has succeeded.
    after: BTreeMap<i32, i64>,
    rejected: Vec<Rejected>,
}

struct Asked {
    answer: oneshot::Receiver<Result<Probe, ProbeError>>,
    /// Where partitions stood when the question was asked: the answer is no younger.
    next: BTreeMap<i32, i64>,
}

struct Session<'a> {
    config: &'a KafkaConfig,
    sink: &'a Arc<dyn Sink>,
    memory: &'a mut Memory,
    forwarder: Option<&'a Forwarder>,
    client: Arc<Client>,
    reading: BTreeMap<i32, Reading>,
    batch: Batch,
    in_flight: Option<InFlight>,
    /// The topic was there, and then it was not.
    missing: bool,
    /// The client has complained since the topic was last looked at.
    troubled: bool,
}

pub(super) async fn run(
    config: &KafkaConfig,
    sink: &Arc<dyn Sink>,
    memory: &mut Memory,
    forwarder: Option<&Forwarder>,
    stop: &mut watch::Receiver<bool>,
) -> Result<End, KafkaError> {
    let client: Client = client::client_config(config)
        .create_with_context(client::Context)
        .map_err(|error: rdkafka::error::KafkaError| KafkaError::Client(error.to_string()))?;
    // Declared before the session, so that it is the last to let go of the client.
    let client = client::Owned::new(client);
    let mut session = Session {
        config,
        sink,
        memory,
        forwarder,
        client: client.share(),
        reading: BTreeMap::new(),
        batch: Batch::default(),
        in_flight: None,
        missing: false,
        troubled: false,
    };
    let end = session.drive(stop).await;
    if let Some(in_flight) = session.in_flight.take() {
        // It will succeed or fail without us; but its positions must be settled before anybody asks for them.
        let _ = in_flight.commit.await;
    }
    end
}

impl Session<'_> {
    async fn drive(&mut self, stop: &mut watch::Receiver<bool>) -> Result<End, KafkaError> {
        let client = self.client.clone();
        let mut messages = client.stream();
        let mut refresh: Interval = tokio::time::interval(self.config.refresh_every);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked: Option<Asked> = None;
        loop {
            self.commit_if_due();
            let due = self.batch.opened.filter(|_| self.in_flight.is_none()).map(|opened| opened + self.config.batch_age_max);
            let open = !self.batch.full(self.config);
            let ended = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok(End::Stopped),
                outcome = finished(&mut self.in_flight) => self.committed(outcome)?,
                answer = answered(&mut asked) => self.refreshed(answer),
                _ = refresh.tick(), if asked.is_none() => {
                    asked = Some(self.ask());
                    None
                }
                () = until(due) => None,
                message = messages.next(), if open => {
                    let mut ended = self.take(message);
                    for _ in 0..DRAIN_MESSAGES {
                        if ended.is_some() || self.batch.full(self.config) {
                            break;
                        }
                        let Some(message) = messages.next().now_or_never() else { break };
                        ended = self.take(message);
                    }
                    ended
                }
            };
            if let Some(reason) = ended {
                return Ok(End::Restart(reason));
            }
        }
    }

    fn commit_if_due(&mut self) {
        let due = self.batch.opened.is_some_and(|opened| opened.elapsed() >= self.config.batch_age_max) || self.batch.full(self.config);
        if self.in_flight.is_some() || self.batch.is_empty() || !due {
            return;
        }
        let (progress, after, rejected) = std::mem::take(&mut self.batch).finish(self.config);
        let sink = self.sink.clone();
        let commit = async move { sink.commit(progress).await }.boxed();
        self.in_flight = Some(InFlight { commit, after, rejected });
    }

    /// A commit has come to its end.
    fn committed(&mut self, (outcome, after, rejected): Committed) -> Result<Option<String>, KafkaError> {
        match outcome {
            Ok(()) => {}
            Err(SinkError::Closed(reason)) => return Err(KafkaError::Sink(reason)),
            Err(SinkError::Retry(reason)) => return Ok(Some(format!("a commit has failed: {reason}"))),
        }
        self.memory.commits += 1;
        let mut offsets = TopicPartitionList::with_capacity(after.len());
        for (id, after) in after {
            if let Some(partition) = self.reading.get_mut(&id) {
                partition.committed = after;
            }
            // Only negative offsets are refused.
            let _ = offsets.add_partition_offset(&self.config.topic, id, Offset::Offset(after));
        }
        if let Err(error) = self.client.commit(&offsets, CommitMode::Async) {
            tracing::debug!(topic = self.config.topic, "offsets were not committed to the group: {error}");
        }
        if let Some(forwarder) = self.forwarder {
            forwarder.forward(rejected);
        }
        Ok(None)
    }

    /// Takes what the client has: a message, the end of a partition, or an error.
    fn take(&mut self, message: Option<KafkaResult<BorrowedMessage<'_>>>) -> Option<String> {
        use rdkafka::error::KafkaError as Error;
        match message? {
            Ok(message) => {
                if let Some(partition) = self.reading.get_mut(&message.partition())
                    && message.offset() >= partition.next
                {
                    partition.at_end = false;
                    self.batch.push(self.config, || self.sink.validator(), partition, &message, now_micros());
                }
                None
            }
            Err(Error::PartitionEOF(id)) => {
                if let Some(partition) = self.reading.get_mut(&id) {
                    partition.at_end = true;
                }
                None
            }
            Err(Error::MessageConsumption(code @ (RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset))) => {
                Some(format!("the broker does not have the messages at a position: {code}"))
            }
            Err(Error::MessageConsumptionFatal(code)) => Some(format!("the client has failed: {code}")),
            Err(Error::MessageConsumption(RDKafkaErrorCode::AllBrokersDown)) => {
                self.report_all("no broker can be reached");
                None
            }
            Err(error) => {
                // The client tries again by itself. What it says stands until it has been quiet from one look at the topic to the next.
                tracing::info!(topic = self.config.topic, "Kafka: {error}");
                self.troubled = true;
                self.report_topic(Some(error.to_string()));
                None
            }
        }
    }

    fn ask(&self) -> Asked {
        let (client, config) = (self.client.clone(), self.config.clone());
        let next = self.reading.iter().map(|(id, partition)| (*id, partition.next)).collect();
        Asked { answer: client::ask(client, config), next }
    }

    /// The broker has said what the topic looks like.
    fn refreshed(&mut self, (answer, next): (Result<Probe, ProbeError>, BTreeMap<i32, i64>)) -> Option<String> {
        let probe = match answer {
            Ok(probe) => probe,
            Err(error) => {
                self.missing |= error.missing;
                self.report_all(&error.detail);
                return None;
            }
        };
        if self.missing && !self.reading.is_empty() {
            return Some("the topic was gone and is back".into());
        }
        self.missing = false;
        if let Some(reason) = self.moved_elsewhere() {
            return Some(reason);
        }
        if !std::mem::take(&mut self.troubled) && self.memory.reported {
            self.report_topic(None);
        }
        let known_to_log = probe.partitions.keys().any(|id| self.position(*id).is_some());
        self.memory.first_look(probe.partitions.keys().copied(), || known_to_log);
        let mut added = Vec::new();
        for (id, bounds) in &probe.partitions {
            match (self.reading.contains_key(id), bounds) {
                (true, bounds) => self.check(*id, *bounds, next.get(id).copied()),
                (false, Some(bounds)) => added.extend(self.consider(*id, *bounds)),
                (false, None) => self.report(*id, None, Some("the partition has no leader that answers")),
            }
        }
        self.forget_gone(&probe);
        self.assign(&added)
    }

    /// Whether a command has moved a partition that is being read.
    fn moved_elsewhere(&self) -> Option<String> {
        if self.in_flight.is_some() {
            return None;
        }
        self.reading.iter().find_map(|(id, partition)| {
            let position = self.position(*id)?;
            (position != partition.committed)
                .then(|| format!("the position of partition {id} was set from {} to {position}", partition.committed))
        })
    }

    /// A partition that is being read: its lag, or that it must stop.
    fn check(&mut self, id: i32, bounds: Option<Bounds>, next_then: Option<i64>) {
        let Some(Bounds { high, .. }) = bounds else {
            return self.report(id, None, Some("the partition has no leader that answers"));
        };
        match next_then {
            // Compared with where the partition stood before the question: by now it may be further than the answer.
            Some(then) if then > high => self.stop_partition(id, then, high),
            _ => {
                let Some(partition) = self.reading.get(&id) else { return };
                self.report(id, Some(lag(partition.next, high, partition.at_end)), None);
            }
        }
    }

    fn stop_partition(&mut self, id: i32, at: i64, high: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.config.topic, id);
        if let Err(error) = self.client.incremental_unassign(&list) {
            tracing::debug!(topic = self.config.topic, partition = id, "unassigning a stopped partition: {error}");
        }
        self.reading.remove(&id);
        self.stop_at(id, Stop { position: self.position(id), reason: beyond(at, high) });
    }

    fn stop_at(&mut self, id: i32, stop: Stop) {
        self.report(id, None, Some(&stop.reason));
        let reason = stop.reason.clone();
        if self.memory.stopped.insert(id, stop.clone()) != Some(stop) {
            tracing::error!(topic = self.config.topic, partition = id, "a Kafka partition has stopped: {reason}");
        }
    }

    /// A partition that is not being read: where to read it from, if at all.
    fn consider(&mut self, id: i32, bounds: Bounds) -> Option<(i32, i64)> {
        let new = self.memory.is_new(id);
        match decide(self.position(id), bounds, self.config.start, new, self.memory.stopped.get(&id)) {
            Decision::Stop(stop) => {
                self.stop_at(id, stop);
                None
            }
            Decision::Read { offset, record } => {
                self.memory.stopped.remove(&id);
                let mut partition =
                    Reading { key: self.config.partition_key(id), next: offset, committed: offset, at_end: false, max_time: None };
                if record {
                    self.batch.opened.get_or_insert_with(Instant::now);
                    self.batch.advance(&mut partition, id, offset);
                }
                self.report(id, Some(lag(offset, bounds.high, false)), None);
                self.reading.insert(id, partition);
                Some((id, offset))
            }
        }
    }

    /// Partitions that the topic no longer has; they come back with the topic, if at all.
    fn forget_gone(&mut self, probe: &Probe) {
        let gone: BTreeSet<i32> = self.reading.keys().copied().filter(|id| !probe.partitions.contains_key(id)).collect();
        for id in gone {
            self.report(id, None, Some("the topic no longer has this partition"));
        }
    }

    fn assign(&self, added: &[(i32, i64)]) -> Option<String> {
        if added.is_empty() {
            return None;
        }
        let mut list = TopicPartitionList::with_capacity(added.len());
        let filled: KafkaResult<()> =
            added.iter().try_for_each(|(id, offset)| list.add_partition_offset(&self.config.topic, *id, Offset::Offset(*offset)));
        tracing::info!(topic = self.config.topic, partitions = added.len(), "reading Kafka partitions");
        filled.and_then(|()| self.client.incremental_assign(&list)).err().map(|error| format!("partitions cannot be assigned: {error}"))
    }

    fn position(&self, id: i32) -> Option<i64> {
        self.sink.position(self.config.source, &self.config.partition_key(id))
    }

    fn report(&self, id: i32, lag: Option<i64>, error: Option<&str>) {
        self.sink.report(self.config.source, &self.config.partition_key(id), lag, error.map(str::to_owned));
    }

    fn report_topic(&mut self, error: Option<String>) {
        self.memory.reported = error.is_some();
        self.sink.report(self.config.source, &self.config.topic_key(), None, error);
    }

    fn report_all(&mut self, error: &str) {
        self.report_topic(Some(error.to_owned()));
        for id in self.reading.keys() {
            self.report(*id, None, Some(error));
        }
    }
}

type Committed = (Result<(), SinkError>, BTreeMap<i32, i64>, Vec<Rejected>);

/// The commit in flight, once it has come to its end; for ever pending when there is none.
async fn finished(in_flight: &mut Option<InFlight>) -> Committed {
    let Some(pending) = in_flight else { return std::future::pending().await };
    let outcome = (&mut pending.commit).await;
    let InFlight { after, rejected, .. } = in_flight.take().expect("it was just polled");
    (outcome, after, rejected)
}

async fn answered(asked: &mut Option<Asked>) -> (Result<Probe, ProbeError>, BTreeMap<i32, i64>) {
    let Some(pending) = asked else { return std::future::pending().await };
    let answer = (&mut pending.answer).await;
    let Asked { next, .. } = asked.take().expect("it was just polled");
    let failed = |error| ProbeError { detail: format!("asking the broker has failed: {error}"), missing: false };
    (answer.unwrap_or_else(|error| Err(failed(error))), next)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
