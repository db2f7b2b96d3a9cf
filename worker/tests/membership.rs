//! Workers and a coordinator's membership, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::sql::SqlInfo;
use arrow_flight::sql::server::FlightSqlService;
use inshore_coordinator::membership::{Membership, State};
use inshore_engine::transport::FlightChannelResolver;
use inshore_proto::error::Code;
use inshore_proto::membership::{Registration, Request as MemberRequest};
use inshore_proto::version::PROTOCOL_VERSION;
use inshore_worker::{Config, Worker};
use support::{context, run, session_state, start_worker, until, write_table};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use url::Url;

const TIMEOUT: Duration = Duration::from_millis(1200);

/// The part of a coordinator's door that members use.
#[derive(Clone)]
struct Door(Arc<Membership>);

#[tonic::async_trait]
impl FlightSqlService for Door {
    type FlightService = Self;

    async fn do_action_fallback(
        &self,
        request: Request<arrow_flight::Action>,
    ) -> Result<
        Response<<Self as arrow_flight::flight_service_server::FlightService>::DoActionStream>,
        Status,
    > {
        let results = self.0.handle_action(request.get_ref()).unwrap()?;
        Ok(Response::new(Box::pin(futures::stream::iter(
            results.into_iter().map(Ok),
        ))))
    }

    async fn register_sql_info(&self, _id: i32, _info: &SqlInfo) {}
}

/// A coordinator that only has members. Dropping it kills it.
struct Coordinator {
    membership: Arc<Membership>,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Coordinator {
    async fn start(address: &str) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let membership = Arc::new(Membership::new(TIMEOUT));
        let door = FlightServiceServer::new(Door(Arc::clone(&membership)));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.spawn(async move {
            let incoming = TcpIncoming::from(TcpListener::from_std(listener).unwrap());
            tonic::transport::Server::builder()
                .add_service(door)
                .serve_with_incoming(incoming)
                .await
        });
        Self {
            membership,
            address,
            runtime: Some(runtime),
        }
    }

    fn url(&self) -> Url {
        Url::parse(&format!("grpc://{}", self.address)).unwrap()
    }

    async fn live(&self, count: usize) -> Duration {
        let live = || self.membership.live().len() == count;
        until(
            Duration::from_secs(5),
            &format!("{count} live workers"),
            live,
        )
        .await
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn registration(protocol_version: u32) -> Registration {
    Registration {
        protocol_version,
        build_version: "9.9.9".to_owned(),
        node_id: "n".to_owned(),
        url: Url::parse("grpc://127.0.0.1:1").unwrap(),
        site: None,
        cores: 1,
        memory_limit_bytes: 0,
    }
}

fn config(coordinator: &Url) -> Config {
    Config {
        coordinator: Some(coordinator.clone()),
        site: Some("dc-1".to_owned()),
        cores: 7,
        memory_limit_bytes: 1 << 30,
        heartbeat_interval: Duration::from_millis(100),
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_join_stay_and_are_missed() {
    let coordinator = Coordinator::start("127.0.0.1:0").await;
    assert!(
        !coordinator
            .membership
            .wait_for_worker(Duration::from_millis(50))
            .await
    );
    let waiting = {
        let membership = Arc::clone(&coordinator.membership);
        tokio::spawn(async move { membership.wait_for_worker(Duration::from_secs(5)).await })
    };
    let staying = start_worker(config(&coordinator.url())).await;
    assert!(waiting.await.unwrap());
    staying.registered().await;
    let live = coordinator.membership.live();
    assert_eq!(live.len(), 1);
    assert_eq!(&live[0].url, staying.url());
    assert_eq!((live[0].site.as_deref(), live[0].cores), (Some("dc-1"), 7));
    assert_eq!(live[0].memory_limit_bytes, 1 << 30);

    let resolver = FlightChannelResolver::default();
    assert!(
        !resolver
            .worker(staying.url())
            .unwrap()
            .info()
            .await
            .unwrap()
            .draining
    );
    // One that registers, and then is not heard of again.
    let silent = MemberRequest::Register(registration(PROTOCOL_VERSION));
    resolver
        .worker(&coordinator.url())
        .unwrap()
        .action(silent.to_action())
        .await
        .unwrap();
    assert_eq!(coordinator.membership.live().len(), 2);
    let missed = coordinator.live(1).await;
    assert!(missed > TIMEOUT / 2 && missed < TIMEOUT * 2, "{missed:?}");
    tokio::time::sleep(TIMEOUT).await;
    assert_eq!(&coordinator.membership.live()[0].url, staying.url());
    // One that ends says so.
    drop(staying);
    let left = || coordinator.membership.all().len() == 1;
    until(TIMEOUT / 2, "it left", left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_its_coordinator_and_finds_it_again() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let url = Url::parse(&format!("grpc://{address}")).unwrap();
    let worker = start_worker(config(&url)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let coordinator = Coordinator::start(&address.to_string()).await;
    coordinator.live(1).await;
    drop(coordinator);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let coordinator = loop {
        // The port may take a moment to be free.
        if let Ok(probe) = std::net::TcpListener::bind(address) {
            drop(probe);
            break Coordinator::start(&address.to_string()).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    coordinator.live(1).await;
    assert_eq!(&coordinator.membership.live()[0].url, worker.url());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_worker_that_lives_is_back_with_its_next_heartbeat() {
    let coordinator = Coordinator::start("127.0.0.1:0").await;
    let worker = start_worker(config(&coordinator.url())).await;
    coordinator.live(1).await;
    coordinator.membership.report_unreachable(worker.url());
    assert!(coordinator.membership.live().is_empty());
    assert_eq!(coordinator.membership.all()[0].state, State::Lost);
    coordinator.live(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_drained_worker_finishes_and_leaves() {
    let dir = tempfile::tempdir().unwrap();
    write_table(dir.path());
    let coordinator = Coordinator::start("127.0.0.1:0").await;
    let draining = start_worker(config(&coordinator.url())).await;
    let staying = start_worker(config(&coordinator.url())).await;
    coordinator.live(2).await;
    let urls = coordinator
        .membership
        .live()
        .into_iter()
        .map(|worker| worker.url)
        .collect();
    let context = context(session_state(urls, 100), dir.path()).await;
    // 40 batches of 50 ms in a few partitions.
    let sql = "select k, sum(slow(v)) from t group by k";
    let query = tokio::spawn(async move { run(&context, sql).await });
    let running = || draining.tasks().running() > 0;
    until(Duration::from_secs(5), "tasks run", running).await;
    let load = || {
        coordinator
            .membership
            .all()
            .iter()
            .any(|worker| worker.load.running_tasks > 0)
    };
    until(Duration::from_secs(2), "load is reported", load).await;

    let drained = tokio::spawn(draining.drain(Duration::from_secs(20)));
    let live = coordinator.live(1).await;
    assert!(live < Duration::from_secs(1), "{live:?}");
    assert_eq!(&coordinator.membership.live()[0].url, staying.url());
    let rows = query.await.unwrap().unwrap();
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 17);
    tokio::time::timeout(Duration::from_secs(5), drained)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(coordinator.membership.all().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_drain_has_an_end() {
    let dir = tempfile::tempdir().unwrap();
    write_table(dir.path());
    let workers = [
        start_worker(Config::default()).await,
        start_worker(Config::default()).await,
    ];
    let urls = workers.iter().map(|worker| worker.url().clone()).collect();
    let context = context(session_state(urls, 10), dir.path()).await;
    let sql = "select k, sum(slow(v)) from t group by k";
    let query = tokio::spawn(async move { run(&context, sql).await });
    let [draining, _staying] = workers;
    let running = || draining.tasks().running() > 0;
    until(Duration::from_secs(5), "tasks run", running).await;
    let url = draining.url().to_string();
    let start = Instant::now();
    draining.drain(Duration::from_millis(300)).await.unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    let error = query.await.unwrap().unwrap_err();
    let error = inshore_engine::transport::error::wire_error(&error);
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert_eq!(error.node, Some(url));
    assert!(error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_another_version_is_told_both_versions() {
    let coordinator = Coordinator::start("127.0.0.1:0").await;
    let request = MemberRequest::Register(registration(PROTOCOL_VERSION + 5));
    let resolver = FlightChannelResolver::default();
    let mut channel = resolver.worker(&coordinator.url()).unwrap();
    let error = channel.action(request.to_action()).await.unwrap_err();
    assert_eq!(error.code, Code::VersionMismatch);
    assert!(error.message.contains("9.9.9"), "{error}");
    assert!(coordinator.membership.all().is_empty());
}

#[test]
fn a_worker_is_send() {
    fn send<T: Send>() {}
    send::<Worker>();
}
