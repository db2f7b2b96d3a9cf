//! Conditions on functions of a partition's column leave files out, embedded and in a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use iceberg::spec::Transform;
use inshore_testkit::{Cluster, Lake};

/// A row for every six hours of 2024, and a table partitioned by the month of them.
const HOURS: &str = "SELECT value AS id, arrow_cast(at, 'Timestamp(µs)') AS ts, \
    arrow_cast(at, 'Timestamp(µs, \"+00:00\")') AS tz, CAST(at AS date) AS day, \
    to_char(at, 'm%m-%d') AS code \
    FROM (SELECT value, to_timestamp(1704067200 + value * 21600) AS at \
          FROM generate_series(0, 1463) AS s(value))";

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    lake.create_partitioned_table("t", "events", HOURS, ("ts", Transform::Month))
        .await
        .unwrap();
    lake
}

/// Conditions, how many of the twelve files they need, and how many rows they have.
const CASES: [(&str, u32, u32); 18] = [
    ("date_trunc('month', ts) = TIMESTAMP '2024-05-01'", 1, 124),
    ("date_trunc('month', ts) >= TIMESTAMP '2024-11-01'", 2, 244),
    ("date_trunc('quarter', ts) = TIMESTAMP '2024-04-01'", 3, 364),
    (
        "date_trunc('day', ts) IN (TIMESTAMP '2024-02-29', TIMESTAMP '2024-05-01')",
        2,
        8,
    ),
    ("year(ts) = 2024", 12, 1464),
    ("year(ts) = 2024 AND month(ts) = 5", 12, 124),
    ("year(ts) < 2024", 0, 0),
    ("ts::date = DATE '2024-05-01'", 1, 4),
    (
        "CAST(ts AS date) BETWEEN DATE '2024-05-31' AND DATE '2024-06-01'",
        2,
        8,
    ),
    ("date(tz) = '2024-05-01'", 1, 4),
    ("date_trunc('month', tz) = TIMESTAMP '2024-05-01'", 1, 124),
    ("date_trunc('month', day) = TIMESTAMP '2024-05-01'", 1, 124),
    ("day > TIMESTAMP '2024-11-30 12:00:00'", 1, 124),
    ("left(code, 3) = 'm05'", 1, 124),
    ("code LIKE 'm05%'", 1, 124),
    ("starts_with(code, 'm05') AND id >= 0", 1, 124),
    ("ts::date = DATE '2024-05-01' AND code LIKE 'm0%1'", 1, 4),
    ("substr(code, 1, 3) IN ('m05', 'm07')", 2, 248),
];

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_columns_prune_files() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    for (condition, files, rows) in CASES {
        let explain = format!("EXPLAIN SELECT id FROM t.events WHERE {condition}");
        let count = format!("SELECT count(*) FROM t.events WHERE {condition}");
        for (plan, found) in [
            (
                lake.rows_embedded(&explain).await,
                lake.rows_embedded(&count).await,
            ),
            (cluster.rows(&explain).await, cluster.rows(&count).await),
        ] {
            let plan = plan.unwrap().join("\n");
            match files {
                0 => assert!(!plan.contains("files=12/12"), "{condition}:\n{plan}"),
                _ => assert!(
                    plan.contains(&format!("files={files}/12")),
                    "{condition}:\n{plan}"
                ),
            }
            assert_eq!(found.unwrap(), [rows.to_string()], "{condition}");
        }
    }
    cluster.stop().await;
}
