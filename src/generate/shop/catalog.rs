//! What the synthetic shop sells: ten categories of forty products, the same for every seed.

use crate::generate::random::{Random, mix};
use desireline_records::Fixed4;

pub struct Category {
    pub name: &'static str,
    /// How often it is looked at, relative to the others.
    pub weight: u32,
    /// In hundredths.
    price_min: u64,
    price_max: u64,
}

const fn category(name: &'static str, weight: u32, price_min: u64, price_max: u64) -> Category {
    Category { name, weight, price_min: price_min * 100, price_max: price_max * 100 }
}

pub const CATEGORIES: [Category; 10] = [
    category("computers", 4, 300, 2_500),
    category("phones", 4, 100, 1_400),
    category("shoes", 2, 30, 220),
    category("shirts", 2, 12, 90),
    category("pants", 2, 20, 140),
    category("audio", 1, 15, 600),
    category("home", 1, 5, 400),
    category("books", 1, 5, 60),
    category("toys", 1, 8, 150),
    category("sports", 1, 10, 500),
];

const PER_CATEGORY: u16 = 40;
/// The number of the first product; later ones follow without gaps.
pub const FIRST_PRODUCT: u32 = 1_001;
pub const PRODUCTS: u16 = CATEGORIES.len() as u16 * PER_CATEGORY;

const STYLES: [&str; 8] = ["Classic", "Compact", "Pro", "Light", "Urban", "Prime", "Eco", "Max"];

/// A product, as its place in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product(u16);

impl Product {
    /// By category weight; within a category the first products are the popular ones.
    pub fn draw(random: &mut Random) -> Self {
        let category = draw_category(random);
        Self::draw_in(random, category)
    }

    pub fn draw_in(random: &mut Random, category: u8) -> Self {
        let unit = random.unit();
        let place = (unit * unit * f64::from(PER_CATEGORY)) as u16;
        Self(u16::from(category) * PER_CATEGORY + place.min(PER_CATEGORY - 1))
    }

    pub fn id(self) -> u32 {
        FIRST_PRODUCT + u32::from(self.0)
    }

    pub fn category(self) -> &'static Category {
        &CATEGORIES[usize::from(self.0 / PER_CATEGORY)]
    }

    /// In hundredths: fixed for a product.
    pub fn price_cents(self) -> u64 {
        let category = self.category();
        category.price_min + mix(u64::from(self.0)) % (category.price_max - category.price_min)
    }

    pub fn price(self) -> Fixed4 {
        Fixed4(self.price_cents() as i64 * 100)
    }

    /// `Compact phones 7`
    pub fn name(self) -> String {
        let place = self.0 % PER_CATEGORY;
        format!("{} {} {}", STYLES[usize::from(place) % STYLES.len()], self.category().name, place + 1)
    }
}

/// A category by its weight.
pub fn draw_category(random: &mut Random) -> u8 {
    random.weighted(&CATEGORIES.each_ref().map(|c| c.weight)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_is_priced_within_its_category() {
        for place in 0..PRODUCTS {
            let product = Product(place);
            let category = product.category();
            assert!((category.price_min..category.price_max).contains(&product.price_cents()), "{}", product.name());
            assert_eq!(product.id(), FIRST_PRODUCT + u32::from(place));
        }
    }

    #[test]
    fn computers_are_drawn_four_times_as_often_as_books() {
        let mut random = Random::new(1, 0);
        let mut seen = std::collections::HashMap::new();
        for _ in 0..19_000 {
            *seen.entry(Product::draw(&mut random).category().name).or_insert(0u32) += 1;
        }
        assert!((3_700..4_300).contains(&seen["computers"]), "{seen:?}");
        assert!((850..1_150).contains(&seen["books"]), "{seen:?}");
    }
}
