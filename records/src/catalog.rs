//! What a shop sells and who its users are, as far as events need it: category and brand come from here.
//!
//! An item belongs to a product; what describes it (category, brand, rating) stands with the product. Rows are whole: a later row of the
//! same key replaces the earlier one. An item or user that only events have named is a *stub*: it has no row here.

use ecow::EcoString;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Item {
    pub asin: EcoString,
    /// The product it is a variant of; its own id where none was given.
    pub parent_asin: EcoString,
    pub variant: Option<EcoString>,
    pub primary_image: Option<EcoString>,
    /// Stands in where the product is unknown or has no category.
    pub category: Option<EcoString>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Product {
    pub parent_asin: EcoString,
    pub title: EcoString,
    pub store: Option<EcoString>,
    pub main_category: Option<EcoString>,
    /// Hundredths.
    pub avg_rating: Option<u16>,
    pub rating_number: Option<u32>,
    pub primary_image: Option<EcoString>,
    /// A JSON object as text.
    pub raw_metadata: Option<EcoString>,
}

/// A user of the interactions source, by the id that events carry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Person {
    pub id: i64,
    pub username: Option<EcoString>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogEntry {
    Item(Arc<Item>),
    Product(Arc<Product>),
    Person(Arc<Person>),
}

impl Product {
    /// `brand`, else `Brand`, of the metadata; numbers and booleans as their text.
    pub fn brand(&self) -> Option<String> {
        let metadata: serde_json::Value = serde_json::from_str(self.raw_metadata.as_deref()?).ok()?;
        match metadata.get("brand").filter(|b| !b.is_null()).or_else(|| metadata.get("Brand"))? {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brand_is_looked_for_under_two_names() {
        let brand = |metadata: &str| {
            let product = Product {
                parent_asin: "P".into(),
                title: "".into(),
                store: None,
                main_category: None,
                avg_rating: None,
                rating_number: None,
                primary_image: None,
                raw_metadata: Some(metadata.into()),
            };
            product.brand()
        };
        assert_eq!(brand(r#"{"Brand":"B","brand":"a"}"#).as_deref(), Some("a"));
        assert_eq!(brand(r#"{"Brand":"B","brand":null}"#).as_deref(), Some("B"));
        assert_eq!(brand(r#"{"Brand":7}"#).as_deref(), Some("7"));
        assert_eq!(brand(r#"{}"#), None);
        assert_eq!(brand("not json"), None);
    }
}
