//! What a rebuild remembers of the rows that it has sent: enough to tell at its end which keys of the topics are stale.

use super::{Owner, rows};
use desireline_connectors::kafka::transactions::{Offsets, Record};
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// No changeset has this number: the key already has its tombstone.
const GONE: u32 = u32::MAX;

pub(super) struct Rebuild {
    /// Where the topic of the minutes ended when the rebuild began: what lies before is not of this rebuild.
    pub minutes_from: Offsets,
    /// The changeset under way, from 1.
    number: u32,
    /// By the hash of topic and key: the changeset that last put the row.
    sent: HashMap<u64, u32>,
    /// The changeset that last erased a user.
    erased: HashMap<Owner, u32>,
    stale: Vec<Vec<u8>>,
}

impl Rebuild {
    pub fn new(minutes_from: Offsets) -> Self {
        Self { minutes_from, number: 0, sent: HashMap::new(), erased: HashMap::new(), stale: Vec::new() }
    }

    /// Takes note of a changeset: first users are erased, then rows are put and taken away.
    pub fn note(&mut self, records: &[Record], erased: &BTreeSet<Owner>) {
        self.number = (self.number + 1).min(GONE - 1);
        self.erased.extend(erased.iter().map(|owner| (owner.clone(), self.number)));
        for record in records {
            let hash = hash(&record.topic.name, &record.key);
            match record.payload {
                Some(_) => self.sent.insert(hash, self.number),
                None => self.sent.remove(&hash),
            };
        }
    }

    /// Looks at a key that a topic holds, and notes it down if it is stale; up to `stale_max` of them.
    pub fn judge(&mut self, topic: &str, key: &[u8], stale_max: usize) {
        let hash = hash(topic, key);
        let stands = match self.sent.get(&hash) {
            Some(&GONE) => return,
            Some(number) => {
                self.erased.is_empty() || rows::owner(key).and_then(|owner| self.erased.get(&owner)).is_none_or(|at| at <= number)
            }
            None => false,
        };
        if !stands && self.stale.len() < stale_max {
            self.sent.insert(hash, GONE);
            self.stale.push(key.to_vec());
        }
    }

    pub fn take_stale(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.stale)
    }
}

fn hash(topic: &str, key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (topic, key).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_connectors::kafka::transactions::Topic;
    use std::sync::Arc;

    fn record(key: &str, stands: bool) -> Record {
        let topic = Arc::new(Topic { name: "t".into(), partitions: 1, replication: 1, compacted: true });
        Record { topic, key: key.into(), payload: stands.then(|| b"{}".to_vec()) }
    }

    fn stale(rebuild: &mut Rebuild, keys: &[&str], stale_max: usize) -> Vec<String> {
        keys.iter().for_each(|key| rebuild.judge("t", key.as_bytes(), stale_max));
        rebuild.take_stale().into_iter().map(|key| String::from_utf8(key).expect("text")).collect()
    }

    #[test]
    fn what_was_not_sent_is_stale_once() {
        let mut rebuild = Rebuild::new(Offsets::new());
        rebuild.note(&[record("a", true), record("b", true)], &BTreeSet::new());
        rebuild.note(&[record("b", false)], &BTreeSet::new());
        let keys = ["a", "b", "c", "d", "c"];
        assert_eq!(stale(&mut rebuild, &keys, 2), ["b", "c"], "no more than may");
        assert_eq!(stale(&mut rebuild, &keys, 2), ["d"]);
        assert!(stale(&mut rebuild, &keys, 2).is_empty());
    }

    #[test]
    fn rows_that_were_sent_before_an_erasure_are_stale() {
        let mut rebuild = Rebuild::new(Offsets::new());
        let key = |user: &str| format!(r#"{{"source_id":1,"user_id":"{user}"}}"#);
        let (one, two) = (key("one"), key("two"));
        rebuild.note(&[record(&one, true), record(&two, true)], &BTreeSet::new());
        let erased = |user: &str| BTreeSet::from([(1, user.into())]);
        rebuild.note(&[record(&two, true)], &erased("two"));
        rebuild.note(&[], &erased("one"));
        assert_eq!(stale(&mut rebuild, &[&one, &two], 9), [one.as_str()], "the other one came again");
    }
}
