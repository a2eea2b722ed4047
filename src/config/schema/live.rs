//! Settings of SQL over live tables.

use super::super::reader::settings;
use super::super::values::Size;
use std::time::Duration;

settings! {
    /// The `live` connection: SQL over the tables of this server.
    Live {
        /// Most rows that one query reads, of all tables together.
        rows_read_max: usize = default "5000000" in "1"..="1000000000";
        /// Most rows of an answer.
        rows_max: usize = default "1000000" in "1"..="100000000";
        /// Memory that sorting, grouping and joining of one query may take, beside the rows that it reads.
        memory_max: Size = default "512MiB" in "1MiB"..="1TiB";
        /// A query that has not ended by then is given up.
        deadline: Duration = default "5m" in "100ms"..="1d";
    }
}
