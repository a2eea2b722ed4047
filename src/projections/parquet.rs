//! The parquet target.
