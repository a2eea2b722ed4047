//! What a user did lately, and lists bent to it: `GET /api/context/{user_id}` and `POST /api/rerank`.
//!
//! Both read the context view, so they need no Redis. Whether a context has expired is judged by the server's clock when it is asked
//! for: a context that has is an empty one, not an error, and so is that of a user whom nobody has seen.
//!
//! What a candidate does not say of itself (its category, the number of its ratings, its parent) comes from the catalog. All mistakes of a
//! body are reported at once, up to [`MISTAKES_MAX`].
//!
//! Known limitation: `raw_signals` are not looked at.

use super::AppState;
use super::body::{JsonBody, reading};
use super::catalog::WORD_BYTES_MAX;
use super::error::{ApiError, FieldError};
use super::fields::{Fields, unreadable};
use super::params::Params;
use super::queries::at;
use super::rerank_body::{RerankBody, SCORE_MAX, TOP_N_MAX};
use super::wire::rfc3339;
use crate::rerank::{Candidate, Context, Overrides, Profile, Ranked, rerank};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use desireline_dataflows::changes::ContextRow;
use desireline_dataflows::views::catalog::Catalog;
use desireline_records::{LogicalTime, Micros, Token, limits, time};
use ecow::{EcoString, eco_format};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Mistakes of one body that are named.
const MISTAKES_MAX: usize = 100;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct ContextReply {
    as_of: LogicalTime,
    user_id: i64,
    /// Newest first; an item may stand there several times.
    #[schema(value_type = Vec<String>)]
    recent_items: Vec<EcoString>,
    /// Events per known category.
    #[schema(value_type = BTreeMap<String, u64>)]
    recent_categories: BTreeMap<EcoString, u64>,
    /// The last event, in whole seconds since 1970; null when there is no context.
    last_active: Option<i64>,
    /// When the context ends unless another event comes, RFC 3339; null when there is none.
    expires_at: Option<String>,
}

/// What is left of a context at a time.
fn live(row: Option<ContextRow>, now: Micros) -> Option<ContextRow> {
    let mut row = row.filter(|row| now < row.expires_at)?;
    if now >= row.categories_expire_at {
        row.recent_categories.clear();
    }
    Some(row)
}

/// A context that is there, and the time at which it was.
async fn context_of(state: &AppState, user_id: i64, at_least: Option<Token>) -> Result<(LogicalTime, Option<ContextRow>), ApiError> {
    let answer = state.backend.context(state.config.interactions.source, eco_format!("{user_id}"), at_least).await?;
    Ok((answer.as_of, live(answer.value, time::now_micros())))
}

/// What a user did lately.
#[utoipa::path(get, path = "/api/context/{user_id}", tag = "shop", operation_id = "context",
    params(("user_id" = i64, Path),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "empty when there is none, or when it has expired", body = ContextReply)))]
pub(super) async fn context(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let user_id = params.integer_segment("user_id");
    let at_least = params.at_least();
    params.finish()?;
    let (as_of, row) = context_of(&state, user_id, at_least).await?;
    let (last_active, expires_at) =
        (row.as_ref().map(|row| row.last_active.div_euclid(time::SECOND)), row.as_ref().map(|row| rfc3339(row.expires_at)));
    let (recent_items, recent_categories) = row.map(|row| (row.recent_items, row.recent_categories)).unwrap_or_default();
    let recent_categories = recent_categories.into_iter().collect();
    Ok(at(as_of, ContextReply { as_of, user_id, recent_items, recent_categories, last_active, expires_at }))
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct RerankReply {
    as_of: LogicalTime,
    user_id: i64,
    /// `code`, `readme` or `system_doc`.
    #[schema(value_type = String)]
    profile: EcoString,
    /// By adjusted score, the highest first.
    items: Vec<RankedItem>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct RankedItem {
    #[schema(value_type = String)]
    item_id: EcoString,
    rank_score: f64,
    adjusted_score: f64,
    /// From 1.
    rank_position: usize,
    /// What changed the score, in its order.
    applied_rules: Vec<String>,
    #[schema(value_type = Option<String>)]
    category: Option<EcoString>,
    rating_number: Option<i64>,
}

impl From<Ranked> for RankedItem {
    fn from(Ranked { candidate, adjusted_score, position, rules }: Ranked) -> Self {
        Self {
            item_id: candidate.item_id,
            rank_score: candidate.rank_score,
            adjusted_score,
            rank_position: position,
            applied_rules: rules,
            category: candidate.category,
            rating_number: candidate.rating_number,
        }
    }
}

/// Bends a ranked list to what its user did lately.
#[utoipa::path(post, path = "/api/rerank", tag = "shop", operation_id = "rerank", request_body = RerankBody,
    params(("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "the best, with what changed their scores", body = RerankReply)))]
pub(super) async fn rerank_items(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<Response, ApiError> {
    let at_least = params.at_least();
    params.finish()?;
    let (size, candidates_max) = (bytes.len(), state.config.rerank.candidates_max);
    let request = reading(size, move || Request::read(&bytes, candidates_max)).await??;
    let settings = &state.config.rerank;
    let profile = request.profile.unwrap_or(settings.profile);
    let constants = profile.constants().with(&settings.overrides).with(&request.overrides);
    let top_n = request.top_n.unwrap_or(settings.top_n);
    let (as_of, row) = context_of(&state, request.user_id, at_least).await?;
    let (recent_items, recent_categories) = row.map(|row| (row.recent_items, row.recent_categories)).unwrap_or_default();
    let context = Context { recent_items, recent_categories: recent_categories.into_iter().collect() };
    let mut candidates = request.candidates;
    state.backend.read_catalog(&mut |catalog| candidates.iter_mut().for_each(|candidate| complete(candidate, catalog)));
    let ranked = reading(size, move || rerank(candidates, &context, &constants, top_n)).await?;
    let items = ranked.into_iter().map(RankedItem::from).collect();
    Ok(at(as_of, RerankReply { as_of, user_id: request.user_id, profile: profile.word().into(), items }))
}

/// Fills in what a candidate does not say of itself.
fn complete(candidate: &mut Candidate, catalog: &Catalog) {
    let id = &candidate.item_id;
    if candidate.category.is_none() {
        candidate.category = catalog.category(id).cloned();
    }
    if candidate.rating_number.is_none() {
        candidate.rating_number = catalog.product_of(id).and_then(|product| product.rating_number).map(i64::from);
    }
    if candidate.parent.is_empty() {
        candidate.parent = catalog.item(id).map_or_else(|| id.clone(), |item| item.parent_asin.clone());
    }
}

#[derive(Debug)]
struct Request {
    user_id: i64,
    candidates: Vec<Candidate>,
    top_n: Option<usize>,
    profile: Option<Profile>,
    overrides: Overrides,
}

impl Request {
    fn read(bytes: &[u8], candidates_max: usize) -> Result<Self, ApiError> {
        let mut fields = Fields::read(bytes).map_err(|error| unreadable(&error))?;
        let user_id = fields.integer("user_id", i64::MIN, i64::MAX);
        let user_id = fields.require("user_id", user_id).unwrap_or_default();
        let ranked = fields.list("ranked_items");
        let ranked = fields.require("ranked_items", ranked).unwrap_or_default();
        if ranked.len() > candidates_max {
            let detail = format!("a request may have at most {candidates_max} ranked items, not {}", ranked.len());
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_candidates", detail));
        }
        let top_n = fields.integer("top_n", 1, TOP_N_MAX).and_then(|n| usize::try_from(n).ok());
        let word = fields.text("profile", WORD_BYTES_MAX);
        let profile = word.as_deref().and_then(Profile::from_word);
        if word.is_some() && profile.is_none() {
            fields.note("profile", "must be one of code, readme, system_doc");
        }
        let config = fields.raw("config");
        let mut errors: Vec<FieldError> =
            fields.finish().err().unwrap_or_default().into_iter().map(|(f, d)| FieldError::new(f, d)).collect();
        let overrides = config.map(|config| read_overrides(config, &mut errors)).unwrap_or_default();
        let candidates = ranked.iter().enumerate().filter_map(|(index, item)| read_candidate(index, item, &mut errors)).collect();
        if !errors.is_empty() {
            errors.truncate(MISTAKES_MAX);
            return Err(ApiError::invalid(errors));
        }
        Ok(Self { user_id, candidates, top_n, profile, overrides })
    }
}

fn read_candidate(index: usize, item: &RawValue, errors: &mut Vec<FieldError>) -> Option<Candidate> {
    if errors.len() >= MISTAKES_MAX {
        return None;
    }
    let named = |field: &str| if field.is_empty() { format!("ranked_items[{index}]") } else { format!("ranked_items[{index}].{field}") };
    let read = Fields::of(item).map_err(|mistake| vec![mistake]).and_then(|mut fields| {
        let item_id = fields.text("item_id", limits::ITEM);
        let item_id = fields.require("item_id", item_id).unwrap_or_default();
        let rank_score = fields.number("rank_score", -SCORE_MAX, SCORE_MAX);
        let rank_score = fields.require("rank_score", rank_score).unwrap_or_default();
        let rank_position = fields.integer("rank_position", 0, i64::from(u32::MAX));
        let category = fields.text("category", WORD_BYTES_MAX);
        let rating_number = fields.integer("rating_number", 0, i64::from(u32::MAX));
        let parent = fields.text("parent_asin", limits::ITEM);
        fields.finish()?;
        Ok(Candidate {
            item_id: item_id.as_ref().into(),
            parent: parent.unwrap_or_default().as_ref().into(),
            rank_score,
            rank_position: rank_position.unwrap_or(index as i64 + 1),
            category: category.map(|category| category.as_ref().into()),
            rating_number,
        })
    });
    read.map_err(|mistakes| errors.extend(mistakes.into_iter().map(|(field, detail)| FieldError::new(named(field), detail)))).ok()
}

/// The names of the constants, which are those of the settings.
const CONSTANTS: [&str; 13] = [
    "boost_per_event",
    "boost_max",
    "recent_top5",
    "recent_top10",
    "recent_rest",
    "diversity_share",
    "diversity_factor",
    "category_max",
    "category_factor",
    "diversity_rounds",
    "cumulative",
    "popularity_floor",
    "popularity_factor",
];

fn read_overrides(config: &RawValue, errors: &mut Vec<FieldError>) -> Overrides {
    let mut fields = match Fields::of(config) {
        Ok(fields) => fields,
        Err((_, detail)) => {
            errors.push(FieldError::new("config", detail));
            return Overrides::default();
        }
    };
    let unknown = fields.names().filter(|name| !CONSTANTS.contains(name)).take(MISTAKES_MAX);
    errors.extend(
        unknown.map(|name| FieldError::new("config", format!("there is no constant `{}`", name.chars().take(64).collect::<String>()))),
    );
    let whole = |fields: &mut Fields<'_>, name, min, max| fields.integer(name, min, max).and_then(|n| u32::try_from(n).ok());
    let overrides = Overrides {
        boost_per_event: fields.number("boost_per_event", 0.0, 100.0),
        boost_max: fields.number("boost_max", 0.0, 100.0),
        recent_top5: fields.number("recent_top5", 0.0, 100.0),
        recent_top10: fields.number("recent_top10", 0.0, 100.0),
        recent_rest: fields.number("recent_rest", 0.0, 100.0),
        diversity_share: fields.number("diversity_share", 0.0, 1.0),
        diversity_factor: fields.number("diversity_factor", 0.0, 100.0),
        category_max: whole(&mut fields, "category_max", 1, 100_000),
        category_factor: fields.number("category_factor", 0.0, 100.0),
        diversity_rounds: whole(&mut fields, "diversity_rounds", 0, 100),
        cumulative: fields.flag("cumulative"),
        popularity_floor: whole(&mut fields, "popularity_floor", 0, 1_000_000_000),
        popularity_factor: fields.number("popularity_factor", 0.0, 100.0),
    };
    let mistakes = fields.finish().err().unwrap_or_default();
    errors.extend(mistakes.into_iter().map(|(field, detail)| FieldError::new(format!("config.{field}"), detail)));
    overrides
}
