pub mod csv;
pub mod formats;
pub mod kafka;
pub mod cold;
pub mod log;
pub mod store;
