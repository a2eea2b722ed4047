//! The tables: their definitions, their keys, and how statements name them.
//!
//! Statements are templates: `{events}` stands for the table in its schema, or, while the projection is being rebuilt, for its shadow
//! `rebuild_events` in the server's own schema. `{vec3}` and the like stand for pgvector's types where the extension is there when
//! the tables are created, and for `real[]` otherwise.

use desireline_connectors::postgres::identifier;

/// Raised when tables change their columns or indexes; older tables are then migrated by [`super::migrate`].
pub const LAYOUT: i32 = 1;
/// Raised when the same views would give other rows; targets are then rebuilt.
pub const MEANING: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Ampelios,
    Interactions,
    Clickstream,
    Desireline,
}

/// Where the tables of each system lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schemas {
    /// `events`, `user_journey`, `cluster`.
    pub ampelios: String,
    /// `interaction_logs`, `users`, `items`, `products`.
    pub interactions: String,
    /// `aggregates_minute`.
    pub clickstream: String,
    /// `sessions` and the server's own tables.
    pub desireline: String,
}

impl Default for Schemas {
    fn default() -> Self {
        Self {
            ampelios: "ampelios".to_owned(),
            interactions: "interactions".to_owned(),
            clickstream: "clickstream".to_owned(),
            desireline: "desireline".to_owned(),
        }
    }
}

impl Schemas {
    pub fn of(&self, place: Place) -> &str {
        match place {
            Place::Ampelios => &self.ampelios,
            Place::Interactions => &self.interactions,
            Place::Clickstream => &self.clickstream,
            Place::Desireline => &self.desireline,
        }
    }

    pub fn all(&self) -> [&str; 4] {
        [&self.ampelios, &self.interactions, &self.clickstream, &self.desireline]
    }
}

pub struct Table {
    pub name: &'static str,
    pub place: Place,
    /// Columns, in SQL.
    pub definition: &'static str,
    /// Further statements, each safe to repeat.
    pub more: &'static [&'static str],
    /// Columns that tell rows apart.
    pub key: &'static [&'static str],
    /// Columns that follow from the views, beside the key.
    pub values: &'static [&'static str],
    /// The column that the database numbers by itself.
    pub serial: Option<&'static str>,
}

/// Where the projection stands. Not among [`TABLES`]: it is never rebuilt.
pub const PROJECTION: &str = "CREATE TABLE IF NOT EXISTS {projection} (name text PRIMARY KEY, definition text NOT NULL, \
    layout integer NOT NULL, applied bigint, epoch bigint NOT NULL, rebuilding boolean NOT NULL DEFAULT false, rebuilt bigint, \
    updated_at timestamptz NOT NULL DEFAULT now())";

pub const ENUM: &str = "DO $$ BEGIN CREATE TYPE {event_type_enum} AS ENUM ('view', 'click', 'add_to_cart', 'purchase', 'rate'); \
    EXCEPTION WHEN duplicate_object THEN NULL; END $$";

/// In an order in which what is referred to comes first.
pub const TABLES: [Table; 11] = [
    Table {
        name: "sources",
        place: Place::Desireline,
        definition: "source_id integer PRIMARY KEY, user_id_type text NOT NULL, transaction_value boolean NOT NULL, \
            context boolean NOT NULL, since bigint NOT NULL",
        more: &[],
        key: &["source_id"],
        values: &["user_id_type", "transaction_value", "context", "since"],
        serial: None,
    },
    Table {
        name: "cluster",
        place: Place::Ampelios,
        definition: "source_id integer, cluster_id integer, centroid {vec6} NOT NULL, PRIMARY KEY (source_id, cluster_id)",
        more: &[],
        key: &["source_id", "cluster_id"],
        values: &["centroid"],
        serial: None,
    },
    Table {
        name: "products",
        place: Place::Interactions,
        definition: "parent_asin text PRIMARY KEY, title text NOT NULL, store text, main_category text, avg_rating numeric(6,2), \
            rating_number bigint, primary_image text, raw_metadata jsonb, created_at timestamptz NOT NULL DEFAULT now(), brand text, \
            known boolean NOT NULL DEFAULT true",
        more: &[],
        key: &["parent_asin"],
        values: &["title", "store", "main_category", "avg_rating", "rating_number", "primary_image", "raw_metadata", "brand", "known"],
        serial: None,
    },
    Table {
        name: "items",
        place: Place::Interactions,
        definition: "asin text PRIMARY KEY, parent_asin text REFERENCES {products} (parent_asin), variant text, primary_image text, \
            category text, created_at timestamptz NOT NULL DEFAULT now(), known boolean NOT NULL DEFAULT true",
        more: &["CREATE INDEX IF NOT EXISTS items_parent_asin ON {items} (parent_asin)"],
        key: &["asin"],
        values: &["parent_asin", "variant", "primary_image", "category", "known"],
        serial: None,
    },
    Table {
        name: "users",
        place: Place::Interactions,
        definition: "id bigint PRIMARY KEY, username text, password_hash text, phone_number text, amazon_user_id text, \
            created_at timestamptz NOT NULL DEFAULT now(), last_login timestamptz, known boolean NOT NULL DEFAULT true",
        more: &[],
        key: &["id"],
        values: &["username", "known"],
        serial: None,
    },
    Table {
        name: "sessions",
        place: Place::Desireline,
        definition: "source_id integer, user_id text, session_number bigint NOT NULL, start timestamptz, \"end\" timestamptz NOT NULL, \
            event_count bigint NOT NULL, views bigint NOT NULL, carts bigint NOT NULL, transactions bigint NOT NULL, \
            value numeric(39,4) NOT NULL, first_event uuid NOT NULL, PRIMARY KEY (source_id, user_id, start)",
        more: &[],
        key: &["source_id", "user_id", "start"],
        values: &["session_number", "\"end\"", "event_count", "views", "carts", "transactions", "value", "first_event"],
        serial: None,
    },
    Table {
        name: "events",
        place: Place::Ampelios,
        definition: "_id bigserial PRIMARY KEY, \"timestamp\" bigint NOT NULL, visitorid bigint NOT NULL, event varchar NOT NULL, \
            source_id integer NOT NULL, itemid bigint, transactionid bigint, sessionnumber integer NOT NULL, \
            processed boolean NOT NULL DEFAULT true, event_time timestamptz NOT NULL, event_id uuid NOT NULL",
        more: &["CREATE UNIQUE INDEX IF NOT EXISTS events_identity ON {events} (source_id, visitorid, event_time, event_id)"],
        key: &["source_id", "visitorid", "event_time", "event_id"],
        values: &["\"timestamp\"", "event", "itemid", "transactionid", "sessionnumber", "processed"],
        serial: Some("_id"),
    },
    Table {
        name: "user_journey",
        place: Place::Ampelios,
        definition: "_id bigserial PRIMARY KEY, user_id bigint NOT NULL, source_id integer NOT NULL, state {vec3} NOT NULL, \
            paths {vec3s} NOT NULL, cluster_id integer, UNIQUE (source_id, user_id), \
            FOREIGN KEY (source_id, cluster_id) REFERENCES {cluster} (source_id, cluster_id) DEFERRABLE INITIALLY DEFERRED",
        more: &[],
        key: &["source_id", "user_id"],
        values: &["state", "paths", "cluster_id"],
        serial: Some("_id"),
    },
    Table {
        name: "interaction_logs",
        place: Place::Interactions,
        definition: "id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES {users} (id), asin text NOT NULL REFERENCES {items} (asin), \
            event_type {event_type_enum} NOT NULL, ts timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'), metadata jsonb, \
            source_id integer NOT NULL, event_id uuid NOT NULL, client_metadata jsonb",
        more: &[
            "CREATE UNIQUE INDEX IF NOT EXISTS interaction_logs_identity ON {interaction_logs} (source_id, user_id, ts, event_id)",
            "CREATE INDEX IF NOT EXISTS interaction_logs_user_id_ts ON {interaction_logs} (user_id, ts)",
            "CREATE INDEX IF NOT EXISTS interaction_logs_asin ON {interaction_logs} (asin)",
        ],
        key: &["source_id", "user_id", "ts", "event_id"],
        values: &["asin", "event_type", "metadata", "client_metadata"],
        serial: Some("id"),
    },
    Table {
        name: "aggregates_minute",
        place: Place::Clickstream,
        definition: "window_start timestamptz, window_end timestamptz NOT NULL, page text, event_type text, count bigint NOT NULL, \
            revenue numeric(39,4) NOT NULL, updated_at timestamptz NOT NULL DEFAULT now(), source_id integer, \
            PRIMARY KEY (source_id, window_start, page, event_type)",
        more: &[],
        key: &["source_id", "window_start", "page", "event_type"],
        values: &["window_end", "count", "revenue"],
        serial: None,
    },
    Table {
        name: "refused_rows",
        place: Place::Desireline,
        definition: "table_name text, key text, source_id integer, user_id text, row jsonb NOT NULL, error text NOT NULL, \
            at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (table_name, key)",
        more: &[],
        key: &["table_name", "key"],
        values: &["source_id", "user_id", "row", "error"],
        serial: None,
    },
];

/// How vectors are kept: as pgvector's type, by its full name, or as `real[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vectors(pub Option<String>);

impl Vectors {
    fn column(&self, dimensions: u32) -> String {
        self.0.as_ref().map_or_else(|| "real[]".to_owned(), |name| format!("{name}({dimensions})"))
    }
}

/// Fills templates of statements.
#[derive(Clone, Debug)]
pub struct Names {
    schemas: Schemas,
    vectors: Vectors,
    /// Whether tables stand for their shadows.
    shadow: bool,
}

impl Names {
    pub fn new(schemas: Schemas, vectors: Vectors) -> Self {
        Self { schemas, vectors, shadow: false }
    }

    pub fn shadows(&self) -> Self {
        Self { shadow: true, ..self.clone() }
    }

    pub fn live(&self) -> Self {
        Self { shadow: false, ..self.clone() }
    }

    pub fn table(&self, table: &Table) -> String {
        let (schema, name) = match self.shadow {
            true => (self.schemas.desireline.as_str(), format!("rebuild_{}", table.name)),
            false => (self.schemas.of(table.place), table.name.to_owned()),
        };
        format!("{}.{}", identifier(schema), identifier(&name))
    }

    fn word(&self, word: &str) -> Option<String> {
        let cast = |dimensions| self.vectors.0.as_ref().map_or_else(String::new, |name| format!("::{name}({dimensions})"));
        Some(match word {
            "projection" => format!("{}.projection", identifier(&self.schemas.desireline)),
            "event_type_enum" => format!("{}.event_type_enum", identifier(&self.schemas.interactions)),
            "vec3" => self.vectors.column(3),
            "vec6" => self.vectors.column(6),
            // An array of `real[]` is one of more dimensions, of the same type.
            "vec3s" => self.vectors.0.as_ref().map_or_else(|| "real[]".to_owned(), |name| format!("{name}(3)[]")),
            "as_vec3" => cast(3),
            "as_vec6" => cast(6),
            name => self.table(TABLES.iter().find(|table| table.name == name)?),
        })
    }

    /// The template with every known `{word}` replaced.
    pub fn fill(&self, template: &str) -> String {
        let mut filled = String::with_capacity(template.len() * 2);
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            filled.push_str(&rest[..open]);
            rest = &rest[open..];
            match rest.find('}').and_then(|close| Some((close, self.word(&rest[1..close])?))) {
                Some((close, word)) => {
                    filled.push_str(&word);
                    rest = &rest[close + 1..];
                }
                None => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_name_tables_shadows_and_types() {
        let schemas = Schemas { ampelios: "public".to_owned(), ..Schemas::default() };
        let names = Names::new(schemas, Vectors::default());
        let template = "SELECT '{}'::{vec3} FROM {events} e, {unknown}";
        assert_eq!(names.fill(template), "SELECT '{}'::real[] FROM \"public\".\"events\" e, {unknown}");
        assert_eq!(names.shadows().fill("{events}{as_vec3}"), "\"desireline\".\"rebuild_events\"");
        let names = Names::new(Schemas::default(), Vectors(Some("\"x\".vector".to_owned())));
        assert_eq!(names.fill("{vec3s} {as_vec6}"), "\"x\".vector(3)[] ::\"x\".vector(6)");
    }

    #[test]
    fn no_two_tables_share_a_name_and_keys_are_columns() {
        for (at, table) in TABLES.iter().enumerate() {
            assert!(TABLES[..at].iter().all(|other| other.name != table.name), "{}", table.name);
            for column in table.key.iter().chain(table.values).chain(&table.serial) {
                assert!(table.definition.contains(column), "{} lacks {column}", table.name);
            }
        }
    }
}
