//! What is read of live labels: one page of a matrix, with everything that is known of it, at one logical time.

use super::fitted::{Fitted, Posterior};
use super::wanted::Wanted;
use super::{Inner, LiveLabels};
use crate::concepts::ConceptError;
use crate::concepts::record::{Concept, Id, Index, LIVE_CONNECTION, LabelingFunction};
use crate::service::{At, MatrixPage};
use desireline_dataflows::views::labels::MatrixRow;
use desireline_dataflows::views::labels::query::{After, MatrixFacts};
use desireline_records::{LogicalTime, MatrixId, Micros, Token};
use desireline_sql::live::Class;
use desireline_votes::ABSTAIN;
use ecow::EcoString;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// The live labels of a concept.
#[derive(Clone, Debug)]
pub struct LiveAnswer {
    pub index_id: Id,
    pub generation: u64,
    pub lf_ids: Vec<Id>,
    pub cv_ids: Vec<Id>,
    pub rows: Vec<LabelRow>,
    pub next: Option<After>,
    pub totals: Totals,
    pub functions: Vec<Function>,
    pub model: Option<ModelFacts>,
    /// `current`, `catching_up`, `evaluating` or `paused`.
    pub state: &'static str,
    /// Why it is paused.
    pub reason: Option<String>,
    pub plans: Vec<PlanFacts>,
}

#[derive(Clone, Debug)]
pub struct LabelRow {
    pub key: EcoString,
    /// A concept value per function, -1 for an abstention.
    pub votes: Vec<i64>,
    /// By class; nothing before there is a model.
    pub probabilities: Vec<f64>,
    pub label: i64,
    pub features_as_of: LogicalTime,
}

#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub rows: u64,
    /// Rows by label; nothing when there are too many combinations of votes to count them.
    pub labelled: Option<BTreeMap<i64, u64>>,
}

#[derive(Clone, Debug)]
pub struct Function {
    pub lf_id: Id,
    pub name: String,
    pub coverage: f64,
    pub overlaps: f64,
    pub conflicts: f64,
    pub votes: u64,
    pub learned_weight: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct ModelFacts {
    pub version: u64,
    pub fitted_at: Micros,
    pub rows: u64,
    pub balance: Vec<f64>,
    pub learned: bool,
}

#[derive(Clone, Debug)]
pub struct PlanFacts {
    /// `index` or `rule`.
    pub kind: &'static str,
    pub id: Id,
    /// `key_local`, `side_table`, `global` or `refused`.
    pub class: &'static str,
    pub reason: String,
}

/// How far a matrix was before it was read.
struct StandingBefore {
    wanted: Arc<Wanted>,
    generation: u64,
    through: LogicalTime,
    is_evaluated: bool,
    late_things: bool,
    reason: Option<String>,
}

/// What is asked of a matrix.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub index_id: Option<Id>,
    pub after: Option<After>,
    pub limit: usize,
    pub disputed_only: bool,
    pub at_least: Option<Token>,
}

impl LiveLabels {
    /// One page of the live labels of a concept.
    pub async fn answer(&self, c_id: Id, asked: Asked) -> Result<At<LiveAnswer>, ConceptError> {
        let inner = &self.inner;
        let index = inner.index_of(c_id, asked.index_id)?;
        let matrix = index.index_id;
        let (limit, max) = (asked.limit, inner.config.combinations_max);
        // What has been evaluated before the page is read is on the page; what is evaluated meanwhile may not be.
        let before = inner.standing(matrix);
        let page = inner.service.matrix_page(matrix, asked.after, limit, asked.disputed_only, max, asked.at_least).await?;
        let answer = match page.value {
            Some(found) => inner.answer(found, before),
            None => inner.nothing(&index),
        };
        Ok(At { as_of: page.as_of, value: answer })
    }
}

impl Inner {
    /// The index whose matrix is meant: the one that is named, else the first on the live connection that has one, or might have.
    fn index_of(&self, c_id: Id, named: Option<Id>) -> Result<Arc<Index>, ConceptError> {
        let shelf = self.concepts.book()?.read();
        shelf.get::<Concept>(c_id)?;
        if let Some(index_id) = named {
            let index = shelf.get_in::<Index>(c_id, index_id)?;
            if index.conn_id != LIVE_CONNECTION {
                return Err(ConceptError::invalid("index_id", "is not an index on the live connection"));
            }
            return Ok(Arc::clone(index));
        }
        let live: Vec<&Arc<Index>> = shelf.of_concept::<Index>(c_id).filter(|index| index.conn_id == LIVE_CONNECTION).collect();
        let matrices = self.matrices();
        let first = live.iter().find(|index| matrices.contains_key(&index.index_id)).or(live.first());
        let missing = || ConceptError::NotFound(format!("Concept {c_id} has no index on the live connection (conn_id {LIVE_CONNECTION})"));
        first.map(|index| Arc::clone(index)).ok_or_else(missing)
    }

    /// There is no matrix (yet).
    fn nothing(&self, index: &Index) -> LiveAnswer {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).get(&index.index_id).cloned();
        let none = "no active labeling function votes on a rule of this index";
        let has_functions = self.concepts.book().is_ok_and(|book| {
            let shelf = book.read();
            shelf.of_concept::<LabelingFunction>(index.c_id).any(|lf| lf.is_active)
        });
        let reason = refused.or_else(|| (!has_functions).then(|| none.to_owned()));
        LiveAnswer {
            index_id: index.index_id,
            generation: 0,
            lf_ids: Vec::new(),
            cv_ids: Vec::new(),
            rows: Vec::new(),
            next: None,
            totals: Totals { rows: 0, labelled: Some(BTreeMap::new()) },
            functions: Vec::new(),
            model: None,
            state: if reason.is_some() { "paused" } else { "catching_up" },
            reason,
            plans: Vec::new(),
        }
    }

    fn answer(&self, page: MatrixPage, before: Option<StandingBefore>) -> LiveAnswer {
        let MatrixPage { facts, rows, next } = page;
        let definition = Arc::clone(&facts.definition);
        let (state, reason, wanted) = self.state(&facts, before);
        let logged = facts.model.as_ref().and_then(|model| Some((model, serde_json::from_value::<Fitted>(model.model.clone()).ok()?)));
        let posterior = logged.as_ref().map(|(_, fitted)| fitted.posterior());
        let model = logged.as_ref().map(|(model, fitted)| ModelFacts {
            version: model.version,
            fitted_at: model.fitted_at,
            rows: model.rows,
            balance: fitted.balance.clone(),
            learned: fitted.model.is_some(),
        });
        let weights = logged.map(|(_, fitted)| fitted.weights).unwrap_or_default();
        let cv_id = |class: i8| cv_id(&definition.classes, class);
        let row = |row: MatrixRow| {
            let votes = &row.facts.votes;
            let (probabilities, label) = labelled(posterior.as_ref(), votes);
            LabelRow {
                key: row.key,
                votes: votes.iter().map(|vote| cv_id(*vote)).collect(),
                label: cv_id(label),
                probabilities,
                features_as_of: row.facts.features_as_of,
            }
        };
        LiveAnswer {
            index_id: definition.index,
            generation: definition.generation,
            lf_ids: definition.functions.clone(),
            cv_ids: definition.classes.clone(),
            rows: rows.into_iter().map(row).collect(),
            next,
            totals: totals(&facts, posterior.as_ref()),
            functions: self.functions(&facts, &weights, wanted.as_deref()),
            model,
            state,
            reason,
            plans: wanted.map(|wanted| plans(&wanted)).unwrap_or_default(),
        }
    }

    /// How far a matrix is now.
    fn standing(&self, matrix: MatrixId) -> Option<StandingBefore> {
        let matrices = self.matrices();
        let live = matrices.get(&matrix)?;
        Some(StandingBefore {
            wanted: Arc::clone(&live.wanted),
            generation: live.generation,
            through: live.through,
            is_evaluated: !live.evaluating && !live.whole_wanted,
            late_things: live.late_things,
            reason: live.pause.reason().map(str::to_owned),
        })
    }

    fn state(&self, facts: &MatrixFacts, before: Option<StandingBefore>) -> (&'static str, Option<String>, Option<Arc<Wanted>>) {
        let Some(before) = before.filter(|before| before.generation == facts.definition.generation) else {
            return ("catching_up", None, None);
        };
        let wanted = Some(Arc::clone(&before.wanted));
        if before.reason.is_some() {
            return ("paused", before.reason, wanted);
        }
        if !before.is_evaluated {
            return ("evaluating", None, wanted);
        }
        let waiting = self.service.label_work(before.through, 1);
        // Keys are forgotten when what was evaluated is durable; the matrix goes through them when the views have it, too.
        let is_current = waiting.last_key <= before.through && !before.late_things && before.wanted.plans().wide_is_idle(&waiting.wide);
        (if is_current { "current" } else { "catching_up" }, None, wanted)
    }

    fn functions(&self, facts: &MatrixFacts, weights: &[Option<f64>], wanted: Option<&Wanted>) -> Vec<Function> {
        let summary = facts.statistic.summary();
        let name = |lf_id: Id| {
            wanted.and_then(|wanted| wanted.columns.iter().find(|column| column.lf_id == lf_id)).map(|column| column.name.clone())
        };
        let function = |(at, (lf_id, summary)): (usize, (&Id, desireline_votes::LfSummary))| Function {
            lf_id: *lf_id,
            name: name(*lf_id).unwrap_or_default(),
            coverage: summary.coverage,
            overlaps: summary.overlaps,
            conflicts: summary.conflicts,
            votes: (0..facts.statistic.classes()).map(|class| facts.statistic.votes(at, class)).sum::<i64>().unsigned_abs(),
            learned_weight: weights.get(at).copied().flatten(),
        };
        facts.definition.functions.iter().zip(summary.lfs).enumerate().map(function).collect()
    }
}

fn cv_id(classes: &[Id], class: i8) -> i64 {
    let cv_id = usize::try_from(class).ok().and_then(|class| classes.get(class));
    cv_id.map_or(i64::from(ABSTAIN), |cv_id| crate::concepts::functions::number(*cv_id))
}

fn labelled(posterior: Option<&Posterior>, votes: &[i8]) -> (Vec<f64>, i8) {
    let Some(posterior) = posterior else { return (Vec::new(), ABSTAIN) };
    let probabilities = posterior.probabilities(votes);
    let label = posterior.label(votes, &probabilities);
    (probabilities, label)
}

fn totals(facts: &MatrixFacts, posterior: Option<&Posterior>) -> Totals {
    let count = |combinations: &BTreeMap<Box<[i8]>, i64>| {
        let mut rows: BTreeMap<i64, u64> = facts.definition.classes.iter().map(|id| (crate::concepts::functions::number(*id), 0)).collect();
        for (votes, count) in combinations {
            let label = labelled(posterior, votes).1;
            *rows.entry(cv_id(&facts.definition.classes, label)).or_default() += count.unsigned_abs();
        }
        rows
    };
    Totals { rows: facts.rows, labelled: facts.combinations.as_ref().map(count) }
}

fn plans(wanted: &Wanted) -> Vec<PlanFacts> {
    let class = |class: &Class| match class {
        Class::KeyLocal { .. } => "key_local",
        Class::SideTable { .. } => "side_table",
        Class::Global { .. } => "global",
        Class::Refused { .. } => "refused",
    };
    let plans = wanted.plans();
    let index =
        PlanFacts { kind: "index", id: wanted.index.index_id, class: class(&plans.index.class), reason: plans.index.reason.clone() };
    let rule = |(rule, plan): (&super::wanted::WantedRule, &super::keeper::Plan)| PlanFacts {
        kind: "rule",
        id: rule.r_id,
        class: class(&plan.class),
        reason: plan.reason.clone(),
    };
    std::iter::once(index).chain(wanted.rules.iter().zip(&plans.rules).map(rule)).collect()
}
