//! The space tree of the synthetic campus: a root space (1), four buildings, five floors each and twelve rooms per floor. Only rooms are
//! stayed in. Numbers: building `1000·b`, floor `1000·b + 100·f`, room `1000·b + 100·f + r`. Rooms are made for 20 to 60 devices.
//!
//! A row is `{space_id, space_name, parent_space_id, building_room, capacity}`, as `PUT /api/spaces` takes it. Parents come first.

use super::disturb::Arriving;
use super::{Endpoint, Format, Generated};
use desireline_records::Micros;
use reqwest::Method;
use serde::Serialize;

pub const ROOT: u32 = 1;
pub(super) const BUILDINGS: u32 = 4;
pub(super) const FLOORS: u32 = 5;
pub(super) const ROOMS: u32 = 12;

/// A node of the space tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Space {
    pub space_id: u32,
    #[serde(rename = "space_name")]
    pub name: String,
    pub parent_space_id: Option<u32>,
    pub building_room: Option<String>,
    pub capacity: Option<u32>,
}

/// The whole tree, parents first.
pub fn spaces() -> Vec<Space> {
    let node = |space_id, parent_space_id, name| Space { space_id, name, parent_space_id, building_room: None, capacity: None };
    let mut spaces = vec![node(ROOT, None, "Campus".to_owned())];
    for b in 1..=BUILDINGS {
        let building = 1_000 * b;
        spaces.push(node(building, Some(ROOT), format!("Building {b}")));
        for f in 1..=FLOORS {
            let floor = building + 100 * f;
            spaces.push(node(floor, Some(building), format!("Building {b}, floor {f}")));
            for r in 1..=ROOMS {
                let room = node(floor + r, Some(floor), format!("Room {b}.{f}.{r:02}"));
                spaces.push(Space { building_room: Some(format!("{b}.{f}.{r:02}")), capacity: Some(20 + 10 * (r % 5)), ..room });
            }
        }
    }
    spaces
}

/// All at once, and each once.
impl Arriving for Space {
    fn arrival(&self) -> Micros {
        0
    }

    fn set_arrival(&mut self, _: Micros) {}

    fn mark_duplicate(&mut self) {}
}

impl Generated for Space {
    const CSV_HEADER: &'static str = "space_id,space_name,parent_space_id,building_room,capacity";
    const ENDPOINT: Option<Endpoint> = Some(Endpoint { method: Method::PUT, path: "/api/spaces", field: "spaces" });

    /// Names of floors hold a comma.
    fn csv(&self, out: &mut String) {
        let or_empty = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        let (parent, capacity) = (or_empty(self.parent_space_id), or_empty(self.capacity));
        let room = self.building_room.as_deref().unwrap_or_default();
        out.push_str(&format!("{},\"{}\",{parent},{room},{capacity}\n", self.space_id, self.name));
    }

    fn json(&self, _: Format, out: &mut String) {
        out.push_str(&serde_json::to_string(self).expect("a space has plain fields only"));
    }

    fn key(&self) -> String {
        self.space_id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_tree_is_whole_and_parents_come_first() {
        let tree = spaces();
        assert_eq!(tree.len(), 1 + 4 + 20 + 240);
        let mut known = HashSet::new();
        for space in &tree {
            assert!(space.parent_space_id.is_none_or(|parent| known.contains(&parent)), "{space:?}");
            assert!(known.insert(space.space_id), "{space:?}");
        }
    }

    #[test]
    fn rows_are_printed() {
        let tree = spaces();
        let mut text = String::new();
        tree[3].json(Format::Desireline, &mut text);
        let room = r#"{"space_id":1101,"space_name":"Room 1.1.01","parent_space_id":1100,"building_room":"1.1.01","capacity":30}"#;
        assert_eq!(text, room);
        text.clear();
        tree[2].csv(&mut text);
        assert_eq!(text, "1100,\"Building 1, floor 1\",1000,,\n");
    }
}
