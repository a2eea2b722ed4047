//! How much there may be of what users write. None of it is a setting: whoever needs more has another problem.

use super::book::{Draft, Shelf, Shelved};
use super::error::ConceptError;
use super::record::Id;

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
pub const DESCRIPTION_BYTES_MAX: usize = 8_192;
/// Longest query, before its template is rendered.
pub const SQL_BYTES_MAX: usize = 100_000;
/// Parameters of a template, and settings of a partitioning, each as JSON.
pub const OBJECT_BYTES_MAX: usize = 65_536;
/// How deep those are nested.
pub const OBJECT_DEPTH_MAX: usize = 16;
/// Columns that a feature names.
pub const COLUMNS_MAX: usize = 1_000;
pub const PASSWORD_BYTES_MAX: usize = 1_024;
/// Connections, and concepts.
pub const TOP_RECORDS_MAX: usize = 10_000;
/// Records of one kind that belong to one concept.
pub const OF_CONCEPT_MAX: usize = 1_000;
/// Records of one kind in all.
pub const OF_KIND_MAX: usize = 20_000;

/// Refuses a further record of a kind where there are too many.
pub fn room<R: Shelved>(shelf: &Shelf, c_id: Option<Id>) -> Result<(), ConceptError> {
    let of_kind_max = if c_id.is_some() { OF_KIND_MAX } else { TOP_RECORDS_MAX };
    let refuse = |count_max: usize, place: &str| {
        let kind = R::NAME.to_lowercase();
        ConceptError::Refused(format!("there may be at most {count_max} records of the kind {kind}{place}"))
    };
    if shelf.count::<R>() >= of_kind_max {
        return Err(refuse(of_kind_max, ""));
    }
    let full = c_id.is_some_and(|c_id| shelf.of_concept::<R>(c_id).count() >= OF_CONCEPT_MAX);
    if full { Err(refuse(OF_CONCEPT_MAX, " in a concept")) } else { Ok(()) }
}

/// A name that another record of the same kind and concept does not have. `but` is the record itself.
pub fn unused_name<R: Shelved>(
    draft: &Draft,
    c_id: Option<Id>,
    but: Option<Id>,
    name: &str,
    name_of: impl Fn(&R) -> &str,
) -> Result<(), ConceptError> {
    let taken =
        draft.all::<R>().any(|record| (c_id.is_none() || record.concept() == c_id) && Some(record.id()) != but && name_of(record) == name);
    let place = if c_id.is_some() { " in this concept" } else { "" };
    if taken { Err(ConceptError::invalid("name", format!("{} with name '{name}' already exists{place}", R::NAME))) } else { Ok(()) }
}
