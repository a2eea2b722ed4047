//! A fitted model as a value: asked for predictions, stored and read again.
//!
//! # Format
//! JSON: `{"version", "kind", "columns", "classes", "present", "fitted"}`. `present` are the classes that had rows, which is what the
//! numbers under `fitted` are about; `fitted` is an object with one key, the family. A model of another version, or whose parts do not
//! fit together, is refused: a model that was read can be asked without a panic.

use super::calibration::Calibrated;
use super::discriminant::{self, Centroids, Quadratic};
use super::dummy::Dummy;
use super::layers::Layers;
use super::linear::{self, Linear};
use super::naive_bayes::{Bernoulli, Gaussian};
use super::neighbours::Neighbours;
use super::propagation::Propagation;
use super::stop::{Pace, Stop};
use super::svm::Machines;
use super::table::is_value;
use super::train::{Classify, Train, highest};
use super::tree::{AdaBoost, Forest};
use super::{Kind, ModelError, Table, boosting::Boosted, online, ridge};
use serde::{Deserialize, Serialize};

/// Of the stored form.
pub const FORMAT_VERSION: u32 = 1;

/// Classes that a model can tell apart; it bounds what is made for every row.
pub const CLASSES_MAX: usize = 1_024;

/// A fitted model. Its answers are about the classes that it was fitted with, by number, the ones without rows included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Model {
    kind: Kind,
    columns: Vec<String>,
    classes: usize,
    /// Classes that had rows, ascending.
    present: Vec<usize>,
    fitted: Fitted,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    kind: Kind,
    columns: Vec<String>,
    classes: usize,
    present: Vec<usize>,
    fitted: Fitted,
}

/// What tells whether the rest can be read.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fitted {
    Linear(Linear),
    Centroids(Centroids),
    Quadratic(Quadratic),
    Gaussian(Gaussian),
    Bernoulli(Bernoulli),
    Neighbours(Neighbours),
    Forest(Forest),
    AdaBoost(AdaBoost),
    Boosted(Boosted),
    Machines(Machines),
    Propagation(Propagation),
    Calibrated(Calibrated),
    Layers(Layers),
    Dummy(Dummy),
}

impl Fitted {
    fn fit(train: &Train) -> Result<Self, ModelError> {
        Ok(match train.kind {
            Kind::LogisticRegression => Self::Linear(linear::logistic(train)?),
            Kind::LogisticRegressionCV => Self::Linear(linear::logistic_cv(train)?),
            Kind::LinearSVC => Self::Linear(linear::linear_svc(train)?),
            Kind::RidgeClassifier => Self::Linear(ridge::ridge(train)?),
            Kind::RidgeClassifierCV => Self::Linear(ridge::ridge_cv(train)?),
            Kind::SGDClassifier | Kind::Perceptron | Kind::PassiveAggressiveClassifier => Self::Linear(online::fit(train)?),
            Kind::LinearDiscriminantAnalysis => Self::Linear(discriminant::linear(train)?),
            Kind::QuadraticDiscriminantAnalysis => Self::Quadratic(Quadratic::fit(train)?),
            Kind::NearestCentroid => Self::Centroids(Centroids::fit(train)),
            Kind::GaussianNB => Self::Gaussian(Gaussian::fit(train)?),
            Kind::BernoulliNB => Self::Bernoulli(Bernoulli::fit(train)),
            Kind::KNeighborsClassifier => Self::Neighbours(Neighbours::fit(train)),
            Kind::DecisionTreeClassifier
            | Kind::ExtraTreeClassifier
            | Kind::RandomForestClassifier
            | Kind::ExtraTreesClassifier
            | Kind::BaggingClassifier => Self::Forest(Forest::fit(train)?),
            Kind::AdaBoostClassifier => Self::AdaBoost(AdaBoost::fit(train)?),
            Kind::XGBClassifier
            | Kind::XGBRFClassifier
            | Kind::LGBMClassifier
            | Kind::GradientBoostingClassifier
            | Kind::HistGradientBoostingClassifier => Self::Boosted(Boosted::fit(train)?),
            Kind::SVC | Kind::NuSVC => Self::Machines(Machines::fit(train)?),
            Kind::LabelPropagation => Self::Propagation(Propagation::propagate(train)),
            Kind::LabelSpreading => Self::Propagation(Propagation::spread(train)?),
            Kind::CalibratedClassifierCV => Self::Calibrated(Calibrated::fit(train)?),
            Kind::MLPClassifier => Self::Layers(Layers::fit(train)?),
            Kind::DummyClassifier => Self::Dummy(Dummy::fit(train)),
        })
    }

    /// Whether models of this kind are of this family.
    fn is_of(&self, kind: Kind) -> bool {
        match kind {
            Kind::LogisticRegression
            | Kind::LogisticRegressionCV
            | Kind::LinearSVC
            | Kind::RidgeClassifier
            | Kind::RidgeClassifierCV
            | Kind::SGDClassifier
            | Kind::Perceptron
            | Kind::PassiveAggressiveClassifier
            | Kind::LinearDiscriminantAnalysis => matches!(self, Self::Linear(_)),
            Kind::QuadraticDiscriminantAnalysis => matches!(self, Self::Quadratic(_)),
            Kind::NearestCentroid => matches!(self, Self::Centroids(_)),
            Kind::GaussianNB => matches!(self, Self::Gaussian(_)),
            Kind::BernoulliNB => matches!(self, Self::Bernoulli(_)),
            Kind::KNeighborsClassifier => matches!(self, Self::Neighbours(_)),
            Kind::DecisionTreeClassifier
            | Kind::ExtraTreeClassifier
            | Kind::RandomForestClassifier
            | Kind::ExtraTreesClassifier
            | Kind::BaggingClassifier => matches!(self, Self::Forest(_)),
            Kind::AdaBoostClassifier => matches!(self, Self::AdaBoost(_)),
            Kind::XGBClassifier
            | Kind::XGBRFClassifier
            | Kind::LGBMClassifier
            | Kind::GradientBoostingClassifier
            | Kind::HistGradientBoostingClassifier => matches!(self, Self::Boosted(_)),
            Kind::SVC | Kind::NuSVC => matches!(self, Self::Machines(_)),
            Kind::LabelPropagation | Kind::LabelSpreading => matches!(self, Self::Propagation(_)),
            Kind::CalibratedClassifierCV => matches!(self, Self::Calibrated(_)),
            Kind::MLPClassifier => matches!(self, Self::Layers(_)),
            Kind::DummyClassifier => matches!(self, Self::Dummy(_)),
        }
    }

    fn family(&self) -> &dyn Classify {
        match self {
            Self::Linear(family) => family,
            Self::Centroids(family) => family,
            Self::Quadratic(family) => family,
            Self::Gaussian(family) => family,
            Self::Bernoulli(family) => family,
            Self::Neighbours(family) => family,
            Self::Forest(family) => family,
            Self::AdaBoost(family) => family,
            Self::Boosted(family) => family,
            Self::Machines(family) => family,
            Self::Propagation(family) => family,
            Self::Calibrated(family) => family,
            Self::Layers(family) => family,
            Self::Dummy(family) => family,
        }
    }
}

/// Fits a model of this kind.
///
/// The answer depends on the set of rows, the kind and the seed alone, not on the order of the rows. Labels are numbers below `classes`;
/// classes without rows are never predicted.
pub fn fit(kind: Kind, table: &Table, labels: &[usize], classes: usize, seed: u64, stop: &Stop) -> Result<Model, ModelError> {
    table.check()?;
    if classes > CLASSES_MAX {
        return Err(ModelError::TooManyClasses { classes, classes_max: CLASSES_MAX });
    }
    if labels.len() != table.rows() {
        return Err(ModelError::LabelCount { labels: labels.len(), rows: table.rows() });
    }
    if let Some(row) = labels.iter().position(|label| *label >= classes) {
        return Err(ModelError::UnknownLabel { row, label: labels[row], classes });
    }
    if table.rows() > kind.rows_max() {
        return Err(ModelError::TooManyRows { kind, rows: table.rows(), rows_max: kind.rows_max() });
    }
    let mut present: Vec<usize> = labels.to_vec();
    present.sort_unstable();
    present.dedup();
    if present.len() < 2 {
        return Err(ModelError::OneClass);
    }
    stop.check()?;
    let mut places = vec![0; classes];
    present.iter().enumerate().for_each(|(place, class)| places[*class] = place);
    let compact: Vec<usize> = labels.iter().map(|label| places[*label]).collect();
    let train = Train::new(kind, table, &compact, present.len(), seed, stop);
    let fitted = Fitted::fit(&train)?;
    if let Some(fault) = fitted.family().fault(table.columns(), present.len()) {
        return Err(train.degenerate(format!("its values are too large or too small ({fault})")));
    }
    Ok(Model { kind, columns: table.names().to_vec(), classes, present, fitted })
}

impl Model {
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The columns that it was fitted on, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The number of classes, those without rows included.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Whether [`Self::predict_proba`] answers.
    pub fn has_probabilities(&self) -> bool {
        self.fitted.family().probabilistic()
    }

    /// A class per row. The table must have the model's columns in their order, and finite values.
    pub fn predict(&self, table: &Table) -> Result<Vec<usize>, ModelError> {
        self.predict_until(table, &Stop::default())
    }

    /// Like [`Self::predict`], unless it is stopped.
    pub fn predict_until(&self, table: &Table, stop: &Stop) -> Result<Vec<usize>, ModelError> {
        let mut classes = Vec::with_capacity(table.rows());
        self.walk(table, stop, |scores| classes.push(self.present[highest(scores)]))?;
        Ok(classes)
    }

    /// Row by row a probability per class, which add up to 1; nothing for models that only tell classes.
    pub fn predict_proba(&self, table: &Table) -> Result<Option<Vec<f64>>, ModelError> {
        self.predict_proba_until(table, &Stop::default())
    }

    /// Like [`Self::predict_proba`], unless it is stopped.
    pub fn predict_proba_until(&self, table: &Table, stop: &Stop) -> Result<Option<Vec<f64>>, ModelError> {
        if !self.has_probabilities() {
            return self.check(table).map(|()| None);
        }
        let mut probabilities = vec![0.0; table.rows() * self.classes];
        let mut rows = probabilities.chunks_exact_mut(self.classes);
        self.walk(table, stop, |scores| {
            if let Some(row) = rows.next() {
                self.present.iter().zip(scores).for_each(|(class, score)| row[*class] = *score);
            }
        })?;
        Ok(Some(probabilities))
    }

    /// Refuses other columns and values that are no numbers.
    fn check(&self, table: &Table) -> Result<(), ModelError> {
        if table.names() != self.columns {
            return Err(ModelError::Columns { fitted: self.columns.clone(), given: table.names().to_vec() });
        }
        table.check_values(is_value)
    }

    fn walk(&self, table: &Table, stop: &Stop, mut each: impl FnMut(&[f64])) -> Result<(), ModelError> {
        self.check(table)?;
        let family = self.fitted.family();
        let mut scores = vec![0.0; self.present.len()];
        let mut pace = Pace::new(stop);
        for row in 0..table.rows() {
            pace.walk(family.values_per_row())?;
            family.scores(table.row(row), &mut scores);
            each(&scores);
        }
        Ok(())
    }

    /// For trees, the share of each column in what the splits gained, in the order of the columns; nothing for other models.
    pub fn split_importances(&self) -> Option<&[f64]> {
        match &self.fitted {
            Fitted::Forest(forest) => Some(forest.importances()),
            Fitted::AdaBoost(model) => Some(model.importances()),
            Fitted::Boosted(model) => Some(model.importances()),
            _ => None,
        }
    }

    /// The stored form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a model has string keys and finite numbers alone")
    }

    /// Reads the stored form.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ModelError> {
        let damaged = |error: serde_json::Error| ModelError::Damaged(error.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
        if head.version != FORMAT_VERSION {
            return Err(ModelError::Version { found: head.version, known: FORMAT_VERSION });
        }
        serde_json::from_slice::<Stored>(bytes).map_err(damaged)?.try_into()
    }
}

impl From<Model> for Stored {
    fn from(model: Model) -> Self {
        let Model { kind, columns, classes, present, fitted } = model;
        Self { version: FORMAT_VERSION, kind, columns, classes, present, fitted }
    }
}

impl TryFrom<Stored> for Model {
    type Error = ModelError;

    fn try_from(stored: Stored) -> Result<Self, ModelError> {
        let Stored { version, kind, columns, classes, present, fitted } = stored;
        if version != FORMAT_VERSION {
            return Err(ModelError::Version { found: version, known: FORMAT_VERSION });
        }
        let ascending = present.is_sorted_by(|a, b| a < b);
        let within = classes <= CLASSES_MAX && present.iter().all(|class| *class < classes);
        if columns.is_empty() || present.len() < 2 || !ascending || !within {
            return Err(ModelError::Damaged("its columns or classes do not fit together".into()));
        }
        if !fitted.is_of(kind) {
            return Err(ModelError::Damaged(format!("what is stored is no {kind}")));
        }
        match fitted.family().fault(columns.len(), present.len()) {
            Some(fault) => Err(ModelError::Damaged(fault)),
            None => Ok(Self { kind, columns, classes, present, fitted }),
        }
    }
}
