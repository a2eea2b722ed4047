//! Random changes, restarts and rebuilds, against a table kept by hand.
//!
//! It catches rows that are lost, left behind or counted twice, whatever order things come in; it does not look at how rows are printed.
//! `DESIRELINE_SEED` chooses the randomness.

use super::topics::Topics;
use super::{erased, minute, session, set, shift, target_of};
use desireline::projections::kafka::KafkaTarget;
use desireline::projections::{Standing, Target};
use desireline_dataflows::changes::{View, ViewRow, Views};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

const CHANGESETS: u64 = 40;

/// What the topics must say.
#[derive(Clone, Default)]
struct Table {
    /// Events by user and number.
    sessions: BTreeMap<(String, u32), u32>,
    /// Counts by page.
    minutes: BTreeMap<String, i64>,
    /// Pages whose minute has left memory: it is corrected from then on, and never put again.
    left: BTreeSet<String>,
}

impl Table {
    fn step(&mut self, random: &mut StdRng) -> Vec<(ViewRow, i64)> {
        let user = format!("u{}", random.random_range(0..5));
        let page = format!("/{}", random.random_range(0..9));
        let number = random.random_range(1..4);
        let at = (user.clone(), number);
        match random.random_range(0..12) {
            0..5 => {
                let events = random.random_range(1..100);
                let before = self.sessions.insert(at, events).map(|before| (session(&user, number, before), -1));
                before.into_iter().chain([(session(&user, number, events), 1)]).collect()
            }
            5..7 => self.sessions.remove(&at).map(|before| (session(&user, number, before), -1)).into_iter().collect(),
            7 => {
                self.sessions.retain(|(owner, _), _| *owner != user);
                vec![erased(&user)]
            }
            8..10 if !self.left.contains(&page) => {
                let count = random.random_range(1..100);
                let before = self.minutes.insert(page.clone(), count).map(|before| (minute(&page, before), -1));
                before.into_iter().chain([(minute(&page, count), 1)]).collect()
            }
            _ => {
                self.left.insert(page.clone());
                let by = random.random_range(1..5) * if random.random_bool(0.5) { 1 } else { -1 };
                let count = self.minutes.entry(page.clone()).or_default();
                *count += by;
                if *count == 0 {
                    self.minutes.remove(&page);
                }
                vec![(shift(&page, by), 1)]
            }
        }
    }

    #[track_caller]
    fn compare(&self, topics: &Topics, seed: u64) {
        let sessions = topics.table("sessions").into_values().map(|value| {
            let (user, number) = (value["user_id"].as_str().unwrap().to_owned(), value["session_number"].as_u64().unwrap());
            ((user, number as u32), value["event_count"].as_u64().unwrap() as u32)
        });
        assert_eq!(sessions.collect::<BTreeMap<_, _>>(), self.sessions, "seed {seed}");
        let minutes = topics.table("minutes").into_values();
        let minutes = minutes.map(|value| (value["page"].as_str().unwrap().to_owned(), value["count"].as_i64().unwrap()));
        assert_eq!(minutes.collect::<BTreeMap<_, _>>(), self.minutes, "seed {seed}");
    }
}

async fn rebuild(target: &mut KafkaTarget, history: &[(u64, Vec<(ViewRow, i64)>)], random: &mut StdRng) {
    target.begin_rebuild().await.unwrap();
    for changes in history.chunks(random.random_range(1..=history.len().max(1))) {
        let time = changes.last().unwrap().0;
        target.apply(&set(time, changes.iter().flat_map(|(_, changes)| changes.clone()))).await.unwrap();
    }
    target.finish_rebuild(history.last().map_or(1, |(time, _)| *time)).await.unwrap();
}

#[test]
fn topics_say_what_the_changes_come_to() {
    Topics::with(async |topics| {
        let views: Views = [View::Sessions, View::Minutes].into_iter().collect();
        let seed = std::env::var("DESIRELINE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101);
        let mut random = StdRng::seed_from_u64(seed);
        let (mut table, mut history, mut epoch) = (Table::default(), Vec::new(), 1);
        let mut target = target_of(topics, views);
        target.open(epoch).await.unwrap();
        rebuild(&mut target, &history, &mut random).await;
        for time in 10..10 + CHANGESETS {
            let changes: Vec<_> = (0..random.random_range(1..12)).flat_map(|_| table.step(&mut random)).collect();
            target.apply(&set(time, changes.clone())).await.unwrap();
            history.push((time, changes));
            match random.random_range(0..10) {
                0 => {
                    epoch += 1;
                    target = target_of(topics, views);
                    assert_eq!(target.open(epoch).await.unwrap(), Standing::At(time), "seed {seed}");
                }
                1 => {
                    rebuild(&mut target, &history, &mut random).await;
                    table.compare(topics, seed);
                }
                _ => {}
            }
        }
        table.compare(topics, seed);
        rebuild(&mut target, &history, &mut random).await;
        table.compare(topics, seed);
    });
}
