//! A table's sort order is set in SQL, and rows are sorted by it within each file that is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use inshore_testkit::{Cluster, Lake};

const SOURCE: &str = "SELECT value AS id, value % 5 AS k, \
                      CASE WHEN value % 7 = 0 THEN NULL ELSE 'name ' || (value * 7919 % 1009) END AS name \
                      FROM generate_series(1, 20000) AS s(value)";

/// The names in each file, in the order of its rows.
async fn files(cluster: &Cluster, table: &str) -> BTreeMap<String, Vec<(Option<String>, i64)>> {
    let sql =
        format!("SELECT _file, lpad(CAST(_pos AS varchar), 9, '0'), k, id, name FROM {table}");
    let mut rows = cluster.rows(&sql).await.unwrap();
    rows.sort();
    let mut files = BTreeMap::<_, Vec<_>>::new();
    for row in rows {
        let parts: Vec<&str> = row.split('|').collect();
        let name = Some(parts[4].to_owned()).filter(|name| name != "NULL");
        let rows = files.entry(parts[0].to_owned()).or_default();
        rows.push((name, parts[3].parse().unwrap()));
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_sorted_within_each_file() {
    let lake = Lake::new().await.unwrap();
    lake.create_table("s", "source", SOURCE, 4).await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    for (table, partitions) in [("plain", ""), ("parted", "PARTITIONED BY (k)")] {
        let name = format!("s.{table}");
        for sql in [
            format!("CREATE TABLE {name} (id bigint, k bigint, name varchar) {partitions}"),
            format!("ALTER TABLE {name} WRITE ORDERED BY name DESC NULLS LAST, id"),
            format!("INSERT INTO {name} SELECT * FROM s.source"),
        ] {
            cluster.rows(&sql).await.unwrap();
        }
        let check = |files: &BTreeMap<String, Vec<(Option<String>, i64)>>| {
            assert!(!files.is_empty());
            for rows in files.values() {
                let mut sorted = rows.clone();
                // The largest name first; without one last.
                sorted.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
                assert_eq!(rows, &sorted);
            }
        };
        check(&files(&cluster, &name).await);
        let facts = format!(
            "SELECT count(DISTINCT sort_order_id), min(sort_order_id), sum(record_count) FROM s.\"{table}$files\""
        );
        assert_eq!(cluster.rows(&facts).await.unwrap(), ["1|1|20000"]);
        let same = format!(
            "SELECT count(*), count(DISTINCT a.id) FROM {name} a JOIN s.source b
             ON a.id = b.id AND a.k = b.k AND a.name IS NOT DISTINCT FROM b.name"
        );
        assert_eq!(cluster.rows(&same).await.unwrap(), ["20000|20000"]);
        // By what a transform gives, and embedded.
        for sql in [
            format!(
                "ALTER TABLE {name} WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY truncate(6, name), id"
            ),
            format!("CREATE OR REPLACE TABLE s.copy AS SELECT * FROM {name}"),
        ] {
            cluster.rows(&sql).await.unwrap();
        }
        lake.rows_embedded(&format!(
            "INSERT INTO {name} SELECT id + 100000, k, name FROM s.copy"
        ))
        .await
        .unwrap();
        let facts = format!(
            "SELECT sort_order_id, sum(record_count) FROM s.\"{table}$files\" GROUP BY 1 ORDER BY 1"
        );
        assert_eq!(cluster.rows(&facts).await.unwrap(), ["1|20000", "2|20000"]);
        let new: Vec<_> = files(&cluster, &name).await.into_values().collect();
        let new = new
            .iter()
            .filter(|rows| rows.iter().all(|(_, id)| *id > 100_000));
        for rows in new {
            let key = |row: &(Option<String>, i64)| {
                let cut = row
                    .0
                    .as_ref()
                    .map(|name| name.chars().take(6).collect::<String>());
                (cut, row.1)
            };
            assert!(rows.is_sorted_by_key(key));
        }
        cluster
            .rows(&format!("ALTER TABLE {name} WRITE UNORDERED"))
            .await
            .unwrap();
        cluster
            .rows(&format!(
                "INSERT INTO {name} SELECT * FROM s.source LIMIT 5"
            ))
            .await
            .unwrap();
        let unsorted = format!(
            "SELECT count(*) > 0 FROM s.\"{table}$files\" WHERE coalesce(sort_order_id, 0) = 0"
        );
        assert_eq!(cluster.rows(&unsorted).await.unwrap(), ["true"]);
    }
    for (sql, part) in [
        (
            "ALTER TABLE s.plain WRITE ORDERED BY nothing",
            "no column nothing",
        ),
        (
            "ALTER TABLE s.plain WRITE ORDERED BY day(id)",
            "cannot be sorted",
        ),
        (
            "ALTER TABLE s.plain WRITE ORDERED BY id + 1",
            "WRITE ORDERED BY id + 1",
        ),
        ("ALTER TABLE s.plain WRITE SIDEWAYS", "ORDERED BY"),
        (
            "ALTER TABLE s.none WRITE ORDERED BY id",
            "lake.s.none not found",
        ),
    ] {
        let error = cluster.rows(sql).await.expect_err(sql).to_string();
        assert!(error.contains(part), "{sql}: {error}");
    }
    cluster
        .rows("ALTER TABLE IF EXISTS s.none WRITE ORDERED BY id")
        .await
        .unwrap();
    cluster.stop().await;
}
