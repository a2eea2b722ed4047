//! `/concepts/{c_id}/catalog`: the indexes and rules that a label model can be made of.

use super::asked::path_id;
use crate::concepts;
use crate::concepts::record::{Concept, Id};
use crate::http::AppState;
use crate::http::error::ApiError;
use crate::http::params::Params;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct CatalogAsset {
    id: u64,
    name: String,
    is_materialized: bool,
    row_count: Option<u64>,
    storage_path: Option<String>,
}

impl From<concepts::Asset> for CatalogAsset {
    fn from(asset: concepts::Asset) -> Self {
        let concepts::Asset { id, name, is_materialized, row_count, storage_path } = asset;
        Self { id, name, is_materialized, row_count, storage_path }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Catalog {
    indexes: Vec<CatalogAsset>,
    rules: Vec<CatalogAsset>,
}

impl From<concepts::Catalog> for Catalog {
    fn from(catalog: concepts::Catalog) -> Self {
        let assets = |assets: Vec<concepts::Asset>| assets.into_iter().map(CatalogAsset::from).collect();
        Self { indexes: assets(catalog.indexes), rules: assets(catalog.rules) }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct AssetCounts {
    total: u64,
    materialized: u64,
    unmaterialized: u64,
    /// Of those that are materialised.
    total_rows: u64,
}

impl From<concepts::AssetCounts> for AssetCounts {
    fn from(counts: concepts::AssetCounts) -> Self {
        let concepts::AssetCounts { total, materialized, rows } = counts;
        Self { total, materialized, unmaterialized: total - materialized, total_rows: rows }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct CatalogSummary {
    total_assets: u64,
    materialized_assets: u64,
    total_data_rows: u64,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct CatalogStats {
    concept_id: u64,
    indexes: AssetCounts,
    rules: AssetCounts,
    /// Indexes and rules together; features are not counted.
    summary: CatalogSummary,
}

fn concept(mut params: Params) -> Result<Id, ApiError> {
    let c_id = path_id::<Concept>(&mut params, "c_id")?;
    params.finish()?;
    Ok(c_id)
}

/// The indexes and rules of a concept.
#[utoipa::path(get, path = "/concepts/{c_id}/catalog", tag = "concepts", operation_id = "catalog", params(("c_id" = i64, Path)),
    responses((status = 200, description = "by number", body = Catalog)))]
pub(super) async fn all(State(state): State<AppState>, params: Params) -> Result<Json<Catalog>, ApiError> {
    Ok(Json(state.concepts()?.catalog(concept(params)?, false)?.into()))
}

/// Those that are materialised.
#[utoipa::path(get, path = "/concepts/{c_id}/catalog/materialized", tag = "concepts", operation_id = "catalog_materialized",
    params(("c_id" = i64, Path)),
    responses((status = 200, description = "by number", body = Catalog)))]
pub(super) async fn materialized(State(state): State<AppState>, params: Params) -> Result<Json<Catalog>, ApiError> {
    Ok(Json(state.concepts()?.catalog(concept(params)?, true)?.into()))
}

/// How many there are, and how many rows.
#[utoipa::path(get, path = "/concepts/{c_id}/catalog/stats", tag = "concepts", operation_id = "catalog_stats", params(("c_id" = i64, Path)),
    responses((status = 200, description = "rows are those of materialised indexes and rules", body = CatalogStats)))]
pub(super) async fn stats(State(state): State<AppState>, params: Params) -> Result<Json<CatalogStats>, ApiError> {
    let concept_id = concept(params)?;
    let (indexes, rules) = state.concepts()?.catalog_counts(concept_id)?;
    let summary = CatalogSummary {
        total_assets: indexes.total + rules.total,
        materialized_assets: indexes.materialized + rules.materialized,
        total_data_rows: indexes.rows + rules.rows,
    };
    Ok(Json(CatalogStats { concept_id, indexes: indexes.into(), rules: rules.into(), summary }))
}
