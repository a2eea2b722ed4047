//! Applying a changeset: one transaction, or, where the database refuses a row, the search for it.

use super::migrate::target_error;
use super::refused::{self, Dead};
use super::stage::{DIRECT, Facts, Sources, Staged, Step, UNSET, facts, steps};
use super::{Mode, PostgresTarget, merge};
use crate::projections::{Applied, Changeset, TargetError};
use desireline_connectors::postgres::{Connection, PostgresError};
use desireline_dataflows::changes::ViewRow;
use desireline_records::SourceId;

/// What the settings of sources in a changeset ask for.
struct Settled {
    sources: Sources,
    /// Those whose row is to be written.
    written: Vec<SourceId>,
    /// Those whose transactions count in another way than before.
    revalued: Vec<SourceId>,
}

impl PostgresTarget {
    pub(super) async fn write(&mut self, connection: &mut Connection, changes: &Changeset) -> Result<Applied, TargetError> {
        self.begin(connection, changes).await?;
        let settled = self.settle(connection, changes).await?;
        let steps = steps(changes, &settled.sources);
        let refused = self.try_ways(connection, changes, &settled, &steps).await?;
        connection.commit().await.map_err(target_error)?;
        self.recorded = Some(changes.time);
        self.sources = settled.sources;
        self.refused |= !refused.is_empty();
        for dead in &refused {
            tracing::error!(table = dead.table, error = dead.error, "a row is refused by the database and lies in refused_rows");
        }
        let rows = steps.len() + changes.erased.len() - refused.len();
        Ok(Applied { rows: rows as u64, refused: refused.len() as u64 })
    }

    /// The fastest way first; what the database refuses goes the more careful ways, each from the beginning.
    async fn try_ways(
        &self,
        connection: &mut Connection,
        changes: &Changeset,
        settled: &Settled,
        steps: &[Step<'_>],
    ) -> Result<Vec<Dead>, TargetError> {
        // Erased rows have to be gone before new ones come straight into the table.
        if changes.erased.is_empty() {
            match self.whole(connection, changes, settled, steps, Staged::with_direct_events()).await {
                Err(PostgresError::Data(_)) => self.begin_again(connection, changes).await?,
                written => return written.map_err(target_error),
            }
        }
        match self.whole(connection, changes, settled, steps, Staged::default()).await {
            Err(PostgresError::Data(reason)) => {
                tracing::warn!(reason, rows = steps.len(), "the database refuses rows of a changeset: looking for them");
                self.begin_again(connection, changes).await?;
                self.sift(connection, changes, settled, steps).await.map_err(target_error)
            }
            written => written.map_err(target_error),
        }
    }

    async fn begin_again(&self, connection: &mut Connection, changes: &Changeset) -> Result<(), TargetError> {
        connection.rollback().await.map_err(target_error)?;
        self.begin(connection, changes).await
    }

    /// Begins the transaction and moves the recorded time from where this server left it.
    async fn begin(&self, connection: &mut Connection, changes: &Changeset) -> Result<(), TargetError> {
        let column = if self.mode == Mode::Follow { "applied" } else { "rebuilt" };
        let from = self.recorded.map_or_else(|| "IS NULL".to_owned(), |time| format!("= {time}"));
        let state = format!(
            "UPDATE {{projection}} SET {column} = {}, updated_at = now() WHERE name = {} AND epoch = {} AND {column} {from} AND rebuilding = {}",
            changes.time,
            self.name(),
            self.epoch,
            self.mode != Mode::Follow,
        );
        let touched = connection.begin(&self.names.fill(&state)).await.map_err(target_error)?;
        if touched.first() == Some(&1) { Ok(()) } else { Err(self.displaced(connection).await) }
    }

    /// The settings under which the rows are written. Rows of a source that belong elsewhere from now on have to be built anew.
    async fn settle(&self, connection: &mut Connection, changes: &Changeset) -> Result<Settled, TargetError> {
        let mut settled = Settled { sources: self.sources.clone(), written: Vec::new(), revalued: Vec::new() };
        for row in changes.put() {
            let ViewRow::Source(row) = row else { continue };
            if self.pinned.get(&row.source).is_some_and(|pinned| changes.time <= pinned.since) {
                continue;
            }
            let (before, now) = (facts(&self.sources, row.source), Facts::of(row, changes.time));
            if !before.alike(&now) && self.has_rows(connection, row.source).await? {
                self.pin(connection, row.source, &now).await?;
                return Err(TargetError::Lost(format!("the settings of source {} put its rows elsewhere", row.source)));
            }
            settled.sources.insert(row.source, now);
            settled.written.push(row.source);
            if before.transaction_value != now.transaction_value {
                settled.revalued.push(row.source);
            }
        }
        Ok(settled)
    }

    async fn has_rows(&self, connection: &mut Connection, source: SourceId) -> Result<bool, TargetError> {
        let query = self.names.fill(&format!("SELECT 1 FROM {{sessions}} WHERE source_id = {source} LIMIT 1"));
        Ok(!connection.rows(&query).await.map_err(target_error)?.is_empty())
    }

    /// Remembers settings for the rebuild that follows.
    async fn pin(&self, connection: &mut Connection, source: SourceId, facts: &Facts) -> Result<(), TargetError> {
        connection.rollback().await.map_err(target_error)?;
        let live = self.names.live();
        let state =
            format!("UPDATE {{projection}} SET applied = NULL, updated_at = now() WHERE name = {} AND epoch = {}", self.name(), self.epoch);
        let statements = live.fill(&format!("{state}; {}", source_row(source, facts)));
        let touched = connection.begin(&statements).await.map_err(target_error)?;
        if touched.first() != Some(&1) {
            return Err(self.displaced(connection).await);
        }
        connection.commit().await.map_err(target_error)
    }

    fn sources_text(&self, settled: &Settled) -> String {
        let rows = settled.written.iter().map(|source| source_row(*source, settled.sources.get(source).unwrap_or(&UNSET)));
        self.names.fill(&rows.collect::<String>())
    }

    fn revalue_text(&self, settled: &Settled) -> String {
        settled.revalued.iter().map(|source| merge::revalue(*source, &self.names)).collect()
    }

    /// Everything at once.
    async fn whole(
        &self,
        connection: &mut Connection,
        changes: &Changeset,
        settled: &Settled,
        steps: &[Step<'_>],
        mut staged: Staged,
    ) -> Result<Vec<Dead>, PostgresError> {
        let mut refused = Vec::new();
        if steps.is_empty() && changes.erased.is_empty() && settled.written.is_empty() {
            return Ok(refused);
        }
        changes.erased.iter().for_each(|(source, user)| staged.erased(*source, user));
        for step in steps {
            if let Err(reason) = staged.step(step, &settled.sources) {
                refused.push(Dead::new(step, reason));
            }
        }
        if self.refused {
            staged.keys(refused::keys(steps));
        }
        refused.iter().for_each(|dead| staged.refused(dead));
        let mut text = self.sources_text(settled);
        text.push_str(&merge::statements(&staged, &self.names));
        text.push_str(&self.revalue_text(settled));
        text.push_str(&self.dead.empty(&staged.used()));
        copy(connection, &mut staged).await?;
        if let Some(events) = staged.take_direct() {
            connection.copy(&self.names.fill(DIRECT), events).await?;
        }
        connection.run(&text).await?;
        Ok(refused)
    }

    /// In parts, each within a savepoint; a part that is refused is halved, and a single row that is refused is written down.
    async fn sift(
        &self,
        connection: &mut Connection,
        changes: &Changeset,
        settled: &Settled,
        steps: &[Step<'_>],
    ) -> Result<Vec<Dead>, PostgresError> {
        let mut first = Staged::default();
        changes.erased.iter().for_each(|(source, user)| first.erased(*source, user));
        if self.refused {
            first.keys(refused::keys(steps));
        }
        let empty = self.dead.empty(&first.used());
        let text = format!("{}{} {empty}", self.sources_text(settled), merge::statements(&first, &self.names));
        copy(connection, &mut first).await?;
        connection.run(&text).await?;
        let mut refused = Vec::new();
        let mut parts = vec![steps];
        while let Some(part) = parts.pop() {
            let attempts = if part.len() == 1 { self.config.attempts_max.max(1) } else { 1 };
            let mut outcome = self.part(connection, settled, part).await?;
            for _ in 1..attempts {
                if outcome.is_ok() {
                    break;
                }
                outcome = self.part(connection, settled, part).await?;
            }
            match (outcome, part) {
                (Ok(()), _) => {}
                (Err(reason), [step]) => refused.push(Dead::new(step, &reason)),
                (Err(_), _) => {
                    let (front, back) = part.split_at(part.len() / 2);
                    parts.extend([back, front].into_iter().filter(|half| !half.is_empty()));
                }
            }
        }
        let mut last = Staged::default();
        refused.iter().for_each(|dead| last.refused(dead));
        let text = merge::statements(&last, &self.names) + &self.revalue_text(settled) + &self.dead.empty(&last.used());
        copy(connection, &mut last).await?;
        connection.run(&text).await?;
        Ok(refused)
    }

    /// Applies some steps, or leaves everything as it was and says why.
    async fn part(&self, connection: &mut Connection, settled: &Settled, steps: &[Step<'_>]) -> Result<Result<(), String>, PostgresError> {
        let mut staged = Staged::default();
        for step in steps {
            if let Err(reason) = staged.step(step, &settled.sources) {
                return Ok(Err(reason.to_owned()));
            }
        }
        let empty = self.dead.empty(&staged.used());
        let text = format!("{} {empty} RELEASE SAVEPOINT part", merge::statements(&staged, &self.names));
        connection.run("SAVEPOINT part").await?;
        let copied = copy(connection, &mut staged).await;
        let merged = match copied {
            Ok(()) => connection.run(&text).await.map(drop),
            Err(error) => Err(error),
        };
        match merged {
            Ok(()) => Ok(Ok(())),
            Err(PostgresError::Data(reason)) => {
                connection.run("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part").await?;
                Ok(Err(reason))
            }
            Err(error) => Err(error),
        }
    }
}

async fn copy(connection: &mut Connection, staged: &mut Staged) -> Result<(), PostgresError> {
    for (name, rows) in staged.take() {
        connection.copy(&format!("pg_temp.{name}"), rows).await?;
    }
    Ok(())
}

fn source_row(source: SourceId, facts: &Facts) -> String {
    let kind = if facts.int { "int" } else { "string" };
    let Facts { context, transaction_value, since, .. } = facts;
    format!(
        "INSERT INTO {{sources}} (source_id, user_id_type, transaction_value, context, since) \
         VALUES ({source}, '{kind}', {transaction_value}, {context}, {since}) ON CONFLICT (source_id) DO UPDATE \
         SET user_id_type = excluded.user_id_type, transaction_value = excluded.transaction_value, context = excluded.context, \
         since = excluded.since; "
    )
}
