pub mod csv;
pub mod formats;
