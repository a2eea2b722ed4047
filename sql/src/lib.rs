//! SQL of users.

mod error;
mod lexer;
pub mod live;
pub mod statement;
pub mod template;

pub use error::SqlError;
