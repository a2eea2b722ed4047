//! SQL over live tables, end to end: statements as users write them for PostgreSQL, over tables in memory.

mod support;

mod classes;
mod dialect;
mod limits;
mod random;
