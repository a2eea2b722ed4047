//! A label model as it is logged: what was fitted, and on which counts, so that it can be told how far these have moved since.

use crate::concepts::label;
use desireline_learning::label_model::{FitConfig, LFS_MIN, LabelModel, LabelModelError, Predictor, Statistic, TieBreak, fit};
use desireline_votes::{ABSTAIN, Votes};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// Absent with fewer functions than a model can be learned from: each is believed as much as its prior says.
    pub model: Option<LabelModel>,
    pub balance: Vec<f64>,
    /// How precise each function is; nothing of one that never votes.
    pub weights: Vec<Option<f64>>,
    pub rows: i64,
    /// How often each function voted for each class.
    pub votes: Vec<i64>,
}

/// What probabilities and labels are made with.
pub struct Posterior {
    predictor: Option<Predictor>,
    balance: Vec<f64>,
}

fn votes(statistic: &Statistic) -> Vec<i64> {
    let classes = statistic.classes();
    (0..statistic.lfs()).flat_map(|lf| (0..classes).map(move |class| (lf, class))).map(|(lf, class)| statistic.votes(lf, class)).collect()
}

impl Fitted {
    /// Fits with the settings that Snorkel has by default.
    pub fn fit(statistic: &Statistic) -> Result<Self, LabelModelError> {
        let (rows, votes) = (statistic.rows(), votes(statistic));
        if statistic.lfs() < LFS_MIN {
            let balance = vec![1.0 / statistic.classes() as f64; statistic.classes()];
            return Ok(Self { model: None, balance, weights: vec![Some(label::PRIOR_PRECISION); statistic.lfs()], rows, votes });
        }
        let model = fit(statistic, &FitConfig { seed: label::SEED, ..FitConfig::default() })?;
        Ok(Self { balance: model.balance().to_vec(), weights: model.weights(), rows, votes, model: Some(model) })
    }

    /// How far the counts have moved since, as a share of the rows: a row with another vote moves two counts.
    pub fn moved(&self, statistic: &Statistic) -> f64 {
        let other = votes(statistic).iter().zip(&self.votes).map(|(now, then)| now.abs_diff(*then)).sum::<u64>();
        let rows = statistic.rows().abs_diff(self.rows);
        let functions = statistic.lfs().max(1) as f64;
        (rows as f64 + other as f64 / (2.0 * functions)) / (self.rows.max(1) as f64)
    }

    pub fn posterior(&self) -> Posterior {
        Posterior { predictor: self.model.as_ref().map(LabelModel::predictor), balance: self.balance.clone() }
    }
}

impl Posterior {
    /// The probability of each class.
    pub fn probabilities(&self, votes: &[i8]) -> Vec<f64> {
        match &self.predictor {
            Some(predictor) => predictor.predict_proba(votes).unwrap_or_else(|_| self.balance.clone()),
            None => self.unlearned(votes),
        }
    }

    fn unlearned(&self, votes: &[i8]) -> Vec<f64> {
        let columns = votes.iter().map(std::slice::from_ref).collect();
        Votes::new(columns).map_or_else(|_| self.balance.clone(), |row| label::unlearned(&row, &self.balance))
    }

    /// The class of a row: none where the best ones are tied, and none where nobody votes and there is one class only.
    pub fn label(&self, votes: &[i8], probabilities: &[f64]) -> i8 {
        if probabilities.len() == 1 && votes.iter().all(|vote| *vote == ABSTAIN) {
            return ABSTAIN;
        }
        TieBreak::Abstain.decide(probabilities, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistic(rows: &[[i8; 3]]) -> Statistic {
        let mut statistic = Statistic::new(3, 2).expect("a shape");
        rows.iter().for_each(|row| statistic.add(row, 1).expect("votes"));
        statistic
    }

    #[test]
    fn what_is_logged_labels_as_what_was_fitted() {
        let rows: Vec<[i8; 3]> = (0..600).map(|n| if n % 3 == 0 { [0, 0, (n % 5 == 0).into()] } else { [1, 1, -1] }).collect();
        let fitted = Fitted::fit(&statistic(&rows)).expect("a model");
        let again: Fitted = serde_json::from_value(serde_json::to_value(&fitted).expect("JSON")).expect("what was written");
        assert_eq!(again, fitted);
        let (one, other) = (fitted.posterior(), again.posterior());
        for votes in [[0, 0, 1], [1, -1, -1], [-1, -1, -1]] {
            let probabilities = one.probabilities(&votes);
            assert_eq!(probabilities, other.probabilities(&votes));
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        assert_eq!(one.label(&[0, 0, -1], &one.probabilities(&[0, 0, -1])), 0);
        assert_eq!(one.label(&[-1, -1, -1], &[0.5, 0.5]), -1, "a tie says nothing");
    }

    #[test]
    fn movement_is_a_share_of_the_rows() {
        let rows = vec![[0, 0, 0]; 100];
        let fitted = Fitted::fit(&statistic(&rows)).expect("a model");
        assert_eq!(fitted.moved(&statistic(&rows)), 0.0);
        let mut changed = rows.clone();
        changed[0] = [1, 1, 1];
        assert_eq!(fitted.moved(&statistic(&changed)), 0.01);
        changed.push([-1, -1, -1]);
        assert_eq!(fitted.moved(&statistic(&changed)), 0.02);
    }
}
