//! The description of the interface, made from the handlers, and the two pages that show it.
//!
//! What every operation has in common (the errors, the id of the request, the token) is added here for all of them at once
//! ([`complete`]), so that no handler can forget a status. The pages need nothing from elsewhere: Swagger UI and ReDoc are
//! compiled in.

use super::AppState;
use super::config::{HttpConfig, Scope};
use super::error::ErrorBody;
use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use std::sync::LazyLock;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, HeaderBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response as Described, ResponseBuilder, Type};
use utoipa::{OpenApi as _, ToSchema};

const BEARER: &str = "bearer";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Desireline",
        description = "Sessions, journeys, clusters and aggregates that are always current and always right. Every answer was true at one \
            logical time (`as_of`); the token of an ingest reply, given as `at_least`, makes a query see that write.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ErrorBody, super::operations::KindWord, super::dagster::RunStatusWord, super::dagster::FormatWord, super::occupancy::PerWord, super::occupancy::IntervalWord)),
    tags(
        (name = "ingest", description = "Events in"),
        (name = "views", description = "Answers out"),
        (name = "occupancy", description = "Which devices were where: spaces, numbers by bins, visits, flows"),
        (name = "shop", description = "What users do with items, and what becomes of it"),
        (name = "concepts", description = "Weak supervision: what things are, told from data"),
        (name = "runs", description = "Work that outlives a request"),
        (name = "operations", description = "Health, status, dead letters, erasure")
    )
)]
struct Base;

/// The part of the description that no handler gives.
pub(super) fn base() -> OpenApi {
    Base::openapi()
}

/// The operations of `document` demand a token with `scope`, once tokens are configured.
pub(super) fn demand(document: &mut OpenApi, scope: Scope) {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        // An empty requirement first: on loopback without tokens nothing is demanded.
        operation.1.security = Some(vec![SecurityRequirement::default(), SecurityRequirement::new(BEARER, [scope.word()])]);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("post", &mut item.post),
        ("put", &mut item.put),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

/// Adds what all operations have in common.
pub(super) fn complete(document: &mut OpenApi, config: &HttpConfig) {
    let components = document.components.get_or_insert_default();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("needed once tokens are configured")).build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    let field_error = <super::error::FieldError as ToSchema>::name().into_owned();
    debug_assert!(components.schemas.contains_key(&field_error), "the schema of errors is complete");
    for (path, item) in &mut document.paths.paths {
        let has_path_parameters = path.contains('{');
        for (method, operation) in operations(item) {
            operation.parameters.iter_mut().flatten().for_each(describe_parameter);
            for (status, description) in errors(method, operation, has_path_parameters) {
                operation.responses.responses.entry(status.to_string()).or_insert_with(|| RefOr::T(error(status, description)));
            }
            if config.validation_status != 400
                && let Some(invalid) = operation.responses.responses.remove("400")
            {
                operation.responses.responses.insert(config.validation_status.to_string(), invalid);
            }
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    response.headers.insert("x-request-id".to_owned(), header("the id of the request, in the server's log too"));
                }
            }
        }
    }
}

/// What `Params` does with every parameter: an empty one is as good as absent, and a `limit` may exceed every integer type.
fn describe_parameter(parameter: &mut Parameter) {
    if matches!(parameter.parameter_in, ParameterIn::Query) && matches!(parameter.required, Required::False) {
        parameter.extensions = Some(Extensions::from_iter([("allowEmptyValue", true)]));
    }
    if let ("limit", Some(RefOr::T(Schema::Object(schema)))) = (parameter.name.as_str(), &mut parameter.schema) {
        schema.format = None;
    }
}

/// The errors that an operation can answer with.
fn errors(method: &str, operation: &Operation, has_path_parameters: bool) -> Vec<(u16, &'static str)> {
    let changes = method != "get";
    let mut errors = vec![
        (400, "a body, parameter or path that is not as described"),
        (403, "called by a wrong name, from a foreign page, or with a token that lacks the scope"),
        (429, "busy: nothing was taken; try again after `Retry-After` seconds"),
        (500, "a mistake of the server"),
        (503, "not ready, not writable, or too slow; try again after `Retry-After` seconds"),
    ];
    if operation.security.is_some() {
        errors.push((401, "a token is needed"));
    }
    if has_path_parameters {
        errors.push((404, "there is no such thing"));
    }
    if changes {
        errors.push((409, "the state of the thing forbids it"));
        errors.push((415, "another content type or encoding"));
    }
    if operation.request_body.is_some() {
        errors.push((413, "above a limit, before or after decompression"));
    }
    errors
}

fn error(status: u16, description: &str) -> Described {
    let schema = Ref::from_schema_name(<ErrorBody as ToSchema>::name());
    let mut response = ResponseBuilder::new().description(description).content("application/json", Content::new(Some(schema))).build();
    if matches!(status, 429 | 503) {
        response.headers.insert("Retry-After".to_owned(), header("seconds"));
    }
    response
}

fn header(description: &str) -> utoipa::openapi::Header {
    HeaderBuilder::new().schema(ObjectBuilder::new().schema_type(Type::String).build()).description(Some(description)).build()
}

/// `/openapi.json`, `/docs` and `/redoc`.
pub(super) fn pages(document: OpenApi) -> Router<AppState> {
    let json = Bytes::from(document.to_json().expect("a description has string keys, so it serialises"));
    let swagger: Router<AppState> =
        utoipa_swagger_ui::SwaggerUi::new("/docs").config(utoipa_swagger_ui::Config::new(["/openapi.json"])).into();
    let shown = swagger
        .route("/redoc", get(async || axum::response::Html(REDOC_PAGE)))
        .route("/redoc/redoc.js", get(async || script(&REDOC_SCRIPT)))
        .route("/redoc/start.js", get(async || script(REDOC_START)))
        .layer(SetResponseHeaderLayer::overriding(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGES_CSP)))
        .layer(SetResponseHeaderLayer::overriding(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")));
    shown.route("/openapi.json", get(async move || ([(header::CONTENT_TYPE, "application/json")], json.clone())))
}

/// Both pages build styles at run time, and ReDoc's search runs in a worker made from a blob; scripts come from us alone.
const PAGES_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
     connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const REDOC_PAGE: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Desireline API</title>\n\
    <link rel=\"icon\" href=\"data:,\">\n\
    <style>body { margin: 0; }</style>\n</head>\n<body>\n<div id=\"redoc\"></div>\n\
    <script src=\"/redoc/redoc.js\"></script>\n<script src=\"/redoc/start.js\"></script>\n</body>\n</html>\n";

const REDOC_START: &str = "Redoc.init('/openapi.json', { hideDownloadButton: false }, document.getElementById('redoc'));\n";

/// ReDoc's bundle, taken out of the one page in which the crate ships it: inline scripts would need a weaker policy.
static REDOC_SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let page = aide::redoc::Redoc::new("/openapi.json").html();
    let script = page.split_once("<script>").and_then(|(_, rest)| rest.rsplit_once("Redoc.init(")).map(|(script, _)| script);
    let script = script.expect("the page consists of the bundle and its start, as a test checks");
    script.trim().replace(REDOC_LOGO, "data:,")
});

/// The one picture that ReDoc would load from elsewhere: a logo in its footer.
const REDOC_LOGO: &str = "https://cdn.redoc.ly/redoc/logo-mini.svg";

fn script(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_of_redoc_is_whole() {
        assert!(REDOC_SCRIPT.len() > 500_000, "{}", REDOC_SCRIPT.len());
        assert!(REDOC_SCRIPT.starts_with("/*!") && REDOC_SCRIPT.contains("Redoc") && !REDOC_SCRIPT.contains("redoc-container"));
        assert!(!REDOC_SCRIPT.contains("https://cdn."), "nothing is loaded from elsewhere");
    }
}
