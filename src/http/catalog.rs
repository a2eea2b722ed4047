//! The shop's catalog over HTTP: items, products and users, written in bulk and read one by one.
//!
//! A body is one entry, a list of them under its name, or one entry per line (NDJSON). It is taken whole or not at all: a mistake in any
//! entry refuses all of them, and every mistake is named by entry and field, up to [`MISTAKES_MAX`]. Entries replace what stood under
//! their key; of two with one key in a body the later counts. The reply comes when they are durable and every view knows them.
//!
//! Known limitation: more than 10,000 entries are made durable in several steps, so a server that dies in between has taken some; sending
//! them again does no harm.

use super::AppState;
use super::body::{BodyKind, DataBody, reading};
use super::catalog_body::{ItemsBody, PeopleBody, ProductsBody};
use super::error::{ApiError, FieldError};
use super::fields::{Fields, Mistake, unreadable};
use super::ingest::RejectedEvent;
use super::params::Params;
use crate::service::ServiceError;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use desireline_dataflows::views::catalog::Catalog;
use desireline_records::{CatalogEntry, Item, Person, Product, limits};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;

/// Mistakes of one body that are named.
const MISTAKES_MAX: usize = 100;
/// Bytes of a category, a brand or another short text.
pub(super) const WORD_BYTES_MAX: usize = 256;
/// Bytes of a title or an address.
pub(super) const LINE_BYTES_MAX: usize = 2_048;
pub(super) const RATING_MAX: f64 = 100.0;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct CatalogReply {
    accepted: usize,
    /// For `at_least` in queries.
    token: String,
}

/// Puts items into the catalog, in place of those with the same `asin`.
#[utoipa::path(put, path = "/api/items", tag = "shop", operation_id = "put_items",
    request_body(description = "one item, or several", content((ItemsBody = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, description = "durable, and known to every view", body = CatalogReply)))]
pub(super) async fn put_items(State(state): State<AppState>, body: DataBody) -> Result<Json<CatalogReply>, ApiError> {
    put(state, body, "items", read_item).await
}

/// Puts products into the catalog, in place of those with the same `parent_asin`.
#[utoipa::path(put, path = "/api/products", tag = "shop", operation_id = "put_products",
    request_body(description = "one product, or several", content((ProductsBody = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, description = "durable, and known to every view", body = CatalogReply)))]
pub(super) async fn put_products(State(state): State<AppState>, body: DataBody) -> Result<Json<CatalogReply>, ApiError> {
    put(state, body, "products", read_product).await
}

/// Makes users known, in place of those with the same `id`.
#[utoipa::path(put, path = "/api/users", tag = "shop", operation_id = "put_users",
    request_body(description = "one user, or several", content((PeopleBody = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, description = "durable, and known to every view", body = CatalogReply)))]
pub(super) async fn put_users(State(state): State<AppState>, body: DataBody) -> Result<Json<CatalogReply>, ApiError> {
    put(state, body, "users", read_person).await
}

/// Reads one entry; its mistakes are noted in the fields.
pub(super) type ReadEntry<T> = fn(&mut Fields<'_>) -> T;

async fn put(state: AppState, body: DataBody, list: &'static str, read: ReadEntry<CatalogEntry>) -> Result<Json<CatalogReply>, ApiError> {
    let entries = read_body(body, list, state.config.interactions.catalog_entries_max, read).await?;
    let accepted = entries.len();
    let token = state.backend.put_catalog(entries).await?;
    Ok(Json(CatalogReply { accepted, token: token.to_string() }))
}

/// All entries of a body, or all its mistakes. Large bodies are read on a blocking thread.
pub(super) async fn read_body<T: Send + 'static>(
    body: DataBody,
    list: &'static str,
    entries_max: usize,
    read: ReadEntry<T>,
) -> Result<Vec<T>, ApiError> {
    reading(body.bytes.len(), move || read_entries(&body, list, entries_max, read)).await?
}

fn read_entries<T>(body: &DataBody, list: &'static str, entries_max: usize, read: ReadEntry<T>) -> Result<Vec<T>, ApiError> {
    let lines;
    let several: Vec<&[u8]> = match body.kind {
        BodyKind::Ndjson => {
            lines = body.bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
            lines.filter(|line| !line.is_empty()).collect()
        }
        BodyKind::Json => {
            let mut fields = Fields::read(&body.bytes).map_err(|error| unreadable(&error))?;
            if !fields.names().any(|name| name == list) {
                let entry = read(&mut fields);
                return match fields.finish() {
                    Ok(()) => Ok(vec![entry]),
                    Err(mistakes) => Err(ApiError::invalid(field_errors(mistakes))),
                };
            }
            let entries: Vec<&RawValue> = fields.list(list).unwrap_or_default();
            fields.finish().map_err(|mistakes| ApiError::invalid(field_errors(mistakes)))?;
            entries.into_iter().map(|entry| entry.get().as_bytes()).collect()
        }
    };
    if several.is_empty() {
        return Err(ApiError::invalid_field(list, "must hold at least one entry"));
    }
    if several.len() > entries_max {
        let detail = format!("a request may have at most {entries_max} entries, not {}", several.len());
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_entries", detail));
    }
    read_several(&several, read)
}

fn field_errors(mistakes: Vec<Mistake>) -> Vec<FieldError> {
    mistakes.into_iter().map(|(field, detail)| FieldError::new(field, detail)).collect()
}

fn read_several<T>(several: &[&[u8]], read: ReadEntry<T>) -> Result<Vec<T>, ApiError> {
    let mut entries = Vec::with_capacity(several.len());
    let (mut rejected, mut at_fault) = (Vec::new(), 0);
    for (index, json) in several.iter().enumerate() {
        let mistakes = match Fields::read(json) {
            Ok(mut fields) => {
                let entry = read(&mut fields);
                fields.finish().map(|()| entries.push(entry)).err()
            }
            Err(error) if error.is_data() => Some(vec![("", "must be a JSON object".to_owned())]),
            Err(error) => Some(vec![("", format!("is not JSON: {error}"))]),
        };
        let Some(mistakes) = mistakes else { continue };
        at_fault += 1;
        let room = MISTAKES_MAX.saturating_sub(rejected.len());
        rejected.extend(mistakes.into_iter().take(room).map(|(field, detail)| RejectedEvent { index, field: field.into(), detail }));
    }
    if at_fault == 0 {
        return Ok(entries);
    }
    let detail = format!("{at_fault} of {} entries cannot be taken, so none was", several.len());
    let mut error = ApiError::new(StatusCode::BAD_REQUEST, "invalid", detail);
    error.rejected = rejected;
    Err(error)
}

pub(super) fn text(fields: &mut Fields<'_>, name: &'static str, bytes_max: usize) -> Option<EcoString> {
    fields.text(name, bytes_max).map(|text| EcoString::from(text.as_ref()))
}

fn key(fields: &mut Fields<'_>, name: &'static str) -> EcoString {
    let key = text(fields, name, limits::ITEM);
    fields.require(name, key).unwrap_or_default()
}

fn read_item(fields: &mut Fields<'_>) -> CatalogEntry {
    let asin = key(fields, "asin");
    CatalogEntry::Item(Arc::new(Item {
        parent_asin: text(fields, "parent_asin", limits::ITEM).unwrap_or_else(|| asin.clone()),
        variant: text(fields, "variant", WORD_BYTES_MAX),
        primary_image: text(fields, "primary_image", LINE_BYTES_MAX),
        category: text(fields, "category", WORD_BYTES_MAX),
        asin,
    }))
}

fn read_product(fields: &mut Fields<'_>) -> CatalogEntry {
    CatalogEntry::Product(Arc::new(Product {
        parent_asin: key(fields, "parent_asin"),
        title: text(fields, "title", LINE_BYTES_MAX).unwrap_or_default(),
        store: text(fields, "store", WORD_BYTES_MAX),
        main_category: text(fields, "main_category", WORD_BYTES_MAX),
        avg_rating: fields.number("avg_rating", 0.0, RATING_MAX).map(|rating| (rating * 100.0).round() as u16),
        rating_number: fields.integer("rating_number", 0, i64::from(u32::MAX)).map(|number| number as u32),
        primary_image: text(fields, "primary_image", LINE_BYTES_MAX),
        raw_metadata: fields.object("raw_metadata").map(EcoString::from),
    }))
}

fn read_person(fields: &mut Fields<'_>) -> CatalogEntry {
    let id = fields.integer("id", i64::MIN, i64::MAX);
    let id = fields.require("id", id).unwrap_or_default();
    CatalogEntry::Person(Arc::new(Person { id, username: text(fields, "username", WORD_BYTES_MAX) }))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CatalogProduct)]
pub(super) struct ProductReply {
    #[schema(value_type = String)]
    parent_asin: EcoString,
    #[schema(value_type = String)]
    title: EcoString,
    #[schema(value_type = Option<String>)]
    store: Option<EcoString>,
    #[schema(value_type = Option<String>)]
    main_category: Option<EcoString>,
    avg_rating: Option<f64>,
    rating_number: Option<u32>,
    #[schema(value_type = Option<String>)]
    primary_image: Option<EcoString>,
    /// `brand`, else `Brand`, of the metadata.
    brand: Option<String>,
    #[schema(value_type = Option<Object>)]
    raw_metadata: Option<Box<RawValue>>,
}

impl From<&Product> for ProductReply {
    fn from(product: &Product) -> Self {
        Self {
            parent_asin: product.parent_asin.clone(),
            title: product.title.clone(),
            store: product.store.clone(),
            main_category: product.main_category.clone(),
            avg_rating: product.avg_rating.map(|hundredths| f64::from(hundredths) / 100.0),
            rating_number: product.rating_number,
            primary_image: product.primary_image.clone(),
            brand: product.brand(),
            raw_metadata: product.raw_metadata.as_ref().and_then(|text| RawValue::from_string(text.to_string()).ok()),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CatalogItem)]
pub(super) struct ItemReply {
    #[schema(value_type = String)]
    asin: EcoString,
    #[schema(value_type = String)]
    parent_asin: EcoString,
    #[schema(value_type = Option<String>)]
    variant: Option<EcoString>,
    #[schema(value_type = Option<String>)]
    primary_image: Option<EcoString>,
    /// The main category of its product, else its own.
    #[schema(value_type = Option<String>)]
    category: Option<EcoString>,
    /// Of its product.
    brand: Option<String>,
    product: Option<ProductReply>,
}

impl ItemReply {
    fn of(catalog: &Catalog, asin: &str) -> Option<Self> {
        let item = catalog.item(asin)?;
        let product = catalog.product(&item.parent_asin).map(|product| ProductReply::from(product.as_ref()));
        Some(Self {
            asin: item.asin.clone(),
            parent_asin: item.parent_asin.clone(),
            variant: item.variant.clone(),
            primary_image: item.primary_image.clone(),
            category: catalog.category(asin).cloned(),
            brand: product.as_ref().and_then(|product| product.brand.clone()),
            product,
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CatalogUser)]
pub(super) struct PersonReply {
    id: i64,
    #[schema(value_type = Option<String>)]
    username: Option<EcoString>,
}

/// What the catalog has; an error while it is being read from the log.
fn find<T>(state: &AppState, what: &'static str, read: impl Fn(&Catalog) -> Option<T>) -> Result<Json<T>, ApiError> {
    if !state.backend.ready() {
        return Err(ServiceError::NotReady("the log is being replayed".to_owned()).into());
    }
    let mut found = None;
    state.backend.read_catalog(&mut |catalog| found = read(catalog));
    found.map(Json).ok_or_else(|| ApiError::not_found(format!("the catalog has no such {what}")))
}

/// An item of the catalog, with its product.
#[utoipa::path(get, path = "/api/items/{asin}", tag = "shop", operation_id = "item",
    params(("asin" = String, Path, min_length = 1, max_length = 256)),
    responses((status = 200, description = "as it stands", body = ItemReply)))]
pub(super) async fn item(State(state): State<AppState>, mut params: Params) -> Result<Json<ItemReply>, ApiError> {
    let asin = params.segment("asin", limits::ITEM);
    params.finish()?;
    find(&state, "item", |catalog| ItemReply::of(catalog, &asin))
}

/// A product of the catalog.
#[utoipa::path(get, path = "/api/products/{parent_asin}", tag = "shop", operation_id = "product",
    params(("parent_asin" = String, Path, min_length = 1, max_length = 256)),
    responses((status = 200, description = "as it stands", body = ProductReply)))]
pub(super) async fn product(State(state): State<AppState>, mut params: Params) -> Result<Json<ProductReply>, ApiError> {
    let parent_asin = params.segment("parent_asin", limits::ITEM);
    params.finish()?;
    find(&state, "product", |catalog| catalog.product(&parent_asin).map(|product| ProductReply::from(product.as_ref())))
}

/// A user of the catalog.
#[utoipa::path(get, path = "/api/users/{id}", tag = "shop", operation_id = "user",
    params(("id" = i64, Path)), responses((status = 200, description = "as it stands", body = PersonReply)))]
pub(super) async fn user(State(state): State<AppState>, mut params: Params) -> Result<Json<PersonReply>, ApiError> {
    let id = params.integer_segment("id");
    params.finish()?;
    find(&state, "user", |catalog| catalog.person(id).map(|person| PersonReply { id: person.id, username: person.username.clone() }))
}
