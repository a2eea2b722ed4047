pub mod cold;
pub mod csv;
pub mod formats;
pub mod kafka;
pub mod log;
pub mod postgres;
pub mod redis;
pub mod store;
