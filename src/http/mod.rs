//! The HTTP interface: one router over the service, the runs and the dashboard's files.
//!
//! *What it promises.* Every answer of a view carries its logical time; every error has one form (`error`) and a documented
//! status; every route, parameter and status stands in `/openapi.json`, which is generated from the handlers (`openapi`).
//! Everything that can grow has a limit that is a setting (`config`): bodies before and after decompression, events per
//! batch, rows per page, requests and connections at once, live streams, time.
//!
//! *How a request travels.* compression → `frame` (id, log, metrics, deadline, panics, form of errors) → CORS → `access` (names
//! and origins, then the scope of the route) → handler → `backend`. Handlers read parameters by `params` and bodies by `body`;
//! axum's own extractors, whose errors have another form, are not used for input.
//!
//! *Architecture invariant.* Nothing here decides what an answer is: that is the service's business. This module knows names,
//! forms and limits.

mod access;
mod backend;
mod body;
mod catalog;
mod catalog_body;
mod concepts;
pub mod config;
mod context;
mod dagster;
mod datasets;
mod error;
mod event_body;
mod fields;
mod frame;
mod ids;
mod ingest;
mod interaction_body;
mod interactions;
mod live;
mod occupancy;
mod occupancy_reply;
mod openapi;
mod operations;
mod params;
mod partitions;
mod projections;
mod queries;
mod rerank_body;
mod serve;
mod space_table;
mod spaces;
mod spaces_body;
#[cfg(test)]
mod tests;
mod wifi_body;
mod wifi_sessions;
pub mod wire;
pub mod wire_wifi;

pub use backend::{Backend, Followers};
pub use config::{AccessConfig, AccessToken, CorsConfig, HttpConfig, InteractionsConfig, LiveConfig, Scope, TlsFiles};
pub use error::{ApiError, ErrorBody, FieldError};
pub use live::LiveHub;
pub use serve::{Listener, ServeError, bind, serve};

use crate::concepts::Concepts;
use crate::labels::LiveLabels;
use crate::metrics::{Metrics, RunNumbers};
use crate::occupancy::Occupancy;
use crate::runs::Runs;
use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use ids::IdMaker;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    backend: Arc<dyn Backend>,
    runs: Runs,
    followers: Arc<dyn Followers>,
    occupancy: Option<Occupancy>,
    concepts: Option<Concepts>,
    labels: Option<LiveLabels>,
    config: Arc<HttpConfig>,
    metrics: Arc<Metrics>,
    live: Arc<LiveHub>,
    ids: Arc<IdMaker>,
    permits: Arc<Semaphore>,
}

impl AppState {
    pub fn new(config: HttpConfig, backend: Arc<dyn Backend>, runs: Runs, followers: impl Followers, metrics: Arc<Metrics>) -> Self {
        let followers: Arc<dyn Followers> = Arc::new(followers);
        Self {
            live: LiveHub::new(Arc::clone(&backend), Arc::clone(&followers), Arc::clone(&metrics), config.live.clone()),
            permits: Arc::new(Semaphore::new(config.requests_max.clamp(1, Semaphore::MAX_PERMITS))),
            ids: Arc::default(),
            config: Arc::new(config),
            backend,
            runs,
            followers,
            occupancy: None,
            concepts: None,
            labels: None,
            metrics,
        }
    }

    pub fn with_occupancy(self, occupancy: Occupancy) -> Self {
        Self { occupancy: Some(occupancy), ..self }
    }

    pub fn with_concepts(self, concepts: Concepts) -> Self {
        Self { concepts: Some(concepts), ..self }
    }

    pub fn with_labels(self, labels: LiveLabels) -> Self {
        Self { labels: Some(labels), ..self }
    }

    fn labels(&self) -> Result<&LiveLabels, ApiError> {
        let missing = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "this server keeps no live labels");
        self.labels.as_ref().ok_or_else(missing)
    }

    fn concepts(&self) -> Result<&Concepts, ApiError> {
        let missing = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "this server keeps no concepts");
        self.concepts.as_ref().ok_or_else(missing)
    }

    fn occupancy(&self) -> Result<&Occupancy, ApiError> {
        let missing = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "this server keeps no occupancy datasets");
        self.occupancy.as_ref().ok_or_else(missing)
    }

    fn run_numbers(&self) -> RunNumbers {
        let (waiting, working) = self.runs.load();
        let totals = self.runs.totals().into_iter().map(|(job, status, times)| (job, status.word(), times)).collect();
        RunNumbers { totals, waiting, working }
    }
}

/// Every route, behind every layer.
pub fn router(state: AppState) -> Router {
    let (api, document) = routes_and_document(&state);
    let pages = openapi::pages(document).route("/", axum::routing::get(async || axum::response::Redirect::temporary("/dashboard")));
    api.merge(pages)
        .merge(crate::dashboard::router())
        .fallback(async || ApiError::not_found("there is no such path"))
        .method_not_allowed_fallback(async || ApiError::of_status(axum::http::StatusCode::METHOD_NOT_ALLOWED))
        .layer(from_fn_with_state(state.clone(), access::check_names))
        .layer(cors(&state.config))
        .layer(from_fn_with_state(state.clone(), frame::frame))
        .layer(CompressionLayer::new())
        .layer(map_response(vary))
        .with_state(state)
}

/// The routes of the API and their description.
fn routes_and_document(state: &AppState) -> (Router<AppState>, utoipa::openapi::OpenApi) {
    let open = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(operations::health))
        .routes(routes!(operations::api_health))
        .routes(routes!(operations::ready));
    let ingest = OpenApiRouter::new()
        .routes(routes!(ingest::ingest))
        .routes(routes!(ingest::ingest_batch))
        .routes(routes!(wifi_sessions::wifi_sessions))
        .routes(routes!(interactions::event))
        // Clients of the original were redirected to this spelling.
        .route("/api/event/", axum::routing::post(interactions::event))
        .routes(routes!(catalog::put_items))
        .routes(routes!(catalog::put_products))
        .routes(routes!(catalog::put_users))
        .routes(routes!(spaces::put_spaces));
    let read = OpenApiRouter::new()
        .routes(routes!(queries::view))
        .routes(routes!(queries::sessions))
        .routes(routes!(queries::journeys))
        .routes(routes!(queries::clusters))
        .routes(routes!(queries::aggregates))
        .routes(routes!(catalog::item))
        .routes(routes!(catalog::product))
        .routes(routes!(catalog::user))
        .routes(routes!(context::context))
        .routes(routes!(context::rerank_items))
        .routes(routes!(spaces::space))
        .routes(routes!(occupancy::occupancy))
        .routes(routes!(occupancy::heat))
        .routes(routes!(occupancy::typical))
        .routes(routes!(occupancy::now))
        .routes(routes!(occupancy::visits))
        .routes(routes!(occupancy::flows))
        .routes(routes!(datasets::list))
        .routes(routes!(datasets::get))
        .routes(routes!(datasets::results))
        .routes(routes!(space_table::list))
        .routes(routes!(space_table::roots))
        .routes(routes!(space_table::get))
        .routes(routes!(space_table::children))
        .routes(routes!(space_table::subtree))
        .routes(routes!(projections::list))
        .routes(routes!(live::subscription::live))
        .routes(routes!(operations::status))
        .routes(routes!(operations::metrics))
        .routes(routes!(operations::dead_letters))
        .routes(routes!(dagster::list))
        .routes(routes!(dagster::get))
        .routes(routes!(dagster::logs))
        .routes(routes!(dagster::assets))
        .routes(routes!(dagster::health))
        .merge(concepts::read());
    let admin = OpenApiRouter::new()
        .routes(routes!(operations::replay))
        .routes(routes!(operations::delete_event))
        .routes(routes!(operations::erase_user))
        .routes(routes!(wifi_sessions::erase_mac))
        .routes(routes!(spaces::remove))
        .routes(routes!(datasets::create))
        .routes(routes!(datasets::retry))
        .routes(routes!(datasets::delete))
        .routes(routes!(datasets::cleanup))
        .routes(routes!(partitions::reset))
        .routes(routes!(projections::rebuild))
        .routes(routes!(projections::pause))
        .routes(routes!(projections::resume))
        .routes(routes!(dagster::cancel))
        .routes(routes!(dagster::trigger))
        .merge(concepts::admin());
    let (router, mut document) = open
        .merge(scoped(ingest, state, Scope::Ingest))
        .merge(scoped(read, state, Scope::Read))
        .merge(scoped(admin, state, Scope::Admin))
        .split_for_parts();
    openapi::complete(&mut document, &state.config);
    (router, document)
}

/// The routes of a scope: their requests are checked for it, and their description says so.
fn scoped(mut routes: OpenApiRouter<AppState>, state: &AppState, scope: Scope) -> OpenApiRouter<AppState> {
    openapi::demand(routes.get_openapi_mut(), scope);
    routes.route_layer(from_fn_with_state((state.clone(), scope), access::require))
}

fn cors(config: &HttpConfig) -> CorsLayer {
    let origins = &config.cors.origins;
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    if origins.is_empty() {
        return CorsLayer::new();
    }
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            frame::REQUEST_ID,
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("idempotency-key"),
        ])
        .expose_headers([frame::REQUEST_ID, frame::AS_OF, header::RETRY_AFTER])
        .max_age(Duration::from_secs(600))
}

/// The dashboard asks with and without a token; a cache between must not mix the answers.
async fn vary<B>(mut response: axum::http::Response<B>) -> axum::http::Response<B> {
    response.headers_mut().append(header::VARY, HeaderValue::from_static("authorization"));
    response
}
