//! What a client is told when a statement fails: a code, one line, and the statement's id.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use arrow_flight::sql::{CommandStatementUpdate, ProstMessageExt};
use arrow_flight::{FlightData, FlightDescriptor};
use inshore_coordinator::Topology;
use inshore_engine::EngineOptions;
use inshore_testkit::cluster::{forced, options};
use inshore_testkit::flight::{raw, run};
use inshore_testkit::{Cluster, Lake};
use prost::Message;
use tonic::{Code, Status};

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, 'n' || value AS name, value % 5 AS k \
                 FROM generate_series(1, 3000) AS s(value)";
    lake.create_table("s", "numbers", query, 2).await.unwrap();
    lake
}

/// Whether the error reads well, and names a statement that the server knows.
async fn check(cluster: &Cluster, sql: &str, error: &Status, code: Code, part: &str) {
    let message = error.message();
    assert_eq!(error.code(), code, "{sql}: {error:?}");
    assert!(
        message.contains(part),
        "{sql}: {part} is missing: {message}"
    );
    for noise in [
        "\n",
        "backtrace",
        "External error",
        "Execution error",
        "Arrow error",
        "Error during planning",
        "DataFusion error",
    ] {
        assert!(!message.contains(noise), "{sql}: {noise}: {message}");
    }
    let id = error.metadata().get("x-inshore-query-id");
    let id = id.unwrap_or_else(|| panic!("{sql}: no id: {error:?}"));
    let id = id.to_str().unwrap();
    assert!(message.ends_with(&format!(" (query {id})")), "{message}");
    let known = format!("SELECT state FROM system.queries WHERE query_id = '{id}'");
    assert_eq!(cluster.rows(&known).await.unwrap(), ["FAILED"], "{sql}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_error_has_its_code() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    for (sql, code, part) in [
        ("SELEC 1", Code::InvalidArgument, "line 1, column 1"),
        ("", Code::InvalidArgument, "empty"),
        (
            "SELECT * FROM s.numbrs",
            Code::NotFound,
            "did you mean numbers?",
        ),
        ("SELECT * FROM nowhere.s.numbers", Code::NotFound, "nowhere"),
        ("SELECT nme FROM s.numbers", Code::InvalidArgument, "nme"),
        (
            "SELECT nothing(id) FROM s.numbers",
            Code::InvalidArgument,
            "nothing",
        ),
        (
            "SELECT sum(name) FROM s.numbers",
            Code::InvalidArgument,
            "sum",
        ),
        (
            "SELECT CAST(name AS bigint) FROM s.numbers",
            Code::InvalidArgument,
            "Cannot cast string 'n",
        ),
        (
            "SELECT k, sum(1 / (id - id)) FROM s.numbers GROUP BY k",
            Code::InvalidArgument,
            "Divide by zero",
        ),
        ("SELECT 1 / 0", Code::InvalidArgument, "Divide by zero"),
        (
            "DELETE FROM s.numbers WHERE id = 1",
            Code::Unimplemented,
            "not supported",
        ),
        ("CREATE SCHEMA s", Code::AlreadyExists, "s"),
        ("KILL 'nothing'", Code::NotFound, "no query nothing"),
        ("SET color = 'blue'", Code::InvalidArgument, "color"),
        (
            "INSERT INTO s.numbers VALUES (1)",
            Code::InvalidArgument,
            "1 values",
        ),
    ] {
        let error = run(&mut client, sql).await.unwrap_err();
        check(&cluster, sql, &error, code, part).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_fails_names_its_statement() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    let sql = "INSERT INTO s.numbers SELECT id, name, 1 / (id - id) FROM s.numbers";
    let command = CommandStatementUpdate {
        query: sql.to_owned(),
        transaction_id: None,
    };
    let message = FlightData {
        flight_descriptor: Some(FlightDescriptor::new_cmd(command.as_any().encode_to_vec())),
        ..FlightData::default()
    };
    let put = client.do_put(futures::stream::iter([message])).await;
    let error = match put {
        Err(error) => error,
        Ok(answer) => answer.into_inner().message().await.unwrap_err(),
    };
    check(
        &cluster,
        sql,
        &error,
        Code::InvalidArgument,
        "Divide by zero",
    )
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_memory_is_told_in_one_line() {
    let lake = lake().await;
    let engine = EngineOptions {
        memory_limit_bytes: 200_000,
        ..forced()
    };
    let cluster = Cluster::start_with(&lake, 2, engine).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    let sql = "SELECT max(array_length(l)) FROM (SELECT a.k, array_agg(b.name || a.name) AS l \
               FROM s.numbers a, s.numbers b WHERE a.id <= 300 GROUP BY a.k)";
    let error = run(&mut client, sql).await.unwrap_err();
    check(&cluster, sql, &error, Code::ResourceExhausted, "memory").await;
    assert!(run(&mut client, "SELECT 1").await.is_ok());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_workers_a_statement_is_unavailable() {
    let lake = lake().await;
    let mut options = options(&lake, forced(), Topology::Cluster);
    options.worker_wait = Duration::from_millis(200);
    let cluster = Cluster::start_as(&lake, 0, options).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    let sql = "SELECT sum(id) FROM s.numbers";
    let error = run(&mut client, sql).await.unwrap_err();
    check(&cluster, sql, &error, Code::Unavailable, "no worker").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinators_own_limit_is_told() {
    let lake = lake().await;
    let mut options = options(&lake, forced(), Topology::Cluster);
    options.statement_timeout = Some(Duration::from_secs(1));
    let cluster = Cluster::start_as(&lake, 1, options).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    // A session cannot give itself more.
    run(&mut client, "SET inshore.statement_timeout_seconds = 100")
        .await
        .unwrap();
    let sql = "SELECT count(*) FROM s.numbers a, s.numbers b, s.numbers c WHERE (a.id * b.id) % 7 = c.id % 5";
    let error = run(&mut client, sql).await.unwrap_err();
    let part = "longer than 1 s (coordinator.statement_timeout_seconds)";
    check(&cluster, sql, &error, Code::DeadlineExceeded, part).await;
    cluster.stop().await;
}
