//! `SHOW` and `information_schema`: what they narrow, and what hides nothing.
#![allow(clippy::unwrap_used)]

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use inshore_coordinator::{Coordinator, Topology};
use inshore_engine::EngineOptions;
use inshore_lake::catalog::{Catalogs, embedded_config};
use inshore_lake::config::{CatalogConfig, CatalogKind, Secret};
use inshore_testkit::cluster::options;
use inshore_testkit::{Cluster, Lake, rows};

#[path = "support/asking.rs"]
mod asking;

use asking::{Client, run};

#[tokio::test(flavor = "multi_thread")]
async fn show_statements_narrow() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(
        &cluster,
        &[
            "CREATE SCHEMA s",
            "CREATE SCHEMA s.inner",
            "CREATE TABLE s.t (a int)",
            "CREATE TABLE s.inner.t (b int)",
        ],
    )
    .await;
    let mut client = Client::of(&cluster).await;
    client.rows("USE s").await;
    for (sql, expected) in [
        ("SHOW TABLES FROM s", vec!["lake|s|t|BASE TABLE"]),
        ("SHOW TABLES IN s.inner", vec!["lake|s.inner|t|BASE TABLE"]),
        ("SHOW TABLES FROM s LIKE 'x%'", vec![]),
        (
            "SHOW TABLES LIKE 'quer%'",
            vec!["lake|system|queries|SYSTEM TABLE"],
        ),
        ("SHOW SCHEMAS LIKE 's%'", vec!["s", "s.inner", "system"]),
        ("SHOW SCHEMAS FROM lake LIKE 's.%'", vec!["s.inner"]),
        ("SHOW SCHEMAS FROM nothing", vec![]),
        ("SHOW CATALOGS", vec!["lake"]),
        // Not those of the table of the same name elsewhere.
        ("SHOW COLUMNS FROM t", vec!["lake|s|t|a|integer|YES"]),
        (
            "SHOW COLUMNS FROM s.inner.t",
            vec!["lake|s.inner|t|b|integer|YES"],
        ),
    ] {
        assert_eq!(client.rows(sql).await, expected, "{sql}");
    }
    for (sql, part) in [
        ("SHOW COLUMNS FROM s.tt", "did you mean t?"),
        ("SHOW TABLES FROM nothing", "schema nothing not found"),
        ("SHOW TABLES WHERE table_name = 't'", "FROM and LIKE only"),
        ("SHOW SCHEMAS WHERE schema_name = 's'", "FROM and LIKE only"),
        ("SELECT * FROM information_schema.nothing", "nothing"),
        ("SELECT * FROM system.nothing", "system"),
    ] {
        let error = cluster.rows(sql).await.unwrap_err().to_string();
        assert!(error.contains(part), "{sql}: {error}");
    }
    // A view may look at them too.
    client
        .rows("CREATE VIEW s.seen AS SELECT table_name FROM information_schema.tables WHERE table_schema = 's.inner'")
        .await;
    assert_eq!(client.rows("SELECT * FROM s.seen").await, ["t"]);
    let joined = "SELECT c.column_name, t.table_type FROM information_schema.columns c \
                  JOIN information_schema.tables t USING (table_schema, table_name) \
                  WHERE t.table_schema IN ('s', 's.inner') AND c.table_name = 't' ORDER BY 1";
    assert_eq!(client.rows(joined).await, ["a|BASE TABLE", "b|BASE TABLE"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_is_down_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path()).await.unwrap();
    for sql in ["CREATE SCHEMA s", "CREATE TABLE s.t (a int)"] {
        lake.rows_embedded(sql).await.unwrap();
    }
    let (mut catalogs, _) = embedded_config(folder.path()).await.unwrap();
    let down = CatalogConfig {
        uri: Some(Secret::new("http://127.0.0.1:1")),
        ..CatalogConfig::new(CatalogKind::Rest)
    };
    catalogs.insert("down".to_owned(), down);
    let mut options = options(&lake, EngineOptions::default(), Topology::Embedded);
    options.catalogs = Catalogs::open(&catalogs, lake.stores()).unwrap();
    let session = Coordinator::new(options).unwrap().session();
    for (sql, expected) in [
        ("SHOW CATALOGS", vec!["down", "lake"]),
        ("SHOW TABLES FROM s", vec!["lake|s|t|BASE TABLE"]),
        ("SHOW TABLES LIKE '_'", vec!["lake|s|t|BASE TABLE"]),
        (
            "SELECT table_catalog, column_name FROM information_schema.columns \
             WHERE table_name = 't'",
            vec!["lake|a"],
        ),
        ("SELECT count(*) FROM down.system.workers", vec!["0"]),
    ] {
        let execution = session.execute(sql).await.unwrap();
        let batches: Vec<RecordBatch> = execution.stream.try_collect().await.unwrap();
        assert_eq!(rows::in_order(&batches).unwrap(), expected, "{sql}");
    }
}
