//! The description of the catalog's entries for the OpenAPI document, as exact as a schema can be.
//!
//! Nothing here reads a body; see [`super::catalog`]. Known limitations: as those of [`super::event_body`].

use super::catalog::{LINE_BYTES_MAX, WORD_BYTES_MAX};
use super::interaction_body::{some_text, text};
use desireline_records::limits;
use utoipa::ToSchema;
use utoipa::openapi::Object;

/// An item: what events name. Unknown fields are ignored; null and the empty string mean absent.
#[derive(ToSchema)]
#[schema(as = Item)]
#[allow(dead_code)]
pub(super) struct ItemBody {
    #[schema(schema_with = key)]
    asin: String,
    #[schema(schema_with = parent)]
    parent_asin: Option<String>,
    #[schema(schema_with = word)]
    variant: Option<String>,
    #[schema(schema_with = line)]
    primary_image: Option<String>,
    #[schema(schema_with = own_category)]
    category: Option<String>,
}

/// A product: what describes its items. Unknown fields are ignored; null and the empty string mean absent.
#[derive(ToSchema)]
#[schema(as = Product)]
#[allow(dead_code)]
pub(super) struct ProductBody {
    #[schema(schema_with = key)]
    parent_asin: String,
    #[schema(schema_with = line)]
    title: Option<String>,
    #[schema(schema_with = word)]
    store: Option<String>,
    #[schema(schema_with = word)]
    main_category: Option<String>,
    /// Two decimals are kept.
    #[schema(minimum = 0, maximum = 100)]
    avg_rating: Option<f64>,
    #[schema(minimum = 0, maximum = 4294967295_i64)]
    rating_number: Option<i64>,
    #[schema(schema_with = line)]
    primary_image: Option<String>,
    /// Anything else; `brand` or `Brand` is the brand of its items.
    #[schema(value_type = Option<Object>)]
    raw_metadata: Option<serde_json::Value>,
}

/// A user. Unknown fields are ignored; null and the empty string mean absent.
#[derive(ToSchema)]
#[schema(as = User)]
#[allow(dead_code)]
pub(super) struct PersonBody {
    id: i64,
    #[schema(schema_with = word)]
    username: Option<String>,
}

macro_rules! one_or_several {
    ($(#[$doc:meta])* $body:ident as $name:ident, $several:ident as $several_name:ident { $list:ident: $entry:ident }) => {
        $(#[$doc])*
        #[derive(ToSchema)]
        #[schema(as = $name)]
        #[serde(untagged)]
        #[allow(dead_code)]
        pub(super) enum $body {
            One($entry),
            Several($several),
        }

        #[derive(ToSchema)]
        #[schema(as = $several_name)]
        #[allow(dead_code)]
        pub(super) struct $several {
            #[schema(min_items = 1)]
            $list: Vec<$entry>,
        }
    };
}

one_or_several! {
    /// One item, or a list.
    ItemsBody as ItemOrItems, SeveralItems as Items { items: ItemBody }
}
one_or_several! {
    /// One product, or a list.
    ProductsBody as ProductOrProducts, SeveralProducts as Products { products: ProductBody }
}
one_or_several! {
    /// One user, or a list.
    PeopleBody as UserOrUsers, SeveralPeople as Users { users: PersonBody }
}

fn key() -> Object {
    some_text(limits::ITEM).build()
}

fn parent() -> Object {
    text(limits::ITEM).description(Some("The product it is a variant of; its own `asin` when absent.")).build()
}

fn own_category() -> Object {
    text(WORD_BYTES_MAX).description(Some("Stands in where its product is unknown or has no category.")).build()
}

fn word() -> Object {
    text(WORD_BYTES_MAX).build()
}

fn line() -> Object {
    text(LINE_BYTES_MAX).build()
}
