//! From labels and features to a ranked bank of classifiers, and to predictions of the best one. Pure functions; they may take minutes.
//!
//! What it promises:
//! - What is learned from is what [`select`] leaves of the labels: sure ones, of every class not many times more than of the rarest.
//! - Features are the columns that can be learned from (see `columns`), without those that have no value in what was selected. What is
//!   missing counts as 0.
//! - The same labels, features and settings give the same models. A model that fails is told and left out.
//!
//! Known limitation: `n_estimators` and `max_depth` are kept and have no effect; every model has the settings of its own.

use super::columns::{Column, Source, columns, values};
use super::record::Id;
use desireline_learning::classifiers::prepare::{self, Imputation, Preparation};
use desireline_learning::classifiers::select::{self, Method, SelectSettings, Selection};
use desireline_learning::classifiers::{
    BankData, BankSettings, Entry, Kind, Model, ModelError, SelectError, Stop, Table, Trained, importances, ranked, train_bank,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use thiserror::Error;

/// Columns that are learned from.
const FEATURES_MAX: usize = 1_000;
/// Numbers of one table, 800 MB.
const CELLS_MAX: usize = 100_000_000;
/// Features whose importance is told, the most important first.
const IMPORTANCES_MAX: usize = 100;
const IMPORTANCE_REPEATS: u32 = 5;
/// The largest model that is kept.
const MODEL_BYTES_MAX: usize = 256 << 20;
/// The format of [`Exported`] that this release writes. It reads this one and no other.
const FORMAT: u16 = 1;

/// How labels are selected and models are trained, with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BankConfig {
    pub threshold_method: String,
    pub threshold_value: f64,
    pub min_labels_per_class: usize,
    pub imbalance_factor: f64,
    pub test_size: f64,
    pub random_state: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_estimators: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u64>,
}

impl Default for BankConfig {
    fn default() -> Self {
        Self {
            threshold_method: "max_confidence".to_owned(),
            threshold_value: 0.7,
            min_labels_per_class: 10,
            imbalance_factor: 3.0,
            test_size: 0.2,
            random_state: 42,
            n_estimators: None,
            max_depth: None,
        }
    }
}

impl BankConfig {
    /// Nothing for a word that names no method.
    pub fn method(&self) -> Option<Method> {
        match self.threshold_method.as_str() {
            "max_confidence" => Some(Method::MaxConfidence),
            "entropy" => Some(Method::Entropy),
            _ => None,
        }
    }

    fn selecting(&self) -> SelectSettings {
        SelectSettings {
            threshold_method: self.method().unwrap_or_default(),
            threshold_value: self.threshold_value,
            min_labels_per_class: self.min_labels_per_class,
            imbalance_factor: self.imbalance_factor,
            random_state: self.random_state,
        }
    }
}

/// Why there are no classifiers.
#[derive(Debug, Error)]
pub enum BankError {
    #[error("fewer than 2 samples remain: {0}")]
    TooFew(SelectError),
    #[error(transparent)]
    Select(SelectError),
    #[error("classifiers need samples of at least two classes, and only {0} remain")]
    OneClass(String),
    #[error("no numeric features are left to learn from: {0}")]
    NoFeatures(String),
    #[error("{rows} samples of {columns} features are too many; {CELLS_MAX} numbers and {FEATURES_MAX} features are the most")]
    TooLarge { rows: usize, columns: usize },
    #[error("no model could be trained; the first one: {0}")]
    NoModel(String),
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl BankError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooFew(_) => "too_few_samples",
            Self::Select(error) => error.code(),
            Self::OneClass(_) => "one_class",
            Self::NoFeatures(_) => "no_features",
            Self::TooLarge { .. } => "too_large",
            Self::NoModel(_) => "no_model",
            Self::Model(error) => error.code(),
        }
    }
}

impl From<SelectError> for BankError {
    fn from(error: SelectError) -> Self {
        if matches!(error, SelectError::TooFew { .. }) { Self::TooFew(error) } else { Self::Select(error) }
    }
}

/// Labels to learn from.
pub struct Labels {
    /// The class of every row, or -1.
    pub labels: Vec<i64>,
    /// Row by row; nothing of hard labels, which are sure.
    pub probabilities: Option<Vec<f64>>,
    /// The names of the classes and the numbers of their values.
    pub names: Vec<String>,
    pub cv_ids: Vec<Id>,
}

/// One model of the ranking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelScore {
    #[serde(rename = "Model")]
    pub model: String,
    #[serde(rename = "Accuracy")]
    pub accuracy: f64,
    #[serde(rename = "Balanced Accuracy")]
    pub balanced_accuracy: f64,
    #[serde(rename = "F1 Score")]
    pub f1_score: f64,
    /// Seconds.
    #[serde(rename = "Time Taken")]
    pub time_taken: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedModel {
    #[serde(rename = "Model")]
    pub model: String,
    pub error: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureImportance {
    pub feature: String,
    pub importance: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilteringStats {
    pub samples_before_filter: u64,
    pub samples_after_filter: u64,
    pub confidence_before_filter: f64,
    pub confidence_after_filter: f64,
    pub filter_retention_rate: f64,
    pub class_distribution_after_filter: BTreeMap<String, u64>,
}

/// What the record of a completed job keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BankResults {
    pub filtering_stats: FilteringStats,
    /// The best first.
    pub model_scores: Vec<ModelScore>,
    pub failed_models: Vec<FailedModel>,
    /// Of the best model: the accuracy lost without a feature.
    pub feature_importances: Vec<FeatureImportance>,
    pub threshold_used: f64,
    pub n_train: u64,
    pub n_test: u64,
    /// Why the split is not stratified.
    pub split_note: Option<String>,
    pub features: Vec<Column>,
    /// The model that predictions are made with: the best one that is not too large to be kept.
    pub exported_model: Option<String>,
}

/// The best model with everything that a prediction needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exported {
    format: u16,
    pub model: Model,
    preparation: Preparation,
    pub features: Vec<Column>,
    pub cv_ids: Vec<Id>,
    pub names: Vec<String>,
}

/// What is said of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    pub cv_id: Id,
    pub name: String,
    /// By the names of the classes; nothing of a model without probabilities.
    pub probabilities: Option<BTreeMap<String, f64>>,
}

impl Exported {
    pub fn from_json(bytes: &[u8]) -> Result<Self, ModelError> {
        let exported: Self = serde_json::from_slice(bytes).map_err(|error| ModelError::Damaged(error.to_string()))?;
        if exported.format != FORMAT {
            return Err(ModelError::Version { found: exported.format.into(), known: FORMAT.into() });
        }
        let classes = exported.model.classes();
        if exported.cv_ids.len() != classes || exported.names.len() != classes {
            return Err(ModelError::Damaged("the classes do not fit the model".to_owned()));
        }
        Ok(exported)
    }

    pub fn predict(&self, rows: &Table) -> Result<Vec<Predicted>, ModelError> {
        let prepared = self.preparation.apply(rows)?;
        let labels = self.model.predict(&prepared)?;
        let probabilities = self.model.predict_proba(&prepared)?;
        let row = |row: usize| {
            let own = probabilities.as_ref()?.chunks_exact(self.names.len()).nth(row)?;
            Some(self.names.iter().cloned().zip(own.iter().copied()).collect())
        };
        let said = labels.into_iter().enumerate();
        Ok(said
            .map(|(at, label)| Predicted { cv_id: self.cv_ids[label], name: self.names[label].clone(), probabilities: row(at) })
            .collect())
    }
}

/// A trained bank.
pub struct Bank {
    pub results: BankResults,
    /// The exported model as JSON.
    pub model: Option<Vec<u8>>,
}

/// How a bank is trained, besides its settings.
pub struct Training<'a> {
    pub threads: usize,
    pub stop: Stop,
    pub clock: desireline_learning::classifiers::Clock,
    pub model_time_max: Duration,
    /// Hears of every model that is done.
    pub on_done: &'a (dyn Fn(&Entry) + Sync),
}

/// Selects, splits, scales, trains and ranks.
pub fn train(kinds: &[Kind], labels: &Labels, sources: &[Source], config: &BankConfig, training: &Training<'_>) -> Result<Bank, BankError> {
    let classes = labels.names.len();
    let labelled = select::Labelled { labels: &labels.labels, probabilities: labels.probabilities.as_deref(), classes };
    let selection = select::select(&labelled, &config.selecting())?;
    let present: Vec<&str> =
        selection.class_counts.iter().zip(&labels.names).filter(|(count, _)| **count > 0).map(|(_, name)| name.as_str()).collect();
    if present.len() < 2 {
        return Err(BankError::OneClass(format!("{} samples of '{}'", selection.samples_after, present.join("', '"))));
    }
    let (features, table) = features(sources, &selection)?;
    let split = prepare::split(&selection.labels, classes, config.test_size, config.random_state)?;
    let [train_labels, test_labels] =
        [&split.train, &split.test].map(|rows| rows.iter().map(|row| selection.labels[*row]).collect::<Vec<usize>>());
    let preparation = Preparation::fit(&table.select(&split.train), Imputation::Zero)?;
    let [train, test] = [&split.train, &split.test].map(|rows| preparation.apply(&table.select(rows)));
    let (train, test) = (train?, test?);
    let data = BankData { train: &train, train_labels: &train_labels, test: &test, test_labels: &test_labels, classes };
    let settings = BankSettings {
        threads: training.threads,
        seed: config.random_state,
        stop: training.stop.clone(),
        clock: training.clock.clone(),
        model_time_max: Some(training.model_time_max),
    };
    let entries = train_bank(kinds, &data, &settings, training.on_done);
    training.stop.check()?;
    let best = ranked(&entries);
    let Some((_, top)) = best.first() else {
        let first = entries.iter().find_map(|entry| entry.outcome.as_ref().err());
        return Err(BankError::NoModel(first.map_or_else(|| "there is none".to_owned(), ModelError::to_string)));
    };
    let importances = importances(&top.model, &test, &test_labels, IMPORTANCE_REPEATS, config.random_state, &training.stop)?;
    let (model, exported_model) = export(&best, preparation, &features, labels);
    let results = BankResults {
        filtering_stats: filtering(&selection, &labels.names),
        model_scores: best.iter().map(|(entry, trained)| scored(entry, trained)).collect(),
        failed_models: entries.iter().filter_map(failed).collect(),
        feature_importances: told(importances),
        threshold_used: selection.threshold_used,
        n_train: train_labels.len() as u64,
        n_test: test_labels.len() as u64,
        split_note: split.note,
        features,
        exported_model,
    };
    Ok(Bank { results, model })
}

/// The columns that have a value in what was selected.
fn features(sources: &[Source], selection: &Selection) -> Result<(Vec<Column>, Table), BankError> {
    let (columns, dropped) = columns(sources);
    let rows = selection.rows.len();
    if columns.len() > FEATURES_MAX || rows.saturating_mul(columns.len()) > CELLS_MAX {
        return Err(BankError::TooLarge { rows, columns: columns.len() });
    }
    let all = columns.iter().cloned().zip(values(sources, &columns, &selection.rows));
    let (features, kept): (Vec<Column>, Vec<_>) = all.filter(|(_, (_, values))| values.iter().any(|value| !value.is_nan())).unzip();
    if features.is_empty() {
        let text =
            if dropped.is_empty() { "the tables have no other columns".to_owned() } else { format!("text columns {}", dropped.join(", ")) };
        return Err(BankError::NoFeatures(text));
    }
    Ok((features, Table::from_columns(kept)?))
}

fn export(
    best: &[(&Entry, &Trained)],
    preparation: Preparation,
    features: &[Column],
    labels: &Labels,
) -> (Option<Vec<u8>>, Option<String>) {
    let (cv_ids, names) = (labels.cv_ids.clone(), labels.names.clone());
    for (entry, trained) in best {
        let exported = Exported {
            format: FORMAT,
            model: trained.model.clone(),
            preparation: preparation.clone(),
            features: features.to_vec(),
            cv_ids: cv_ids.clone(),
            names: names.clone(),
        };
        match serde_json::to_vec(&exported) {
            Ok(bytes) if bytes.len() <= MODEL_BYTES_MAX => return (Some(bytes), Some(entry.kind.name().to_owned())),
            _ => {}
        }
    }
    (None, None)
}

fn filtering(selection: &Selection, names: &[String]) -> FilteringStats {
    FilteringStats {
        samples_before_filter: selection.samples_before as u64,
        samples_after_filter: selection.samples_after as u64,
        confidence_before_filter: selection.confidence_before,
        confidence_after_filter: selection.confidence_after,
        filter_retention_rate: selection.retention_rate,
        class_distribution_after_filter: names.iter().cloned().zip(selection.class_counts.iter().map(|count| *count as u64)).collect(),
    }
}

fn scored(entry: &Entry, trained: &Trained) -> ModelScore {
    use super::snorkel::rounded;
    ModelScore {
        model: entry.kind.name().to_owned(),
        accuracy: rounded(trained.scores.accuracy),
        balanced_accuracy: rounded(trained.scores.balanced_accuracy),
        f1_score: rounded(trained.scores.f1_weighted),
        time_taken: rounded(entry.time.as_secs_f64()),
    }
}

fn failed(entry: &Entry) -> Option<FailedModel> {
    let error = entry.outcome.as_ref().err()?;
    Some(FailedModel { model: entry.kind.name().to_owned(), error: error.to_string() })
}

fn told(importances: Vec<desireline_learning::classifiers::importances::Importance>) -> Vec<FeatureImportance> {
    let mut told: Vec<FeatureImportance> = importances
        .into_iter()
        .map(|own| FeatureImportance { feature: own.column, importance: super::snorkel::rounded(own.mean) })
        .collect();
    told.sort_by(|a, b| b.importance.total_cmp(&a.importance));
    told.truncate(IMPORTANCES_MAX);
    told
}

#[cfg(test)]
mod tests {
    use super::super::columns::tests::{floats, macs, source};
    use super::super::columns::{Source, table};
    use super::*;
    use std::sync::Arc;

    /// 100 samples of three classes: of the third 4 are sure, 8 more somewhat.
    fn labels() -> Labels {
        let confidence = |row: usize| match row {
            0..88 => 0.9,
            88..92 => 0.75,
            _ => 0.56,
        };
        let class = |row: usize| if row < 44 { 0 } else { 1 + usize::from(row >= 88) };
        let probabilities = |row: usize| -> [f64; 3] {
            let rest = (1.0 - confidence(row)) / 2.0;
            std::array::from_fn(|at| if at == class(row) { confidence(row) } else { rest })
        };
        Labels {
            labels: (0..100).map(|row| class(row) as i64).collect(),
            probabilities: Some((0..100).flat_map(probabilities).collect()),
            names: ["A", "B", "C"].map(str::to_owned).to_vec(),
            cv_ids: vec![4, 7, 9],
        }
    }

    fn trained(labels: &Labels, sources: &[Source], config: &BankConfig) -> Result<Bank, BankError> {
        let training = Training {
            threads: 1,
            stop: Stop::default(),
            clock: Arc::new(|| Duration::ZERO),
            model_time_max: Duration::from_secs(1),
            on_done: &|_| {},
        };
        train(&[Kind::GaussianNB, Kind::DummyClassifier, Kind::DecisionTreeClassifier], labels, sources, config, &training)
    }

    fn telling() -> Vec<Source> {
        let x =
            (0..100).map(|row| Some(if row < 44 { 0.0 } else { 10.0 + f64::from(u8::from(row >= 88)) * 10.0 } + f64::from(row) / 100.0));
        vec![source(None, vec![("mac", macs(100))]), source(Some(1), vec![("mac", macs(100)), ("x", floats(x))])]
    }

    #[test]
    fn the_threshold_is_lowered_until_every_class_has_enough() {
        let bank = trained(&labels(), &telling(), &BankConfig::default()).expect("a bank");
        assert!((bank.results.threshold_used - 0.55).abs() < 1e-9, "{}", bank.results.threshold_used);
        let stats = &bank.results.filtering_stats;
        assert_eq!(stats.class_distribution_after_filter["C"], 12);
        assert_eq!(
            (stats.class_distribution_after_filter["A"], stats.class_distribution_after_filter["B"]),
            (36, 36),
            "three times the smallest"
        );
        assert_eq!((stats.samples_before_filter, stats.samples_after_filter, stats.filter_retention_rate), (100, 84, 0.84));
        let scores: Vec<f64> = bank.results.model_scores.iter().map(|score| score.accuracy).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b) && scores[0] == 1.0, "{scores:?}");
        assert_eq!((bank.results.n_train, bank.results.n_test), (67, 17));
    }

    #[test]
    fn a_model_that_was_written_says_the_same_when_it_is_read() {
        let bank = trained(&labels(), &telling(), &BankConfig::default()).expect("a bank");
        let exported = Exported::from_json(&bank.model.expect("a model")).expect("it is read");
        let sources = telling();
        let said = exported.predict(&table(&sources, &exported.features, &[0, 50, 99]).expect("a table")).expect("predictions");
        assert_eq!(said.iter().map(|one| (one.cv_id, one.name.as_str())).collect::<Vec<_>>(), [(4, "A"), (7, "B"), (9, "C")]);
        assert!(Exported::from_json(b"{}").is_err());
        let again = trained(&labels(), &telling(), &BankConfig::default()).expect("a bank");
        assert_eq!(again.results, bank.results, "the same, whenever it is trained");
    }

    #[test]
    fn too_little_to_learn_from_is_told() {
        let text = vec![source(Some(1), vec![("mac", macs(100)), ("t", macs(100)), ("none", floats((0..100).map(|_| None)))])];
        let error = trained(&labels(), &text, &BankConfig::default()).err().expect("no features");
        assert_eq!((error.code(), error.to_string().contains("text columns t")), ("no_features", true), "{error}");
        let one = Labels { labels: vec![0; 100], probabilities: None, ..labels() };
        let error = trained(&one, &telling(), &BankConfig::default()).err().expect("one class");
        assert_eq!(error.code(), "one_class");
        let none = Labels { labels: vec![-1; 100], ..labels() };
        let error = trained(&none, &telling(), &BankConfig::default()).err().expect("nothing");
        assert!(error.to_string().starts_with("fewer than 2 samples remain"), "{error}");
    }
}
