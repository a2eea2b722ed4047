//! Faults of services, as the other tests inflict them: what is killed comes back on its port, with its data.
//!
//! Alone in its binary, because it takes the broker away from everybody.

mod support;

use support::kafka::Kafka;
use support::services;
use support::wait::{DEADLINE, eventually_true};

#[test]
fn a_killed_broker_comes_back_on_its_port_with_every_acknowledged_message() {
    let Some(kafka) = Kafka::from_env() else { return };
    let topic = kafka.create_topic("faults", 2);
    kafka.produce(&topic, (0..100).map(|number| format!("before {number}")));
    let before = kafka.read_all(&topic);
    assert_eq!(before.len(), 100);

    if !services::control("kill", "kafka") {
        return;
    }
    assert!(services::ours("kafka"), "a killed service still belongs to this run");
    assert!(services::control("start", "kafka"));
    assert_eq!(kafka.read_all(&topic), before);
    kafka.produce(&topic, ["after"]);
    assert_eq!(kafka.read_all(&topic).len(), 101);

    assert!(services::control("pause", "kafka"));
    assert!(services::control("resume", "kafka"));
    eventually_true("the resumed broker to answer", DEADLINE, || kafka.bounds(&topic, 0).1 + kafka.bounds(&topic, 1).1 == 101);
    kafka.delete_topic(&topic);
}
