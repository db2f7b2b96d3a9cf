//! What there is: catalogs, schemas, tables and views with their columns, as one session sees them.
//!
//! Flight SQL's metadata, `information_schema` and the `SHOW` statements all answer from here, so
//! that they agree. A catalog, schema or table that does not answer is left out with a warning in
//! the log, so that it does not hide the others.
//!
//! - [`pattern`]: which names are wanted.
//! - [`details`]: the columns of tables and views.
//! - [`information_schema`]: the listing as tables.

pub(crate) mod details;
pub(crate) mod information_schema;
mod pattern;

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt};
use inshore_lake::TableName;
use tracing::warn;

use crate::session::Session;
use crate::system;

pub(crate) use pattern::Pattern;

/// Calls of catalogs and tables at once for one listing.
const CONCURRENT: usize = 16;

/// What kind of thing has rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A table.
    Table,
    /// A query under a name.
    View,
    /// A table that the coordinator makes up: of `system` and `information_schema`.
    System,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Table, Self::View, Self::System];

    /// The name that JDBC, ODBC and Flight SQL have for it.
    pub(crate) fn table_type(self) -> &'static str {
        match self {
            Self::Table => "TABLE",
            Self::View => "VIEW",
            Self::System => "SYSTEM TABLE",
        }
    }

    /// The name in `information_schema`.
    fn sql_name(self) -> &'static str {
        match self {
            Self::Table => "BASE TABLE",
            other => other.table_type(),
        }
    }
}

/// What a listing is narrowed to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Names of catalogs.
    pub(crate) catalog: Pattern,
    /// Names of schemas; the levels of a nested namespace are joined with `.`.
    pub(crate) schema: Pattern,
    /// Names of tables and views.
    pub(crate) table: Pattern,
}

impl Wanted {
    /// One table or view.
    pub(crate) fn only(name: &TableName) -> Self {
        Self {
            catalog: Pattern::Exactly(name.catalog.clone()),
            schema: Pattern::Exactly(name.namespace.clone()),
            table: Pattern::Exactly(name.table.clone()),
        }
    }

    fn fits(&self, name: &TableName) -> bool {
        self.catalog.fits(&name.catalog)
            && self.schema.fits(&name.namespace)
            && self.table.fits(&name.table)
    }
}

/// All catalogs: the configured ones, and those under which the session opened tables.
pub(crate) fn catalogs(session: &Session) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = session
        .node()
        .options
        .catalogs
        .names()
        .into_iter()
        .collect();
    if names.is_empty() {
        // Where `system` is, and tables that are opened by their files.
        names.insert(session.defaults().0);
    }
    names.extend(own_names(session).map(|name| name.catalog));
    names
}

/// The schemas that fit, as pairs of catalog and schema.
pub(crate) async fn schemas(session: &Session, wanted: &Wanted) -> BTreeSet<(String, String)> {
    let mut found: BTreeSet<(String, String)> = BTreeSet::new();
    for catalog in catalogs(session) {
        if wanted.catalog.fits(&catalog) {
            found.insert((catalog.clone(), system::SCHEMA.to_owned()));
            found.insert((catalog, information_schema::SCHEMA.to_owned()));
        }
    }
    found.extend(namespaces(session, wanted).await);
    found.extend(own_names(session).map(|name| (name.catalog, name.namespace)));
    found.retain(|(catalog, schema)| wanted.catalog.fits(catalog) && wanted.schema.fits(schema));
    found
}

/// The tables and views that fit, in the order of their names. Nothing is opened.
pub(crate) async fn relations(
    session: &Session,
    wanted: &Wanted,
    kinds: &[Kind],
) -> BTreeMap<TableName, Kind> {
    let mut found = in_catalogs(session, wanted, kinds).await;
    found.extend(
        session
            .own_tables()
            .into_keys()
            .map(|name| (name, Kind::Table)),
    );
    found.extend(
        session
            .own_views()
            .into_keys()
            .map(|name| (name, Kind::View)),
    );
    if kinds.contains(&Kind::System) {
        for catalog in catalogs(session) {
            let system = system::TABLES.map(|table| (system::SCHEMA, table));
            let information =
                information_schema::TABLES.map(|table| (information_schema::SCHEMA, table));
            for (schema, table) in system.into_iter().chain(information) {
                found.insert(TableName::new(&catalog, schema, table), Kind::System);
            }
        }
    }
    found.retain(|name, kind| wanted.fits(name) && kinds.contains(kind));
    found
}

/// The names of what the session has of its own.
fn own_names(session: &Session) -> impl Iterator<Item = TableName> + use<> {
    let tables = session.own_tables().into_keys();
    tables.chain(session.own_views().into_keys())
}

/// The namespaces of the catalogs that fit.
async fn namespaces(session: &Session, wanted: &Wanted) -> Vec<(String, String)> {
    let catalogs = &session.node().options.catalogs;
    let names = catalogs.names().into_iter();
    let names = names.filter(|name| wanted.catalog.fits(name));
    let listed = names.map(|catalog| async move {
        let listed = catalogs.namespaces(&catalog).await;
        (catalog, listed)
    });
    let mut listed = stream::iter(listed).buffer_unordered(CONCURRENT);
    let mut found = Vec::new();
    while let Some((catalog, listed)) = listed.next().await {
        match listed {
            Ok(namespaces) => {
                let fitting = namespaces
                    .into_iter()
                    .filter(|name| wanted.schema.fits(name));
                found.extend(fitting.map(|name| (catalog.clone(), name)));
            }
            Err(error) => warn!(catalog, %error, "namespaces could not be listed"),
        }
    }
    found
}

/// The tables and views of the catalogs in the schemas that fit.
async fn in_catalogs(
    session: &Session,
    wanted: &Wanted,
    kinds: &[Kind],
) -> BTreeMap<TableName, Kind> {
    let catalogs = &session.node().options.catalogs;
    let spaces = match &wanted.schema {
        // Whether there is one is told by the listing of its tables.
        Pattern::Exactly(schema) => {
            let names = catalogs.names().into_iter();
            let names = names.filter(|name| wanted.catalog.fits(name));
            names.map(|name| (name, schema.clone())).collect()
        }
        _ => namespaces(session, wanted).await,
    };
    let (tables, views) = (kinds.contains(&Kind::Table), kinds.contains(&Kind::View));
    let listed = spaces.into_iter().map(|(catalog, namespace)| async move {
        // A table hides a view of its name, as it does in statements.
        let mut found = Vec::new();
        if views {
            let names = catalogs.views(&catalog, &namespace).await;
            found.extend(or_none(names, &catalog, &namespace).map(|name| (name, Kind::View)));
        }
        if tables {
            let names = catalogs.tables(&catalog, &namespace).await;
            found.extend(or_none(names, &catalog, &namespace).map(|name| (name, Kind::Table)));
        }
        let named = found.into_iter().map(move |(table, kind)| {
            let name = TableName::new(&catalog, &namespace, table);
            (name, kind)
        });
        named.collect::<Vec<_>>()
    });
    let mut listed = stream::iter(listed).buffer_unordered(CONCURRENT);
    let mut found = BTreeMap::new();
    while let Some(listed) = listed.next().await {
        found.extend(listed);
    }
    found
}

fn or_none(
    names: inshore_lake::Result<Vec<String>>,
    catalog: &str,
    namespace: &str,
) -> impl Iterator<Item = String> + use<> {
    let names = names.unwrap_or_else(|error| {
        if !matches!(error, inshore_lake::Error::NotFound(_)) {
            warn!(catalog, namespace, %error, "tables or views could not be listed");
        }
        Vec::new()
    });
    names.into_iter()
}
