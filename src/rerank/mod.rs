//! Re-ranking: a ranked list, bent to what its user did lately. Pure; who asks brings the context.
//!
//! The rules, in their order. Every factor multiplies the score, and every rule that met an item leaves a text.
//!
//! 1. *Intent boost.* The item's category is among the recent ones, with `n` events: times `1 + min(boost_max, boost_per_event · n)`.
//!    `intent_boost(Beauty:+24.00%)`.
//! 2. *Recent penalty*, by the first place of the item among the recent items, newest first: `recent_top5` for the places 0 to 4,
//!    `recent_top10` for 5 to 9, `recent_rest` behind. `recent_penalty_top5(-80%)`, `recent_penalty_top10(-60%)`, `recent_penalty(-40%)`;
//!    where the three factors are one, `recent_penalty`.
//! 3. *Popularity floor.* The number of ratings is known and below `popularity_floor`: times `popularity_factor`.
//!    `popularity_floor(rating=2)`.
//! 4. *Diversity*, up to `diversity_rounds` times. Of the best `3 · top_n` items after the rules above, the best `2 · top_n` by their
//!    present scores are leading. A category with more than `diversity_share` of the leading items costs each of its leading items the
//!    factor `diversity_factor`, and one with more than `category_max` of them `category_factor` besides. `diversity_penalty(45.00%)`,
//!    `category_limit_exceeded(18)`. With `cumulative` every round counts; otherwise each of the two rules meets an item once. A round
//!    that meets nobody is the last. Items without a category count for the share but are met by neither.
//! 5. Sorted by score; of the items of one id or one parent the first stays; the first `top_n` get the positions 1, 2, ….
//!
//! *What it promises.* Scores are finite for finite input: they are held within ±10^300. Positions are dense. The order of the
//! candidates does not matter: equal scores stand in the order of their original positions, then of their ids.
//!
//! Known limitations: a factor below 1 raises a negative score, as it does in the services that these rules come from. A penalty can
//! carry an item behind one outside of the best `3 · top_n`, which diversity never looked at.

mod profile;
#[cfg(test)]
mod tests;

pub use profile::{Constants, Overrides, Profile, RerankConfig};

use ecow::EcoString;
use std::collections::{HashMap, HashSet};

/// What a user did lately, as far as ranking needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Newest first.
    pub recent_items: Vec<EcoString>,
    /// Events per category.
    pub recent_categories: HashMap<EcoString, u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub item_id: EcoString,
    /// Items of one parent are variants of one thing; the item's own id where it has none.
    pub parent: EcoString,
    /// Finite.
    pub rank_score: f64,
    /// The place in the list before.
    pub rank_position: i64,
    pub category: Option<EcoString>,
    pub rating_number: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    pub candidate: Candidate,
    pub adjusted_score: f64,
    /// From 1.
    pub position: usize,
    /// In the order in which they were applied.
    pub rules: Vec<String>,
}

/// Scores are held within this magnitude.
const SCORE_MAX: f64 = 1e300;
/// Diversity looks at so many times the items of the answer, …
const POOL_FACTOR: usize = 3;
/// … and counts categories among so many times the items of the answer.
const LEADING_FACTOR: usize = 2;

struct Scored {
    candidate: Candidate,
    score: f64,
    rules: Vec<String>,
    /// Which rules of diversity have met it.
    met_share: bool,
    met_limit: bool,
}

impl Scored {
    fn times(&mut self, factor: f64, rule: String) {
        self.score = bounded(self.score * factor);
        self.rules.push(rule);
    }
}

/// Within bounds, and with one zero only.
fn bounded(score: f64) -> f64 {
    score.clamp(-SCORE_MAX, SCORE_MAX) + 0.0
}

/// The best `top_n` candidates by their adjusted scores.
pub fn rerank(candidates: Vec<Candidate>, context: &Context, constants: &Constants, top_n: usize) -> Vec<Ranked> {
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(context.recent_items.len());
    for (place, item) in context.recent_items.iter().enumerate() {
        places.entry(item).or_insert(place);
    }
    let score = |candidate: Candidate| {
        let score = bounded(candidate.rank_score);
        let mut item = Scored { candidate, score, rules: Vec::new(), met_share: false, met_limit: false };
        apply_item_rules(&mut item, context, &places, constants);
        item
    };
    let mut items: Vec<Scored> = candidates.into_iter().map(score).collect();
    // Whatever order they came in, from here on it is one.
    items.sort_by(|a, b| tie(&a.candidate, &b.candidate));
    sort(&mut items);
    let pool = items.len().min(top_n.saturating_mul(POOL_FACTOR));
    diversify(&mut items[..pool], constants, top_n.saturating_mul(LEADING_FACTOR));
    sort(&mut items);
    first_of_each(items, top_n)
}

/// The order of equal scores.
fn tie(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    a.rank_position
        .cmp(&b.rank_position)
        .then_with(|| a.item_id.cmp(&b.item_id))
        .then_with(|| a.parent.cmp(&b.parent))
        .then_with(|| a.category.cmp(&b.category))
        .then_with(|| a.rating_number.cmp(&b.rating_number))
        .then_with(|| b.rank_score.total_cmp(&a.rank_score))
}

/// Stable: equal scores keep their order.
fn sort(items: &mut [Scored]) {
    items.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| a.candidate.rank_position.cmp(&b.candidate.rank_position))
            .then_with(|| a.candidate.item_id.cmp(&b.candidate.item_id))
    });
}

fn apply_item_rules(item: &mut Scored, context: &Context, places: &HashMap<&str, usize>, constants: &Constants) {
    let boosted = item.candidate.category.as_ref().and_then(|category| Some((category, context.recent_categories.get(category)?)));
    if let Some((category, count)) = boosted.filter(|(_, count)| **count > 0) {
        let boost = (constants.boost_per_event * *count as f64).min(constants.boost_max);
        let rule = format!("intent_boost({category}:+{:.2}%)", boost * 100.0);
        item.times(1.0 + boost, rule);
    }
    if let Some(place) = places.get(item.candidate.item_id.as_str()) {
        let (factor, word) = constants.recent(*place);
        item.times(factor, format!("{word}({})", change(factor)));
    }
    if let Some(ratings) = item.candidate.rating_number.filter(|ratings| *ratings < i64::from(constants.popularity_floor)) {
        item.times(constants.popularity_factor, format!("popularity_floor(rating={ratings})"));
    }
}

/// A factor as people read it: `-80%`, `+12.5%`.
fn change(factor: f64) -> String {
    let percent = ((factor - 1.0) * 10_000.0).round() / 100.0;
    format!("{percent:+}%")
}

fn diversify(pool: &mut [Scored], constants: &Constants, leading: usize) {
    let leading = leading.min(pool.len());
    for _ in 0..constants.diversity_rounds {
        let mut counts: HashMap<EcoString, usize> = HashMap::new();
        for category in pool[..leading].iter().filter_map(|item| item.candidate.category.as_ref()) {
            *counts.entry(category.clone()).or_default() += 1;
        }
        let mut met_anybody = false;
        for item in &mut pool[..leading] {
            let Some(count) = item.candidate.category.as_ref().and_then(|category| counts.get(category)).copied() else { continue };
            let share = count as f64 / leading as f64;
            if share > constants.diversity_share && (constants.cumulative || !item.met_share) {
                item.times(constants.diversity_factor, format!("diversity_penalty({:.2}%)", share * 100.0));
                (item.met_share, met_anybody) = (true, true);
            }
            if constants.category_max.is_some_and(|max| count > max as usize) && (constants.cumulative || !item.met_limit) {
                item.times(constants.category_factor, format!("category_limit_exceeded({count})"));
                (item.met_limit, met_anybody) = (true, true);
            }
        }
        if !met_anybody {
            return;
        }
        sort(pool);
    }
}

/// Of each id and of each parent the first one, and of those the first `top_n`.
fn first_of_each(items: Vec<Scored>, top_n: usize) -> Vec<Ranked> {
    let (mut ids, mut parents) = (HashSet::new(), HashSet::new());
    let mut ranked = Vec::with_capacity(top_n.min(items.len()));
    for Scored { candidate, score, rules, .. } in items {
        if ranked.len() == top_n {
            break;
        }
        if ids.contains(&candidate.item_id) || parents.contains(&candidate.parent) {
            continue;
        }
        ids.insert(candidate.item_id.clone());
        parents.insert(candidate.parent.clone());
        ranked.push(Ranked { position: ranked.len() + 1, candidate, adjusted_score: score, rules });
    }
    ranked
}
