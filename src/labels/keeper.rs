//! The task that begins, follows and ends matrices.

use super::evaluate::{Things, evaluate, things};
use super::fitted::Fitted;
use super::jobs::{EVALUATE_JOB, REFIT_JOB};
use super::wanted::{self, Sketch, Wanted};
use super::{Inner, Live, Pause};
use crate::runs::RunError;
use crate::service::{Waiting, Wide};
use arrow_schema::DataType;
use desireline_dataflows::views::labels::query::MatrixFacts;
use desireline_records::{Control, LogicalTime, Matrix, MatrixId};
use desireline_sql::live::{Class, classify, restrict};
use desireline_sql::statement::Checked;
use ecow::EcoString;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Keys that wait in the log's fold, from which on it is told that they have been evaluated although nothing came of it.
const TELL_KEYS: usize = 50_000;
/// The longest pause after failures.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A query's class, for people and for the keeper.
#[derive(Clone, Debug)]
pub struct Plan {
    pub class: Class,
    pub reason: String,
}

/// The plans of a matrix.
pub struct Plans {
    pub index: Plan,
    /// By the rules of the matrix.
    pub rules: Vec<Plan>,
    /// The index for some keys only, with the type of its keys.
    restricted: Option<(Checked, DataType)>,
    /// Changes after which everything is evaluated.
    wide: BTreeSet<Wide>,
}

impl Plans {
    /// Whether the rows of a thing depend on that thing alone.
    pub fn rules_by_key(&self) -> bool {
        self.rules.iter().all(|plan| matches!(plan.class, Class::KeyLocal { .. } | Class::SideTable { .. }))
    }
}

impl Plans {
    /// Whether nothing has changed that makes everything be evaluated.
    pub fn wide_is_idle(&self, changed: &BTreeSet<Wide>) -> bool {
        self.wide.is_disjoint(changed)
    }
}

impl Pause {
    pub(super) fn failed(&mut self, reason: &str) {
        self.failures += 1;
        let pause = Duration::from_secs(1) * 2u32.saturating_pow(self.failures.min(7) - 1);
        self.until = Some(Instant::now() + pause.min(PAUSE_MAX));
        self.reason = Some(reason.to_owned());
    }

    fn is_on(&self) -> bool {
        self.until.is_some_and(|until| until > Instant::now())
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

pub(super) async fn keep(inner: Arc<Inner>, stop: CancellationToken) {
    let mut book = loop {
        match inner.concepts.book() {
            Ok(book) => break book.watch(),
            Err(_) => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
            }
        }
    };
    let mut known = known(&inner, &stop).await;
    book.mark_changed();
    let mut as_of = inner.service.as_of();
    loop {
        if book.has_changed().unwrap_or(false) {
            book.mark_unchanged();
            if let Err(reason) = inner.reconcile(&mut known).await {
                tracing::warn!(reason, "label matrices cannot be brought up to the book; it is tried again");
                book.mark_changed();
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        }
        let matrices: Vec<MatrixId> = inner.matrices().keys().copied().collect();
        for matrix in matrices {
            if stop.is_cancelled() {
                return;
            }
            inner.follow(matrix).await;
        }
        // Changes are gathered for a while; without matrices nothing but the book is looked at.
        let idle = inner.matrices().is_empty();
        let gather = tokio::time::sleep(inner.config.every);
        tokio::select! {
            () = stop.cancelled() => return,
            _ = book.changed() => book.mark_changed(),
            () = inner.moved.notified() => {}
            _ = as_of.changed(), if !idle => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = gather => {}
                }
            }
            // Pauses and cadences end without anything happening.
            () = tokio::time::sleep(Duration::from_secs(1)), if !idle => {}
        }
    }
}

/// The matrices that the log has.
async fn known(inner: &Inner, stop: &CancellationToken) -> BTreeMap<MatrixId, MatrixFacts> {
    loop {
        match inner.service.matrices().await {
            Ok(at) => return at.value.into_iter().map(|facts| (facts.definition.matrix, facts)).collect(),
            Err(error) => tracing::debug!(%error, "label matrices cannot be asked for yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return BTreeMap::new(),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

impl Inner {
    /// Begins, changes and ends matrices as the book says.
    async fn reconcile(&self, known: &mut BTreeMap<MatrixId, MatrixFacts>) -> Result<(), String> {
        let shelf = self.concepts.book().map_err(|error| error.to_string())?.read();
        let sketches = wanted::sketches(&shelf);
        let wanted: HashSet<MatrixId> = sketches.iter().map(|sketch| sketch.matrix).collect();
        let ended: Vec<MatrixId> = known.keys().filter(|matrix| !wanted.contains(matrix)).copied().collect();
        for matrix in ended {
            self.service.put_matrix(vec![Control::MatrixRemoved { matrix }]).await.map_err(|error| error.to_string())?;
            self.matrices().remove(&matrix);
            known.remove(&matrix);
        }
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).retain(|matrix, _| wanted.contains(matrix));
        for sketch in sketches {
            let is_current = self.matrices().get(&sketch.matrix).is_some_and(|live| live.wanted.definition == sketch.definition);
            if is_current {
                continue;
            }
            let begun = self.begin(&shelf, &sketch, known.get(&sketch.matrix)).await?;
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            match begun {
                Ok(facts) => {
                    refused.remove(&sketch.matrix);
                    known.insert(sketch.matrix, facts);
                }
                Err(reason) => {
                    tracing::info!(index_id = sketch.matrix, reason, "an index has no label matrix");
                    refused.insert(sketch.matrix, reason);
                    drop(refused);
                    self.matrices().remove(&sketch.matrix);
                }
            }
        }
        Ok(())
    }

    /// Begins a matrix, or takes it up where the log has it. The inner error is the author's.
    async fn begin(
        &self,
        shelf: &crate::concepts::Shelf,
        sketch: &Sketch,
        known: Option<&MatrixFacts>,
    ) -> Result<Result<MatrixFacts, String>, String> {
        let (shelf, sketch) = (shelf.clone(), sketch.clone());
        let made = tokio::task::spawn_blocking(move || wanted::make(&shelf, &sketch)).await.map_err(|_| "a function cannot be compiled")?;
        let wanted = match made {
            Ok(wanted) => wanted,
            Err(reason) => return Ok(Err(reason)),
        };
        let plans = match self.plans(&wanted).await? {
            Ok(plans) => plans,
            Err(reason) => return Ok(Err(reason)),
        };
        let wanted = Arc::new(Wanted { plans: Some(plans), ..wanted });
        let same = known.filter(|facts| facts.definition.definition == wanted.definition);
        let facts = match same {
            Some(facts) => facts.clone(),
            None => {
                let matrix = Matrix {
                    matrix: wanted.matrix,
                    generation: known.map_or(1, |facts| facts.definition.generation + 1),
                    concept: wanted.concept,
                    index: wanted.index.index_id,
                    functions: wanted.columns.iter().map(|column| column.lf_id).collect(),
                    classes: wanted.classes.cv_ids().to_vec(),
                    definition: wanted.definition.clone(),
                };
                let control = Control::Matrix(Arc::new(matrix));
                let token = self.service.put_matrix(vec![control]).await.map_err(|error| error.to_string())?;
                self.service.wait_applied(token, Duration::from_secs(60)).await.map_err(|error| error.to_string())?;
                let facts = self.service.matrix(wanted.matrix, 0).await.map_err(|error| error.to_string())?.value;
                facts.ok_or("a matrix that was begun is not there")?
            }
        };
        // Whether new things were waiting for a whole evaluation is not in the log.
        let late_things = wanted.plans().restricted.is_none() && same.is_some();
        let live = Live {
            wanted,
            generation: facts.definition.generation,
            evaluating: false,
            // Nothing has been evaluated to its end.
            whole_wanted: facts.through == 0,
            whole_at: None,
            refitting: false,
            refit_at: None,
            refit_wanted: true,
            late_things,
            pause: Pause::default(),
            through: facts.through,
        };
        self.matrices().insert(facts.definition.matrix, live);
        Ok(Ok(facts))
    }

    /// Classifies the queries. The inner error is the author's.
    async fn plans(&self, wanted: &Wanted) -> Result<Result<Plans, String>, String> {
        let mut plans = Vec::with_capacity(wanted.rules.len() + 1);
        let named = std::iter::once((format!("index '{}'", wanted.index.name), &wanted.statement))
            .chain(wanted.rules.iter().map(|rule| (format!("rule '{}'", rule.name), &rule.statement)));
        for (name, statement) in named {
            let (class, reason) = classify(&self.tables, statement).await.map_err(|error| error.to_string())?;
            if let Class::Refused { reason } = &class {
                return Ok(Err(format!("{name}: {reason}")));
            }
            plans.push(Plan { class, reason });
        }
        let rules = plans.split_off(1);
        let index = plans.remove(0);
        let mut wide = BTreeSet::from([Wide::Everything]);
        for plan in rules.iter().chain([&index]) {
            if let Class::SideTable { side, .. } = &plan.class {
                wide.extend(side.iter().map(|table| if table == "space" { Wide::Spaces } else { Wide::Catalog }));
            }
            if let Class::KeyLocal { tables, .. } | Class::SideTable { tables, .. } = &plan.class {
                wide.extend(tables.iter().filter(|table| *table == "journeys").map(|_| Wide::Clusters));
                wide.extend(tables.iter().filter(|table| *table == "events").map(|_| Wide::Sealed));
            }
        }
        let restricted = match &index.class {
            Class::KeyLocal { key, column, tables } | Class::SideTable { key, column, tables, .. }
                if wanted.index_column.as_ref().is_none_or(|wanted| wanted == column) =>
            {
                let schema = tables.first().and_then(|table| self.tables.schema(table));
                let kind = schema.and_then(|schema| schema.field_with_name(key).ok().map(|field| field.data_type().clone()));
                restrict(&wanted.statement, column).ok().zip(kind)
            }
            _ => None,
        };
        Ok(Ok(Plans { index, rules, restricted, wide }))
    }

    /// Whether the rules of a matrix go by keys.
    pub(super) fn goes_by_keys(&self, matrix: MatrixId) -> bool {
        self.matrices().get(&matrix).is_some_and(|live| live.wanted.plans().rules_by_key())
    }

    /// Brings a matrix up to the log, as far as it may be now.
    async fn follow(&self, matrix: MatrixId) {
        let state = self.matrices().get(&matrix).map(|live| {
            let free = !live.evaluating && !live.pause.is_on();
            (free, Arc::clone(&live.wanted), live.generation, live.through, live.whole_wanted)
        });
        let Some((true, wanted, generation, through, whole_wanted)) = state else { return };
        if whole_wanted {
            self.begin_whole(matrix, generation).await;
            return;
        }
        let plans = wanted.plans();
        let waiting = self.service.label_work(through, self.config.keys_max);
        let is_wide = !plans.wide.is_disjoint(&waiting.wide);
        let nothing = waiting.keys.is_empty() && waiting.wide.is_empty();
        if !nothing && (is_wide || !plans.rules_by_key()) {
            self.want_whole(matrix, generation);
            return;
        }
        if !waiting.keys.is_empty() {
            match self.evaluate_some(&wanted, generation, &waiting).await {
                Ok(()) => {
                    self.with(matrix, generation, |live| {
                        live.pause = Pause::default();
                        // An index that does not go by keys has to be asked whole for new things; keys wait until then.
                        if wanted.plans().restricted.is_none() {
                            live.late_things = true;
                        }
                        live.through = waiting.through;
                    });
                }
                Err(error) => {
                    let text = error.to_string();
                    tracing::warn!(matrix, error = text, "changed things cannot be evaluated; it is tried again");
                    self.with(matrix, generation, |live| live.pause.failed(&text));
                    return;
                }
            }
            if waiting.more {
                self.moved.notify_one();
            }
        } else {
            self.with(matrix, generation, |live| live.through = live.through.max(waiting.through));
        }
        self.whole_for_things(matrix, generation);
        self.consider_refit(matrix, generation).await;
    }

    /// Has everything evaluated, but not too often.
    fn want_whole(&self, matrix: MatrixId, generation: u64) {
        let every = self.config.full_every;
        let wanted = self.with(matrix, generation, |live| {
            live.whole_wanted = live.whole_at.is_none_or(|at| at.elapsed() >= every);
            live.whole_wanted
        });
        if wanted == Some(true) {
            self.moved.notify_one();
        }
    }

    fn whole_for_things(&self, matrix: MatrixId, generation: u64) {
        if self.with(matrix, generation, |live| live.late_things) == Some(true) {
            self.want_whole(matrix, generation);
        }
    }

    async fn begin_whole(&self, matrix: MatrixId, generation: u64) {
        self.with(matrix, generation, |live| {
            live.evaluating = true;
            live.late_things = false;
            live.refit_wanted = true;
        });
        if let Err(reason) = self.submit(EVALUATE_JOB, matrix, generation).await {
            self.with(matrix, generation, |live| {
                live.evaluating = false;
                live.pause.failed(&reason);
            });
        }
    }

    /// Evaluates the keys that rows have come for.
    async fn evaluate_some(&self, wanted: &Arc<Wanted>, generation: u64, waiting: &Waiting) -> Result<(), RunError> {
        self.seen(waiting.through).await?;
        let known = self.service.matrix_rows(wanted.matrix, waiting.keys.as_slice().into()).await;
        let known = known.map_err(|error| RunError::external("log", error.to_string()))?;
        let limits = &self.config.limits;
        let things = match &wanted.plans().restricted {
            Some((statement, kind)) => {
                let asked = Things::of_keys(waiting.keys.clone(), kind)?;
                let found = things(&self.tables, wanted, Some((statement, asked.values)), limits, self.config.things_max).await;
                self.told(wanted, found).await?.1
            }
            None => Things::of_keys(known.iter().map(|row| row.key.clone()).collect(), &DataType::Utf8)?,
        };
        let there: HashSet<&EcoString> = things.keys.iter().collect();
        let gone: Vec<EcoString> = known.into_iter().map(|row| row.key).filter(|key| !there.contains(key)).collect();
        let tell = self.service.label_work_len() > TELL_KEYS;
        if things.len() == 0 {
            if tell || !gone.is_empty() {
                self.refit_is_wanted(wanted.matrix, generation);
                return self.record(wanted, generation, waiting.through, gone, waiting.through).await;
            }
            return Ok(());
        }
        let done = evaluate(&self.tables, wanted, self.concepts.labelling(), &things, limits, self.config.threads).await;
        let evaluated = self.told(wanted, done).await?;
        if self.log(wanted, generation, &things, &evaluated, gone, waiting.through).await? {
            self.refit_is_wanted(wanted.matrix, generation);
        } else if tell {
            self.record(wanted, generation, waiting.through, Vec::new(), waiting.through).await?;
        }
        Ok(())
    }

    /// The views have seen what is in the log up to this time.
    async fn seen(&self, time: LogicalTime) -> Result<(), RunError> {
        let mut as_of = self.service.as_of();
        let seen = tokio::time::timeout(Duration::from_secs(60), as_of.wait_for(|now| *now >= time)).await;
        match seen {
            Ok(Ok(_)) => Ok(()),
            _ => Err(RunError::external("views", "the views do not keep up")),
        }
    }

    fn refit_is_wanted(&self, matrix: MatrixId, generation: u64) {
        self.with(matrix, generation, |live| live.refit_wanted = true);
    }

    /// Has a model fitted when the counts have moved far enough.
    async fn consider_refit(&self, matrix: MatrixId, generation: u64) {
        let every = self.config.refit_every;
        let is_due = |live: &mut Live| live.refit_wanted && !live.refitting && live.refit_at.is_none_or(|at| at.elapsed() >= every);
        if self.with(matrix, generation, is_due) != Some(true) {
            return;
        }
        let Ok(at) = self.service.matrix(matrix, 0).await else { return };
        let Some(facts) = at.value.filter(|facts| facts.definition.generation == generation) else { return };
        let fitted = facts.model.as_ref().and_then(|model| serde_json::from_value::<Fitted>(model.model.clone()).ok());
        let is_far = fitted.is_none_or(|fitted| fitted.moved(&facts.statistic) >= self.config.refit_share);
        if facts.rows == 0 || !is_far {
            // Until something changes again.
            self.with(matrix, generation, |live| live.refit_wanted = false);
            return;
        }
        self.with(matrix, generation, |live| (live.refitting, live.refit_wanted) = (true, false));
        if let Err(reason) = self.submit(REFIT_JOB, matrix, generation).await {
            self.with(matrix, generation, |live| {
                live.refitting = false;
                live.refit_wanted = true;
                live.pause.failed(&reason);
            });
        }
    }
}
