//! The models by name.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A model of the bank. Stored and shown by its name, the one by which scikit-learn, LightGBM and XGBoost know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    AdaBoostClassifier,
    BaggingClassifier,
    BernoulliNB,
    CalibratedClassifierCV,
    DecisionTreeClassifier,
    DummyClassifier,
    ExtraTreeClassifier,
    ExtraTreesClassifier,
    GaussianNB,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    KNeighborsClassifier,
    LGBMClassifier,
    LabelPropagation,
    LabelSpreading,
    LinearDiscriminantAnalysis,
    LinearSVC,
    LogisticRegression,
    LogisticRegressionCV,
    MLPClassifier,
    NearestCentroid,
    NuSVC,
    PassiveAggressiveClassifier,
    Perceptron,
    QuadraticDiscriminantAnalysis,
    RandomForestClassifier,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
    SVC,
    XGBClassifier,
    XGBRFClassifier,
}

/// Rows that the support vector machines take: their time grows with the square of the rows, their memory is a cache of fixed size.
pub const SVM_ROWS_MAX: usize = 20_000;

/// Rows that the label propagations take: label spreading holds half of a matrix of rows by rows, 200 MB at this limit, and both keep
/// every row in the model.
pub const PROPAGATION_ROWS_MAX: usize = 10_000;

/// Rows of all other models; it bounds the tables of ranks and bins, and the model of the nearest neighbours, which is its rows.
pub const ROWS_MAX: usize = 10_000_000;

impl Kind {
    /// Every model, by name.
    pub const ALL: [Self; 32] = [
        Self::AdaBoostClassifier,
        Self::BaggingClassifier,
        Self::BernoulliNB,
        Self::CalibratedClassifierCV,
        Self::DecisionTreeClassifier,
        Self::DummyClassifier,
        Self::ExtraTreeClassifier,
        Self::ExtraTreesClassifier,
        Self::GaussianNB,
        Self::GradientBoostingClassifier,
        Self::HistGradientBoostingClassifier,
        Self::KNeighborsClassifier,
        Self::LGBMClassifier,
        Self::LabelPropagation,
        Self::LabelSpreading,
        Self::LinearDiscriminantAnalysis,
        Self::LinearSVC,
        Self::LogisticRegression,
        Self::LogisticRegressionCV,
        Self::MLPClassifier,
        Self::NearestCentroid,
        Self::NuSVC,
        Self::PassiveAggressiveClassifier,
        Self::Perceptron,
        Self::QuadraticDiscriminantAnalysis,
        Self::RandomForestClassifier,
        Self::RidgeClassifier,
        Self::RidgeClassifierCV,
        Self::SGDClassifier,
        Self::SVC,
        Self::XGBClassifier,
        Self::XGBRFClassifier,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::AdaBoostClassifier => "AdaBoostClassifier",
            Self::BaggingClassifier => "BaggingClassifier",
            Self::BernoulliNB => "BernoulliNB",
            Self::CalibratedClassifierCV => "CalibratedClassifierCV",
            Self::DecisionTreeClassifier => "DecisionTreeClassifier",
            Self::DummyClassifier => "DummyClassifier",
            Self::ExtraTreeClassifier => "ExtraTreeClassifier",
            Self::ExtraTreesClassifier => "ExtraTreesClassifier",
            Self::GaussianNB => "GaussianNB",
            Self::GradientBoostingClassifier => "GradientBoostingClassifier",
            Self::HistGradientBoostingClassifier => "HistGradientBoostingClassifier",
            Self::KNeighborsClassifier => "KNeighborsClassifier",
            Self::LGBMClassifier => "LGBMClassifier",
            Self::LabelPropagation => "LabelPropagation",
            Self::LabelSpreading => "LabelSpreading",
            Self::LinearDiscriminantAnalysis => "LinearDiscriminantAnalysis",
            Self::LinearSVC => "LinearSVC",
            Self::LogisticRegression => "LogisticRegression",
            Self::LogisticRegressionCV => "LogisticRegressionCV",
            Self::MLPClassifier => "MLPClassifier",
            Self::NearestCentroid => "NearestCentroid",
            Self::NuSVC => "NuSVC",
            Self::PassiveAggressiveClassifier => "PassiveAggressiveClassifier",
            Self::Perceptron => "Perceptron",
            Self::QuadraticDiscriminantAnalysis => "QuadraticDiscriminantAnalysis",
            Self::RandomForestClassifier => "RandomForestClassifier",
            Self::RidgeClassifier => "RidgeClassifier",
            Self::RidgeClassifierCV => "RidgeClassifierCV",
            Self::SGDClassifier => "SGDClassifier",
            Self::SVC => "SVC",
            Self::XGBClassifier => "XGBClassifier",
            Self::XGBRFClassifier => "XGBRFClassifier",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// More rows than these are refused with [`super::ModelError::TooManyRows`].
    pub fn rows_max(self) -> usize {
        match self {
            Self::SVC | Self::NuSVC => SVM_ROWS_MAX,
            Self::LabelPropagation | Self::LabelSpreading => PROPAGATION_ROWS_MAX,
            _ => ROWS_MAX,
        }
    }

    /// What a fit costs beside the others, coarsely: the bank begins with the dearest, so that no thread ends long after the rest.
    pub(super) fn cost(self) -> u32 {
        match self {
            Self::MLPClassifier => 9,
            Self::GradientBoostingClassifier | Self::HistGradientBoostingClassifier | Self::LGBMClassifier => 8,
            Self::XGBClassifier | Self::SVC | Self::NuSVC => 7,
            Self::RandomForestClassifier | Self::LogisticRegressionCV | Self::LabelSpreading => 6,
            Self::ExtraTreesClassifier | Self::XGBRFClassifier => 5,
            Self::AdaBoostClassifier | Self::BaggingClassifier | Self::CalibratedClassifierCV => 4,
            Self::KNeighborsClassifier | Self::LabelPropagation => 3,
            _ => 1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
