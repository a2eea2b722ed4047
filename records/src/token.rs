//! Read your writes: what an ingest reply carries and a query's `at_least` takes.

use crate::{LogicalTime, ShardId};
use std::fmt;
use std::str::FromStr;

/// Opaque to clients: names the batch that holds a write. Printed as `d1-<shard>-<time in hex>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    pub shard: ShardId,
    pub time: LogicalTime,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d1-{}-{:x}", self.shard, self.time)
    }
}

impl FromStr for Token {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '-');
        let (Some("d1"), Some(shard), Some(time)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(());
        };
        if time.starts_with('+') || shard.starts_with('+') {
            return Err(());
        }
        Ok(Self { shard: shard.parse().map_err(drop)?, time: LogicalTime::from_str_radix(time, 16).map_err(drop)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_prints_and_nothing_else() {
        let token = Token { shard: 3, time: 1_700_000_000_123 };
        assert_eq!(token.to_string().parse(), Ok(token));
        for text in ["", "d1", "d1-0", "d1-0-", "d2-0-1", "d1-0-xyz", "d1-0-1-2", "d1-+0-1", "d1-0-+1"] {
            assert_eq!(text.parse::<Token>(), Err(()), "{text}");
        }
    }
}
