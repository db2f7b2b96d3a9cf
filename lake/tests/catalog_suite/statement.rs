//! The names of one statement, as DataFusion asks for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{append, catalog, create, open, sqlite, stores};
use datafusion::catalog::CatalogProviderList;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::TableType;
use datafusion::prelude::{SessionConfig, SessionContext};
use indexmap::IndexMap;
use inshore_lake::catalog::{CatalogLimits, Catalogs, MakeProvider, Reference, StatementCatalogs};
use inshore_lake::config::CatalogKind;
use inshore_lake::plan::ManifestCache;
use inshore_lake::table::IcebergTable;
use inshore_lake::version::TableVersion;
use inshore_lake::{Error, TableName};

/// A provider for each table, and how many were made.
fn counting() -> (MakeProvider, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let manifests = Arc::new(ManifestCache::new(1 << 20));
    let make: MakeProvider = Arc::new(move |name, table| {
        counter.fetch_add(1, Ordering::SeqCst);
        let stores = inshore_lake::store::Stores::for_local_files()?;
        IcebergTable::try_new(name, table, Arc::clone(&manifests), stores)
    });
    (make, made)
}

async fn resolve(
    catalogs: &Arc<Catalogs>,
    names: &[TableName],
    make: MakeProvider,
) -> Arc<StatementCatalogs> {
    let references: Vec<Reference> = names.iter().cloned().map(Reference::from).collect();
    let open = BTreeMap::new();
    catalogs.resolve(&references, open, make).await
}

fn name(namespace: &str, table: &str) -> TableName {
    TableName::new("lake", namespace, table)
}

fn context(statement: Arc<StatementCatalogs>) -> SessionContext {
    let config = SessionConfig::new()
        .with_default_catalog_and_schema("lake", "n")
        .with_create_default_catalog_and_schema(false);
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config)
        .with_catalog_list(statement)
        .build();
    SessionContext::new_with_state(state)
}

async fn lake() -> (tempfile::TempDir, Arc<Catalogs>) {
    let dir = tempfile::tempdir().unwrap();
    let catalogs = open(sqlite(dir.path()), dir.path());
    let writer = catalogs.writer("lake").await.unwrap();
    for (namespace, table) in [("n", "t"), ("n", "u"), ("a.b", "Odd Name")] {
        create(&writer, namespace, table, &[]).await;
        append(&writer, namespace, table, 2).await;
    }
    (dir, catalogs)
}

#[tokio::test]
async fn each_table_is_loaded_once_and_only_if_named() {
    let (_dir, catalogs) = lake().await;
    let (make, made) = counting();
    let references = [
        name("n", "t"),
        name("n", "t"),
        name("a.b", "Odd Name"),
        name("n", "some_cte"),
        name("nowhere", "t"),
        TableName::new("elsewhere", "n", "t"),
        name("information_schema", "tables"),
    ];
    let statement = resolve(&catalogs, &references, make).await;
    assert_eq!(made.load(Ordering::SeqCst), 2);
    assert_eq!(statement.catalog_names(), ["lake"]);
    let schemas = statement.catalog("lake").unwrap();
    assert_eq!(schemas.schema_names(), ["a.b", "n"]);
    let schema = schemas.schema("n").unwrap();
    assert_eq!(schema.table_names(), ["t"]);
    assert!(schema.table_exist("t") && !schema.table_exist("u"));
    assert!(schema.table("some_cte").await.unwrap().is_none());
    assert_eq!(schema.table_type("t").await.unwrap(), Some(TableType::Base));
    assert_eq!(schema.table_type("u").await.unwrap(), None);

    let context = context(statement);
    let query = "WITH some_cte AS (SELECT * FROM t) SELECT a.id FROM t a \
                 JOIN some_cte USING (id) JOIN \"a.b\".\"Odd Name\" c ON a.id = c.id";
    context.sql(query).await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn errors_belong_to_the_statement_that_names_the_table() {
    let (dir, catalogs) = lake().await;
    let table = catalogs.load(&name("n", "u")).await.unwrap().unwrap();
    let location = table.metadata_location().unwrap();
    std::fs::write(location.strip_prefix("file://").unwrap(), "{").unwrap();
    // Without what is cached.
    let catalogs = open(sqlite(dir.path()), dir.path());
    let (make, _) = counting();

    let references = [name("n", "t"), name("n", "u")];
    let statement = resolve(&catalogs, &references, make).await;
    let schema = statement.catalog("lake").unwrap().schema("n").unwrap();
    assert!(schema.table("t").await.unwrap().is_some());
    for _ in 0..2 {
        let error = schema.table("u").await.unwrap_err();
        let ours = Error::in_chain(&error);
        assert!(
            matches!(&ours, Some(Error::Corrupt { path, .. }) if path == location),
            "{error}"
        );
    }
}

/// All references to a table come from one load of it, also those to older states of it and to its
/// metadata tables.
#[tokio::test]
async fn versions_of_a_table_share_one_load() {
    let (_dir, catalogs) = lake().await;
    let writer = catalogs.writer("lake").await.unwrap();
    let before = append(&writer, "n", "t", 3).await;
    let before = before.metadata().current_snapshot().unwrap().snapshot_id();
    append(&writer, "n", "t", 4).await;
    let (make, made) = counting();
    let at = |shown: &str, base: &str, version| Reference {
        version: Some(version),
        base: name("n", base),
        ..Reference::from(name("n", shown))
    };
    let references = [
        Reference::from(name("n", "t")),
        at("t@1", "t", TableVersion::Snapshot(before)),
        at("t@2", "t", TableVersion::Ref("nothing".to_owned())),
        Reference::from(name("n", "t$snapshots")),
        at("t$files@1", "t$files", TableVersion::Snapshot(before)),
        at("u$files@1", "u$files", TableVersion::Snapshot(before)),
        Reference::from(name("n", "t$nothing")),
        Reference::from(name("n", "gone$files")),
    ];
    let open = BTreeMap::new();
    let statement = catalogs.resolve(&references, open, make).await;
    // Of t and u.
    assert_eq!(made.load(Ordering::SeqCst), 2);
    let schema = statement.catalog("lake").unwrap().schema("n").unwrap();
    let old = schema.table("t@1").await.unwrap().unwrap();
    let old = old.downcast_ref::<IcebergTable>().unwrap();
    assert_eq!(old.snapshot().unwrap().snapshot_id(), before);
    let new = schema.table("t").await.unwrap().unwrap();
    let new = new.downcast_ref::<IcebergTable>().unwrap();
    assert_ne!(new.snapshot().unwrap().snapshot_id(), before);
    let error = |error: datafusion::error::DataFusionError| Error::in_chain(&error).unwrap();
    let missing = error(schema.table("t@2").await.unwrap_err());
    assert!(matches!(missing, Error::NotFound(_)), "{missing}");
    let foreign = error(schema.table("u$files@1").await.unwrap_err());
    assert!(matches!(foreign, Error::NotFound(_)), "{foreign}");
    assert!(schema.table_exist("t$snapshots") && schema.table_exist("t$files@1"));
    assert!(!schema.table_exist("t$nothing") && !schema.table_exist("gone$files"));
}

#[tokio::test]
async fn registered_tables_lie_over_the_catalogs() {
    let (_dir, catalogs) = lake().await;
    let (make, _) = counting();
    let statement = resolve(&catalogs, &[name("n", "t")], make).await;
    let empty = || Arc::new(EmptyTable::new(Arc::new(arrow::datatypes::Schema::empty())));
    statement.register("lake", "system", "nodes", empty());
    statement.register("lake", "n", "t", empty());
    statement.register("temp", "public", "mine", empty());
    assert_eq!(statement.catalog_names(), ["lake", "temp"]);
    let lake = statement.catalog("lake").unwrap();
    assert_eq!(lake.schema_names(), ["n", "system"]);
    let table = lake.schema("n").unwrap().table("t").await.unwrap().unwrap();
    assert!(table.schema().fields().is_empty());
    let context = context(Arc::clone(&statement));
    context
        .sql("SELECT * FROM system.nodes, temp.public.mine")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_catalog_that_is_down_fails_its_tables() {
    let (dir, _) = lake().await;
    let (connections, listener) = silent_server();
    let port = listener.local_addr().unwrap().port();
    let uri = format!("http://127.0.0.1:{port}");
    let configs = IndexMap::from([
        ("lake".to_owned(), sqlite(dir.path())),
        (
            "down".to_owned(),
            catalog(CatalogKind::Rest, Some(&uri), None),
        ),
    ]);
    let limits = CatalogLimits {
        call_deadline: std::time::Duration::from_millis(300),
        ..CatalogLimits::default()
    };
    let stores = stores(&format!("file://{}", dir.path().display()));
    let catalogs = Catalogs::open_with(&configs, stores, limits).unwrap();
    let (make, _) = counting();
    let lost = TableName::new("down", "n", "t");
    let references = [name("n", "t"), lost];
    let statement = resolve(&catalogs, &references, make).await;
    let table = |catalog: &str| statement.catalog(catalog).unwrap().schema("n").unwrap();
    assert!(table("lake").table("t").await.unwrap().is_some());
    let error = table("down").table("t").await.unwrap_err();
    let ours = Error::in_chain(&error).unwrap();
    assert!(ours.is_retryable(), "{ours}");
    assert!(!connections.lock().unwrap().is_empty());
}

type Connections = Arc<Mutex<Vec<std::net::TcpStream>>>;

/// A server that takes connections and never answers.
fn silent_server() -> (Connections, Arc<std::net::TcpListener>) {
    let listener = Arc::new(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let connections = Connections::default();
    let (accepting, kept) = (Arc::clone(&listener), Arc::clone(&connections));
    std::thread::spawn(move || {
        while let Ok((stream, _)) = accepting.accept() {
            kept.lock().unwrap().push(stream);
        }
    });
    (connections, listener)
}
