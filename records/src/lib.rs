//! What stands in the log: the vocabulary every other crate shares.
//!
//! A *record* is anything that can change an answer. Rows of data ([`Event`]), rows that could not be accepted
//! ([`DeadLetter`]) and commands ([`Control`]) are committed together as a [`Batch`] at one logical time. This crate
//! holds their types, their identity, the one total validator that stands before the log, and nothing that does I/O.
//!
//! *Architecture invariant:* whatever passes [`validate::Validator`] can never panic a view.
//!
//! Units, everywhere: event times are microseconds since 1970-01-01 UTC ([`Micros`]); logical times are milliseconds
//! ([`LogicalTime`]); money and other values are integers of one ten-thousandth ([`Fixed4`]).

pub mod batch;
pub mod catalog;
pub mod control;
pub mod dead_letter;
pub mod event;
pub mod fixed;
pub mod ids;
pub mod labels;
pub mod limits;
pub mod raw;
pub mod settings;
pub mod time;
pub mod token;
pub mod validate;
pub mod wifi;
pub mod words;

pub use batch::{Batch, PartitionKey, Position, Progress};
pub use catalog::{CatalogEntry, Item, Person, Product};
pub use control::{ClusterModel, ColdPart, Control, EraseUser, MinuteCount, PartitionState, Purged, Seal};
pub use dead_letter::{DeadLetter, DeadLetterKind};
pub use event::{Event, EventExtra, Movement};
pub use fixed::Fixed4;
pub use ids::{EventId, user_hash};
pub use labels::{Matrix, MatrixId, MatrixModel, MatrixRows, RuleRows};
pub use raw::{RawDevice, RawEvent, RawStay};
pub use settings::{ContextSettings, Horizon, SessionRule, SourceSettings, UserIdType};
pub use time::{LogicalTime, Micros};
pub use token::Token;
pub use wifi::{
    Cell, CellKey, Measure, Reopen, ReopenedDevice, ReplaceStays, SealFrom, SealStays, SealedStay, Space, SpaceId, Stay, WifiSession,
    WifiSettings,
};

/// The number of a source (a site, a topic, a file feed) within one deployment.
pub type SourceId = u32;

/// The number of a shard of the log. The first release runs one shard, number 0.
pub type ShardId = u16;
