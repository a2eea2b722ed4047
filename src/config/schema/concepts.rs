//! Settings of concepts: connections to databases and what is made of them.

use super::super::reader::settings;
use super::super::values::{Secret, Size};
use std::path::PathBuf;
use std::time::Duration;

settings! {
    /// Concepts: connections, indexes, rules, features, labelling functions and what is learned from them.
    Concepts {
        /// The key that encrypts the passwords of connections: 32 bytes in Base64 or 64 hexadecimal digits; after a comma, older keys that
        /// still decrypt. The variable ENCRYPTION_KEY does the same. Never printed.
        encryption_key: Option<Secret> = unset "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        /// A file with such keys, one per line, the one in force first; made when a password is first to be kept. Default: `concepts.key` in
        /// the data folder; with a remote store there is none.
        key_file: Option<PathBuf> = unset "/etc/desireline/concepts.key";
        /// Connecting to a database, name look-up, TLS and authentication together; also the whole test of a connection.
        connect_timeout: Duration = default "10s" in "100ms"..="5m";
        /// A query of an index, rule or feature, to its last row. The database ends it then.
        statement_timeout: Duration = default "1h" in "100ms"..="7d";
        /// Most rows of a query.
        rows_max: u64 = default "100000000" in "1"..="10000000000";
        /// Most bytes of a query's values.
        bytes_max: Size = default "64GiB" in "1KiB"..="16TiB";
        /// Most different values of an index that a rule or feature is asked for. They are held in memory, about three times.
        keys_max: usize = default "2000000" in "1"..="100000000";
        /// PEM file with certificates that databases may have, besides the system's (PostgreSQL) and the web's (MySQL).
        tls_ca: Option<PathBuf> = unset "/etc/desireline/databases.pem";
    }
}
