/// Where cold parts lie.
pub const FOLDER: &str = "cold";
