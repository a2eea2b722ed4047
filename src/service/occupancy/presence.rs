//! Counting devices in bins from the sessions themselves.
//!
//! Distinct devices per space and bin: a device counts once in a bin however many sessions touch it, and once in each space. Sessions of
//! a space are looked at by device and start, so a bin that was counted for the device is never counted again: one pass, and of memory what
//! the sessions and the sums take.

use super::sums::Sums;
use desireline_records::wifi::distinct_bins;
use desireline_records::{Cell, Micros, SealedStay, SpaceId};
use ecow::EcoString;
use std::collections::{BTreeMap, HashMap};

/// A session, from wherever it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Presence {
    pub device: EcoString,
    pub randomized: bool,
    pub stay: SealedStay,
}

/// Which session it is: (device, space, start). What memory says of one counts instead of what cold parts say.
pub(super) fn newest_of(memory: Vec<Presence>, cold: Vec<Presence>) -> Vec<Presence> {
    let key = |presence: &Presence| (presence.stay.space, presence.device.clone(), presence.stay.start);
    let mut sessions: BTreeMap<(SpaceId, EcoString, Micros), Presence> =
        cold.into_iter().map(|presence| (key(&presence), presence)).collect();
    sessions.extend(memory.into_iter().map(|presence| (key(&presence), presence)));
    sessions.into_values().filter(|presence| !presence.stay.deleted).collect()
}

/// Adds, for every root that a space lies under, the devices of its bins that begin before `before`. `sessions` in order of (space,
/// device, start).
pub(super) fn count(sessions: &[Presence], roots_of: &HashMap<SpaceId, Vec<usize>>, sums: &mut [Sums], width: Micros, before: Micros) {
    for device in sessions.chunk_by(|a, b| (a.stay.space, &a.device) == (b.stay.space, &b.device)) {
        let Some(roots) = roots_of.get(&device[0].stay.space) else { continue };
        let one = Cell::one(device[0].randomized);
        distinct_bins(device.iter().map(|session| (session.stay.start, session.stay.end)), width, |time| {
            if time < before {
                roots.iter().for_each(|root| sums[*root].add(time, one));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::wifi::bins;

    const ALL: Micros = Micros::MAX;

    fn presence(device: &str, space: SpaceId, start: Micros, end: Micros) -> Presence {
        let stay = SealedStay { start, end, space, open: false, deleted: false };
        Presence { device: device.into(), randomized: device.starts_with('r'), stay }
    }

    fn counts(sessions: Vec<Presence>, before: Micros) -> Vec<Vec<(Micros, i64)>> {
        let sessions = newest_of(Vec::new(), sessions);
        // Space 1 lies under both roots, space 2 under the second one.
        let roots_of = HashMap::from([(1, vec![0, 1]), (2, vec![1])]);
        let mut sums = Sums::several(2, 0, 100, 10);
        count(&sessions, &roots_of, &mut sums, 10, before);
        sums.into_iter().map(|sums| sums.rows().into_iter().map(|(time, cell)| (time, cell.count)).collect()).collect()
    }

    #[test]
    fn a_device_counts_once_in_a_bin_of_a_space_and_again_in_another_space() {
        let sessions =
            vec![presence("a", 1, 1, 3), presence("a", 1, 4, 12), presence("b", 1, 12, 20), presence("a", 2, 5, 7), presence("x", 9, 1, 9)];
        assert_eq!(counts(sessions, ALL), [vec![(0, 1), (10, 2)], vec![(0, 2), (10, 2)]]);
    }

    #[test]
    fn a_long_session_before_a_short_one_hides_it() {
        let sessions = vec![presence("a", 1, 0, 40), presence("a", 1, 15, 18), presence("a", 1, 35, 55)];
        assert_eq!(counts(sessions, ALL)[0], [(0, 1), (10, 1), (20, 1), (30, 1), (40, 1), (50, 1)]);
    }

    #[test]
    fn bins_from_the_boundary_on_are_memorys() {
        assert_eq!(counts(vec![presence("a", 1, 5, 45)], 20)[0], [(0, 1), (10, 1)]);
    }

    #[test]
    fn memory_says_what_a_session_is_now() {
        let shorter = presence("a", 1, 0, 5);
        let gone = Presence { stay: SealedStay { deleted: true, ..presence("b", 1, 0, 50).stay }, ..presence("b", 1, 0, 50) };
        let cold = vec![presence("a", 1, 0, 50), presence("b", 1, 0, 50), presence("c", 1, 0, 9)];
        let sessions = newest_of(vec![shorter.clone(), gone], cold);
        assert_eq!(sessions, [shorter, presence("c", 1, 0, 9)]);
    }

    #[test]
    fn it_counts_what_a_slow_count_counts() {
        use rand::{Rng, SeedableRng};
        for seed in 0..200 {
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let sessions: Vec<Presence> = (0..30)
                .map(|_| {
                    let start = random.random_range(0..90);
                    let device = ["a", "b", "r"][random.random_range(0..3)];
                    presence(device, random.random_range(1..3), start, start + random.random_range(0..30))
                })
                .collect();
            let kept = newest_of(Vec::new(), sessions.clone());
            let mut slow = Vec::new();
            for bin in 0..10 {
                let is_in = |s: &&Presence| s.stay.space == 1 && bins(s.stay.start, s.stay.end, 10).contains(&bin);
                let devices: std::collections::BTreeSet<_> = kept.iter().filter(is_in).map(|s| s.device.clone()).collect();
                if !devices.is_empty() {
                    slow.push((bin * 10, devices.len() as i64));
                }
            }
            assert_eq!(counts(sessions, ALL)[0], slow, "seed {seed}");
        }
    }
}
