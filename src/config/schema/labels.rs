//! Settings of live labels.

use super::super::reader::settings;
use std::time::Duration;

settings! {
    /// Label matrices over the `live` connection, which follow the log by themselves.
    Labels {
        /// How long changes are gathered before they are evaluated.
        every: Duration = default "500ms" in "10ms"..="1h";
        /// Things that are evaluated together.
        keys_max: usize = default "5000" in "1"..="1000000";
        /// Queries that do not go by keys, and those that read something which has changed as a whole, are evaluated at most so often.
        full_every: Duration = default "1m" in "100ms"..="7d";
        /// A label model is fitted anew when the votes of this share of the rows have changed since the last one.
        refit_share: f64 = default "0.01" in "0"..="1";
        /// … and not before so much time has passed.
        refit_every: Duration = default "10s" in "10ms"..="7d";
        /// Things of one index.
        things_max: usize = default "1000000" in "1"..="100000000";
    }
}
