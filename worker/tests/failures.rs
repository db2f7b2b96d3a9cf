//! What happens when something goes wrong: a worker dies, freezes, panics, or a query is dropped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor, Ticket as FlightTicket};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use inshore_engine::transport::FlightChannelResolver;
use inshore_engine::transport::error::wire_error;
use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::fragment::FromCoordinator;
use inshore_proto::task::{Head, TaskId, Ticket};
use inshore_proto::{names, version};
use inshore_worker::{Config, Worker};
use support::{cluster, context, failure, run, session_state, start_worker, until, write_table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;
use uuid::Uuid;

/// A query whose tasks run for long with 10 rows per batch: 400 batches of 50 ms.
const LONG: &str = "select k, sum(slow(v)) from t group by k";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dropped_query_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    write_table(dir.path());
    let workers = [
        start_worker(Config::default()).await,
        start_worker(Config::default()).await,
    ];
    let urls: Vec<_> = workers.iter().map(|worker| worker.url().clone()).collect();
    let context = context(session_state(urls, 10), dir.path()).await;
    let plan = context
        .sql(LONG)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let mut rows = execute_stream(plan, context.task_ctx()).unwrap();
    let first = tokio::time::timeout(Duration::from_millis(700), rows.next()).await;
    assert!(first.is_err(), "it should take longer");
    assert!(workers.iter().all(|worker| worker.tasks().running() > 0));
    drop(rows);
    for worker in &workers {
        until(Duration::from_secs(2), "tasks gone", || {
            worker.tasks().running() == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_query_can_be_cancelled_on_a_worker() {
    let dir = tempfile::tempdir().unwrap();
    write_table(dir.path());
    let workers = [
        start_worker(Config::default()).await,
        start_worker(Config::default()).await,
    ];
    let urls: Vec<_> = workers.iter().map(|worker| worker.url().clone()).collect();
    let context = context(session_state(urls.clone(), 10), dir.path()).await;
    let query = tokio::spawn(async move { run(&context, LONG).await });
    let worker = &workers[0];
    until(Duration::from_secs(5), "tasks run", || {
        worker.tasks().running() > 0
    })
    .await;
    let query_id = worker.tasks().queries()[0];
    let resolver = FlightChannelResolver::default();
    resolver
        .worker(&urls[0])
        .unwrap()
        .cancel_query(query_id)
        .await
        .unwrap();
    until(Duration::from_secs(2), "tasks gone", || {
        worker.tasks().running() == 0
    })
    .await;
    let error = wire_error(&query.await.unwrap().unwrap_err());
    assert_eq!(error.code, Code::Cancelled, "{error}");
    assert_eq!(error.node.as_deref(), Some(urls[0].as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_panic_fails_the_query_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    write_table(dir.path());
    let workers = [
        start_worker(Config::default()).await,
        start_worker(Config::default()).await,
    ];
    let urls: Vec<_> = workers.iter().map(|worker| worker.url().clone()).collect();
    let context = cluster(urls.clone(), dir.path()).await;
    for sql in [
        "select k, boom(v) from t where v > 10",
        "select k, sum(boom(v)) from t group by k",
        "select a.k, count(*) from t a join t b on boom(a.v) = b.v group by a.k",
    ] {
        let error = failure(&context, sql).await;
        assert_eq!(error.code, Code::Panic, "{sql}: {error}");
        assert!(error.message.contains("boom went off"), "{error}");
        let node = error.node.clone().unwrap();
        assert!(urls.iter().any(|url| url.as_str() == node), "{error}");
        let rows = run(&context, "select k, count(*) from t group by k")
            .await
            .unwrap();
        assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 17);
    }
    for worker in &workers {
        until(Duration::from_secs(2), "tasks gone", || {
            worker.tasks().running() == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn errors_keep_their_type_through_two_stages() {
    let dir = tempfile::tempdir().unwrap();
    write_table(dir.path());
    let workers = [
        start_worker(Config::default()).await,
        start_worker(Config::default()).await,
    ];
    let urls: Vec<_> = workers.iter().map(|worker| worker.url().clone()).collect();
    let context = cluster(urls, dir.path()).await;
    let error = failure(&context, "select v, sum(100 / (v - v)) from t group by v").await;
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
    assert!(
        error.message.to_lowercase().contains("divide by zero"),
        "{error}"
    );
    assert!(error.node.is_some());

    // As long as it was, so that a worker that has its footer already finds garbage too.
    let file = dir.path().join("2.parquet");
    let length = std::fs::metadata(&file).unwrap().len();
    std::fs::write(&file, vec![7; usize::try_from(length).unwrap()]).unwrap();
    let error = failure(&context, "select k, sum(v) from t group by k").await;
    assert_eq!(error.code, Code::Corrupt, "{error}");
    assert_eq!(error.retry, RetryVerdict::Never);
}

/// A worker in a runtime of its own, which can be killed as the process would be.
fn worker_in_own_runtime() -> (tokio::runtime::Runtime, Url) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let worker: Worker = std::thread::scope(|scope| {
        scope
            .spawn(|| runtime.block_on(start_worker(Config::default())))
            .join()
            .unwrap()
    });
    let url = worker.url().clone();
    // It is not to say goodbye.
    std::mem::forget(worker);
    (runtime, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_worker_is_named_and_the_next_query_works() {
    let dir = tempfile::tempdir().unwrap();
    write_table(dir.path());
    let living = start_worker(Config::default()).await;
    let (runtime, url) = worker_in_own_runtime();
    let urls = vec![living.url().clone(), url.clone()];
    let query = {
        let context = context(session_state(urls, 10), dir.path()).await;
        tokio::spawn(async move { run(&context, LONG).await })
    };
    until(Duration::from_secs(5), "tasks run", || {
        living.tasks().running() > 0
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    runtime.shutdown_background();
    let start = Instant::now();
    let error = tokio::time::timeout(Duration::from_secs(10), query).await;
    let error = wire_error(&error.unwrap().unwrap().unwrap_err());
    println!("after {:?}: {error}", start.elapsed());
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert_eq!(error.retry, RetryVerdict::Elsewhere);
    assert_eq!(error.node.as_deref(), Some(url.as_str()));
    assert!(
        error
            .message
            .starts_with(&format!("worker {url} is gone: ")),
        "{error}"
    );
    until(Duration::from_secs(2), "tasks gone", || {
        living.tasks().running() == 0
    })
    .await;

    let context = cluster(vec![living.url().clone(), living.url().clone()], dir.path()).await;
    let rows = run(&context, "select k, count(*) from t group by k")
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 17);
}

/// Passes bytes on to a worker until it is told to freeze, and then keeps its connections open.
async fn freezable(target: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let frozen = Arc::new(AtomicBool::new(false));
    let freeze = Arc::clone(&frozen);
    tokio::spawn(async move {
        while let Ok((inbound, _)) = listener.accept().await {
            let outbound = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
            let (from_client, to_client) = inbound.into_split();
            let (from_worker, to_worker) = outbound.into_split();
            tokio::spawn(pass(from_client, to_worker, Arc::clone(&frozen)));
            tokio::spawn(pass(from_worker, to_client, Arc::clone(&frozen)));
        }
    });
    (port, freeze)
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    frozen: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if frozen.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_frozen_worker_is_found_and_the_worker_frees_what_it_held() {
    let dir = tempfile::tempdir().unwrap();
    write_table(dir.path());
    let living = start_worker(Config::default()).await;
    let listener = Config::default().bind().await.unwrap();
    let (port, freeze) = freezable(listener.local_addr().unwrap().port()).await;
    let url = Url::parse(&format!("grpc://127.0.0.1:{port}")).unwrap();
    let config = Config {
        advertise: Some(url.clone()),
        ..Config::default()
    };
    let sessions = support::task_session;
    let frozen = Worker::start(config, listener, sessions, Arc::default()).unwrap();
    let urls = vec![living.url().clone(), url.clone()];
    let query = {
        let context = context(session_state(urls, 10), dir.path()).await;
        tokio::spawn(async move { run(&context, LONG).await })
    };
    until(Duration::from_secs(5), "tasks run", || {
        frozen.tasks().running() > 0
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    freeze.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let error = tokio::time::timeout(Duration::from_secs(12), query).await;
    let error = wire_error(&error.unwrap().unwrap().unwrap_err());
    println!("after {:?}: {error}", start.elapsed());
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert_eq!(error.node.as_deref(), Some(url.as_str()));
    assert!(error.is_retryable());
    until(Duration::from_secs(2), "tasks gone", || {
        living.tasks().running() == 0
    })
    .await;
    // From its side, the coordinator froze.
    let gone = || frozen.tasks().running() == 0;
    until(
        Duration::from_secs(10),
        "tasks of a silent coordinator gone",
        gone,
    )
    .await;
}

#[tokio::test]
async fn nobody_at_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("grpc://{}", listener.local_addr().unwrap());
    drop(listener);
    let url = Url::parse(&url).unwrap();
    let (heard, hearing) = std::sync::mpsc::channel();
    let resolver = FlightChannelResolver::new(move |url| heard.send(url.clone()).unwrap());
    let error = resolver.worker(&url).unwrap().info().await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.contains("refused"), "{error}");
    assert_eq!(hearing.try_recv().unwrap(), url);
}

async fn raw_client(worker: &Worker) -> FlightServiceClient<tonic::transport::Channel> {
    let url = worker.url().as_str().replace("grpc://", "http://");
    let endpoint = tonic::transport::Endpoint::from_shared(url).unwrap();
    FlightServiceClient::new(endpoint.connect().await.unwrap())
}

fn a_task() -> TaskId {
    TaskId {
        query_id: Uuid::now_v7(),
        stage: 1,
        task: 0,
    }
}

#[tokio::test]
async fn another_protocol_version_is_refused() {
    let worker = start_worker(Config::default()).await;
    let mut client = raw_client(&worker).await;
    let ticket = FlightTicket {
        ticket: Ticket {
            task: a_task(),
            partitions: 0..1,
            head: Head::Plain,
        }
        .encode(),
    };
    let mut request = tonic::Request::new(ticket.clone());
    request
        .metadata_mut()
        .insert(names::VERSION_HEADER, "999".parse().unwrap());
    let status = client.do_get(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    let error = WireError::from_status(&status).unwrap();
    assert_eq!(
        (error.code, error.retry),
        (Code::VersionMismatch, RetryVerdict::Elsewhere)
    );
    assert!(error.message.contains("999"), "{error}");
    assert_eq!(error.node.as_deref(), Some(worker.url().as_str()));

    let status = client.do_get(ticket).await.unwrap_err();
    let error = WireError::from_status(&status).unwrap();
    assert_eq!(error.code, Code::VersionMismatch);

    let messages = futures::stream::iter([FlightData::default()]);
    let mut request = tonic::Request::new(messages);
    request
        .metadata_mut()
        .insert(names::VERSION_HEADER, "2000000".parse().unwrap());
    let status = client.do_exchange(request).await.unwrap_err();
    assert_eq!(
        WireError::from_status(&status).unwrap().code,
        Code::VersionMismatch
    );
}

#[tokio::test]
async fn malformed_calls_are_refused() {
    let worker = start_worker(Config::default()).await;
    let mut client = raw_client(&worker).await;
    let stamped = |ticket: &'static [u8]| {
        let mut request = tonic::Request::new(FlightTicket {
            ticket: ticket.into(),
        });
        version::stamp(request.metadata_mut());
        request
    };
    for ticket in [&b""[..], b"\xff\xff\xff", b"hello"] {
        let status = client.do_get(stamped(ticket)).await.unwrap_err();
        let error = WireError::from_status(&status).unwrap();
        assert!(
            matches!(error.code, Code::InvalidArgument | Code::VersionMismatch),
            "{error}"
        );
    }
    let descriptor = FlightDescriptor::new_cmd(names::FRAGMENT_COMMAND);
    let bodies = [
        vec![],
        vec![1, 2, 3],
        FromCoordinator::WorkUnitEnd.encode().to_vec(),
    ];
    for body in bodies {
        let message = FlightData::new()
            .with_descriptor(descriptor.clone())
            .with_app_metadata(body);
        let mut request = tonic::Request::new(futures::stream::iter([message]));
        version::stamp(request.metadata_mut());
        let status = client.do_exchange(request).await.unwrap_err();
        assert_eq!(
            WireError::from_status(&status).unwrap().code,
            Code::InvalidArgument
        );
    }
    assert_eq!(worker.tasks().running(), 0);
}

#[tokio::test]
async fn partitions_of_an_aborted_task_are_refused_with_its_reason() {
    let worker = start_worker(Config::default()).await;
    let task = a_task();
    let mut waiting = raw_client(&worker).await;
    let ticket = FlightTicket {
        ticket: Ticket {
            task,
            partitions: 0..1,
            head: Head::Plain,
        }
        .encode(),
    };
    let asked = tokio::spawn(async move {
        let mut request = tonic::Request::new(ticket);
        version::stamp(request.metadata_mut());
        waiting.do_get(request).await.map(|_| ()).unwrap_err()
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let error = WireError::new(Code::ResourceExhausted, RetryVerdict::Never, "too large");
    let abort = FromCoordinator::Abort {
        task,
        error: error.clone(),
    };
    let message = FlightData::new()
        .with_descriptor(FlightDescriptor::new_cmd(names::FRAGMENT_COMMAND))
        .with_app_metadata(abort.encode());
    let mut request = tonic::Request::new(futures::stream::iter([message]));
    version::stamp(request.metadata_mut());
    raw_client(&worker)
        .await
        .do_exchange(request)
        .await
        .unwrap_err();
    let told = tokio::time::timeout(Duration::from_secs(2), asked)
        .await
        .unwrap()
        .unwrap();
    let told = WireError::from_status(&told).unwrap();
    assert_eq!((told.code, told.message), (error.code, error.message));
}

#[tokio::test]
async fn an_open_address_is_refused() {
    let config = Config {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..Config::default()
    };
    let error = config.bind().await.unwrap_err();
    assert!(error.to_string().contains("worker.listen"), "{error}");
}
