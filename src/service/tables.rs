//! Rows that count, from wherever they lie: what SQL over live tables reads.
//!
//! It promises:
//! - **One time.** Everything that is asked for together is answered by one peek ([`Query::All`]), and the cold parts are those that
//!   the peek names.
//! - **Every row once.** What memory says of a session counts instead of what cold parts say; sessions that were taken back, rows of erased
//!   users and devices, duplicates and pending rows are left out.
//! - **By key.** Rows of some devices or users cost their number, and a page or two of each cold part.
//! - **In one order**, which depends on the rows alone: by key, then by time.
//!
//! # Known limitations
//! - Events of sealed sessions are in no view and in no cold part: of a user they are those of sessions that are not sealed.
//! - Where all rows are wanted, versions of sealed sessions that no longer count do count towards `rows_max`.

use super::occupancy::unreadable;
use super::{At, Inner, Service, ServiceError};
use desireline_connectors::cold::{self, ColdSession, ColdStay};
use desireline_dataflows::query::{Answer, HeldEvent, HistoriesQuery, Query, UserAnswer, UserHistory};
use desireline_dataflows::views::journeys::Journey;
use desireline_dataflows::views::occupancy::query::{OccupancyAnswer, OccupancyQuery, Standing};
use desireline_records::{ColdPart, LogicalTime, Micros, SealedStay, SourceId, Space, user_hash};
use ecow::EcoString;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Which rows: those of some keys, or all.
pub type Wanted = Option<Arc<[EcoString]>>;

#[derive(Clone, Debug, Default)]
pub struct RowsRequest {
    /// WiFi sessions, by device.
    pub stays: Option<Wanted>,
    /// Sessions and journeys, by user.
    pub users: Option<Wanted>,
    /// With the users their events, too.
    pub events: bool,
    pub spaces: bool,
    /// Most rows of everything together.
    pub rows_max: usize,
}

/// A WiFi session that counts. `stay.end` of an open one is as far as it is taken to last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StayFact {
    pub device: EcoString,
    pub stay: SealedStay,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SessionFact {
    /// 1 for the user's first.
    pub number: u64,
    pub start: Micros,
    pub end: Micros,
    pub events: u64,
    pub path: Journey,
}

#[derive(Clone, Debug, PartialEq)]
pub struct UserFacts {
    pub source: SourceId,
    pub user: EcoString,
    pub sessions: Vec<SessionFact>,
    pub journey: Journey,
    pub cluster: Option<u16>,
    pub events: Vec<HeldEvent>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// In order of (device, start, space).
    pub stays: Vec<StayFact>,
    /// In order of (user, source).
    pub users: Vec<UserFacts>,
    /// In order of ids.
    pub spaces: Vec<Space>,
}

impl Service {
    /// Rows at one time; nothing when there are more than `rows_max`.
    pub async fn rows(&self, request: &RowsRequest) -> Result<At<Option<Rows>>, ServiceError> {
        self.inner.at_least(None).await?;
        // Cold parts may be replaced between the question and their reading: then once more.
        match self.inner.live_rows(request).await {
            Err(ServiceError::Unavailable(_)) => self.inner.live_rows(request).await,
            answer => answer,
        }
    }
}

/// One question of several, and what the workers say to it.
type Parts = Vec<Answer>;

impl Inner {
    async fn live_rows(&self, request: &RowsRequest) -> Result<At<Option<Rows>>, ServiceError> {
        let (as_of, mut parts) = self.ask_all(queries(request)).await?;
        let mut next = || parts.pop_front().unwrap_or_default();
        let mut rows = Rows::default();
        let mut left = request.rows_max;
        if let Some(wanted) = &request.stays {
            let Some(stays) = self.stay_facts(next(), wanted, left).await? else { return Ok(At { as_of, value: None }) };
            left -= stays.len();
            rows.stays = stays;
        }
        if let Some(wanted) = &request.users {
            let Some(users) = self.user_facts(next(), wanted, left).await? else { return Ok(At { as_of, value: None }) };
            rows.users = users;
        }
        if request.spaces {
            let (standing, _) = occupancy_parts(next());
            rows.spaces = standing.spaces.clone();
        }
        Ok(At { as_of, value: Some(rows) })
    }

    /// Several questions at one time: for each of them the parts of all workers.
    async fn ask_all(&self, queries: Vec<Query>) -> Result<(LogicalTime, VecDeque<Parts>), ServiceError> {
        let mut by_query: VecDeque<Parts> = queries.iter().map(|_| Parts::new()).collect();
        let (as_of, parts) = self.ask(Query::All(queries)).await?;
        for part in parts {
            let Answer::All(answers) = part else { continue };
            by_query.iter_mut().zip(answers).for_each(|(parts, answer)| parts.push(answer));
        }
        Ok((as_of, by_query))
    }

    async fn stay_facts(&self, parts: Parts, wanted: &Wanted, rows_max: usize) -> Result<Option<Vec<StayFact>>, ServiceError> {
        let (standing, answers) = occupancy_parts(parts);
        let hot: usize = answers.iter().map(|answer| answer.stays.len()).sum();
        if answers.iter().any(|answer| answer.cut) || hot > rows_max {
            return Ok(None);
        }
        let cold_parts = &standing.cold_stays;
        let cold = match (wanted, standing.source) {
            (_, None) => Vec::new(),
            (Some(devices), Some(source)) => {
                let devices: Vec<(u64, EcoString)> = devices.iter().map(|device| (user_hash(source, device), device.clone())).collect();
                cold::read_devices(&self.store, cold_parts, &devices).await.map_err(unreadable)?
            }
            (None, Some(_)) => {
                if too_many(cold_parts, rows_max - hot) {
                    return Ok(None);
                }
                self.all_stays(cold_parts.clone()).await?
            }
        };
        let stays = counting(answers, cold, &standing);
        Ok((stays.len() <= rows_max).then_some(stays))
    }

    /// Every sealed session, read on a thread where that hinders nobody.
    async fn all_stays(&self, parts: Vec<ColdPart>) -> Result<Vec<ColdStay>, ServiceError> {
        let (store, runtime) = (self.store.clone(), tokio::runtime::Handle::current());
        let read = move || runtime.block_on(async { cold::read_stays(&store, &parts, &BTreeSet::new(), Micros::MIN, Micros::MAX).await });
        let read = tokio::task::spawn_blocking(read).await.map_err(|error| ServiceError::Internal(error.to_string()))?;
        read.map_err(unreadable)
    }

    async fn user_facts(&self, parts: Parts, wanted: &Wanted, rows_max: usize) -> Result<Option<Vec<UserFacts>>, ServiceError> {
        let (mut histories, mut cold): (Vec<UserHistory>, BTreeMap<SourceId, Vec<ColdPart>>) = Default::default();
        for part in parts {
            let Answer::Histories { users, cold: of_sources, complete } = part else { continue };
            if !complete {
                return Ok(None);
            }
            histories.extend(users);
            cold.extend(of_sources);
        }
        let sealed_rows: u64 = histories.iter().map(|history| history.answer.sealed_sessions).sum();
        if sealed_rows > rows_max as u64 {
            return Ok(None);
        }
        histories.sort_by(|a, b| (&a.answer.user, a.answer.source).cmp(&(&b.answer.user, b.answer.source)));
        let mut sealed = match wanted {
            Some(_) => {
                let users: Vec<UserAnswer> = histories.iter().map(|history| history.answer.clone()).collect();
                self.sealed(&users, &cold).await?
            }
            None => self.all_sealed(&histories, &cold).await?,
        };
        let facts = histories.into_iter().map(|history| {
            let key = (history.answer.source, history.answer.user.clone());
            facts_of(history, sealed.remove(&key).unwrap_or_default())
        });
        let facts: Vec<UserFacts> = facts.collect();
        let rows: usize = facts.iter().map(|user| 1 + user.sessions.len() + user.events.len()).sum();
        Ok((rows <= rows_max).then_some(facts))
    }

    /// The sealed sessions of all users, in one pass over the parts.
    async fn all_sealed(
        &self,
        histories: &[UserHistory],
        cold: &BTreeMap<SourceId, Vec<ColdPart>>,
    ) -> Result<HashMap<(SourceId, EcoString), Vec<ColdSession>>, ServiceError> {
        let known: HashMap<(SourceId, &str), &UserAnswer> =
            histories.iter().map(|history| ((history.answer.source, history.answer.user.as_str()), &history.answer)).collect();
        let mut found: HashMap<(SourceId, EcoString), Vec<ColdSession>> = HashMap::new();
        for (source, parts) in cold {
            for session in cold::read_range(&self.store, parts, 0, u64::MAX, usize::MAX).await.map_err(unreadable)? {
                let user = known.get(&(*source, session.user.as_str()));
                if session.source == *source && user.is_some_and(|user| session.exported_at > user.erased_at) {
                    found.entry((*source, session.user.clone())).or_default().push(session);
                }
            }
        }
        Ok(found)
    }
}

fn queries(request: &RowsRequest) -> Vec<Query> {
    let rows_max = request.rows_max;
    let stays = |devices: &Wanted| Query::Occupancy(OccupancyQuery::Stays { devices: devices.clone(), stays_max: rows_max });
    let users = |users: &Wanted| Query::Histories(HistoriesQuery { users: users.clone(), events: request.events, rows_max });
    let tree = request.spaces.then_some(Query::Occupancy(OccupancyQuery::Tree));
    request.stays.iter().map(stays).chain(request.users.iter().map(users)).chain(tree).collect()
}

fn too_many(parts: &[ColdPart], rows_max: usize) -> bool {
    parts.iter().map(|part| part.rows).sum::<u64>() > rows_max as u64
}

fn occupancy_parts(parts: Parts) -> (Arc<Standing>, Vec<OccupancyAnswer>) {
    let mut standing = Arc::default();
    let mut answers = Vec::with_capacity(parts.len());
    for part in parts {
        let Answer::Occupancy(mut answer) = part else { continue };
        standing = answer.standing.take().unwrap_or(standing);
        answers.push(answer);
    }
    (standing, answers)
}

/// Sessions that count: what memory says of one instead of what cold parts say, none that was taken back, none of an erased device.
fn counting(answers: Vec<OccupancyAnswer>, cold: Vec<ColdStay>, standing: &Standing) -> Vec<StayFact> {
    let erasures = standing.erasures();
    let hot = answers.into_iter().flat_map(|answer| answer.stays).map(|stay| StayFact { device: stay.device, stay: stay.stay });
    let cold = cold.into_iter().filter(|row| erasures.spare(&row.device, row.exported_at));
    let mut all: Vec<StayFact> = hot.chain(cold.map(|row| StayFact { device: row.device, stay: row.stay })).collect();
    // Stable: what memory says comes first.
    all.sort_by(|a, b| identity(a).cmp(&identity(b)));
    all.dedup_by(|later, first| identity(later) == identity(first));
    all.retain(|fact| !fact.stay.deleted);
    all
}

fn identity(fact: &StayFact) -> (&str, Micros, i32) {
    (&fact.device, fact.stay.start, fact.stay.space)
}

fn facts_of(history: UserHistory, sealed: Vec<ColdSession>) -> UserFacts {
    let UserHistory { answer, events } = history;
    let sealed = sealed.into_iter().map(|session| {
        let path = Journey::new(session.views.into(), session.carts.into(), session.transactions.into(), 1, session.value);
        (session.start, session.end, u64::from(session.event_count), path)
    });
    let open = answer.sessions.into_iter().map(|session| (session.start, session.end, session.events, session.path));
    let numbered = (1..).zip(sealed.chain(open));
    let sessions = numbered.map(|(number, (start, end, events, path))| SessionFact { number, start, end, events, path }).collect();
    UserFacts { source: answer.source, user: answer.user, sessions, journey: answer.journey, cluster: answer.cluster, events }
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_dataflows::views::occupancy::query::DeviceStay;

    fn stay(start: Micros, end: Micros, deleted: bool) -> SealedStay {
        SealedStay { start, end, space: 1, open: false, deleted }
    }

    fn hot(device: &str, stay: SealedStay) -> DeviceStay {
        DeviceStay { hash: 0, device: device.into(), randomized: false, stay }
    }

    fn cold(device: &str, stay: SealedStay, exported_at: u64) -> ColdStay {
        ColdStay { key_hash: 0, device: device.into(), randomized: false, stay, exported_at }
    }

    #[test]
    fn a_session_counts_once_as_memory_says_it() {
        let memory = OccupancyAnswer {
            stays: vec![hot("b", stay(5, 9, false)), hot("a", stay(1, 2, false)), hot("a", stay(7, 7, true))],
            ..OccupancyAnswer::default()
        };
        let parts = vec![
            cold("a", stay(1, 99, false), 1),
            cold("a", stay(7, 8, false), 1),
            cold("a", stay(3, 4, false), 1),
            cold("c", stay(0, 1, true), 1),
            cold("gone", stay(0, 1, false), 4),
            cold("gone", stay(2, 3, false), 6),
        ];
        let standing = Standing { erased: vec![("gone".into(), 5)], ..Standing::default() };
        let facts = counting(vec![memory], parts, &standing);
        let told: Vec<(&str, Micros, Micros)> = facts.iter().map(|f| (f.device.as_str(), f.stay.start, f.stay.end)).collect();
        assert_eq!(told, [("a", 1, 2), ("a", 3, 4), ("b", 5, 9), ("gone", 2, 3)]);
    }
}
