//! The label model of weak supervision: from what many noisy labeling functions say, with abstentions and contradictions, to one
//! probability per class and row, without a single true label.
//!
//! # What it promises
//! * **From counts alone.** A fit reads a [`Statistic`] of integers, which is maintained row by row in any order, never the rows.
//!   It costs `2 epochs (m k)^2 k` multiplications for m labeling functions and k classes, however many rows there are: about
//!   0.1 ms for 10 functions, 3 classes and 100 epochs.
//! * **Deterministic.** The same statistic and configuration give the same bits. The one random number of a fit is the first of a
//!   Mersenne Twister with the given seed ([`first_uniform`]), as the reference library draws it.
//! * **The reference's numbers.** With [`FitConfig::default`] the parameters agree with Snorkel 0.10 with the same seed to about
//!   10^-6 (training is in `f32` on both sides); the tests demand 2 * 10^-5, and 10^-4 for probabilities.
//! * **Total.** Every statistic and configuration gives a model of finite numbers or a [`LabelModelError`].
//!
//! # The method
//! Ratner, Hancock, Dunnmon, Sala, Pandey, Ré, "Training complex models with multi-task weak supervision" (AAAI 2019), in the form
//! without an inverse that the reference library ships: labeling functions are independent given the class, and a table
//! μ = P(function j votes y | class c) is fitted by gradient descent so that it explains how often each pair of votes occurs.
//! A row's class then follows by Bayes' rule from the table and the class balance.
//!
//! | file | what |
//! |---|---|
//! | crate `desireline-votes` | matrices of votes, the sufficient statistic, coverage, overlaps and conflicts |
//! | `fit.rs`, `balance.rs`, `symmetry.rs`, `random.rs` | the fit: descent, class balance, order of classes, the one random number |
//! | `model.rs` | the table, weights, conditional probabilities |
//! | `predict.rs`, `majority.rs` | probabilities and classes of rows, by the model and by plain majority |
//! | `uncertainty.rs` | standard errors of the weights |
//!
//! # What goes beyond the reference
//! A class balance estimated from the votes ([`ClassBalance::Estimate`]), a stop at convergence ([`FitConfig::tolerance`]),
//! standard errors ([`jackknife`], [`simulated_errors`]), and weights that are nothing, not 1, for a function that never votes.
//!
//! # Known limitations
//! * Correlated labeling functions (copies of each other) count as often as there are of them.
//! * A class that no labeling function ever votes for cannot be found.
//! * 100 epochs, the default, are not convergence: the result depends on the seed in the second or third digit. A tolerance
//!   gives more exact and less accurate weights when the class balance is taken as uniform and is not; estimate it then.
//! * Plain gradient descent with momentum only; the reference's other optimizers, and its schedules of the learning rate, are
//!   not offered.
//! * Ties are not broken at random by hashing here; [`TieBreak::Pick`] takes the caller's choice.

mod balance;
mod fit;
mod majority;
mod model;
mod predict;
mod random;
mod symmetry;
mod uncertainty;

pub use balance::{CHANCE_MIN, ClassBalance};
pub use desireline_votes::{ABSTAIN, CLASSES_MAX, INDICATORS_MAX, LabelModelError, LfSummary, Statistic, Summary, Votes};
pub use fit::{EPOCHS_MAX, FitConfig, LFS_MIN, fit};
pub use majority::{majority, majority_all};
pub use model::LabelModel;
pub use predict::{Predictor, Score, TIE_WINDOW, TieBreak, score};
pub use random::first_uniform;
pub use symmetry::break_symmetry;
pub use uncertainty::{SimulationConfig, jackknife, simulated_errors};
