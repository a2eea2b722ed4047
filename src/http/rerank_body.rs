//! The description of a request to re-rank for the OpenAPI document, as exact as a schema can be.
//!
//! Nothing here reads a body; see [`super::context`]. Known limitations: as those of [`super::event_body`].

use super::catalog::WORD_BYTES_MAX;
use super::interaction_body::{some_text, text};
use desireline_records::limits;
use utoipa::ToSchema;
use utoipa::openapi::Object;

/// Scores have at most this magnitude.
pub(super) const SCORE_MAX: f64 = 1e12;
pub(super) const TOP_N_MAX: i64 = 10_000;

/// A list to re-rank for a user. Unknown fields are ignored.
#[derive(ToSchema)]
#[schema(as = Rerank)]
#[allow(dead_code)]
pub(super) struct RerankBody {
    user_id: i64,
    ranked_items: Vec<CandidateBody>,
    /// Items of the answer; a setting when absent.
    #[schema(minimum = 1, maximum = 10000)]
    top_n: Option<i64>,
    profile: Option<ProfileWord>,
    /// Constants that win over those of the profile and of the settings.
    config: Option<ConstantsBody>,
}

#[derive(ToSchema)]
#[schema(as = RerankCandidate)]
#[allow(dead_code)]
pub(super) struct CandidateBody {
    #[schema(schema_with = item_id)]
    item_id: String,
    #[schema(minimum = -1000000000000.0, maximum = 1000000000000.0)]
    rank_score: f64,
    /// Its place in the list before, which orders equal scores; its place in the request when absent.
    #[schema(minimum = 0, maximum = 4294967295_i64)]
    rank_position: Option<i64>,
    #[schema(schema_with = category)]
    category: Option<String>,
    /// How many ratings it has. From the catalog when absent.
    #[schema(minimum = 0, maximum = 4294967295_i64)]
    rating_number: Option<i64>,
    #[schema(schema_with = parent)]
    parent_asin: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = RerankProfile, rename_all = "snake_case")]
#[allow(dead_code)]
pub(super) enum ProfileWord {
    Code,
    Readme,
    SystemDoc,
}

/// Each constant is described with the rules of re-ranking.
#[derive(ToSchema)]
#[schema(as = RerankConstants)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(super) struct ConstantsBody {
    #[schema(minimum = 0, maximum = 100)]
    boost_per_event: Option<f64>,
    #[schema(minimum = 0, maximum = 100)]
    boost_max: Option<f64>,
    #[schema(minimum = 0, maximum = 100)]
    recent_top5: Option<f64>,
    #[schema(minimum = 0, maximum = 100)]
    recent_top10: Option<f64>,
    #[schema(minimum = 0, maximum = 100)]
    recent_rest: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    diversity_share: Option<f64>,
    #[schema(minimum = 0, maximum = 100)]
    diversity_factor: Option<f64>,
    #[schema(minimum = 1, maximum = 100000)]
    category_max: Option<i64>,
    #[schema(minimum = 0, maximum = 100)]
    category_factor: Option<f64>,
    #[schema(minimum = 0, maximum = 100)]
    diversity_rounds: Option<i64>,
    cumulative: Option<bool>,
    #[schema(minimum = 0, maximum = 1000000000)]
    popularity_floor: Option<i64>,
    #[schema(minimum = 0, maximum = 100)]
    popularity_factor: Option<f64>,
}

fn item_id() -> Object {
    some_text(limits::ITEM).build()
}

fn category() -> Object {
    text(WORD_BYTES_MAX).description(Some("From the catalog when absent.")).build()
}

fn parent() -> Object {
    text(limits::ITEM).description(Some("Of the items of one parent the first stays. From the catalog when absent.")).build()
}
