//! SQL catalogs over real SQLite files and, where its server is installed, Postgres.

use std::path::Path;
use std::sync::Arc;

use crate::support::{append, catalog, count, create, open, refused_column, sqlite, stores};
use indexmap::IndexMap;
use inshore_lake::catalog::{Catalogs, embedded_config, open_location};
use inshore_lake::config::CatalogKind;
use inshore_lake::store::Stores;
use inshore_lake::{Error, TableName};
use sqlx::Connection;

fn name(namespace: &str, table: &str) -> TableName {
    TableName::new("lake", namespace, table)
}

async fn execute(database: &Path, statement: &str) {
    let uri = format!("sqlite://{}?mode=rwc", database.display());
    let mut connection = sqlx::sqlite::SqliteConnection::connect(&uri).await.unwrap();
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_table_written_by_iceberg_rust_is_listed_loaded_and_always_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let config = sqlite(&dir.path().join("new/folder"));
    let reader = open(config.clone(), dir.path());
    assert!(reader.namespaces("lake").await.unwrap().is_empty());

    // Another process in all but name: its own pools and caches.
    let other = open(config, dir.path());
    let writer = other.writer("lake").await.unwrap();
    create(&writer, "shop", "sales", &[]).await;
    append(&writer, "shop", "sales", 100).await;

    assert_eq!(reader.namespaces("lake").await.unwrap(), ["shop"]);
    assert_eq!(reader.tables("lake", "shop").await.unwrap(), ["sales"]);
    let first = reader.load(&name("shop", "sales")).await.unwrap().unwrap();
    assert_eq!(count(&first).await, 100);

    append(&writer, "shop", "sales", 11).await;
    let second = reader.load(&name("shop", "sales")).await.unwrap().unwrap();
    assert_eq!(count(&second).await, 111);
    // A loaded table stays at its snapshot.
    assert_eq!(count(&first).await, 100);

    // Unchanged: parsed once.
    let third = reader.load(&name("shop", "sales")).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&second.metadata_ref(), &third.metadata_ref()));
    assert!(third.file_io().config().props().is_empty());
}

#[tokio::test]
async fn nested_namespaces_are_flattened_and_near_names_are_suggested() {
    let dir = tempfile::tempdir().unwrap();
    let catalogs = open(sqlite(dir.path()), dir.path());
    let writer = catalogs.writer("lake").await.unwrap();
    for namespace in ["a", "a.b", "a.b.c", "ab"] {
        create(&writer, namespace, "orders", &[]).await;
    }
    create(&writer, "a.b", "Line Items", &[]).await;

    let namespaces = catalogs.namespaces("lake").await.unwrap();
    assert_eq!(namespaces, ["a", "a.b", "a.b.c", "ab"]);
    let all = catalogs.all_tables("lake").await.unwrap();
    assert_eq!(all["a.b"], ["Line Items", "orders"]);
    assert_eq!(all["ab"], ["orders"]);
    let found = catalogs.load(&name("a.b", "Line Items")).await.unwrap();
    assert!(found.is_some());
    for missing in [
        name("a.b", "line items"),
        name("a.x", "orders"),
        name("", "orders"),
    ] {
        assert!(
            catalogs.load(&missing).await.unwrap().is_none(),
            "{missing}"
        );
    }

    let said = async |wrong: TableName| catalogs.not_found(&wrong).await.to_string();
    assert_eq!(
        said(name("a.b", "ordrs")).await,
        "table lake.\"a.b\".ordrs not found; did you mean orders?"
    );
    assert_eq!(
        said(name("a.b", "LINE_ITEMS")).await,
        "table lake.\"a.b\".\"LINE_ITEMS\" not found; did you mean \"Line Items\"?"
    );
    assert_eq!(
        said(name("ba", "orders")).await,
        "namespace lake.ba not found; did you mean a or ab?"
    );
    assert_eq!(
        said(TableName::new("lak", "ab", "orders")).await,
        "catalog lak not found; did you mean lake?"
    );
}

#[tokio::test]
async fn names_are_literal_down_to_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("sp ace %41+ü");
    std::fs::create_dir(&lake).unwrap();
    let detour = lake.join("../sp ace %41+ü/.");
    let (configs, lakes) = embedded_config(&detour).await.unwrap();
    assert_eq!(configs.keys().collect::<Vec<_>>(), ["lake"]);
    let catalogs = Catalogs::open(&configs, Stores::new(&lakes).unwrap()).unwrap();
    let writer = catalogs.writer("lake").await.unwrap();
    for table in ["a%3Ab+c", "日本 #1?", "say \"hi\"", "dot.ted", "select"] {
        create(&writer, "odd%20 space", table, &[]).await;
        append(&writer, "odd%20 space", table, 3).await;
        let wanted = TableName::new("lake", "odd%20 space", table);
        let table = catalogs.load(&wanted).await.unwrap().unwrap();
        assert_eq!(count(&table).await, 3, "{wanted}");
        assert!(!table.metadata().location().contains(".."));
    }
    assert!(
        lake.join("warehouse/odd%20 space/a%3Ab+c/metadata")
            .is_dir()
    );
    assert!(lake.join("warehouse/odd%20 space/日本 #1?/data").is_dir());
    assert!(lake.join("catalog.db").is_file());
}

#[tokio::test]
async fn an_embedded_lake_takes_the_names_found_in_its_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = sqlite(dir.path());
    for found in ["local", "other"] {
        config.name = Some(found.to_owned());
        let catalogs = open(config.clone(), dir.path());
        let writer = catalogs.writer("lake").await.unwrap();
        create(&writer, "n", &format!("{found}_table"), &[]).await;
    }
    let (configs, lakes) = embedded_config(dir.path()).await.unwrap();
    let catalogs = Catalogs::open(&configs, Stores::new(&lakes).unwrap()).unwrap();
    assert_eq!(catalogs.names(), ["local", "other"]);
    assert_eq!(catalogs.default_name(), Some("local"));
    assert_eq!(
        catalogs.tables("other", "n").await.unwrap(),
        ["other_table"]
    );
    assert_eq!(
        catalogs.tables("local", "n").await.unwrap(),
        ["local_table"]
    );

    std::fs::write(
        dir.path().join("catalog.db"),
        "this is not a database, is it?",
    )
    .unwrap();
    let error = embedded_config(dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn metadata_may_be_compressed_and_broken_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let catalogs = open(sqlite(dir.path()), dir.path());
    let writer = catalogs.writer("lake").await.unwrap();
    let gzip = [("write.metadata.compression-codec", "gzip")];
    create(&writer, "n", "zipped", &gzip).await;
    let zipped = append(&writer, "n", "zipped", 5).await;
    let location = zipped.metadata_location().unwrap();
    assert!(location.ends_with(".gz.metadata.json"), "{location}");
    let table = catalogs.load(&name("n", "zipped")).await.unwrap().unwrap();
    assert_eq!(count(&table).await, 5);

    let table = create(&writer, "n", "broken", &[]).await;
    let location = table.metadata_location().unwrap();
    let file = location.strip_prefix("file://").unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let load = async || catalogs.load(&name("n", "broken")).await.unwrap_err();

    std::fs::write(file, &text[..text.len() / 2]).unwrap();
    let error = load().await;
    assert!(
        matches!(&error, Error::Corrupt { path, .. } if path == location),
        "{error}"
    );

    let text = text.replace("\"type\":\"string\"", "\"type\":\"geometry(OGC:CRS84)\"");
    std::fs::write(file, text).unwrap();
    let table = catalogs.load(&name("n", "broken")).await.unwrap().unwrap();
    let error = refused_column(&catalogs, table).await;
    assert!(
        error.contains("column name") && error.contains("geometry(OGC:CRS84)"),
        "{error}"
    );

    std::fs::remove_file(file).unwrap();
    // A file that was read is kept; another process looks anew.
    let fresh = open(sqlite(dir.path()), dir.path());
    let error = fresh.load(&name("n", "broken")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Store { path, .. } if path == location),
        "{error}"
    );
    assert_eq!(error.code().to_string(), "not_found");

    // The other table does not mind.
    assert!(catalogs.load(&name("n", "zipped")).await.unwrap().is_some());
}

#[tokio::test]
async fn tables_outside_the_lakes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let anywhere = open(sqlite(dir.path()), dir.path());
    let writer = anywhere.writer("lake").await.unwrap();
    create(&writer, "n", "t", &[]).await;

    let confined = open(sqlite(dir.path()), &inside);
    let error = confined.load(&name("n", "t")).await.unwrap_err();
    assert!(matches!(error, Error::OutsideLakes { .. }), "{error}");
    // Nor may a writer leave them, and the error keeps its type through iceberg-rust.
    let writer = confined.writer("lake").await.unwrap();
    let ident = name("n", "t").to_ident().unwrap();
    let error = writer.load_table(&ident).await.unwrap_err();
    let error = Error::from_iceberg("t", &error);
    assert!(matches!(error, Error::OutsideLakes { .. }), "{error}");
}

#[tokio::test]
async fn old_layouts_and_wrong_databases_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("catalog.db");
    execute(
        &database,
        "CREATE TABLE iceberg_tables (catalog_name VARCHAR(255) NOT NULL, \
         table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL, \
         metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000))",
    )
    .await;
    let catalogs = open(sqlite(dir.path()), dir.path());
    let error = catalogs.load(&name("n", "t")).await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    let fix = "ALTER TABLE iceberg_tables ADD COLUMN iceberg_type VARCHAR(5)";
    assert!(error.to_string().contains(fix), "{error}");
    // The same catalogs work as soon as that is done.
    execute(&database, fix).await;
    assert!(catalogs.load(&name("n", "t")).await.unwrap().is_none());

    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("catalog.db"), "no database at all").unwrap();
    let catalogs = open(sqlite(other.path()), other.path());
    let error = catalogs.namespaces("lake").await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn several_processes_may_write_one_database() {
    let dir = tempfile::tempdir().unwrap();
    let writes = (0..4).map(|process| {
        let catalogs = open(sqlite(dir.path()), dir.path());
        async move {
            let writer = catalogs.writer("lake").await.unwrap();
            for table in 0..5 {
                create(&writer, &format!("p{process}"), &format!("t{table}"), &[]).await;
                assert_eq!(catalogs.all_tables("lake").await.unwrap().len().min(1), 1);
            }
        }
    });
    let tasks: Vec<_> = writes.map(tokio::spawn).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let catalogs = open(sqlite(dir.path()), dir.path());
    let all = catalogs.all_tables("lake").await.unwrap();
    assert_eq!(all.values().map(Vec::len).sum::<usize>(), 20);
}

#[tokio::test]
async fn a_catalog_that_is_down_fails_only_its_own_statements() {
    let dir = tempfile::tempdir().unwrap();
    // A port nobody listens on: bound once to find it, then closed.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let down = format!("postgresql://me:topsecret@127.0.0.1:{port}/db");
    let configs = IndexMap::from([
        (
            "down".to_owned(),
            catalog(CatalogKind::Sql, Some(&down), None),
        ),
        ("lake".to_owned(), sqlite(dir.path())),
    ]);
    let stores = stores(&format!("file://{}", dir.path().display()));
    let limits = inshore_lake::catalog::CatalogLimits {
        call_deadline: std::time::Duration::from_secs(2),
        ..Default::default()
    };
    let catalogs = Catalogs::open_with(&configs, stores, limits).unwrap();
    assert!(catalogs.namespaces("lake").await.unwrap().is_empty());
    let error = catalogs
        .load(&TableName::new("down", "n", "t"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(error.is_retryable());
    let said = error.to_string();
    assert!(
        said.contains(&format!("catalog down (postgresql://127.0.0.1:{port}/db)")),
        "{said}"
    );
    assert!(!said.contains("topsecret"), "{said}");
}

#[tokio::test]
async fn a_table_opens_by_its_metadata_file_or_folder() {
    let dir = tempfile::tempdir().unwrap();
    let catalogs = open(sqlite(dir.path()), dir.path());
    let writer = catalogs.writer("lake").await.unwrap();
    create(&writer, "n", "t", &[]).await;
    let old = append(&writer, "n", "t", 1).await;
    append(&writer, "n", "t", 2).await;
    let stores = catalogs.stores();
    let called = TableName::new("lake", "tmp", "mine");
    let folder = old.metadata().location().to_owned();

    let file = old.metadata_location().unwrap();
    let by_file = open_location(stores, file, &called).await.unwrap();
    assert_eq!(count(&by_file).await, 1);
    assert_eq!(by_file.identifier().name(), "mine");
    for place in [format!("{folder}/"), format!("{folder}/metadata")] {
        let table = open_location(stores, &place, &called).await.unwrap();
        assert_eq!(count(&table).await, 3, "{place}");
    }
    let path = folder.strip_prefix("file://").unwrap();
    assert_eq!(
        count(&open_location(stores, path, &called).await.unwrap()).await,
        3
    );

    // As a Hadoop table: plain versions and a hint.
    let metadata = Path::new(path).join("metadata");
    let mut versions: Vec<_> = std::fs::read_dir(&metadata)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".metadata.json"))
        .collect();
    versions.sort();
    assert_eq!(versions.len(), 3);
    for (index, file) in versions.iter().enumerate() {
        std::fs::rename(file, metadata.join(format!("v{}.metadata.json", index + 1))).unwrap();
    }
    let rows = async || count(&open_location(stores, &folder, &called).await.unwrap()).await;
    assert_eq!(rows().await, 3);
    std::fs::write(metadata.join("version-hint.text"), "").unwrap();
    assert_eq!(rows().await, 3);
    std::fs::rename(
        metadata.join("v3.metadata.json"),
        metadata.join("v9.metadata.json"),
    )
    .unwrap();
    std::fs::write(metadata.join("version-hint.text"), "1\n").unwrap();
    assert_eq!(rows().await, 1);

    let nothing = format!("{folder}/data");
    let error = open_location(stores, &nothing, &called).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error}");
    let error = open_location(stores, "file:///etc/x.json", &called)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OutsideLakes { .. }), "{error}");
}

#[tokio::test]
async fn a_memory_catalog_lives_in_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let warehouse = format!("file://{}/", dir.path().display());
    let config = catalog(CatalogKind::Memory, None, Some(&warehouse));
    let catalogs = open(config, dir.path());
    let writer = catalogs.writer("lake").await.unwrap();
    create(&writer, "a", "t", &[]).await;
    create(&writer, "a.b", "t", &[]).await;
    append(&writer, "a.b", "t", 7).await;
    let all = catalogs.all_tables("lake").await.unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "a.b"]);
    let table = catalogs.load(&name("a.b", "t")).await.unwrap().unwrap();
    assert_eq!(count(&table).await, 7);
    assert!(catalogs.load(&name("a.c", "t")).await.unwrap().is_none());
}
