//! However a statement is ended, soon nothing of it is left anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use arrow_flight::sql::{ActionCancelQueryRequest, ProstMessageExt};
use arrow_flight::{CancelFlightInfoRequest, FlightInfo};
use bytes::Bytes;
use inshore_testkit::flight::{act, becomes, fetch, info, query_id, raw, run, ticket};
use inshore_testkit::{Cluster, Lake};
use prost::Message;
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(20);

/// How long a statement may be at work after somebody ended it, with the time in which a worker
/// tells about it.
const PROMPT: Duration = Duration::from_millis(1_300);

/// The tests of this file need the whole machine, one at a time.
static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Everything happens in one operator.
const JOIN: &str = "SELECT count(*) FROM s.numbers a, s.numbers b, s.numbers c, s.numbers d, s.numbers e \
                    WHERE (a.id * b.id + c.id * d.id) % 7 = e.id % 5";

/// As long as it takes, no row comes out of it.
const NOTHING: &str = "SELECT a.id, b.id FROM s.numbers a, s.numbers b, s.numbers c, s.numbers d, s.numbers e \
                       WHERE a.id + b.id + c.id + d.id + e.id < 0";

/// Rows are on their way from worker to worker all the time.
const EXCHANGE: &str = "SELECT count(*), max(n) FROM (SELECT x, count(*) AS n FROM \
                        (SELECT a.id * 1000000 + b.id * 1000 + c.id + d.id * 7 AS x \
                         FROM s.numbers a, s.numbers b, s.numbers c, s.numbers d, s.numbers e) \
                        GROUP BY x)";

/// Rows are on their way to the client.
const ROWS: &str =
    "SELECT a.id, b.name FROM s.numbers a, s.numbers b, s.numbers c, s.numbers d, s.numbers e";

/// Nothing but this process computes it.
const LOCAL: &str = "SELECT count(*) FROM generate_series(1, 1000000) AS a(x), \
                     generate_series(1, 1000000) AS b(y) WHERE (x * y) % 7 = 3";

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, 'n' || value AS name FROM generate_series(1, 100) AS s(value)";
    lake.create_table("s", "numbers", query, 2).await.unwrap();
    lake
}

#[derive(Clone, Copy, Debug)]
enum Way {
    DroppedStream,
    CancelFlightInfo,
    CancelQuery,
    Kill,
    Timeout,
}

const WAYS: [Way; 5] = [
    Way::DroppedStream,
    Way::CancelFlightInfo,
    Way::CancelQuery,
    Way::Kill,
    Way::Timeout,
];

async fn end(cluster: &Cluster, way: Way, info: FlightInfo) {
    match way {
        Way::DroppedStream | Way::Timeout => {}
        Way::CancelFlightInfo => {
            let request = CancelFlightInfoRequest { info: Some(info) };
            let mut other = raw(cluster).await.unwrap();
            let body = request.encode_to_vec();
            act(&mut other, "CancelFlightInfo", body).await.unwrap();
        }
        Way::CancelQuery => {
            let request = ActionCancelQueryRequest {
                info: Bytes::from(info.encode_to_vec()),
            };
            let mut other = raw(cluster).await.unwrap();
            let body = request.as_any().encode_to_vec();
            act(&mut other, "CancelQuery", body).await.unwrap();
        }
        Way::Kill => {
            let sql = format!("KILL '{}'", query_id(&info));
            cluster.rows(&sql).await.unwrap();
        }
    }
}

/// Starts a statement, ends it, and sees what is left of it.
async fn ends(cluster: &Cluster, sql: &str, way: Way) {
    let mut client = raw(cluster).await.unwrap();
    if matches!(way, Way::Timeout) {
        run(&mut client, "SET inshore.statement_timeout_seconds = 2")
            .await
            .unwrap();
    }
    let promised = info(&mut client, sql).await.unwrap();
    let (id, given) = (query_id(&promised), ticket(&promised).unwrap());
    let running = tokio::spawn(async move { fetch(&mut client, given).await });
    let state = format!("SELECT state FROM system.queries WHERE query_id = '{id}'");
    becomes(cluster, &state, &["RUNNING"], PATIENCE)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;

    end(cluster, way, promised).await;
    let began = match way {
        Way::DroppedStream => {
            running.abort();
            Instant::now()
        }
        Way::Timeout => {
            let ended = tokio::time::timeout(PATIENCE, running).await;
            let error = ended.expect("it goes on").unwrap().unwrap_err();
            assert_eq!(error.code(), Code::DeadlineExceeded, "{sql}: {error:?}");
            let setting = "longer than 2 s (inshore.statement_timeout_seconds)";
            assert!(error.message().contains(setting), "{error:?}");
            Instant::now()
        }
        Way::CancelFlightInfo | Way::CancelQuery | Way::Kill => {
            let began = Instant::now();
            let ended = tokio::time::timeout(PATIENCE, running).await;
            let error = ended.expect("it goes on").unwrap().unwrap_err();
            assert_eq!(error.code(), Code::Cancelled, "{sql}: {error:?}");
            began
        }
    };
    let left = "SELECT sum(running_tasks), sum(memory_reserved_bytes) FROM system.workers";
    becomes(cluster, left, &["0|0"], PATIENCE).await.unwrap();
    let memory = || cluster.coordinator().memory_reserved_bytes();
    while memory() > 0 {
        assert!(began.elapsed() < PATIENCE, "{} bytes stay", memory());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    assert!(took < PROMPT, "{way:?} of {sql} took {took:?}");
    let ended = match way {
        Way::Timeout => "FAILED",
        _ => "CANCELLED",
    };
    assert_eq!(cluster.rows(&state).await.unwrap(), [ended]);
}

async fn ends_by_all_ways(sql: &str) {
    let _machine = MACHINE.lock().await;
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    for way in WAYS {
        ends(&cluster, sql, way).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_join_ends_within_a_second() {
    ends_by_all_ways(JOIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_join_without_rows_ends_within_a_second() {
    ends_by_all_ways(NOTHING).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn an_exchange_ends_within_a_second() {
    ends_by_all_ways(EXCHANGE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_stream_of_rows_ends_within_a_second() {
    ends_by_all_ways(ROWS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn what_the_coordinator_computes_ends_within_a_second() {
    ends_by_all_ways(LOCAL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_client_that_goes_away_ends_what_it_asked_for() {
    let _machine = MACHINE.lock().await;
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    cluster.rows("CREATE TABLE s.t (n bigint)").await.unwrap();
    // Its result is promised when it is done: the client waits in the first request.
    let mut client = raw(&cluster).await.unwrap();
    let insert = format!("INSERT INTO s.t {JOIN}");
    let asked = tokio::spawn(async move { info(&mut client, &insert).await });
    let state = "SELECT state FROM system.queries WHERE sql LIKE 'INSERT%'";
    becomes(&cluster, state, &["RUNNING"], PATIENCE)
        .await
        .unwrap();
    asked.abort();
    becomes(&cluster, state, &["CANCELLED"], PATIENCE)
        .await
        .unwrap();
    let left = "SELECT sum(running_tasks), sum(memory_reserved_bytes) FROM system.workers";
    becomes(&cluster, left, &["0|0"], PATIENCE).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn the_time_of_a_statement_is_an_option_of_its_session() {
    let _machine = MACHINE.lock().await;
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    run(&mut client, "SET inshore.statement_timeout_seconds = 1")
        .await
        .unwrap();
    let late = run(&mut client, LOCAL).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    // One that changes something, too.
    run(&mut client, "CREATE TABLE s.t (n bigint)")
        .await
        .unwrap();
    let late = run(&mut client, &format!("INSERT INTO s.t {JOIN}")).await;
    assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
    let told = act(&mut client, "GetSessionOptions", vec![]).await.unwrap();
    assert!(String::from_utf8_lossy(&told).contains("statement_timeout_seconds"));
    run(&mut client, "RESET inshore.statement_timeout_seconds")
        .await
        .unwrap();
    let wrong = run(&mut client, "SET inshore.statement_timeout_seconds = 'x'").await;
    assert_eq!(wrong.unwrap_err().code(), Code::InvalidArgument);
    let closed = run(&mut client, "SET inshore.min_tasks = 5").await;
    assert_eq!(closed.unwrap_err().code(), Code::InvalidArgument);
    assert!(run(&mut client, "SELECT 1").await.is_ok());
    cluster.stop().await;
}
