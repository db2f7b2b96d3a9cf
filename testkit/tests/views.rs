//! Views: of a session, and stored in a REST catalog; used in every topology.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../lake/tests/catalog_suite/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../../lake/tests/catalog_suite/rest_server.rs"]
#[allow(dead_code)]
mod rest_server;

use futures::TryStreamExt;
use inshore_coordinator::{Coordinator, Session, Topology};
use inshore_engine::EngineOptions;
use inshore_lake::config::{CatalogConfig, CatalogKind, Secret};
use inshore_testkit::cluster::options;
use inshore_testkit::{Cluster, Lake, rows};
use serde_json::json;

async fn run(session: &Session, sql: &str) -> Result<Vec<String>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let execution = session.execute(sql).await.map_err(|error| text(&error))?;
    let batches = execution.stream.try_collect::<Vec<_>>().await;
    rows::sorted(&batches.map_err(|error| text(&error))?).map_err(|error| text(&error))
}

async fn answers(session: &Session, sql: &str, expected: &[&str]) {
    assert_eq!(run(session, sql).await.expect(sql), expected, "{sql}");
}

async fn fails(session: &Session, sql: &str, parts: &[&str]) {
    let error = run(session, sql).await.expect_err(sql);
    for part in parts {
        assert!(error.contains(part), "{sql}: {part} is missing in {error}");
    }
}

/// What holds for views of every kind, in a session with the default schema `s`.
async fn check_views(session: &Session) {
    for sql in [
        "CREATE TABLE s.t AS SELECT value AS a, value % 3 AS k FROM generate_series(1, 300) AS g(value)",
        "CREATE VIEW s.sums (k, total) COMMENT 'it''s a sum' AS\n  SELECT k, sum(a) FROM t GROUP BY k;",
        "CREATE VIEW s.big AS SELECT * FROM s.sums WHERE total > 15000",
        "CREATE VIEW IF NOT EXISTS s.big AS SELECT 1 AS x",
    ] {
        run(session, sql).await.expect(sql);
    }
    answers(
        session,
        "SELECT * FROM s.sums",
        &["0|15150", "1|14950", "2|15050"],
    )
    .await;
    answers(session, "SELECT * FROM s.big", &["0|15150", "2|15050"]).await;
    let joined = "SELECT b.total, count(*) FROM s.big b JOIN s.t USING (k) JOIN s.sums c USING (k) GROUP BY 1";
    answers(session, joined, &["15050|100", "15150|100"]).await;
    let first = "WITH big AS (SELECT 7 AS x) SELECT x FROM big";
    answers(session, first, &["7"]).await;
    // Names in it are those of the place where it was made.
    run(session, "CREATE SCHEMA other").await.unwrap();
    run(session, "USE other").await.unwrap();
    answers(session, "SELECT max(total) FROM s.big", &["15150"]).await;
    run(session, "USE s").await.unwrap();
    answers(
        session,
        "DESCRIBE sums",
        &["k|bigint|YES", "total|bigint|YES"],
    )
    .await;
    answers(session, "SHOW VIEWS", &["lake|s|big", "lake|s|sums"]).await;
    answers(session, "SHOW VIEWS IN s LIKE 'b%'", &["lake|s|big"]).await;
    let shown = run(session, "SHOW CREATE VIEW sums").await.unwrap();
    let definition = shown[0].rsplit_once("|sums|").unwrap().1;
    assert_eq!(
        definition,
        "CREATE VIEW lake.s.sums (k, total) COMMENT 'it''s a sum' AS\nSELECT k, sum(a) FROM t GROUP BY k"
    );
    // Made again by what is shown, and replaced.
    run(session, "DROP VIEW s.sums").await.unwrap();
    fails(
        session,
        "SELECT * FROM s.big",
        &["view lake.s.big", "sums not found"],
    )
    .await;
    run(session, definition).await.unwrap();
    answers(session, "SELECT count(*) FROM s.big", &["2"]).await;
    run(
        session,
        "CREATE OR REPLACE VIEW s.sums AS SELECT 1 AS k, 99999 AS total",
    )
    .await
    .unwrap();
    answers(session, "SELECT * FROM s.big", &["1|99999"]).await;
    // States of tables and metadata columns belong to the query that names them.
    run(
        session,
        "CREATE VIEW s.files AS SELECT DISTINCT _file FROM s.t",
    )
    .await
    .unwrap();
    answers(session, "SELECT count(_file) FROM s.files", &["1"]).await;
    answers(
        session,
        "SELECT x.* FROM s.t x, s.files WHERE a = 5",
        &["5|2"],
    )
    .await;
    run(session, "DROP VIEW s.files").await.unwrap();

    fails(
        session,
        "CREATE VIEW s.big AS SELECT 1 AS x",
        &["s.big already"],
    )
    .await;
    fails(
        session,
        "CREATE VIEW s.t AS SELECT 1 AS x",
        &["s.t already"],
    )
    .await;
    fails(
        session,
        "CREATE VIEW s.x (a, b) AS SELECT 1 AS x",
        &["columns a, b"],
    )
    .await;
    fails(
        session,
        "CREATE VIEW s.x AS SELECT nothing FROM s.t",
        &["nothing"],
    )
    .await;
    fails(
        session,
        "CREATE VIEW s.x AS SELECT * FROM s.missing",
        &["missing not found"],
    )
    .await;
    fails(
        session,
        "CREATE MATERIALIZED VIEW s.x AS SELECT 1",
        &["materialized"],
    )
    .await;
    fails(
        session,
        "CREATE OR REPLACE VIEW s.sums AS SELECT * FROM s.big",
        &["use itself"],
    )
    .await;
    fails(session, "INSERT INTO s.big VALUES (1, 2)", &["s.big"]).await;
    fails(session, "DROP VIEW s.nothing", &["s.nothing not found"]).await;
    run(session, "DROP VIEW IF EXISTS s.nothing").await.unwrap();
    let mut chain = "s.t".to_owned();
    for level in 0..33 {
        run(
            session,
            &format!("CREATE VIEW s.v{level} AS SELECT * FROM {chain}"),
        )
        .await
        .unwrap();
        chain = format!("s.v{level}");
    }
    fails(session, "SELECT * FROM s.v32", &["deeper than 32"]).await;
    answers(session, "SELECT count(*) FROM s.v20", &["300"]).await;
    run(session, "DROP VIEW s.big").await.unwrap();
    fails(session, "SELECT * FROM s.big", &["big not found"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sql_catalog_has_views_of_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path()).await.unwrap();
    let name = lake.catalogs().default_name().unwrap().to_owned();
    assert_eq!(name, "lake");
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let session = cluster.coordinator().session();
    run(&session, "CREATE SCHEMA s").await.unwrap();
    run(&session, "USE s").await.unwrap();
    check_views(&session).await;
    // Another session has none of them.
    let other = cluster.coordinator().session();
    fails(&other, "SELECT * FROM s.sums", &["sums not found"]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_catalog_keeps_views_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let (server, catalog) = rest_server::start(folder.path()).await;
    let config = CatalogConfig {
        uri: Some(Secret::new(&server.uri)),
        ..CatalogConfig::new(CatalogKind::Rest)
    };
    let lake = Lake::with_catalog(folder.path(), config).await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let session = cluster.coordinator().session();
    run(&session, "CREATE SCHEMA s").await.unwrap();
    run(&session, "USE s").await.unwrap();
    check_views(&session).await;

    // Another coordinator reads them, and views that other systems stored.
    let embedded = options(&lake, EngineOptions::default(), Topology::Embedded);
    let other = Coordinator::new(embedded).unwrap().session();
    answers(&other, "SELECT * FROM s.sums", &["1|99999"]).await;
    let key = ("s".to_owned(), "sums".to_owned());
    let spark = ("s".to_owned(), "spark".to_owned());
    {
        let mut catalog = catalog.lock().unwrap();
        let mut view = catalog.views[&key].clone();
        assert_eq!(view["versions"].as_array().unwrap().len(), 2);
        let version = view["current-version-id"].as_i64().unwrap();
        let version = version as usize - 1;
        let current = &mut view["versions"][version];
        assert_eq!(current["representations"][0]["dialect"], "inshore");
        assert_eq!(current["default-namespace"], json!(["s"]));
        current["representations"] = json!([{"type": "sql", "dialect": "spark",
            "sql": "SELECT `k` AS k, count(1) AS total FROM `t` GROUP BY k"}]);
        catalog.views.insert(spark.clone(), view);
    }
    answers(
        &other,
        "SELECT * FROM s.spark",
        &["0|100", "1|100", "2|100"],
    )
    .await;
    {
        let mut catalog = catalog.lock().unwrap();
        let view = catalog.views.get_mut(&spark).unwrap();
        for version in view["versions"].as_array_mut().unwrap() {
            version["representations"][0]["dialect"] = json!("hive");
        }
    }
    fails(&other, "SELECT * FROM s.spark", &["lake.s.spark", "hive"]).await;
    // They are listed with the tables, and one that cannot be read hides no other.
    answers(
        &other,
        "SHOW TABLES FROM s LIKE 's%'",
        &["lake|s|spark|VIEW", "lake|s|sums|VIEW"],
    )
    .await;
    answers(
        &other,
        "SELECT table_name, column_name, data_type FROM information_schema.columns \
         WHERE table_schema = 's' AND table_name LIKE 's%'",
        &["sums|k|bigint", "sums|total|bigint"],
    )
    .await;
    answers(
        &other,
        "SELECT definition FROM information_schema.views WHERE table_name = 'sums'",
        &["SELECT 1 AS k, 99999 AS total"],
    )
    .await;
    // Tables of such a catalog are replaced too, once, also when the answer is lost.
    for fault in [rest_server::Fault::Conflict, rest_server::Fault::DropAfter] {
        let table = ("s".to_owned(), "t".to_owned());
        let before = {
            let mut catalog = catalog.lock().unwrap();
            catalog.faults.push_back(fault);
            catalog.tables[&table].1.clone()
        };
        let replace = "CREATE OR REPLACE TABLE s.t AS SELECT 'new' AS a, 8 AS k";
        answers(&other, replace, &["1"]).await;
        answers(&other, "SELECT * FROM s.t", &["new|8"]).await;
        let after = catalog.lock().unwrap().tables[&table].1.clone();
        assert_eq!(before.uuid(), after.uuid());
        assert_eq!(after.snapshots().len(), before.snapshots().len() + 1);
        assert_eq!(after.current_snapshot().unwrap().parent_snapshot_id(), None);
    }
    // A temporary view is the session's all the same.
    run(&other, "CREATE TEMPORARY VIEW s.mine AS SELECT 5 AS x")
        .await
        .unwrap();
    answers(&other, "SELECT x FROM s.mine", &["5"]).await;
    fails(&session, "SELECT x FROM s.mine", &["mine not found"]).await;
    cluster.stop().await;
}
