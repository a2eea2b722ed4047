//! Answers at one time: the workers' parts put together with what lies in cold parts.

use super::{
    At, ClusterMembers, ClusterRow, Clusters, DeadLetterRow, DeadLettersQuery, Inner, JourneyRow, JourneysQuery, MinuteRow, NO_PANIC, Page,
    Receipt, Service, ServiceError, SessionRow, SessionsQuery,
};
use desireline_connectors::cold::{self, ColdSession};
use desireline_connectors::formats::{self, Format};
use desireline_connectors::log::{LetterFilter, parse_id};
use desireline_dataflows::query::{Answer, Query, UserAnswer, UserQuery, merge_users};
use desireline_dataflows::views::journeys::Journey;
use desireline_records::time::now_micros;
use desireline_records::{ClusterModel, ColdPart, DeadLetter, DeadLetterKind, Event, LogicalTime, Micros, SourceId, Token, UserIdType};
use ecow::EcoString;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Users that one page of a listing looks at, at most; a page with filters may end before it is full.
const USERS_PER_PAGE: usize = 20_000;

/// Where a listing goes on: at the user with this key hash, behind this many of its sessions.
struct Cursor {
    hash: u64,
    source: SourceId,
    user: EcoString,
    /// Sessions of this user that were already given; all of them when absent.
    sessions: Option<u64>,
}

impl Cursor {
    fn print(&self) -> String {
        let sessions = self.sessions.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let hex: String = self.user.bytes().map(|b| format!("{b:02x}")).collect();
        format!("c1.{:x}.{}.{sessions}.{hex}", self.hash, self.source)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '.');
        if parts.next()? != "c1" {
            return None;
        }
        let hash = u64::from_str_radix(parts.next()?, 16).ok()?;
        let source = parts.next()?.parse().ok()?;
        let sessions = match parts.next()? {
            "-" => None,
            number => Some(number.parse().ok()?),
        };
        let hex = parts.next()?;
        if hex.len() % 2 != 0 || !hex.is_ascii() {
            return None;
        }
        let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect();
        Some(Self { hash, source, user: String::from_utf8(bytes?).ok()?.into(), sessions })
    }

    fn read(text: Option<&str>) -> Result<Option<Self>, ServiceError> {
        let invalid = || ServiceError::Invalid { field: "cursor", detail: "is not a cursor that this server has given".to_owned() };
        text.map(|text| Self::parse(text).ok_or_else(invalid)).transpose()
    }
}

/// A user with all its sessions, sealed ones first.
struct WholeUser {
    answer: UserAnswer,
    sealed: Vec<ColdSession>,
}

/// One session, from wherever it lies.
struct AnySession {
    start: Micros,
    end: Micros,
    events: u64,
    path: Journey,
    sealed: bool,
}

impl WholeUser {
    fn sessions(&self) -> impl Iterator<Item = AnySession> + '_ {
        let sealed = self.sealed.iter().map(|s| {
            let path = Journey::new(s.views.into(), s.carts.into(), s.transactions.into(), 1, s.value);
            AnySession { start: s.start, end: s.end, events: u64::from(s.event_count), path, sealed: true }
        });
        let open =
            self.answer.sessions.iter().map(|s| AnySession { start: s.start, end: s.end, events: s.events, path: s.path, sealed: false });
        sealed.chain(open)
    }
}

impl Service {
    /// One page of sessions, by user (in the order of key hashes) and number.
    pub async fn sessions(&self, query: SessionsQuery) -> Result<At<Page<SessionRow>>, ServiceError> {
        let inner = &self.inner;
        inner.at_least(query.at_least).await?;
        let limit = query.limit.clamp(1, inner.config.peek_rows_max.max(1));
        let cursor = Cursor::read(query.cursor.as_deref())?;
        let peek =
            UserQuery { source: query.source, user: query.user.clone(), from: query.from, to: query.to, ..listing(cursor.as_ref(), limit) };
        let (as_of, users, more) = inner.users(peek).await?;
        let types = inner.id_types();
        let mut rows = Vec::new();
        for user in &users {
            let answer = &user.answer;
            let given = cursor
                .as_ref()
                .filter(|c| c.user == answer.user && c.source == answer.source)
                .map_or(0, |c| c.sessions.unwrap_or(u64::MAX));
            for (number, session) in (1..).zip(user.sessions()) {
                let wanted = query.from.is_none_or(|from| session.end >= from) && query.to.is_none_or(|to| session.start < to);
                if number <= given || !wanted {
                    continue;
                }
                if rows.len() == limit {
                    let sessions = Some(number - 1);
                    let next = Cursor { hash: answer.hash, source: answer.source, user: answer.user.clone(), sessions };
                    return Ok(At { as_of, value: Page { rows, next_cursor: Some(next.print()) } });
                }
                rows.push(session_row(answer, types.get(&answer.source), number, &session));
            }
        }
        Ok(At { as_of, value: Page { rows, next_cursor: more.map(|c| c.print()) } })
    }

    /// One page of journeys, by user in the order of key hashes.
    pub async fn journeys(&self, query: JourneysQuery) -> Result<At<Page<JourneyRow>>, ServiceError> {
        let inner = &self.inner;
        inner.at_least(query.at_least).await?;
        let limit = query.limit.clamp(1, inner.config.peek_rows_max.max(1));
        let cursor = Cursor::read(query.cursor.as_deref())?;
        // A user counts as one row here, whatever the number of its sessions.
        let peek = UserQuery { source: query.source, user: query.user.clone(), users_max: limit, ..listing(cursor.as_ref(), usize::MAX) };
        let (as_of, mut users, mut more) = inner.users(peek).await?;
        if users.len() > limit {
            // Every worker has looked at `limit` users of its own.
            users.truncate(limit);
            more = users.last().map(|WholeUser { answer, .. }| Cursor {
                hash: answer.hash,
                source: answer.source,
                user: answer.user.clone(),
                sessions: None,
            });
        }
        let types = inner.id_types();
        let by_value = inner.transaction_values();
        let rows = users.iter().map(|user| journey_row(user, types.get(&user.answer.source), by_value.contains(&user.answer.source)));
        Ok(At { as_of, value: Page { rows: rows.collect(), next_cursor: more.map(|c| c.print()) } })
    }

    /// Cluster sizes and centroids; unknown sources answer with no clusters.
    pub async fn clusters(&self, source: SourceId, at_least: Option<Token>) -> Result<At<Clusters<ClusterRow>>, ServiceError> {
        self.inner.at_least(at_least).await?;
        let (as_of, parts) = self.inner.ask(Query::Clusters { source }).await?;
        let (model, sizes, users) = merge_clusters(parts);
        let centroids = model.as_ref().map_or(&[][..], |m| &m.centroids[..]);
        let row = |(cluster, (users, centroid)): (usize, (&u64, &[f64; 6]))| ClusterRow {
            cluster_id: cluster as u16,
            users: *users,
            centroid: *centroid,
        };
        let clusters = sizes.iter().zip(centroids).enumerate().map(row).filter(|row| row.users > 0).collect();
        let user_id_type = self.inner.id_types().get(&source).copied().unwrap_or_default();
        Ok(At { as_of, value: Clusters { user_id_type, model_version: model.map_or(0, |m| m.version), clusters, users } })
    }

    /// The same with all users of each cluster, ascending.
    pub async fn cluster_members(&self, source: SourceId, at_least: Option<Token>) -> Result<At<Clusters<ClusterMembers>>, ServiceError> {
        self.inner.at_least(at_least).await?;
        // Both answers must be of one time: between two equal times nothing has changed.
        for _ in 0..20 {
            let (before, parts) = self.inner.ask(Query::Clusters { source }).await?;
            let (as_of, members) = self.inner.ask(Query::Members { source }).await?;
            if before == as_of {
                return self.members(source, as_of, parts, members).await;
            }
        }
        Err(ServiceError::NotReady("the clusters change too fast to be listed with their users".to_owned()))
    }

    async fn members(
        &self,
        source: SourceId,
        as_of: LogicalTime,
        parts: Vec<Answer>,
        members: Vec<Answer>,
    ) -> Result<At<Clusters<ClusterMembers>>, ServiceError> {
        let (model, _, users) = merge_clusters(parts);
        let user_id_type = self.inner.id_types().get(&source).copied().unwrap_or_default();
        let sorted = tokio::task::spawn_blocking(move || {
            let mut clusters: BTreeMap<u16, Vec<EcoString>> = BTreeMap::new();
            for part in members {
                if let Answer::Members(part) = part {
                    part.into_iter().for_each(|(user, cluster)| clusters.entry(cluster).or_default().push(user));
                }
            }
            clusters.values_mut().for_each(|users| sort_ids(users, user_id_type));
            clusters
        });
        let sorted = sorted.await.map_err(|e| ServiceError::Internal(e.to_string()))?;
        let centroid = |cluster: u16| model.as_ref().and_then(|m| m.centroids.get(usize::from(cluster)).copied()).unwrap_or_default();
        let clusters = sorted.into_iter().map(|(cluster_id, users)| ClusterMembers { cluster_id, users, centroid: centroid(cluster_id) });
        let model_version = model.as_ref().map_or(0, |m| m.version);
        Ok(At { as_of, value: Clusters { user_id_type, model_version, clusters: clusters.collect(), users } })
    }

    /// Cells of the minutes view with `window_start + 1 min >= from`, by (window, page, event type, source).
    pub async fn minutes(
        &self,
        source: Option<SourceId>,
        from: Micros,
        at_least: Option<Token>,
    ) -> Result<At<Vec<MinuteRow>>, ServiceError> {
        self.inner.at_least(at_least).await?;
        let (as_of, parts) = self.inner.ask(Query::Minutes { source, from }).await?;
        let mut rows = Vec::new();
        for part in parts {
            let Answer::Minutes(cells) = part else { continue };
            rows.extend(cells.into_iter().map(|c| MinuteRow {
                source: c.source,
                window_start: c.minute,
                page: c.page,
                event_type: c.event_type,
                count: c.count,
                revenue: c.revenue,
            }));
        }
        rows.sort_by(|a, b| (a.window_start, &a.page, &a.event_type, a.source).cmp(&(b.window_start, &b.page, &b.event_type, b.source)));
        Ok(At { as_of, value: rows })
    }

    /// Dead letters and late events, newest first.
    pub async fn dead_letters(&self, query: DeadLettersQuery) -> Result<At<Page<DeadLetterRow>>, ServiceError> {
        let limit = query.limit.clamp(1, self.inner.config.peek_rows_max.max(1));
        let invalid = || ServiceError::Invalid { field: "cursor", detail: "is not a cursor that this server has given".to_owned() };
        let before = query.cursor.as_deref().map(|text| parse_id(text).ok_or_else(invalid)).transpose()?;
        let filter = LetterFilter { source: query.source, kind: query.kind };
        let letters = self.inner.reader.dead_letters(filter, before, limit).await.map_err(|e| ServiceError::Unavailable(e.to_string()))?;
        let next_cursor = letters.last().filter(|_| letters.len() == limit).map(|letter| letter.id());
        let rows = letters.into_iter().map(|letter| DeadLetterRow { id: letter.id(), letter: letter.letter }).collect();
        Ok(At { as_of: *self.inner.as_of.borrow(), value: Page { rows, next_cursor } })
    }

    /// Validates and ingests a dead letter again. `NotFound` when there is none with this id.
    pub async fn replay_dead_letter(&self, id: &str) -> Result<Receipt, ServiceError> {
        let not_found = || ServiceError::NotFound(format!("there is no dead letter `{id}`"));
        parse_id(id).ok_or_else(not_found)?;
        let letter =
            self.inner.reader.dead_letter(id).await.map_err(|e| ServiceError::Unavailable(e.to_string()))?.ok_or_else(not_found)?;
        let letter = letter.letter;
        if letter.kind == DeadLetterKind::Late {
            return Err(ServiceError::Conflict("a late event lies behind the horizon of its source and would be late again".to_owned()));
        }
        let event = self.inner.read_again(id, &letter)?;
        self.ingest(vec![event], Vec::new()).await
    }
}

impl Inner {
    fn read_again(&self, id: &str, letter: &DeadLetter) -> Result<Event, ServiceError> {
        let refused = |field: &str, detail: &str| ServiceError::Conflict(format!("still refused: {field} {detail}"));
        if let Some(read) = formats::wifi::replay(&self.validator, letter, now_micros()) {
            return read.map_err(|refusal| refused(refusal.field(), refusal.detail()));
        }
        let format: Format =
            letter.format.parse().map_err(|_| ServiceError::Conflict(format!("its format `{}` cannot be read again", letter.format)))?;
        let mut raw = formats::parse(format, letter.source, letter.payload.as_bytes())
            .map_err(|error| ServiceError::Conflict(format!("still malformed: {}: {}", error.field, error.detail)))?;
        if raw.event_id.is_empty() && raw.derived_id.is_none() {
            // Replaying twice must not count twice.
            raw.event_id = format!("dead-letter-{id}").into();
        }
        let read = self.validator.validate(&raw, now_micros(), EcoString::new);
        read.map_err(|rejection| refused(rejection.field, &rejection.detail))
    }

    pub(super) async fn at_least(&self, token: Option<Token>) -> Result<(), ServiceError> {
        self.must_be_readable()?;
        match token {
            Some(token) if token.shard != 0 => {
                Err(ServiceError::Invalid { field: "at_least", detail: "names a shard that this server has not".to_owned() })
            }
            Some(token) => self.wait_applied(token.time, self.config.peek_deadline).await,
            None => Ok(()),
        }
    }

    /// Queries go on when the log is lost, but not before it has been replayed.
    fn must_be_readable(&self) -> Result<(), ServiceError> {
        if self.ready.load(std::sync::atomic::Ordering::Acquire) { Ok(()) } else { self.must_be_ready() }
    }

    fn id_types(&self) -> HashMap<SourceId, UserIdType> {
        let fold = self.fold.read().expect(NO_PANIC);
        fold.sources.iter().map(|(id, s)| (*id, s.settings.user_id_type)).collect()
    }

    fn transaction_values(&self) -> Vec<SourceId> {
        let fold = self.fold.read().expect(NO_PANIC);
        fold.sources.iter().filter(|(_, s)| s.settings.transaction_value).map(|(id, _)| *id).collect()
    }

    /// Users with all their sessions, at one time. Cold parts may be replaced between the peek and their reading: then once more.
    async fn users(&self, query: UserQuery) -> Result<(LogicalTime, Vec<WholeUser>, Option<Cursor>), ServiceError> {
        match self.users_once(query.clone()).await {
            Err(ServiceError::Unavailable(_)) => self.users_once(query).await,
            answer => answer,
        }
    }

    async fn users_once(&self, query: UserQuery) -> Result<(LogicalTime, Vec<WholeUser>, Option<Cursor>), ServiceError> {
        let (as_of, parts) = self.ask(Query::Users(query)).await?;
        let mut cold: BTreeMap<SourceId, Vec<ColdPart>> = BTreeMap::new();
        for part in &parts {
            if let Answer::Users { cold: part, .. } = part {
                cold.extend(part.iter().cloned());
            }
        }
        let (users, more) = merge_users(parts);
        let more = more.map(|(hash, source, user)| Cursor { hash, source, user, sessions: None });
        let mut whole = Vec::with_capacity(users.len());
        let mut sealed = self.sealed(&users, &cold).await?;
        for answer in users {
            let sealed = sealed.remove(&(answer.source, answer.user.clone())).unwrap_or_default();
            whole.push(WholeUser { answer, sealed });
        }
        Ok((as_of, whole, more))
    }

    /// The sealed sessions of these users.
    pub(super) async fn sealed(
        &self,
        users: &[UserAnswer],
        cold: &BTreeMap<SourceId, Vec<ColdPart>>,
    ) -> Result<HashMap<(SourceId, EcoString), Vec<ColdSession>>, ServiceError> {
        let mut found = HashMap::new();
        for user in users.iter().filter(|user| user.sealed_sessions > 0) {
            let parts = cold.get(&user.source).map_or(&[][..], |parts| &parts[..]);
            let sessions = cold::read_user(&self.store, parts, user.source, user.hash, &user.user, user.erased_at).await;
            let sessions = sessions.map_err(|e| ServiceError::Unavailable(format!("sealed sessions cannot be read: {e}")))?;
            if sessions.len() as u64 != user.sealed_sessions {
                let detail =
                    format!("user `{}` has {} sealed sessions, the cold parts hold {}", user.user, user.sealed_sessions, sessions.len());
                tracing::error!(source = user.source, %detail, "cold parts do not match the view");
                return Err(ServiceError::Internal(detail));
            }
            found.insert((user.source, user.user.clone()), sessions);
        }
        Ok(found)
    }
}

fn listing(cursor: Option<&Cursor>, sessions_max: usize) -> UserQuery {
    let after = cursor.map(|c| match c.sessions {
        // The same user again, from its next session on.
        Some(_) => (c.hash, 0, EcoString::new()),
        None => (c.hash, c.source, c.user.clone()),
    });
    UserQuery { after, sessions_max, users_max: USERS_PER_PAGE, ..UserQuery::default() }
}

fn merge_clusters(parts: Vec<Answer>) -> (Option<Arc<ClusterModel>>, Vec<u64>, u64) {
    let (mut model, mut sizes, mut users) = (None, Vec::new(), 0);
    for part in parts {
        let Answer::Clusters { model: m, sizes: s, users: u } = part else { continue };
        model = model.or(m);
        users += u;
        if sizes.len() < s.len() {
            sizes.resize(s.len(), 0);
        }
        sizes.iter_mut().zip(s).for_each(|(sum, size)| *sum += size);
    }
    (model, sizes, users)
}

/// Ascending: numbers by value where they are numbers, everything else as text.
fn sort_ids(users: &mut [EcoString], user_id_type: UserIdType) {
    match user_id_type {
        UserIdType::Int => users.sort_by_cached_key(|id| (id.parse::<i64>().unwrap_or(i64::MAX), id.clone())),
        UserIdType::String => users.sort_unstable(),
    }
}

fn session_row(answer: &UserAnswer, user_id_type: Option<&UserIdType>, session_number: u64, session: &AnySession) -> SessionRow {
    SessionRow {
        source: answer.source,
        user: answer.user.clone(),
        user_id_type: user_id_type.copied().unwrap_or_default(),
        session_number,
        start: session.start,
        end: session.end,
        event_count: session.events,
        views: session.path.views as u64,
        carts: session.path.carts as u64,
        transactions: session.path.transactions as u64,
        value: session.path.value(),
        sealed: session.sealed,
    }
}

fn journey_row(user: &WholeUser, user_id_type: Option<&UserIdType>, by_value: bool) -> JourneyRow {
    let answer = &user.answer;
    JourneyRow {
        source: answer.source,
        user: answer.user.clone(),
        user_id_type: user_id_type.copied().unwrap_or_default(),
        state: answer.journey.state(by_value),
        paths: user.sessions().map(|session| session.path.state(by_value)).collect(),
        session_count: answer.journey.sessions as u64,
        features: answer.journey.features(by_value),
        cluster_id: answer.cluster,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let cursor = Cursor { hash: 77, source: 3, user: "ü.1".into(), sessions: Some(4) };
        let read = Cursor::parse(&cursor.print()).expect("a cursor");
        assert_eq!((read.hash, read.source, read.user.as_str(), read.sessions), (77, 3, "ü.1", Some(4)));
        for text in ["", "c1", "c1.x.1.-.", "c2.1.1.-.", "c1.1.1.-.0", "c1.1.1.-.zz", "c1.1.1.q.", "c1.1.1.-.ff"] {
            assert!(Cursor::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn ids_sort_as_what_they_are() {
        let mut ids: Vec<EcoString> = ["10", "9", "x"].map(EcoString::from).into();
        sort_ids(&mut ids, UserIdType::Int);
        assert_eq!(ids, ["9", "10", "x"]);
        sort_ids(&mut ids, UserIdType::String);
        assert_eq!(ids, ["10", "9", "x"]);
    }
}
