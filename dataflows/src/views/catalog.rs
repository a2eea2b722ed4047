//! The shop's catalog, as records of the log say it: which category an item has.
//!
//! Every worker holds all of it, because the users of any worker may meet any item. An item's category is its product's main category;
//! the item's own stands in where the product is unknown or has none. Rows are shared with the followers that were given them.

use desireline_records::{CatalogEntry, Item, Person, Product};
use ecow::EcoString;
use hashbrown::{HashMap, HashSet};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct Catalog {
    items: HashMap<EcoString, Arc<Item>>,
    products: HashMap<EcoString, Arc<Product>>,
    /// Items by the product they belong to.
    variants: HashMap<EcoString, HashSet<EcoString>>,
    people: BTreeMap<i64, Arc<Person>>,
}

pub type SharedCatalog = Rc<RefCell<Catalog>>;

impl Catalog {
    pub fn item(&self, asin: &str) -> Option<&Arc<Item>> {
        self.items.get(asin)
    }

    pub fn product(&self, parent_asin: &str) -> Option<&Arc<Product>> {
        self.products.get(parent_asin)
    }

    pub fn person(&self, id: i64) -> Option<&Arc<Person>> {
        self.people.get(&id)
    }

    pub fn product_of(&self, asin: &str) -> Option<&Arc<Product>> {
        self.product(&self.item(asin)?.parent_asin)
    }

    pub fn category(&self, asin: &str) -> Option<&EcoString> {
        let item = self.item(asin)?;
        let of_product = self.product(&item.parent_asin).and_then(|product| product.main_category.as_ref());
        of_product.or(item.category.as_ref())
    }

    /// (items, products, users).
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.items.len(), self.products.len(), self.people.len())
    }

    pub fn entries(&self) -> impl Iterator<Item = CatalogEntry> + '_ {
        let items = self.items.values().cloned().map(CatalogEntry::Item);
        let products = self.products.values().cloned().map(CatalogEntry::Product);
        items.chain(products).chain(self.people.values().cloned().map(CatalogEntry::Person))
    }

    /// The items whose category an entry may change.
    pub fn touched<'a>(&'a self, entry: &'a CatalogEntry) -> impl Iterator<Item = &'a EcoString> {
        let (item, parent) = match entry {
            CatalogEntry::Item(item) => (Some(&item.asin), None),
            CatalogEntry::Product(product) => (None, Some(&product.parent_asin)),
            CatalogEntry::Person(_) => (None, None),
        };
        item.into_iter().chain(parent.and_then(|parent| self.variants.get(parent)).into_iter().flatten())
    }

    /// Puts an entry in place and returns the one that stood there.
    pub fn put(&mut self, entry: &CatalogEntry) -> Option<CatalogEntry> {
        match entry {
            CatalogEntry::Item(item) => {
                let before = self.items.insert(item.asin.clone(), item.clone());
                if let Some(before) = &before
                    && before.parent_asin != item.parent_asin
                    && let Some(variants) = self.variants.get_mut(&before.parent_asin)
                {
                    variants.remove(&item.asin);
                    if variants.is_empty() {
                        self.variants.remove(&before.parent_asin);
                    }
                }
                self.variants.entry(item.parent_asin.clone()).or_default().insert(item.asin.clone());
                before.map(CatalogEntry::Item)
            }
            CatalogEntry::Product(product) => self.products.insert(product.parent_asin.clone(), product.clone()).map(CatalogEntry::Product),
            CatalogEntry::Person(person) => self.people.insert(person.id, person.clone()).map(CatalogEntry::Person),
        }
    }

    pub fn remove_person(&mut self, id: i64) -> Option<Arc<Person>> {
        self.people.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(asin: &str, parent: &str, category: Option<&str>) -> CatalogEntry {
        let (variant, primary_image) = (None, None);
        let item = Item { asin: asin.into(), parent_asin: parent.into(), variant, primary_image, category: category.map(Into::into) };
        CatalogEntry::Item(Arc::new(item))
    }

    fn product(parent: &str, category: Option<&str>) -> CatalogEntry {
        CatalogEntry::Product(Arc::new(Product {
            parent_asin: parent.into(),
            title: "".into(),
            store: None,
            main_category: category.map(Into::into),
            avg_rating: None,
            rating_number: None,
            primary_image: None,
            raw_metadata: None,
        }))
    }

    #[test]
    fn the_products_category_wins_and_the_items_stands_in() {
        let mut catalog = Catalog::default();
        let category = |catalog: &Catalog| catalog.category("a").map(ToString::to_string);
        assert_eq!(category(&catalog), None);
        catalog.put(&item("a", "P", Some("own")));
        assert_eq!(category(&catalog).as_deref(), Some("own"));
        catalog.put(&product("P", Some("main")));
        assert_eq!(category(&catalog).as_deref(), Some("main"));
        catalog.put(&product("P", None));
        assert_eq!(category(&catalog).as_deref(), Some("own"));
    }

    #[test]
    fn an_item_that_moves_leaves_its_old_product() {
        let mut catalog = Catalog::default();
        catalog.put(&item("a", "P", None));
        catalog.put(&item("b", "P", None));
        catalog.put(&item("a", "Q", None));
        let of = |parent| catalog.touched(&product(parent, None)).cloned().collect::<Vec<_>>();
        assert_eq!((of("P"), of("Q")), (vec!["b".into()], vec!["a".into()]));
        assert_eq!(catalog.counts(), (2, 0, 0));
    }
}
