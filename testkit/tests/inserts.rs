//! Rows are added in SQL, read back in every topology, and by nobody before they are committed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use inshore_testkit::{Cluster, Lake};

async fn fails(cluster: &Cluster, sql: &str, parts: &[&str]) {
    let error = cluster.rows(sql).await.expect_err(sql).to_string();
    for part in parts {
        assert!(error.contains(part), "{sql}: {part} is missing in {error}");
    }
}

/// All files below a table's folder with this ending.
fn files(lake: &Lake, table: &str, ending: &str) -> Vec<PathBuf> {
    fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, ending, found);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = vec![];
    let folder = lake.folder().join("warehouse").join(table);
    collect(&folder, ending, &mut found);
    found
}

/// Waits for a state: a writer that was about to finish may be a little later than its statement.
async fn settled<T: PartialEq + std::fmt::Debug>(state: impl Fn() -> T, expected: &T) {
    for _ in 0..200 {
        if state() == *expected {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(state(), *expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_come_back() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    for version in [1, 2, 3] {
        let create = format!(
            "CREATE TABLE s.t (id bigint NOT NULL, flag boolean, small int, single real, big double,
               price decimal(15, 2), day date, at time, ts timestamp, tz timestamp with time zone,
               name varchar, code uuid, mark fixed(2), body varbinary,
               place STRUCT<lat double, tags ARRAY<varchar>>)
             PARTITIONED BY (bucket(4, id), truncate(2, name), day(ts), month(day), flag)
             TBLPROPERTIES ('format-version' = {version})"
        );
        cluster.rows(&create).await.unwrap();
        let insert = "INSERT INTO s.t VALUES
            (1, true, -1, 1.5, -0.25, 12.34, DATE '1969-12-31', TIME '01:02:03', TIMESTAMP '1969-12-31 23:59:59.999999',
             TIMESTAMP '2024-02-29 12:00:00+02:00', 'ключ', '9c12d441-03fe-4693-9a96-a0705ddf69c1', X'0102', X'',
             named_struct('lat', 1.0, 'tags', make_array('a', NULL))),
            (-2, NULL, 2147483647, CAST('NaN' AS real), CAST('-inf' AS double), -0.01, NULL, NULL, NULL, NULL, '', NULL, NULL, X'ff', NULL)";
        assert_eq!(cluster.rows(insert).await.unwrap(), ["2"]);
        let partial = "INSERT INTO s.t (name, id) SELECT repeat('x', 300), 7 WHERE 1 = 1";
        assert_eq!(cluster.rows(partial).await.unwrap(), ["1"]);
        let all = "SELECT id, flag, small, single, big, price, day, at, ts, tz, left(name, 6), code, \
                   encode(mark, 'hex'), encode(body, 'hex'), place FROM s.t ORDER BY id";
        let expected = [
            "-2|NULL|2147483647|NaN|-inf|-0.01|NULL|NULL|NULL|NULL||NULL|NULL|ff|NULL",
            "1|true|-1|1.5|-0.25|12.34|1969-12-31|01:02:03|1969-12-31T23:59:59.999999|2024-02-29T10:00:00Z|ключ|9c12d441-03fe-4693-9a96-a0705ddf69c1|0102||{lat: 1.0, tags: [a, NULL]}",
            "7|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|xxxxxx|NULL|NULL|NULL|NULL",
        ];
        assert_eq!(cluster.rows(all).await.unwrap(), expected);
        assert_eq!(lake.rows_embedded(all).await.unwrap(), expected);
        // Pruning believes the metadata that was written.
        for (condition, count) in [
            ("id = 1", 1),
            ("name LIKE 'xx%'", 1),
            ("name = ''", 1),
            ("ts < TIMESTAMP '1970-01-01'", 1),
            ("day = DATE '1969-12-31' AND flag", 1),
            ("price < 0", 1),
            ("single > 1e30", 1),
            ("flag IS NULL", 2),
        ] {
            let sql = format!("SELECT count(*) FROM s.t WHERE {condition}");
            assert_eq!(
                cluster.rows(&sql).await.unwrap(),
                [count.to_string()],
                "{sql}"
            );
        }
        cluster.rows("DROP TABLE s.t").await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_in_many_files_and_snapshots() {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, value % 13 AS k FROM generate_series(1, 20000) AS s(value)";
    lake.create_table("s", "source", query, 4).await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    cluster
        .rows("CREATE TABLE s.t (k bigint, id bigint) PARTITIONED BY (k)")
        .await
        .unwrap();
    for turn in 0..3 {
        let insert =
            format!("INSERT INTO s.t (id, k) SELECT id, k FROM s.source WHERE id % 3 = {turn}");
        let added = cluster.rows(&insert).await.unwrap();
        let expected = (1..=20_000).filter(|id| id % 3 == turn).count();
        assert_eq!(added, [expected.to_string()]);
    }
    let same = "SELECT count(*), count(DISTINCT a.id) FROM s.t a JOIN s.source b ON a.id = b.id AND a.k = b.k";
    assert_eq!(cluster.rows(same).await.unwrap(), ["20000|20000"]);
    let totals = "SELECT summary['total-records'], summary['total-data-files'], summary['added-records'], \
                  summary['changed-partition-count'], operation FROM s.\"t$snapshots\" ORDER BY committed_at DESC LIMIT 1";
    let totals = cluster.rows(totals).await.unwrap();
    assert_eq!(totals, ["20000|39|6667|13|append"]);
    let files = "SELECT count(*), sum(record_count) FROM s.\"t$files\"";
    assert_eq!(cluster.rows(files).await.unwrap(), ["39|20000"]);
    // Nothing to add is no snapshot.
    let nothing = "INSERT INTO s.t SELECT k, id FROM s.source WHERE id < 0";
    assert_eq!(cluster.rows(nothing).await.unwrap(), ["0"]);
    let snapshots = "SELECT count(*) FROM s.\"t$snapshots\"";
    assert_eq!(cluster.rows(snapshots).await.unwrap(), ["3"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_leaves_nothing() {
    let lake = Lake::new().await.unwrap();
    lake.create_table(
        "s",
        "source",
        "SELECT value AS id FROM generate_series(1, 9000) AS s(value)",
        3,
    )
    .await
    .unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    for sql in [
        "CREATE TABLE s.t (id bigint NOT NULL, n int, u uuid)",
        "INSERT INTO s.t VALUES (1, 1, NULL)",
    ] {
        cluster.rows(sql).await.unwrap();
    }
    let before = (
        files(&lake, "s/t", ".parquet"),
        files(&lake, "s/t", ".avro"),
    );
    for (sql, parts) in [
        (
            "INSERT INTO s.t VALUES (NULL, 1, NULL)",
            &["column id of table lake.s.t", "must not be NULL"][..],
        ),
        (
            "INSERT INTO s.t SELECT * FROM (VALUES (2, 2, NULL), (NULL, 1, NULL))",
            &["column id of table lake.s.t", "must not be NULL"],
        ),
        (
            "INSERT INTO s.t (n) VALUES (1)",
            &["column id", "must not be NULL"],
        ),
        (
            "INSERT INTO s.t (id, n) SELECT id, 7000000000 / (id - 9000) FROM s.source",
            &["ivide"],
        ),
        (
            "INSERT INTO s.t (id, n) SELECT id, id * 1000000 FROM s.source",
            &["Int32"],
        ),
        (
            "INSERT INTO s.t (id, u) SELECT id, 'x' || id FROM s.source",
            &["is no UUID"],
        ),
        ("INSERT INTO s.t (id, nn) VALUES (1, 1)", &["nn"]),
        ("INSERT INTO s.t VALUES (1, 2)", &["2 values", "expected 3"]),
        (
            "INSERT INTO s.nothing VALUES (1)",
            &["lake.s.nothing not found"],
        ),
        (
            "INSERT INTO lake.system.queries SELECT * FROM lake.system.queries",
            &["no Iceberg table"],
        ),
        ("DELETE FROM s.t WHERE id = 1", &["not supported yet"]),
    ] {
        fails(&cluster, sql, parts).await;
    }
    let state = || {
        let (data, metadata) = (
            files(&lake, "s/t", ".parquet"),
            files(&lake, "s/t", ".avro"),
        );
        (data, metadata)
    };
    settled(state, &before).await;
    assert_eq!(
        cluster.rows("SELECT id, n FROM s.t").await.unwrap(),
        ["1|1"]
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_once_add_every_row_once() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    for sql in [
        "CREATE SCHEMA s",
        "CREATE TABLE s.t (writer int, turn int) TBLPROPERTIES ('commit.retry.num-retries' = '60', \
         'commit.retry.min-wait-ms' = '5', 'commit.retry.max-wait-ms' = '200')",
    ] {
        cluster.rows(sql).await.unwrap();
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let session = cluster.coordinator().session();
        writers.spawn(async move {
            use futures::TryStreamExt;
            for turn in 0..6 {
                let sql = format!("INSERT INTO s.t VALUES ({writer}, {turn})");
                let execution = session.execute(&sql).await.unwrap();
                execution.stream.try_collect::<Vec<_>>().await.unwrap();
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let rows = "SELECT count(*), count(DISTINCT writer * 100 + turn) FROM s.t";
    assert_eq!(cluster.rows(rows).await.unwrap(), ["48|48"]);
    assert_eq!(files(&lake, "s/t", ".parquet").len(), 48);
    // One manifest and one list for each commit, and none of late attempts.
    assert_eq!(files(&lake, "s/t", ".avro").len(), 96);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_with_its_rows_or_not_at_all() {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, value % 5 AS k FROM generate_series(1, 9000) AS s(value)";
    lake.create_table("s", "source", query, 3).await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let made = "CREATE TABLE s.t PARTITIONED BY (bucket(3, id)) TBLPROPERTIES ('owner' = 'me') AS \
                SELECT k, min(id) AS id, CAST(count(*) AS smallint) AS n, array_agg(id) AS ids, \
                named_struct('a', k, 'b', 'x') AS pair, CAST(sum(id) AS decimal(20, 1)) AS total, \
                TIMESTAMP '2024-01-01 00:00:00' AS at FROM s.source GROUP BY k";
    assert_eq!(cluster.rows(made).await.unwrap(), ["5"]);
    let rows = "SELECT k, id, n, cardinality(ids), pair, total, at FROM s.t ORDER BY k";
    let expected: Vec<String> = (0..5)
        .map(|k| {
            let ids: Vec<i64> = (1..=9000).filter(|id| id % 5 == k).collect();
            let (first, count, sum) = (ids[0], ids.len(), ids.iter().sum::<i64>());
            format!("{k}|{first}|{count}|{count}|{{a: {k}, b: x}}|{sum}.0|2024-01-01T00:00:00")
        })
        .collect();
    assert_eq!(cluster.rows(rows).await.unwrap(), expected);
    assert_eq!(lake.rows_embedded(rows).await.unwrap(), expected);
    let described = cluster.rows("DESCRIBE s.t").await.unwrap();
    assert!(
        described.contains(&"n|integer|YES".to_owned()),
        "{described:?}"
    );
    fails(&cluster, made, &["lake.s.t exists already"]).await;
    let again = made.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS");
    assert_eq!(cluster.rows(&again).await.unwrap(), ["0"]);
    let none = "CREATE TABLE s.none AS SELECT id FROM s.source WHERE id < 0";
    assert_eq!(cluster.rows(none).await.unwrap(), ["0"]);
    assert_eq!(
        cluster.rows("SELECT count(*) FROM s.none").await.unwrap(),
        ["0"]
    );
    assert_eq!(
        cluster.rows("INSERT INTO s.none VALUES (1)").await.unwrap(),
        ["1"]
    );
    for (sql, parts) in [
        (
            "CREATE TABLE s.bad AS SELECT id, 1 / (id - 9000) AS x FROM s.source",
            &["ivide"][..],
        ),
        (
            "CREATE TABLE s.bad AS SELECT NULL AS nothing",
            &["column nothing has type Null"],
        ),
        (
            "CREATE TABLE s.bad AS SELECT id AS a, k AS a FROM s.source",
            &["a"],
        ),
        (
            "CREATE TABLE s.bad AS SELECT * FROM s.nothing",
            &["lake.s.nothing not found"],
        ),
        (
            "CREATE TABLE nowhere.bad AS SELECT 1 AS a",
            &["lake.nowhere not found"],
        ),
        (
            "CREATE TABLE s.bad PARTITIONED BY (b) AS SELECT 1 AS a",
            &["no column b"],
        ),
    ] {
        fails(&cluster, sql, parts).await;
    }
    settled(|| files(&lake, "s/bad", ""), &vec![]).await;
    fails(&cluster, "SELECT * FROM s.bad", &["lake.s.bad not found"]).await;

    // Of several at once one makes the table, and the files of the others are gone.
    let mut makers = tokio::task::JoinSet::new();
    for maker in 0..4 {
        let session = cluster.coordinator().session();
        makers.spawn(async move {
            use futures::TryStreamExt;
            let sql = format!("CREATE TABLE s.one AS SELECT id, {maker} AS maker FROM s.source");
            let execution = session.execute(&sql).await?;
            execution.stream.try_collect::<Vec<_>>().await?;
            Ok::<_, inshore_coordinator::Error>(())
        });
    }
    let mut winners = 0;
    while let Some(done) = makers.join_next().await {
        match done.unwrap() {
            Ok(()) => winners += 1,
            Err(error) => assert!(error.to_string().contains("exists already"), "{error}"),
        }
    }
    assert_eq!(winners, 1);
    let one = "SELECT count(*), count(DISTINCT maker) FROM s.one";
    assert_eq!(cluster.rows(one).await.unwrap(), ["9000|1"]);
    let listed = cluster
        .rows("SELECT count(*) FROM s.\"one$files\"")
        .await
        .unwrap();
    assert_eq!(
        files(&lake, "s/one", ".parquet").len().to_string(),
        listed[0]
    );
    assert_eq!(files(&lake, "s/one", ".metadata.json").len(), 1);
    cluster.stop().await;
}
