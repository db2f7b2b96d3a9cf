//! Branches and tags are made, moved, read, written and dropped in SQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use inshore_testkit::{Cluster, Lake};

async fn run(cluster: &Cluster, sql: &str) -> Vec<String> {
    cluster.rows(sql).await.expect(sql)
}

async fn fails(cluster: &Cluster, sql: &str, parts: &[&str]) {
    let error = cluster.rows(sql).await.expect_err(sql).to_string();
    for part in parts {
        assert!(error.contains(part), "{sql}: {part} is missing in {error}");
    }
}

/// `name|type|max age|min snapshots|max snapshot age` of each.
async fn refs(cluster: &Cluster, table: &str) -> Vec<String> {
    let sql = format!(
        "SELECT name, type, max_reference_age_in_ms, min_snapshots_to_keep, max_snapshot_age_in_ms \
         FROM s.\"{table}$refs\""
    );
    run(cluster, &sql).await
}

async fn ids(cluster: &Cluster, from: &str) -> Vec<String> {
    run(cluster, &format!("SELECT id FROM {from}")).await
}

/// The snapshots of a table, oldest first.
async fn snapshots(cluster: &Cluster, table: &str) -> Vec<String> {
    let sql = format!(
        "SELECT lpad(CAST(row_number() OVER (ORDER BY committed_at) AS varchar), 3, '0'), snapshot_id \
         FROM s.\"{table}$snapshots\""
    );
    let rows = run(cluster, &sql).await;
    let ids = rows
        .iter()
        .map(|row| row.split_once('|').unwrap().1.to_owned());
    ids.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_and_tags_are_made_moved_and_dropped() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for version in ["2", "3"] {
        let create =
            format!("CREATE TABLE s.t (id bigint) TBLPROPERTIES ('format-version' = {version})");
        run(&cluster, &create).await;
        for id in ["1", "2"] {
            run(&cluster, &format!("INSERT INTO s.t VALUES ({id})")).await;
        }
        let snapshots = snapshots(&cluster, "t").await;
        let first = &snapshots[0];
        for sql in [
            "CREATE BRANCH audit".to_owned(),
            format!("CREATE TAG V1 AS OF VERSION {first} RETAIN 7 DAYS"),
            format!(
                "CREATE BRANCH IF NOT EXISTS \"Odd-Name\" AS OF VERSION {first} RETAIN 2 HOURS \
                 WITH SNAPSHOT RETENTION 3 SNAPSHOTS 90 MINUTES"
            ),
            // It is there and stays as it is.
            format!("CREATE BRANCH IF NOT EXISTS audit AS OF VERSION {first} RETAIN 1 DAYS"),
            "CREATE BRANCH IF NOT EXISTS main".to_owned(),
        ] {
            assert!(
                run(&cluster, &format!("ALTER TABLE s.t {sql}"))
                    .await
                    .is_empty()
            );
        }
        let expected = [
            "Odd-Name|BRANCH|7200000|3|5400000",
            "audit|BRANCH|NULL|NULL|NULL",
            "main|BRANCH|NULL|NULL|NULL",
            "v1|TAG|604800000|NULL|NULL",
        ];
        assert_eq!(refs(&cluster, "t").await, expected);
        assert_eq!(
            ids(&cluster, "s.t FOR VERSION AS OF 'audit'").await,
            ["1", "2"]
        );
        assert_eq!(ids(&cluster, "s.t VERSION AS OF 'v1'").await, ["1"]);
        assert_eq!(ids(&cluster, "s.t VERSION AS OF 'Odd-Name'").await, ["1"]);
        // What is not given of the retention stays.
        for sql in [
            "REPLACE BRANCH \"Odd-Name\" WITH SNAPSHOT RETENTION 5 SNAPSHOTS".to_owned(),
            format!("CREATE OR REPLACE BRANCH audit AS OF VERSION {first}"),
            "REPLACE TAG v1".to_owned(),
            "CREATE OR REPLACE TAG v2 RETAIN 1 MINUTES".to_owned(),
        ] {
            run(&cluster, &format!("ALTER TABLE lake.s.t {sql}")).await;
        }
        let expected = [
            "Odd-Name|BRANCH|7200000|5|5400000",
            "audit|BRANCH|NULL|NULL|NULL",
            "main|BRANCH|NULL|NULL|NULL",
            "v1|TAG|604800000|NULL|NULL",
            "v2|TAG|60000|NULL|NULL",
        ];
        assert_eq!(refs(&cluster, "t").await, expected);
        assert_eq!(ids(&cluster, "s.t VERSION AS OF 'audit'").await, ["1"]);
        assert_eq!(ids(&cluster, "s.t VERSION AS OF 'v1'").await, ["1", "2"]);
        let embedded = "SELECT id FROM s.t VERSION AS OF 'Odd-Name'";
        assert_eq!(lake.rows_embedded(embedded).await.unwrap(), ["1", "2"]);
        for sql in [
            "ALTER TABLE s.t DROP TAG v2",
            "ALTER TABLE s.t DROP TAG IF EXISTS v2",
            "ALTER TABLE s.t DROP BRANCH IF EXISTS \"Odd-Name\"",
            "ALTER TABLE IF EXISTS s.nothing DROP BRANCH x",
        ] {
            run(&cluster, sql).await;
        }
        let left = refs(&cluster, "t").await;
        assert_eq!(left.len(), 3, "{left:?}");
        fails(
            &cluster,
            "SELECT * FROM s.t VERSION AS OF 'Odd-Name'",
            &["branch or tag 'Odd-Name'", "not found"],
        )
        .await;
        // A replaced table keeps them.
        run(&cluster, "CREATE OR REPLACE TABLE s.t AS SELECT 9 AS id").await;
        assert_eq!(ids(&cluster, "s.t VERSION AS OF 'v1'").await, ["1", "2"]);
        run(&cluster, "DROP TABLE s.t").await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_branch_or_tag_can_be_is_refused() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    run(&cluster, "CREATE TABLE s.t AS SELECT 1 AS id").await;
    run(&cluster, "CREATE TABLE s.empty (id bigint)").await;
    let old = "CREATE TABLE s.old TBLPROPERTIES ('format-version' = 1) AS SELECT 1 AS id";
    run(&cluster, old).await;
    for sql in ["CREATE BRANCH audit", "CREATE TAG v1"] {
        run(&cluster, &format!("ALTER TABLE s.t {sql}")).await;
    }
    for (sql, parts) in [
        (
            "s.t CREATE BRANCH audit",
            &["branch audit of table lake.s.t exists already"][..],
        ),
        (
            "s.t CREATE TAG audit",
            &["branch audit of table lake.s.t exists already"],
        ),
        (
            "s.t CREATE TAG IF NOT EXISTS audit",
            &["audit is a branch", "not a tag"],
        ),
        (
            "s.t CREATE OR REPLACE BRANCH v1",
            &["v1 is a tag", "not a branch"],
        ),
        ("s.t REPLACE TAG audit", &["audit is a branch", "not a tag"]),
        (
            "s.t DROP TAG IF EXISTS audit",
            &["audit is a branch", "not a tag"],
        ),
        (
            "s.t REPLACE BRANCH audi",
            &[
                "branch audi of table lake.s.t not found",
                "did you mean audit?",
            ],
        ),
        (
            "s.t DROP TAG v2",
            &["tag v2 of table lake.s.t not found", "did you mean v1?"],
        ),
        (
            "s.t CREATE TAG x AS OF VERSION 1",
            &["snapshot 1 of table lake.s.t not found", "nearest"],
        ),
        (
            "s.t DROP BRANCH main",
            &["the main branch is the table's state and cannot be dropped"],
        ),
        ("s.t REPLACE BRANCH main", &["cannot be replaced"]),
        ("s.t CREATE OR REPLACE BRANCH main", &["cannot be replaced"]),
        ("s.t CREATE TAG main", &["name is that of the main branch"]),
        ("s.t CREATE BRANCH main", &["exists already"]),
        (
            "s.empty CREATE TAG x",
            &["tag x of table lake.s.empty", "no current snapshot"],
        ),
        (
            "s.empty CREATE BRANCH main",
            &["made by the table's first rows"],
        ),
        (
            "s.old CREATE BRANCH x",
            &["format version 1", "'format-version' = '2'"],
        ),
        ("s.nothing CREATE BRANCH x", &["lake.s.nothing not found"]),
        (
            "s.t CREATE BRANCH x RETAIN 0 DAYS",
            &["positive", "at line 1"],
        ),
        (
            "s.t CREATE TAG x WITH SNAPSHOT RETENTION 1 DAYS",
            &["for branches"],
        ),
    ] {
        fails(&cluster, &format!("ALTER TABLE {sql}"), parts).await;
    }
    // Raised, it can.
    for sql in [
        "ALTER TABLE s.old SET TBLPROPERTIES ('format-version' = '2')",
        "ALTER TABLE s.old CREATE BRANCH x",
        "INSERT INTO s.old VALUES (2)",
    ] {
        run(&cluster, sql).await;
    }
    assert_eq!(ids(&cluster, "s.old VERSION AS OF 'x'").await, ["1"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_to_a_branch() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for (version, parts) in [("2", ""), ("3", "PARTITIONED BY (id)")] {
        for sql in [
            format!(
                "CREATE TABLE s.t (id bigint) {parts} TBLPROPERTIES ('format-version' = {version})"
            ),
            // Before the table has rows, and only there.
            "ALTER TABLE s.t CREATE BRANCH early RETAIN 9 DAYS".to_owned(),
            "INSERT INTO s.t.branch_early VALUES (100), (101)".to_owned(),
        ] {
            run(&cluster, &sql).await;
        }
        assert!(ids(&cluster, "s.t").await.is_empty());
        assert!(ids(&cluster, "s.t.branch_main").await.is_empty());
        assert_eq!(ids(&cluster, "s.t.branch_early").await, ["100", "101"]);
        for sql in [
            "INSERT INTO s.t.branch_main VALUES (1), (2)",
            "ALTER TABLE s.t CREATE BRANCH audit WITH SNAPSHOT RETENTION 4 SNAPSHOTS",
            "ALTER TABLE s.t CREATE TAG v1",
            "INSERT INTO lake.s.t.branch_audit SELECT id + 10 FROM s.t",
            "INSERT INTO s.t VALUES (3)",
            "INSERT INTO s.t.\"branch_audit\" SELECT max(id) + 1 FROM s.t.branch_audit",
        ] {
            run(&cluster, sql).await;
        }
        let audit = "s.t.branch_audit";
        assert_eq!(ids(&cluster, audit).await, ["1", "11", "12", "13", "2"]);
        assert_eq!(ids(&cluster, "s.t").await, ["1", "2", "3"]);
        assert_eq!(ids(&cluster, "s.t.tag_v1").await, ["1", "2"]);
        assert_eq!(ids(&cluster, "s.t.branch_early").await, ["100", "101"]);
        let both = "SELECT count(*) FROM s.t a RIGHT JOIN s.t.branch_audit b ON a.id = b.id \
                    WHERE a.id IS NULL AND b._file IS NOT NULL";
        assert_eq!(run(&cluster, both).await, ["3"]);
        let embedded = "SELECT sum(id), count(*) FROM s.t.branch_audit";
        assert_eq!(lake.rows_embedded(embedded).await.unwrap(), ["39|5"]);
        // Totals are those of the branch, and its history its own.
        let summary = "SELECT summary['total-records'] FROM s.\"t$snapshots\" JOIN s.\"t$refs\" r \
                       USING (snapshot_id) WHERE r.name IN ('audit', 'main', 'early')";
        assert_eq!(run(&cluster, summary).await, ["2", "3", "5"]);
        let main = "SELECT count(*) FROM s.\"t$history\"";
        assert_eq!(run(&cluster, main).await, ["2"]);
        run(&cluster, &format!("INSERT OVERWRITE {audit} VALUES (11)")).await;
        let rest = match parts {
            "" => vec!["11"],
            _ => vec!["1", "11", "12", "13", "2"],
        };
        assert_eq!(ids(&cluster, audit).await, rest);
        assert_eq!(ids(&cluster, "s.t").await, ["1", "2", "3"]);
        let expected = [
            "audit|BRANCH|NULL|4|NULL",
            "early|BRANCH|777600000|NULL|NULL",
            "main|BRANCH|NULL|NULL|NULL",
            "v1|TAG|NULL|NULL|NULL",
        ];
        assert_eq!(refs(&cluster, "t").await, expected);
        // The branch has the table's columns of now, the tag those of then.
        run(&cluster, "ALTER TABLE s.t ADD COLUMN note varchar").await;
        run(&cluster, &format!("INSERT INTO {audit} VALUES (20, 'new')")).await;
        let noted = format!("SELECT * FROM {audit} WHERE id = 20");
        assert_eq!(run(&cluster, &noted).await, ["20|new"]);
        fails(&cluster, "SELECT note FROM s.t.tag_v1", &["note"]).await;
        let plan = run(
            &cluster,
            &format!("EXPLAIN INSERT INTO {audit} VALUES (1, 'x')"),
        )
        .await;
        assert!(plan.join("\n").contains("WriteExec"), "{plan:?}");
        for (sql, parts) in [
            (
                "INSERT INTO s.t.tag_v1 VALUES (1)",
                &["tag_v1", "no branch"][..],
            ),
            (
                "INSERT INTO s.t.branch_audti VALUES (1, 'x')",
                &["branch 'audti' of table lake.s.t not found", "'audit'"],
            ),
            (
                "SELECT * FROM s.t.branch_v1",
                &["branch 'v1' of table lake.s.t not found"],
            ),
            (
                "SELECT * FROM s.t.tag_audit",
                &["tag 'audit' of table lake.s.t not found"],
            ),
            (
                "SELECT * FROM s.tt.branch_audit",
                &["lake.s.tt not found", "did you mean t?"],
            ),
            (
                "SELECT * FROM s.branch_audit",
                &["lake.s.branch_audit not found"],
            ),
        ] {
            fails(&cluster, sql, parts).await;
        }
        run(&cluster, "DROP TABLE s.t").await;
    }
    // A table of that name comes first, and the default schema counts.
    for sql in [
        "CREATE SCHEMA \"s.t\"",
        "CREATE TABLE s.t AS SELECT 1 AS id",
        "ALTER TABLE s.t CREATE BRANCH b",
        "CREATE TABLE \"s.t\".branch_b AS SELECT 2 AS id",
        "CREATE SCHEMA default",
        "CREATE TABLE t AS SELECT 3 AS id",
        "ALTER TABLE t CREATE BRANCH b",
        "INSERT INTO t.branch_b VALUES (4)",
    ] {
        run(&cluster, sql).await;
    }
    assert_eq!(ids(&cluster, "s.t.branch_b").await, ["2"]);
    assert_eq!(ids(&cluster, "t.branch_b").await, ["3", "4"]);
    assert_eq!(ids(&cluster, "t").await, ["3"]);
    cluster.stop().await;
}
