//! Event words and the movements they stand for: a setting, with defaults that cover the usual trackers.

use crate::Movement;
use ecow::EcoString;

#[derive(Clone, Debug, PartialEq)]
pub struct Words {
    view: Vec<EcoString>,
    cart: Vec<EcoString>,
    transaction: Vec<EcoString>,
}

impl Default for Words {
    fn default() -> Self {
        Self::new(&["view", "pageview", "product_view"], &["addtocart", "add_to_cart"], &["transaction", "purchase"])
    }
}

impl Words {
    pub fn new<S: AsRef<str>>(view: &[S], cart: &[S], transaction: &[S]) -> Self {
        let own = |words: &[S]| words.iter().map(|w| EcoString::from(w.as_ref())).collect();
        Self { view: own(view), cart: own(cart), transaction: own(transaction) }
    }

    /// Any other word is an event of its session without a movement.
    pub fn movement(&self, word: &str) -> Movement {
        let has = |words: &[EcoString]| words.iter().any(|w| w == word);
        if has(&self.view) {
            Movement::View
        } else if has(&self.cart) {
            Movement::Cart
        } else if has(&self.transaction) {
            Movement::Transaction
        } else {
            Movement::None
        }
    }
}
