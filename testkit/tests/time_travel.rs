//! Older states of tables, and what `DESCRIBE` and `SHOW CREATE TABLE` say, from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use futures::TryStreamExt;
use inshore_coordinator::{Coordinator, Session, Topology};
use inshore_testkit::cluster::{forced, options};
use inshore_testkit::{Cluster, Lake, rows};

/// Tables of the shared lake with queries on older states.
const TABLES: [&str; 10] = [
    "evolve.add_column",
    "evolve.drop_readd",
    "evolve.partition_spec",
    "evolve.rename_column",
    "snap.delete_copy_on_write",
    "snap.emptied",
    "snap.expired",
    "snap.history",
    "snap.overwrite",
    "snap.rolled_back",
];

/// A query on an older state, and its rows as `a|b|c`; none when it has to fail.
struct Case {
    name: String,
    sql: String,
    /// Forms of the clause that mean the same.
    clauses: Vec<String>,
    rows: Option<Vec<String>>,
}

fn cases(table: &str) -> Vec<Case> {
    let folder = Path::new("/tmp/inshore-lakes/expected/pyiceberg");
    let sql = std::fs::read_to_string(folder.join(format!("{table}.sql"))).unwrap();
    let csv = std::fs::read_to_string(folder.join(format!("{table}.csv"))).unwrap();
    assert!(!csv.contains('"'), "{table} needs a real CSV reader");
    sql.split("-- case: ")
        .skip(1)
        .filter_map(|text| {
            let (name, rest) = text.split_once('\n')?;
            let key = |wanted: &str| {
                rest.lines().find_map(|line| {
                    let (key, value) = line.strip_prefix("-- ")?.split_once(": ")?;
                    (key == wanted).then(|| value.to_owned())
                })
            };
            let clauses = clauses(key("snapshot_id"), key("ref"), key("as_of_ms"))?;
            let query = rest.lines().filter(|line| !line.starts_with("--"));
            let header = format!("# case: {name}");
            let block = csv
                .split("\n\n")
                .find(|block| block.lines().next() == Some(&header));
            let rows = block.map(|block| block.lines().skip(2).map(row).collect());
            assert_eq!(rows.is_none(), key("expect").as_deref() == Some("error"));
            Some(Case {
                name: format!("{table}/{name}"),
                sql: query.collect::<Vec<_>>().join(" ").trim().to_owned(),
                clauses,
                rows,
            })
        })
        .collect()
}

fn row(line: &str) -> String {
    let cells = line.split(',').map(|cell| match cell {
        "\\N" => "NULL",
        cell => cell,
    });
    cells.collect::<Vec<_>>().join("|")
}

fn clauses(id: Option<String>, name: Option<String>, ms: Option<String>) -> Option<Vec<String>> {
    if let Some(id) = id {
        return Some(vec![
            format!("FOR VERSION AS OF {id}"),
            format!("version as of '{id}' x"),
        ]);
    }
    if let Some(name) = name {
        return Some(vec![
            format!("FOR SYSTEM_VERSION AS OF '{name}'"),
            format!("VERSION AS OF '{name}' AS x"),
        ]);
    }
    let ms: i64 = ms?.parse().unwrap();
    let rest = ms % 1_000;
    let whole = ms - rest;
    Some(vec![
        format!("FOR TIMESTAMP AS OF to_timestamp_millis({ms})"),
        format!("TIMESTAMP AS OF to_timestamp_millis({whole}) + interval '{rest} milliseconds' x"),
        format!("FOR SYSTEM_TIME AS OF arrow_cast(to_timestamp_millis({ms}), 'Utf8')"),
    ])
}

async fn embedded(lake: &Lake) -> std::sync::Arc<Session> {
    let options = options(lake, forced(), Topology::Embedded);
    Coordinator::new(options).unwrap().session()
}

async fn run(session: &Session, sql: &str) -> Result<Vec<String>, String> {
    let batches = async {
        let execution = session.execute(sql).await.map_err(|e| e.to_string())?;
        let batches = execution.stream.try_collect::<Vec<_>>().await;
        batches.map_err(|error| error.to_string())
    };
    Ok(rows::in_order(&batches.await?).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn older_states_have_the_expected_rows() {
    let Some(lake) = Lake::shared("pyiceberg").await.unwrap() else {
        return;
    };
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let mut wrong = Vec::new();
    let mut ran = 0;
    for table in TABLES {
        for case in cases(table) {
            for clause in &case.clauses {
                let named = format!("lakes.{table} {clause}");
                let sql = case.sql.replace("{table}", &named);
                ran += 1;
                match (cluster.rows(&sql).await, &case.rows) {
                    (Ok(found), Some(expected)) => {
                        let mut expected = expected.clone();
                        expected.sort();
                        if found != expected {
                            wrong.push(format!("{}: {sql}\n  {found:?}", case.name));
                        }
                    }
                    (Err(_), None) => {}
                    (Ok(found), None) => wrong.push(format!("{}: {sql}\n  {found:?}", case.name)),
                    (Err(error), Some(_)) => wrong.push(format!("{}: {error}", case.name)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran >= 50, "only {ran} runs: did the set change?");
    cluster.stop().await;
}

/// Snapshot ids of `snap.history`.
const FIRST: &str = "2669530477735562586";
const SECOND: &str = "3380854185175524077";

#[tokio::test(flavor = "multi_thread")]
async fn a_version_may_stand_wherever_a_table_does() {
    let Some(lake) = Lake::shared("pyiceberg").await.unwrap() else {
        return;
    };
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let history = "lakes.snap.history";
    for (sql, expected) in [
        // Without an alias the table has its own name.
        (
            format!("SELECT history.id FROM {history} FOR VERSION AS OF {FIRST}"),
            vec!["1", "2"],
        ),
        // Two states of one table, and the current one.
        (
            format!(
                "SELECT b.id FROM {history} FOR VERSION AS OF {FIRST} a RIGHT JOIN {history} \
                 FOR VERSION AS OF {SECOND} b ON a.id = b.id WHERE a.id IS NULL"
            ),
            vec!["3"],
        ),
        (
            format!(
                "SELECT id FROM {history} VERSION AS OF 'audit' EXCEPT SELECT id FROM {history}"
            ),
            vec!["100", "2"],
        ),
        (
            format!("SELECT count(*) FROM {history} a, {history} VERSION AS OF 'v1' b"),
            vec!["6"],
        ),
        (
            format!(
                "WITH history AS (SELECT * FROM {history} VERSION AS OF 'v1') \
                 SELECT count(*), (SELECT max(id) FROM {history} VERSION AS OF 'audit') \
                 FROM history WHERE id IN (SELECT id FROM {history} \
                 TIMESTAMP AS OF now() + interval '100 years')"
            ),
            vec!["1|100"],
        ),
    ] {
        assert_eq!(cluster.rows(&sql).await.unwrap(), expected, "{sql}");
    }
    let plan = format!("EXPLAIN SELECT id FROM {history} VERSION AS OF 'v1'");
    let plan = cluster.rows(&plan).await.unwrap().join("\n");
    assert!(plan.contains("history FOR VERSION AS OF 'v1'"), "{plan}");
    cluster.stop().await;
}

#[tokio::test]
async fn the_log_says_what_was_current() {
    let Some(lake) = Lake::shared("pyiceberg").await.unwrap() else {
        return;
    };
    let session = embedded(&lake).await;
    let table = lake.table("snap", "rolled_back").await.unwrap();
    // First, second, rolled back to the first, then the third.
    for entry in table.metadata().history() {
        let ms = entry.timestamp_ms();
        let by_time = format!(
            "SELECT * FROM lakes.snap.rolled_back TIMESTAMP AS OF to_timestamp_millis({ms}) \
             ORDER BY 1"
        );
        let by_id = format!(
            "SELECT * FROM lakes.snap.rolled_back VERSION AS OF {} ORDER BY 1",
            entry.snapshot_id
        );
        assert_eq!(run(&session, &by_time).await, run(&session, &by_id).await);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_by_name() {
    let Some(lake) = Lake::shared("pyiceberg").await.unwrap() else {
        return;
    };
    let session = embedded(&lake).await;
    for (from, part) in [
        (
            "lakes.snap.history VERSION AS OF 1",
            "snapshot 1 of table lakes.snap.history not found; the nearest are ",
        ),
        ("lakes.snap.history VERSION AS OF 'audti'", "'audit'"),
        (
            "lakes.snap.history TIMESTAMP AS OF '1999-01-01'",
            "a snapshot at 1999-01-01T00:00:00.000Z of table lakes.snap.history not found; \
             the nearest are 2669530477735562586 (2026-11-23T",
        ),
        (
            "lakes.snap.empty_no_snapshot VERSION AS OF 1",
            "the table has no snapshot",
        ),
        (
            "lakes.snap.histroy VERSION AS OF 1",
            "table lakes.snap.histroy not found; did you mean history? at line 1, column 15",
        ),
        (
            "lakes.snap.\"histroy$files\"",
            "table lakes.snap.histroy not found; did you mean history? at line 1, column 15",
        ),
        (
            "system.queries VERSION AS OF 1",
            "lakes.system.queries is no Iceberg table and has no versions, at line 1, column 30",
        ),
        (
            "information_schema.tables FOR VERSION AS OF 1",
            "is no Iceberg table",
        ),
        (
            "lakes.snap.history h TIMESTAMP AS OF h.ts",
            "at line 1, column 36",
        ),
        (
            "lakes.snap.history TIMESTAMP AS OF id",
            "column id, at line 1, column 50",
        ),
        (
            "lakes.snap.history TIMESTAMP AS OF (SELECT 1)",
            "not a query",
        ),
    ] {
        let sql = format!("SELECT * FROM {from}");
        let error = run(&session, &sql).await.unwrap_err();
        assert!(error.contains(part), "{sql}: {error}");
    }
}

#[tokio::test]
async fn texts_without_a_zone_are_in_the_sessions_zone() {
    let Some(lake) = Lake::shared("pyiceberg").await.unwrap() else {
        return;
    };
    let session = embedded(&lake).await;
    // The second snapshot is from 17:10:43.203 UTC.
    let at = "SELECT count(*) FROM lakes.snap.history TIMESTAMP AS OF '2026-11-23 07:10:43.203'";
    let found = |answer: Result<Vec<String>, String>| answer.map_err(|_| ());
    assert_eq!(found(run(&session, at).await), Err(()));
    run(&session, "SET datafusion.execution.time_zone = '-10:00'")
        .await
        .unwrap();
    assert_eq!(found(run(&session, at).await), Ok(vec!["3".to_owned()]));
}

#[tokio::test]
async fn tables_opened_by_their_files_have_versions() {
    let Some(lake) = Lake::shared("pyiceberg").await.unwrap() else {
        return;
    };
    let session = embedded(&lake).await;
    let table = lake.table("snap", "history").await.unwrap();
    let location = table.metadata_location().unwrap();
    let create = format!("CREATE EXTERNAL TABLE h STORED AS ICEBERG LOCATION '{location}'");
    run(&session, &create).await.unwrap();
    let sql = "SELECT count(*), max(h.id) FROM h FOR VERSION AS OF 'audit'";
    assert_eq!(run(&session, sql).await.unwrap(), ["4|100"]);
    let shown = run(&session, "SHOW CREATE TABLE h").await.unwrap();
    assert!(shown[0].contains("id bigint"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_described_in_sql() {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, 'x' AS name, CAST(1 AS decimal(15,2)) AS price, \
                 CAST('2026-01-01' AS TIMESTAMP) AS ts, make_array(value) AS list \
                 FROM generate_series(1, 3) AS s(value)";
    // The plain context of the lake has nanoseconds, which these tables cannot hold.
    let query = query.replace(
        "CAST('2026-01-01' AS TIMESTAMP)",
        "arrow_cast('2026-01-01', 'Timestamp(Microsecond, None)')",
    );
    lake.create_table("n", "t", &query, 1).await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let described = cluster.query("DESCRIBE lake.n.t").await.unwrap();
    assert_eq!(
        rows::in_order(&described).unwrap(),
        [
            "id|bigint|YES",
            "name|varchar|YES",
            "price|decimal(15,2)|YES",
            "ts|timestamp(6)|YES",
            "list|array(bigint)|YES",
        ]
    );
    let described = cluster
        .rows("DESCRIBE SELECT now() AS at, 1 AS one")
        .await
        .unwrap();
    assert_eq!(described, ["at|timestamp(9)|NO", "one|bigint|NO"]);
    let described = cluster.rows("DESCRIBE lake.system.workers").await.unwrap();
    assert!(
        described.contains(&"url|varchar|YES".to_owned()),
        "{described:?}"
    );
    let shown = cluster.rows("SHOW CREATE TABLE lake.n.t").await.unwrap();
    let start = "lake|n|t|CREATE TABLE lake.n.t (\n  id bigint,\n  name varchar,\n  \
                 price decimal(15, 2),\n  ts timestamp,\n  list ARRAY<bigint>\n)\nLOCATION 'file://";
    assert!(shown[0].starts_with(start), "{shown:?}");
    let missing = cluster.rows("SHOW CREATE TABLE lake.n.x").await;
    let missing = missing.unwrap_err().to_string();
    assert!(missing.contains("at line 1, column 19"), "{missing}");
    let system = cluster.rows("SHOW CREATE TABLE lake.system.workers").await;
    let system = system.unwrap_err().to_string();
    assert!(system.contains("no Iceberg table"), "{system}");
    cluster.stop().await;
}
