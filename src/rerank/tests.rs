//! Cases by hand, laws that hold for every input, and a slow twin of the rounds of diversity.
//!
//! The twin shares the constants, the texts and the rules of single items with the code that it checks; a mistake there is for the
//! cases by hand to catch.

use super::*;
use proptest::prelude::*;

fn candidate(id: &str, category: Option<&str>, score: f64, position: i64) -> Candidate {
    Candidate {
        item_id: id.into(),
        parent: id.into(),
        rank_score: score,
        rank_position: position,
        category: category.map(Into::into),
        rating_number: None,
    }
}

fn context(items: &[&str], categories: &[(&str, u64)]) -> Context {
    Context {
        recent_items: items.iter().copied().map(Into::into).collect(),
        recent_categories: categories.iter().map(|(category, count)| ((*category).into(), *count)).collect(),
    }
}

fn shown(ranked: &[Ranked]) -> Vec<(&str, String, Vec<&str>)> {
    let score = |score: f64| format!("{score:.4}");
    ranked.iter().map(|r| (r.candidate.item_id.as_str(), score(r.adjusted_score), r.rules.iter().map(String::as_str).collect())).collect()
}

/// The example of the documentation.
fn four() -> (Vec<Candidate>, Context) {
    let unrated = |id, category, score, position| candidate(id, Some(category), score, position);
    let few = Candidate { rating_number: Some(2), ..unrated("B7", "Skin", 0.55, 3) };
    let candidates = vec![unrated("B9", "Beauty", 0.5, 1), unrated("B1", "Beauty", 0.6, 2), few, unrated("B8", "Other", 0.52, 4)];
    (candidates, context(&["B2", "B1"], &[("Beauty", 3)]))
}

#[test]
fn the_rules_of_single_items_by_hand() {
    let (candidates, context) = four();
    let still = |profile: Profile| Constants { diversity_rounds: 0, ..profile.constants() };
    let ranked = rerank(candidates.clone(), &context, &still(Profile::Code), 20);
    let boost = "intent_boost(Beauty:+24.00%)";
    let expected = [
        ("B9", "0.6200".to_owned(), vec![boost]),
        ("B8", "0.5200".to_owned(), vec![]),
        ("B7", "0.4950".to_owned(), vec!["popularity_floor(rating=2)"]),
        ("B1", "0.1488".to_owned(), vec![boost, "recent_penalty_top5(-80%)"]),
    ];
    assert_eq!(shown(&ranked), expected);
    assert_eq!(ranked.iter().map(|r| r.position).collect::<Vec<_>>(), [1, 2, 3, 4]);

    let readme = rerank(candidates.clone(), &context, &still(Profile::Readme), 20);
    assert_eq!(shown(&readme)[0], ("B9", "0.5750".to_owned(), vec!["intent_boost(Beauty:+15.00%)"]));
    assert_eq!(shown(&readme)[3], ("B1", "0.4830".to_owned(), vec!["intent_boost(Beauty:+15.00%)", "recent_penalty(-30%)"]));

    let document = rerank(candidates, &context, &still(Profile::SystemDoc), 20);
    assert_eq!(shown(&document)[3], ("B1", "0.3600".to_owned(), vec!["intent_boost(Beauty:+20.00%)", "recent_penalty(-50%)"]));
}

#[test]
fn the_place_among_recent_items_is_the_first_one() {
    let recent = ["a", "b", "b", "b", "b", "c", "d", "d", "d", "d", "e", "a"];
    let context = context(&recent, &[]);
    let candidates = ["a", "c", "e"].map(|id| candidate(id, None, 1.0, 1)).to_vec();
    let ranked = rerank(candidates, &context, &Profile::Code.constants(), 20);
    let rules: Vec<_> = shown(&ranked).into_iter().map(|(id, score, rules)| format!("{id} {score} {}", rules.join(","))).collect();
    assert_eq!(rules, ["e 0.6000 recent_penalty(-40%)", "c 0.4000 recent_penalty_top10(-60%)", "a 0.2000 recent_penalty_top5(-80%)"]);
}

#[test]
fn the_boost_has_a_ceiling() {
    let ranked = |count| {
        let context = context(&[], &[("c", count)]);
        rerank(vec![candidate("a", Some("c"), 1.0, 1)], &context, &Constants { diversity_rounds: 0, ..Profile::Code.constants() }, 1)
    };
    assert_eq!(shown(&ranked(4))[0].2, ["intent_boost(c:+32.00%)"]);
    for count in [5, 6, u64::MAX] {
        assert_eq!(shown(&ranked(count))[0], ("a", "1.4000".to_owned(), vec!["intent_boost(c:+40.00%)"]));
    }
    assert!(ranked(0)[0].rules.is_empty(), "no event, no boost");
}

/// Ten items of one category on top, thirty others each of its own.
fn crowd() -> Vec<Candidate> {
    let of = |n: i64| if n < 10 { "crowd".to_owned() } else { format!("own-{n}") };
    (0..40).map(|n| candidate(&format!("i{n:02}"), Some(&of(n)), 1.0 - n as f64 / 100.0, n + 1)).collect()
}

#[test]
fn a_crowded_category_is_pushed_down() {
    let constants = Profile::Code.constants();
    let ranked = rerank(crowd(), &Context::default(), &constants, 10);
    // Of the twenty leading ones ten are of one category. One round takes them behind the others, where they lead no more.
    let crowded: Vec<&Ranked> = ranked.iter().filter(|r| r.candidate.category.as_deref() == Some("crowd")).collect();
    assert!(crowded.is_empty(), "{:?}", shown(&ranked));
    let all = rerank(crowd(), &Context::default(), &Constants { diversity_rounds: 1, ..constants }, 20);
    assert!(all.iter().all(|r| r.rules.is_empty() || r.rules == ["category_limit_exceeded(10)"]), "10 of 40 are no more than a quarter");
    let wide = rerank(crowd().into_iter().take(20).collect(), &Context::default(), &Constants { diversity_rounds: 1, ..constants }, 20);
    let last = wide.last().expect("twenty");
    assert_eq!(last.rules, ["diversity_penalty(50.00%)", "category_limit_exceeded(10)"]);
    assert!((last.adjusted_score - 0.91 * 0.7 * 0.5).abs() < 1e-12);
}

#[test]
fn penalties_add_up_only_where_they_are_cumulative() {
    let one = || vec![candidate("a", Some("c"), 1.0, 1)];
    let code = Profile::Code.constants();
    let ranked = rerank(one(), &Context::default(), &code, 20);
    assert_eq!(ranked[0].rules, ["diversity_penalty(100.00%)"; 3]);
    assert!((ranked[0].adjusted_score - 0.343).abs() < 1e-12);
    let once = rerank(one(), &Context::default(), &Constants { cumulative: false, ..code }, 20);
    assert_eq!((once[0].rules.len(), once[0].adjusted_score), (1, 0.7));
}

#[test]
fn doubles_are_dropped_after_the_sorting() {
    let variant = |id: &str, score, position| Candidate { parent: "p".into(), ..candidate(id, None, score, position) };
    let candidates = vec![variant("v1", 0.5, 1), variant("v2", 0.9, 2), candidate("x", None, 0.7, 3), candidate("x", None, 0.8, 4)];
    let ranked = rerank(candidates, &Context::default(), &Profile::Code.constants(), 20);
    let kept: Vec<_> = ranked.iter().map(|r| (r.candidate.item_id.as_str(), r.candidate.rank_position, r.position)).collect();
    assert_eq!(kept, [("v2", 2, 1), ("x", 4, 2)]);
    assert!(rerank(vec![], &Context::default(), &Profile::Code.constants(), 20).is_empty());
    assert!(rerank(vec![candidate("a", None, 1.0, 1)], &Context::default(), &Profile::Code.constants(), 0).is_empty());
}

#[test]
fn changes_are_printed_as_people_read_them() {
    for (factor, text) in
        [(0.2, "-80%"), (0.4, "-60%"), (0.6, "-40%"), (0.7, "-30%"), (0.125, "-87.5%"), (1.5, "+50%"), (1.0, "+0%"), (0.0, "-100%")]
    {
        assert_eq!(change(factor), text);
    }
}

/// One item of the twin: its number, its score and what has met it.
#[derive(Clone)]
struct Twin {
    number: usize,
    score: f64,
    rules: Vec<String>,
}

/// Diversity in plain loops over numbered items: nothing is sorted, every rank is counted anew.
fn slow_diversity(candidates: &[Candidate], mut twins: Vec<Twin>, constants: &Constants, top_n: usize) -> Vec<Twin> {
    let before = |a: &Twin, b: &Twin| {
        let key = |t: &Twin| (candidates[t.number].rank_position, candidates[t.number].item_id.clone());
        a.score > b.score || (a.score == b.score && key(a) < key(b))
    };
    let rank = |twins: &[Twin], at: usize| twins.iter().filter(|other| before(other, &twins[at])).count();
    let pool: Vec<usize> = (0..twins.len()).filter(|at| rank(&twins, *at) < 3 * top_n).collect();
    for _ in 0..constants.diversity_rounds {
        let in_pool: Vec<Twin> = pool.iter().map(|at| twins[*at].clone()).collect();
        let leading: Vec<usize> = (0..pool.len()).filter(|n| rank(&in_pool, *n) < 2 * top_n).map(|n| pool[n]).collect();
        let mut changed = false;
        for at in &leading {
            let Some(category) = &candidates[twins[*at].number].category else { continue };
            let count = leading.iter().filter(|other| candidates[twins[**other].number].category.as_ref() == Some(category)).count();
            let had = |word: &str, twin: &Twin| twin.rules.iter().any(|rule| rule.starts_with(word));
            let twin = &mut twins[*at];
            let share = count as f64 / leading.len() as f64;
            let (met_share, met_limit) = (had("diversity", twin), had("category", twin));
            if share > constants.diversity_share && (constants.cumulative || !met_share) {
                twin.score = bounded(twin.score * constants.diversity_factor);
                twin.rules.push(format!("diversity_penalty({:.2}%)", share * 100.0));
                changed = true;
            }
            if constants.category_max.is_some_and(|max| count > max as usize) && (constants.cumulative || !met_limit) {
                twin.score = bounded(twin.score * constants.category_factor);
                twin.rules.push(format!("category_limit_exceeded({count})"));
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    twins.sort_by(|a, b| if before(a, b) { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater });
    twins
}

/// Category, score, ratings, and whether its parent is shared (0).
type Drawn = (Option<&'static str>, f64, Option<i64>, usize);

fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let category = prop_oneof![1 => Just(None), 6 => prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(Some)];
    // Few distinct scores, so that ties are common.
    let score = prop_oneof![8 => (-3..20_i32).prop_map(|n| f64::from(n) / 8.0), 1 => -1e9..1e9];
    let one = (category, score, prop::option::of(0..9_i64), 0..12_usize);
    prop::collection::vec(one, 0..60).prop_map(|all| {
        let with = |(n, (category, score, rating_number, parent)): (usize, Drawn)| Candidate {
            rating_number,
            parent: if parent == 0 { "shared".into() } else { format!("i{n}").into() },
            ..candidate(&format!("i{n}"), category, score, (n % 7) as i64)
        };
        all.into_iter().enumerate().map(with).collect()
    })
}

fn any_constants() -> impl Strategy<Value = Constants> {
    let profile = prop::sample::select(Profile::ALL.to_vec());
    (profile, 0..5_u32, any::<bool>(), 0.0..1.0_f64, prop::option::of(0.0..100.0_f64)).prop_map(
        |(profile, rounds, cumulative, share, factor)| {
            let over = Overrides {
                diversity_rounds: Some(rounds),
                cumulative: Some(cumulative),
                diversity_share: Some(share),
                diversity_factor: factor,
                ..Overrides::default()
            };
            profile.constants().with(&over)
        },
    )
}

fn any_context() -> impl Strategy<Value = Context> {
    let items = prop::collection::vec(0..60_usize, 0..20);
    let categories = prop::collection::hash_map(prop::sample::select(vec!["a", "b", "x"]), 0..9_u64, 0..3);
    (items, categories).prop_map(|(items, categories)| Context {
        recent_items: items.into_iter().map(|n| format!("i{n}").into()).collect(),
        recent_categories: categories.into_iter().map(|(category, count)| (category.into(), count)).collect(),
    })
}

proptest! {
    #[test]
    fn the_rounds_are_those_of_the_slow_twin(
        candidates in any_candidates(), constants in any_constants(), context in any_context(), top_n in 1..15_usize,
    ) {
        // The rules of single items are taken from the code itself: with no rounds, and no doubles dropped.
        let alone: Vec<Candidate> = candidates.iter().map(|c| Candidate { parent: c.item_id.clone(), ..c.clone() }).collect();
        let scored = rerank(alone.clone(), &context, &Constants { diversity_rounds: 0, ..constants }, usize::MAX);
        let number = |id: &EcoString| alone.iter().position(|c| c.item_id == *id).expect("one of them");
        let twins = scored.into_iter().map(|r| Twin { number: number(&r.candidate.item_id), score: r.adjusted_score, rules: r.rules });
        let slow = slow_diversity(&alone, twins.collect(), &constants, top_n);
        let fast = rerank(alone.clone(), &context, &constants, top_n);
        prop_assert_eq!(fast.len(), alone.len().min(top_n));
        for (fast, slow) in fast.iter().zip(&slow) {
            prop_assert_eq!(&fast.candidate, &alone[slow.number]);
            prop_assert_eq!((fast.adjusted_score, &fast.rules), (slow.score, &slow.rules));
        }
    }

    #[test]
    fn what_comes_out_is_sorted_dense_finite_and_without_doubles(
        mut candidates in any_candidates(), constants in any_constants(), context in any_context(), top_n in 1..30_usize,
        extreme in prop::option::of(prop::num::f64::NORMAL), rotate in any::<prop::sample::Index>(),
    ) {
        if let (Some(score), Some(first)) = (extreme, candidates.first_mut()) {
            first.rank_score = score;
        }
        let ranked = rerank(candidates.clone(), &context, &constants, top_n);
        prop_assert!(ranked.len() <= top_n);
        prop_assert!(ranked.iter().enumerate().all(|(n, r)| r.position == n + 1 && r.adjusted_score.is_finite()));
        prop_assert!(ranked.windows(2).all(|pair| pair[0].adjusted_score >= pair[1].adjusted_score));
        let parents: HashSet<&EcoString> = ranked.iter().map(|r| &r.candidate.parent).collect();
        prop_assert_eq!(parents.len(), ranked.len());
        if !candidates.is_empty() {
            let middle = rotate.index(candidates.len());
            candidates.rotate_left(middle);
            candidates.reverse();
        }
        prop_assert_eq!(rerank(candidates, &context, &constants, top_n), ranked, "the order of arrival does not matter");
    }
}
