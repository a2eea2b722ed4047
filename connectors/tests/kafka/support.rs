//! A cluster, a producer and a sink that remembers everything it is told.

use desireline_connectors::formats::Format;
use desireline_connectors::kafka::{self, KafkaConfig, KafkaError, Sink, SinkError};
use desireline_records::validate::Validator;
use desireline_records::{DeadLetter, Event, Progress, SourceId};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, FutureProducer, FutureRecord, Producer as _};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds, looking at it every few milliseconds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn config(cluster: &Cluster, topic: &str) -> KafkaConfig {
    let mut config = KafkaConfig::new(cluster.brokers.clone(), topic, 1, Format::Desireline);
    config.group_id = Some(format!("group-{topic}"));
    config.refresh_every = Duration::from_millis(100);
    config.properties.insert("reconnect.backoff.max.ms".into(), "200".into());
    config
}

pub struct Cluster {
    pub brokers: String,
    mock: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::real().unwrap_or_else(Self::start_mock)
    }

    pub fn start_mock() -> Self {
        let mock = MockCluster::new(3).expect("a mock cluster");
        Self { brokers: mock.bootstrap_servers(), mock: Some(mock) }
    }

    pub fn real() -> Option<Self> {
        std::env::var("KAFKA_BROKERS").ok().filter(|brokers| !brokers.is_empty()).map(|brokers| Self { brokers, mock: None })
    }

    /// A topic name that nobody else uses.
    pub fn name(&self, word: &str) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        format!("test-{word}-{:x}-{}", since.as_nanos(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    pub async fn topic(&self, word: &str, partitions: i32) -> String {
        let name = self.name(word);
        self.create(&name, partitions).await;
        name
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    fn admin(&self) -> AdminClient<rdkafka::client::DefaultClientContext> {
        self.client().create().expect("an admin client")
    }

    pub async fn create(&self, name: &str, partitions: i32) {
        match &self.mock {
            Some(mock) => mock.create_topic(name, partitions, 1).expect("creates a topic"),
            None => {
                let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
                let deadline = Instant::now() + DEADLINE;
                // A name that was deleted a moment ago may still be taken.
                while self.admin().create_topics([&topic], &AdminOptions::new()).await.expect("answers")[0].is_err() {
                    assert!(Instant::now() < deadline, "the topic cannot be created");
                }
            }
        }
    }

    pub async fn grow(&self, name: &str, partitions: usize) {
        let outcome = self.admin().create_partitions([&NewPartitions::new(name, partitions)], &AdminOptions::new()).await;
        outcome.expect("answers")[0].as_ref().expect("adds partitions");
    }

    pub async fn delete(&self, name: &str) {
        self.admin().delete_topics(&[name], &AdminOptions::new()).await.expect("answers")[0].as_ref().expect("deletes the topic");
    }

    /// Makes the broker forget the messages that a partition has had so far.
    pub async fn delete_before(&self, topic: &str, partition: i32, producer: &Producer) {
        if self.mock.is_some() {
            // The mock keeps about five megabytes of a partition.
            let large = vec![b'x'; 900_000];
            for _ in 0..8 {
                producer.send(topic, partition, Some(&large)).await;
            }
            return;
        }
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::End).expect("an offset");
        self.admin().delete_records(&offsets, &AdminOptions::new()).await.expect("deletes records");
    }

    pub fn brokers(&self, up: bool) {
        let mock = self.mock.as_ref().expect("only mock brokers can be taken down");
        for broker in 1..=3 {
            if up { mock.broker_up(broker) } else { mock.broker_down(broker) }.expect("switches a broker");
        }
    }

    pub fn producer(&self) -> Producer {
        let mut config = self.client();
        config.set("message.timeout.ms", "60000").set("linger.ms", "5").set("reconnect.backoff.max.ms", "200");
        Producer(config.create().expect("a producer"))
    }

    /// Five events in each transaction, which is then committed or aborted.
    pub async fn transactions(&self, topic: &str, commits: &[bool]) {
        let mut config = self.client();
        config.set("transactional.id", topic);
        let (topic, commits) = (topic.to_owned(), commits.to_vec());
        let produce = move || {
            let producer: BaseProducer = config.create().expect("a producer");
            producer.init_transactions(DEADLINE).expect("initialises");
            for (round, commit) in commits.into_iter().enumerate() {
                producer.begin_transaction().expect("begins");
                for n in 0..5 {
                    let payload = format!("{{\"user_id\":\"0-{}\"}}", round * 5 + n);
                    producer.send(BaseRecord::<(), _>::to(&topic).payload(&payload)).map_err(|(error, _)| error).expect("queues");
                }
                producer.flush(DEADLINE).expect("flushes");
                if commit { producer.commit_transaction(DEADLINE) } else { producer.abort_transaction(DEADLINE) }.expect("ends");
            }
        };
        tokio::task::spawn_blocking(produce).await.expect("produces");
    }

    /// The first `count` messages of a topic with one partition.
    pub async fn read(&self, topic: &str, count: usize) -> Vec<Received> {
        let mut config = self.client();
        config.set("group.id", format!("reader-{topic}")).set("auto.offset.reset", "earliest");
        let topic = topic.to_owned();
        let read = move || {
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, 0, Offset::Beginning).expect("an offset");
            consumer.assign(&list).expect("assigns");
            let deadline = Instant::now() + DEADLINE;
            let mut received = Vec::new();
            while received.len() < count {
                assert!(Instant::now() < deadline, "waited too long for forwarded messages");
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                    let headers = message.headers().map(|headers| {
                        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                        headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
                    });
                    received
                        .push(Received { payload: message.payload().unwrap_or_default().to_vec(), headers: headers.unwrap_or_default() });
                }
            }
            received
        };
        tokio::task::spawn_blocking(read).await.expect("reads")
    }
}

pub struct Received {
    pub payload: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

pub struct Producer(FutureProducer);

impl Producer {
    pub async fn send(&self, topic: &str, partition: i32, payload: Option<&[u8]>) {
        let mut record = FutureRecord::<(), [u8]>::to(topic).partition(partition);
        if let Some(payload) = payload {
            record = record.payload(payload);
        }
        self.0.send(record, DEADLINE).await.expect("delivers");
    }

    /// `count` events to each partition, the users of which name partition and number, from `first` on.
    pub async fn events(&self, topic: &str, partitions: i32, first: i64, count: i64) {
        let sends = (0..partitions).flat_map(|partition| (first..first + count).map(move |n| (partition, n)));
        futures::future::join_all(sends.map(async |(partition, n)| {
            let payload = format!("{{\"user_id\":\"{partition}-{n}\",\"event_type\":\"view\",\"timestamp\":{}}}", 1_700_000_000 + n);
            self.send(topic, partition, Some(payload.as_bytes())).await;
        }))
        .await;
    }
}

/// A run in the background.
pub struct Run {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), KafkaError>>,
}

impl Run {
    pub fn start(config: KafkaConfig, sink: Arc<MemorySink>) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(kafka::run(config, sink, stopped)) }
    }

    pub async fn stop(self) -> Result<(), KafkaError> {
        self.stop.send_replace(true);
        self.ended().await
    }

    /// Drops everything at the next await, as a crash would.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()), "it was running");
    }

    pub async fn ended(self) -> Result<(), KafkaError> {
        tokio::time::timeout(DEADLINE, self.task).await.expect("ends in time").expect("does not panic")
    }
}

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Fine,
    /// Nothing became durable.
    FailBefore,
    /// All became durable, but the answer was lost.
    FailAfter,
    Closed,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    dead_letters: Vec<DeadLetter>,
    positions: BTreeMap<String, i64>,
    reports: BTreeMap<String, (Option<i64>, Option<String>)>,
    script: VecDeque<Outcome>,
    largest: usize,
}

/// The log, as far as the consumer can tell. It insists that positions are contiguous.
pub struct MemorySink {
    state: Mutex<State>,
    gate: watch::Sender<bool>,
    waiting: AtomicUsize,
}

impl MemorySink {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), gate: watch::Sender::new(true), waiting: AtomicUsize::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the lock")
    }

    pub fn script<const N: usize>(&self, outcomes: [Outcome; N]) {
        self.state().script.extend(outcomes);
    }

    pub fn scripted(&self) -> usize {
        self.state().script.len()
    }

    pub fn close_gate(&self) {
        self.gate.send_replace(false);
    }

    pub fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    pub fn rows(&self) -> usize {
        let state = self.state();
        state.events.len() + state.dead_letters.len()
    }

    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state().dead_letters.clone()
    }

    pub fn positions(&self) -> BTreeMap<String, i64> {
        self.state().positions.clone()
    }

    pub fn set_position(&self, partition: &str, position: i64) {
        self.state().positions.insert(partition.to_owned(), position);
    }

    pub fn error(&self, partition: &str) -> Option<String> {
        self.state().reports.get(partition).and_then(|(_, error)| error.clone())
    }

    pub fn lag(&self, partition: &str) -> Option<i64> {
        self.state().reports.get(partition).and_then(|(lag, _)| *lag)
    }

    pub fn largest_commit(&self) -> usize {
        self.state().largest
    }

    pub fn distinct_rows(&self) -> usize {
        self.state().events.iter().map(|event| event.id).collect::<HashSet<_>>().len()
    }

    pub fn assert_exactly_once(&self, rows: usize) {
        let state = self.state();
        assert_eq!(state.dead_letters, []);
        assert_eq!(state.events.len(), rows);
        let users: HashSet<_> = state.events.iter().map(|event| event.user.clone()).collect();
        let ids: HashSet<_> = state.events.iter().map(|event| event.id).collect();
        assert_eq!((users.len(), ids.len()), (rows, rows), "every message once");
    }

    /// Whether the numbers of each partition's users only rise.
    pub fn in_order(&self) -> bool {
        let mut last: BTreeMap<String, i64> = BTreeMap::new();
        self.state().events.iter().all(|event| {
            let (partition, number) = event.user.split_once('-').expect("partition and number");
            let number = number.parse().expect("a number");
            last.insert(partition.to_owned(), number).is_none_or(|before| before < number)
        })
    }

    fn store(&self, progress: Progress) {
        let mut state = self.state();
        for position in &progress.positions {
            assert!(position.after >= position.before);
            let known = state.positions.insert(position.partition.to_string(), position.after);
            assert!(known.is_none_or(|known| known == position.before), "{position:?} does not follow {known:?}");
        }
        state.largest = state.largest.max(progress.events.len() + progress.dead_letters.len());
        state.events.extend(progress.events);
        state.dead_letters.extend(progress.dead_letters);
    }
}

#[async_trait::async_trait]
impl Sink for MemorySink {
    async fn commit(&self, progress: Progress) -> Result<(), SinkError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.gate.subscribe().wait_for(|open| *open).await.expect("the gate outlives its users");
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let outcome = self.state().script.pop_front().unwrap_or(Outcome::Fine);
        if matches!(outcome, Outcome::Fine | Outcome::FailAfter) {
            self.store(progress);
        }
        match outcome {
            Outcome::Fine => Ok(()),
            Outcome::FailBefore | Outcome::FailAfter => Err(SinkError::Retry("scripted".into())),
            Outcome::Closed => Err(SinkError::Closed("fenced".into())),
        }
    }

    fn position(&self, source: SourceId, partition: &str) -> Option<i64> {
        assert_eq!(source, 1);
        self.state().positions.get(partition).copied()
    }

    fn report(&self, _source: SourceId, partition: &str, lag: Option<i64>, error: Option<String>) {
        self.state().reports.insert(partition.to_owned(), (lag, error));
    }

    fn validator(&self) -> Arc<Validator> {
        Arc::default()
    }
}
