pub mod cold;
pub mod csv;
pub mod formats;
pub mod kafka;
pub mod log;
pub mod store;
