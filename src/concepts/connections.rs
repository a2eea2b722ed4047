//! Connections to databases of others, and the one that always exists: `live`, whose tables are the views.

use super::book::Shelf;
use super::error::ConceptError;
use super::limits::{room, unused_name};
use super::record::{Connection, Id, Index, LIVE_CONNECTION, Record};
use super::removal::{in_use, user};
use super::vault::{Vault, VaultError};
use super::{Concepts, now};
use crate::config::values::Secret;
use ecow::EcoString;
use std::sync::{Arc, LazyLock};

/// A connection as it is asked for.
#[derive(Clone, Debug)]
pub struct NewConnection {
    pub name: String,
    pub connection_type: String,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Secret,
}

/// What is to be changed; the rest stays.
#[derive(Clone, Debug, Default)]
pub struct ConnectionChange {
    pub name: Option<String>,
    pub connection_type: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub database: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

/// What a rotation of the key did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Passwords that were encrypted again.
    pub passwords: usize,
    /// Of the key now in force.
    pub fingerprint: EcoString,
}

/// The word for the built-in connection: its name, and its type.
const LIVE: &str = "live";

static LIVE_RECORD: LazyLock<Arc<Connection>> = LazyLock::new(|| {
    Arc::new(Connection {
        conn_id: LIVE_CONNECTION,
        name: LIVE.to_owned(),
        connection_type: LIVE.to_owned(),
        host: String::new(),
        port: 0,
        database: "desireline".to_owned(),
        user: String::new(),
        password: String::new(),
        created_at: 0,
    })
});

/// A connection by its number, the built-in one among them.
pub fn connection(shelf: &Shelf, id: Id) -> Result<&Arc<Connection>, ConceptError> {
    if id == LIVE_CONNECTION { Ok(&LIVE_RECORD) } else { shelf.get::<Connection>(id) }
}

fn changeable(id: Id, what: &str) -> Result<(), ConceptError> {
    let refuse = || ConceptError::Refused(format!("The connection 'live' is built in: it cannot be {what}"));
    if id == LIVE_CONNECTION { Err(refuse()) } else { Ok(()) }
}

fn name_of(connection: &Connection) -> &str {
    &connection.name
}

fn check_name(draft: &super::Draft, but: Option<Id>, name: &str) -> Result<(), ConceptError> {
    if name == LIVE {
        return Err(ConceptError::invalid("name", format!("{} with name '{LIVE}' already exists", Connection::NAME)));
    }
    unused_name::<Connection>(draft, None, but, name, name_of)
}

impl Concepts {
    /// `live` first.
    pub fn connections(&self, skip: usize, rows_max: usize) -> Result<Vec<Arc<Connection>>, ConceptError> {
        let shelf = self.book()?.read();
        Ok(std::iter::once(&*LIVE_RECORD).chain(shelf.all::<Connection>()).skip(skip).take(rows_max).cloned().collect())
    }

    pub fn connection(&self, id: Id) -> Result<Arc<Connection>, ConceptError> {
        connection(&self.book()?.read(), id).cloned()
    }

    pub async fn create_connection(&self, new: NewConnection) -> Result<Arc<Connection>, ConceptError> {
        self.prepare_vault().await?;
        let inner = Arc::clone(&self.inner);
        let draft = move |draft: &mut super::Draft| {
            check_name(draft, None, &new.name)?;
            room::<Connection>(draft, None)?;
            // Two keys that do not know of each other would be a mistake of whoever started the server.
            check_passwords(&inner.vault, draft)?;
            let conn_id = draft.next_id::<Connection>();
            let password = inner.vault.seal(conn_id, &new.password)?;
            let NewConnection { name, connection_type, host, port, database, user, password: _ } = new;
            let created_at = draft.now;
            Ok(draft.put(Connection { conn_id, name, connection_type, host, port, database, user, password, created_at }))
        };
        self.book()?.change(now(), draft).await
    }

    pub async fn change_connection(&self, id: Id, change: ConnectionChange) -> Result<Arc<Connection>, ConceptError> {
        changeable(id, "changed")?;
        self.book()?.read().get::<Connection>(id)?;
        if change.password.is_some() {
            self.prepare_vault().await?;
        }
        let inner = Arc::clone(&self.inner);
        let draft = move |draft: &mut super::Draft| {
            let mut connection = Connection::clone(draft.get::<Connection>(id)?);
            if let Some(name) = change.name {
                check_name(draft, Some(id), &name)?;
                connection.name = name;
            }
            if let Some(password) = &change.password {
                connection.password = inner.vault.seal(id, password)?;
            }
            connection.connection_type = change.connection_type.unwrap_or(connection.connection_type);
            connection.host = change.host.unwrap_or(connection.host);
            connection.port = change.port.unwrap_or(connection.port);
            connection.database = change.database.unwrap_or(connection.database);
            connection.user = change.user.unwrap_or(connection.user);
            Ok(draft.put(connection))
        };
        self.book()?.change(now(), draft).await
    }

    /// Refused while an index uses it.
    pub async fn delete_connection(&self, id: Id) -> Result<(), ConceptError> {
        changeable(id, "deleted")?;
        let draft = move |draft: &mut super::Draft| {
            let connection = draft.get::<Connection>(id)?;
            let users = draft.all::<Index>().filter(|index| index.conn_id == id);
            in_use(&format!("Database connection '{}'", connection.name), users.map(|index| user(&**index, &index.name)))?;
            draft.remove::<Connection>(id);
            Ok(())
        };
        self.book()?.change(now(), draft).await
    }

    /// The password of a connection, to connect with it.
    pub fn password(&self, connection: &Connection) -> Result<Secret, ConceptError> {
        Ok(self.inner.vault.open(connection.conn_id, &connection.password)?)
    }

    /// Encrypts every password by a new key; the older ones are not needed afterwards. With given keys the first of them is the new one.
    /// May be broken off and begun again at any point.
    pub async fn rotate_key(&self) -> Result<Rotated, ConceptError> {
        check_passwords(&self.inner.vault, &self.book()?.read())?;
        self.prepare_vault().await?;
        self.with_vault(Vault::add_key).await?;
        let inner = Arc::clone(&self.inner);
        let draft = move |draft: &mut super::Draft| {
            let connections: Vec<Arc<Connection>> = draft.all::<Connection>().cloned().collect();
            let mut passwords = 0;
            for connection in connections {
                let Connection { conn_id, password, .. } = &*connection;
                if !inner.vault.is_current(password)? {
                    let password = inner.vault.seal(*conn_id, &inner.vault.open(*conn_id, password)?)?;
                    draft.put(Connection { password, ..Connection::clone(&connection) });
                    passwords += 1;
                }
            }
            Ok(passwords)
        };
        let passwords = self.book()?.change(now(), draft).await?;
        self.with_vault(Vault::drop_retired).await?;
        Ok(Rotated { passwords, fingerprint: self.inner.vault.fingerprint()? })
    }

    async fn prepare_vault(&self) -> Result<(), ConceptError> {
        let has_passwords = self.book()?.read().count::<Connection>() > 0;
        self.with_vault(move |vault| vault.prepare(!has_passwords)).await
    }

    /// Files are read and written on a thread that may wait for them.
    async fn with_vault(&self, work: impl FnOnce(&Vault) -> Result<(), VaultError> + Send + 'static) -> Result<(), ConceptError> {
        let inner = Arc::clone(&self.inner);
        let worked = tokio::task::spawn_blocking(move || work(&inner.vault)).await;
        Ok(worked.map_err(|_| ConceptError::NotReady("the server is stopping"))??)
    }

    /// Says as an error which passwords cannot be decrypted; at the start.
    pub(super) fn report_passwords(&self) {
        let shelf = self.inner.book.read();
        let connections = shelf.all::<Connection>();
        let unreadable = connections.filter_map(|c| Some((c, self.inner.vault.check(c.conn_id, &c.password).err()?)));
        for (connection, error) in unreadable {
            let (code, name) = (error.code(), connection.name.as_str());
            tracing::error!(conn_id = connection.conn_id, name, code, %error, "a connection cannot be used");
        }
    }
}

fn check_passwords(vault: &Vault, shelf: &Shelf) -> Result<(), ConceptError> {
    let mut connections = shelf.all::<Connection>();
    Ok(connections.try_for_each(|connection| vault.check(connection.conn_id, &connection.password))?)
}
