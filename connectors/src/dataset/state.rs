//! The state object: one small JSON document that says what the files are.

use super::error::DatasetError;
use crate::store::{Replaced, Store, Tag};
use bytes::Bytes;
use desireline_records::LogicalTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that is not for readers.
pub const HIDDEN: &str = "_desireline";
pub const STATE: &str = "_desireline/state.json";
/// New versions of files on their way into their places.
pub const STAGED: &str = "_desireline/staged";
/// Files of a rebuild that has not been finished.
pub const REBUILD: &str = "_desireline/rebuild";
const FORMAT: u64 = 1;
/// Tries of taking over a state that somebody else is writing.
const CLAIMS_MAX: u32 = 8;

/// Files that take their places: from the hidden name to the name that readers know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    pub put: BTreeMap<String, String>,
    pub delete: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub format: u64,
    pub definition: String,
    /// The server that wrote last.
    pub epoch: u64,
    /// The files have everything up to this time.
    pub applied: Option<LogicalTime>,
    /// A rebuild has begun and not been finished.
    pub rebuilding: bool,
    /// Rebuilds ever begun; names their files.
    pub rebuilds: u64,
    /// What the owner of the datasets wants to remember, as of `applied`.
    pub notes: serde_json::Value,
    /// Steps that follow from this state and may not all have been taken.
    pub moves: Moves,
    /// Every file and its size.
    pub files: BTreeMap<String, u64>,
}

impl State {
    pub fn new(definition: &str, epoch: u64) -> Self {
        Self {
            format: FORMAT,
            definition: definition.to_owned(),
            epoch,
            applied: None,
            rebuilding: false,
            rebuilds: 0,
            notes: serde_json::Value::Null,
            moves: Moves::default(),
            files: BTreeMap::new(),
        }
    }
}

/// The state as it was last read or written, and which object that was.
#[derive(Clone, Debug)]
pub struct Held {
    pub state: State,
    tag: Tag,
}

async fn read(store: &Store) -> Result<Option<(Option<State>, Tag)>, DatasetError> {
    let (bytes, tag) = match store.get_tagged(STATE, None).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let format = serde_json::from_slice::<serde_json::Value>(&bytes).ok().and_then(|json| json.get("format")?.as_u64());
    match format {
        Some(found) if found > FORMAT => Err(DatasetError::Version { object: STATE.to_owned(), found }),
        // What cannot be read is no state: the datasets are built again.
        _ => Ok(Some((serde_json::from_slice(&bytes).ok(), tag))),
    }
}

impl Held {
    /// Reads the state and makes `epoch` its writer.
    pub async fn claim(store: &Store, definition: &str, epoch: u64) -> Result<Self, DatasetError> {
        for _ in 0..CLAIMS_MAX {
            let found = read(store).await?;
            let (known, tag) = found.map_or((None, None), |(state, tag)| (state, Some(tag)));
            let claimed = match (known, &tag) {
                (Some(state), _) if state.epoch > epoch => return Err(DatasetError::Fenced { own: epoch, newer: state.epoch }),
                // Nothing is written, so that this works on a full disk, too, and what lies about can be deleted.
                (Some(state), Some(tag)) if state.epoch == epoch => return Ok(Self { state, tag: tag.clone() }),
                (Some(state), _) => State { epoch, ..state },
                (None, _) => State::new(definition, epoch),
            };
            let bytes = encode(&claimed)?;
            if let Replaced::Done(tag) = store.replace_tagged(STATE, bytes, tag.as_ref()).await? {
                return Ok(Self { state: claimed, tag });
            }
        }
        Err(DatasetError::Changed { object: STATE.to_owned() })
    }

    /// Writes a new state in the place of this one, unless somebody else has. It is the moment at which everything in it becomes true.
    pub async fn replace(&mut self, store: &Store, state: State) -> Result<(), DatasetError> {
        let written = store.replace_tagged(STATE, encode(&state)?, Some(&self.tag)).await?;
        let tag = match written {
            Replaced::Done(tag) => tag,
            Replaced::Changed => match read(store).await? {
                // The first attempt of a request that was repeated below us.
                Some((Some(found), tag)) if found == state => tag,
                Some((Some(found), _)) if found.epoch > state.epoch => {
                    return Err(DatasetError::Fenced { own: state.epoch, newer: found.epoch });
                }
                _ => return Err(DatasetError::Changed { object: STATE.to_owned() }),
            },
        };
        *self = Self { state, tag };
        Ok(())
    }

    /// Whether the state is still the one that was written.
    pub async fn verify(&self, store: &Store) -> Result<(), DatasetError> {
        match read(store).await? {
            Some((Some(found), _)) if found.epoch > self.state.epoch => {
                Err(DatasetError::Fenced { own: self.state.epoch, newer: found.epoch })
            }
            Some((Some(found), _)) if found == self.state => Ok(()),
            _ => Err(DatasetError::Damaged { object: STATE.to_owned(), detail: "it is not what was written".to_owned() }),
        }
    }
}

fn encode(state: &State) -> Result<Bytes, DatasetError> {
    let bytes = serde_json::to_vec(state).map_err(|error| DatasetError::Encode(error.to_string()))?;
    Ok(bytes.into())
}
