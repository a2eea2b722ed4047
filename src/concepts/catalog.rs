//! The catalog: what a label model can be made of. Indexes and rules; features are not in it.

use super::Concepts;
use super::book::Shelved;
use super::error::ConceptError;
use super::record::{Concept, Id, Index, Materialized, Rule};

/// An index or a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Asset {
    pub id: Id,
    pub name: String,
    pub is_materialized: bool,
    pub row_count: Option<u64>,
    pub storage_path: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    pub indexes: Vec<Asset>,
    pub rules: Vec<Asset>,
}

/// Of the assets of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AssetCounts {
    pub total: u64,
    pub materialized: u64,
    /// Of what is materialised.
    pub rows: u64,
}

fn asset(id: Id, name: &str, materialized: &Materialized) -> Asset {
    let Materialized { is_materialized, row_count, storage_path, .. } = materialized.clone();
    Asset { id, name: name.to_owned(), is_materialized, row_count, storage_path }
}

fn count(assets: &[Asset]) -> AssetCounts {
    let materialized = || assets.iter().filter(|asset| asset.is_materialized);
    AssetCounts {
        total: assets.len() as u64,
        materialized: materialized().count() as u64,
        rows: materialized().filter_map(|asset| asset.row_count).sum(),
    }
}

impl Concepts {
    /// In the order of their numbers.
    pub fn catalog(&self, c_id: Id, materialized_only: bool) -> Result<Catalog, ConceptError> {
        let shelf = self.book()?.read();
        shelf.get::<Concept>(c_id)?;
        fn assets<R: Shelved>(shelf: &super::Shelf, c_id: Id, of: impl Fn(&R) -> Asset) -> Vec<Asset> {
            shelf.of_concept::<R>(c_id).map(|record| of(record)).collect()
        }
        let mut catalog = Catalog {
            indexes: assets::<Index>(&shelf, c_id, |index| asset(index.index_id, &index.name, &index.materialized)),
            rules: assets::<Rule>(&shelf, c_id, |rule| asset(rule.r_id, &rule.name, &rule.materialized)),
        };
        for assets in [&mut catalog.indexes, &mut catalog.rules] {
            assets.retain(|asset| asset.is_materialized || !materialized_only);
        }
        Ok(catalog)
    }

    /// Of the indexes, and of the rules.
    pub fn catalog_counts(&self, c_id: Id) -> Result<(AssetCounts, AssetCounts), ConceptError> {
        let catalog = self.catalog(c_id, false)?;
        Ok((count(&catalog.indexes), count(&catalog.rules)))
    }
}
