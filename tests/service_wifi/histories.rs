//! Random histories with sealing, reopening, deletions, erasures and restarts in between, against the slow reference.

use super::*;
use crate::random::Random;

fn row(random: &mut Random, now: Micros, sent: &mut Vec<(String, SpaceId, Micros)>) -> Event {
    let length = match random.below(4) {
        0 => None,
        1 => Some(0),
        _ => Some(random.below(2_000) as i64 * MINUTE),
    };
    if !sent.is_empty() && random.below(3) == 0 {
        let (device, space, start) = &sent[random.below(sent.len() as u64) as usize];
        return session(device, *space, *start, length);
    }
    let late = if random.below(4) == 0 { random.below(8_000) } else { random.below(600) } as i64 * MINUTE;
    let (device, space) = (format!("d{}", random.below(15)), random.below(SPACES as u64) as SpaceId);
    let start = (now - late).div_euclid(15 * MINUTE) * 15 * MINUTE;
    sent.push((device.clone(), space, start));
    session(&device, space, start, length)
}

async fn history(seed: u64, with_retention: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = Random(seed);
    let mut config = wifi_config(folder.path());
    config.workers = 1 + (seed % 3) as usize;
    config.occupancy.sealing.reopen_devices_max = 1 + random.below(20) as usize;
    if with_retention {
        config.wifi_ingest.max_session = 12 * HOUR;
        config.occupancy.sealing.retention = Some(0);
    }
    let mut service = start(config.clone()).await;
    put_spaces(&service).await;
    // Until the first tick open sessions have no length.
    let first = *service.as_of().borrow();
    service.as_of().wait_for(|now| *now > first + 200).await.expect("time passes");
    let (mut now, mut sent) = (base() + DAY, Vec::new());
    for step in 0..40 {
        let context = format!("seed {seed}, step {step}");
        now += random.below(12) as i64 * HOUR;
        match random.below(12) {
            0..=7 => {
                let rows = (0..1 + random.below(30)).map(|_| row(&mut random, now, &mut sent)).collect();
                send(&service, rows).await;
            }
            8 if !sent.is_empty() => {
                let (device, space, start) = &sent[random.below(sent.len() as u64) as usize];
                drop(service.delete_event(SOURCE, EventId::stay(device, *space, *start)).await);
            }
            9 => drop(service.erase_user(SOURCE, &format!("d{}", random.below(15))).await),
            10 => {
                until_applied(&service).await;
                let before = (cells(&service).await, counters(&service).await);
                service.stop().await;
                config.workers = config.workers % 3 + 1;
                service = start(config.clone()).await;
                same(&before.0, &cells(&service).await, &format!("{context}, after a restart"));
                assert_eq!(counters(&service).await, before.1, "{context}, after a restart");
            }
            _ if with_retention => {
                until_applied(&service).await;
            }
            _ => {
                until_applied(&service).await;
                let expected = reference(folder.path()).await.occupancy().cells();
                same(&expected, &cells(&service).await, &context);
            }
        }
    }
    // Time goes on, and every day of the history is sealed.
    send(&service, vec![session("last", 0, now + 3 * DAY, Some(HOUR))]).await;
    until_sealed(&service, (now + DAY).div_euclid(DAY) * DAY).await;
    until_applied(&service).await;
    if with_retention {
        assert!(service.wifi_sealing_status().retained_from.is_some(), "seed {seed}: something is too old");
    } else {
        compare_series(&service, folder.path(), &format!("seed {seed}, at the end"), &KEPT).await;
    }
    service.stop().await;
    // The reference knows nothing of retention: a late row for a session that is gone is a repetition to it.
    if !with_retention {
        verified(folder.path()).await;
    }
}

async fn histories(seeds: std::ops::Range<u64>, with_retention: bool) {
    let histories: Vec<_> = seeds.map(|seed| tokio::spawn(history(seed, with_retention))).collect();
    for history in histories {
        history.await.expect("a history equals its reference");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_equal_their_reference() {
    histories(0..8, false).await;
}

/// What is left of the log gives the same answers.
#[tokio::test(flavor = "multi_thread")]
async fn random_histories_with_retention_are_the_same_after_a_restart() {
    histories(100..108, true).await;
}
