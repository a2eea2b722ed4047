//! The classifier bank: 32 models behind one interface, fitted side by side on the same rows and ranked.
//!
//! # What it promises
//! * **The usual models.** Every model has the name and the documented default settings of scikit-learn 1.9, LightGBM 4 or XGBoost 3.
//!   On the stored cases (5,000 rows in three classes, 1,500 rows in two unequal ones) accuracy, balanced accuracy and weighted F1 of
//!   the models with one right answer lie within 0.01 of the reference's, with 99 % of the predictions the same; of the ones that draw,
//!   at most 0.03 below the reference's worst of three seeds, 0.10 for the models that the order of rows moves most.
//! * **Deterministic.** The same set of rows, kind and seed give the same bits, in any order of the rows and on any number of threads.
//! * **Can be stopped.** Every loop that can last asks [`Stop`] at least every few milliseconds of its work, or once per
//!   pass over the rows or sort of a column where that is longer.
//! * **Bounded.** A model that would need more memory than a few times its rows refuses above a number of rows
//!   ([`Kind::rows_max`]). In a bank, a model that fails or panics is reported and the others go on.
//! * **A value.** Every model is serialised as JSON and answers the same when it is read again; a damaged one is refused.
//! * **Total.** Rows of numbers up to [`VALUE_MAX`], of at least two classes, give finite numbers or a [`ModelError`].
//!
//! # From labels to scores
//! [`select`](mod@select) keeps the samples that are sure enough, [`prepare`] fills, scales and splits, [`train_bank`] fits and
//! scores, [`ranked`] orders by accuracy, [`importances`](mod@importances) tells what the best one looks at.
//!
//! | file | models |
//! |---|---|
//! | `linear.rs`, `ridge.rs`, `online.rs` | `LogisticRegression`, `LogisticRegressionCV`, `LinearSVC`, `RidgeClassifier`, `RidgeClassifierCV`, `SGDClassifier`, `Perceptron`, `PassiveAggressiveClassifier` |
//! | `discriminant.rs`, `naive_bayes.rs` | `LinearDiscriminantAnalysis`, `QuadraticDiscriminantAnalysis`, `NearestCentroid`, `GaussianNB`, `BernoulliNB` |
//! | `neighbours.rs`, `propagation.rs` | `KNeighborsClassifier`, `LabelPropagation`, `LabelSpreading` |
//! | `tree/` | `DecisionTreeClassifier`, `ExtraTreeClassifier`, `RandomForestClassifier`, `ExtraTreesClassifier`, `BaggingClassifier`, `AdaBoostClassifier` |
//! | `boosting/` | `GradientBoostingClassifier`, `HistGradientBoostingClassifier`, `XGBClassifier`, `XGBRFClassifier`, `LGBMClassifier` |
//! | `svm.rs`, `calibration.rs` | `SVC`, `NuSVC`, `CalibratedClassifierCV` |
//! | `layers.rs`, `dummy.rs` | `MLPClassifier`, `DummyClassifier` |
//!
//! # Why they are our own
//! `linfa` and `smartcore` have about half of these models. None of theirs can be stopped while it fits, so a cancelled job would hold
//! its thread for as long as the slowest of them takes; some need weights of rows that they do not take (forests, AdaBoost), or answer
//! in the order of a hash map; and every crate would bring a stored form of its own. What remains once the loops are ours is small:
//! about a hundred lines a family, on two solvers ([Liu and Nocedal's](https://doi.org/10.1007/BF01589116) and a pair-wise one).
//! Why boosting in particular is our own stands in `boosting/mod.rs`.
//!
//! # Known limitations
//! * Default settings only; there is no search for better ones but in the two models named CV.
//! * Rows are dense numbers; categories are columns of 0 and 1, made by whoever joins the features.
//! * One thread per model: a bank is as fast as its slowest model.
//! * Models that draw do not draw as the reference does; they agree in quality, not in each prediction.

mod bank;
mod boosting;
mod calibration;
mod discriminant;
mod draw;
mod dummy;
mod error;
pub mod importances;
mod kind;
mod layers;
mod linalg;
mod linear;
mod model;
mod naive_bayes;
mod neighbours;
mod online;
mod optimise;
pub mod prepare;
mod propagation;
mod ridge;
pub mod score;
pub mod select;
mod stop;
mod svm;
mod table;
mod train;
mod tree;

pub use bank::{BankData, BankSettings, Entry, Trained, ranked, train_bank};
pub use error::{ModelError, SelectError};
pub use importances::importances;
pub use kind::{Kind, PROPAGATION_ROWS_MAX, ROWS_MAX, SVM_ROWS_MAX};
pub use model::{CLASSES_MAX, FORMAT_VERSION, Model, fit};
pub use stop::{Clock, Stop, StopReason};
pub use table::{Table, VALUE_MAX};
