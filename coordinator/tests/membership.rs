//! Which workers are live, after every order of events.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use inshore_coordinator::membership::registry::{Limits, Registry, State};
use inshore_proto::error::{Code, RetryVerdict};
use inshore_proto::membership::{Load, Registration};
use inshore_proto::version::PROTOCOL_VERSION;
use url::Url;

fn url(port: u16) -> Url {
    Url::parse(&format!("grpc://127.0.0.1:{port}")).unwrap()
}

fn registration(node: &str, port: u16) -> Registration {
    Registration {
        protocol_version: PROTOCOL_VERSION,
        build_version: "0.1.0".to_owned(),
        node_id: node.to_owned(),
        url: url(port),
        site: None,
        cores: 2,
        memory_limit_bytes: 0,
    }
}

/// What happens to the registry, in milliseconds since the beginning.
#[derive(Clone, Copy, Debug)]
enum Event {
    Register(&'static str, u16),
    /// And whether it is to be known.
    Heartbeat(&'static str, bool),
    Drain(&'static str),
    Leave(&'static str),
    Unreachable(u16),
    /// Ports of the live workers.
    Live(&'static [u16]),
    /// Ports and states of all workers.
    All(&'static [(u16, State)]),
}

use Event::{All, Drain, Heartbeat, Leave, Live, Register, Unreachable};

fn play(events: &[(u64, Event)]) {
    let limits = Limits {
        heartbeat_timeout: Duration::from_millis(1000),
        lost_shown: Duration::from_millis(10_000),
        max_workers: 3,
    };
    let mut registry = Registry::new(limits);
    let start = Instant::now();
    for (at, event) in events {
        let now = start + Duration::from_millis(*at);
        match event {
            Register(node, port) => registry.register(registration(node, *port), now).unwrap(),
            Heartbeat(node, known) => {
                let answer = registry.heartbeat(node, Load::default(), now);
                assert_eq!(answer, *known, "at {at}: {event:?}");
            }
            Drain(node) => drop(registry.drain(node)),
            Leave(node) => drop(registry.leave(node)),
            Unreachable(port) => drop(registry.unreachable(&url(*port))),
            Live(ports) => {
                let live: Vec<_> = registry
                    .live(now)
                    .iter()
                    .filter_map(|worker| worker.url.port())
                    .collect();
                assert_eq!(live, *ports, "at {at}");
            }
            All(expected) => {
                let all = registry.all(now);
                let all: Vec<_> = all
                    .iter()
                    .map(|worker| (worker.url.port().unwrap(), worker.state))
                    .collect();
                assert_eq!(all, *expected, "at {at}");
            }
        }
    }
}

#[test]
fn workers_are_listed_in_a_stable_order() {
    play(&[
        (0, Live(&[])),
        (0, Register("b", 20)),
        (1, Register("a", 30)),
        (2, Register("c", 10)),
        (3, Live(&[10, 20, 30])),
        (900, Heartbeat("c", true)),
        (900, Heartbeat("a", true)),
        (900, Heartbeat("b", true)),
        (1800, Live(&[10, 20, 30])),
    ]);
}

#[test]
fn silence_is_noticed() {
    play(&[
        (0, Register("a", 10)),
        (0, Register("b", 20)),
        (800, Heartbeat("a", true)),
        (1000, Live(&[10, 20])),
        (1001, Live(&[10])),
        (1001, All(&[(10, State::Active), (20, State::Lost)])),
        (1801, Live(&[])),
    ]);
}

#[test]
fn a_lost_worker_registers_again() {
    play(&[
        (0, Register("a", 10)),
        (1500, Heartbeat("a", false)),
        (1500, All(&[(10, State::Lost)])),
        (1501, Register("a", 10)),
        (1501, Live(&[10])),
        (2400, Heartbeat("a", true)),
    ]);
}

#[test]
fn a_late_heartbeat_does_not_revive() {
    play(&[
        (0, Register("a", 10)),
        (1001, Heartbeat("a", false)),
        (1002, Heartbeat("a", false)),
        (1002, Live(&[])),
    ]);
}

#[test]
fn unknown_workers_are_told_to_register() {
    play(&[
        (0, Heartbeat("a", false)),
        (0, Drain("a")),
        (0, Leave("a")),
        (0, Unreachable(10)),
        (0, All(&[])),
    ]);
}

#[test]
fn draining_workers_get_no_tasks_but_are_heard() {
    play(&[
        (0, Register("a", 10)),
        (1, Drain("a")),
        (1, Live(&[])),
        (900, Heartbeat("a", true)),
        (1800, Heartbeat("a", true)),
        (1800, All(&[(10, State::Draining)])),
        (1900, Leave("a")),
        (1900, All(&[])),
        (1900, Heartbeat("a", false)),
    ]);
}

#[test]
fn a_draining_worker_that_dies_is_lost() {
    play(&[
        (0, Register("a", 10)),
        (1, Drain("a")),
        (1002, All(&[(10, State::Lost)])),
        // A drain that comes late changes nothing.
        (1003, Drain("a")),
        (1003, All(&[(10, State::Lost)])),
    ]);
}

#[test]
fn an_unreachable_worker_is_out_until_it_registers() {
    play(&[
        (0, Register("a", 10)),
        (1, Unreachable(10)),
        (1, Live(&[])),
        (2, Heartbeat("a", false)),
        (3, Register("a", 10)),
        (3, Live(&[10])),
    ]);
}

#[test]
fn a_new_process_replaces_the_old_one_under_its_url() {
    play(&[
        (0, Register("old", 10)),
        (1, Register("new", 10)),
        (2, Live(&[10])),
        (3, Heartbeat("old", false)),
        (3, Leave("old")),
        (3, Heartbeat("new", true)),
        (4, Live(&[10])),
    ]);
}

#[test]
fn a_process_that_moves_leaves_its_old_url() {
    play(&[
        (0, Register("a", 10)),
        (1, Register("a", 20)),
        (2, All(&[(20, State::Active)])),
    ]);
}

#[test]
fn lost_workers_are_forgotten_in_the_end() {
    play(&[
        (0, Register("a", 10)),
        (5000, All(&[(10, State::Lost)])),
        (10_000, All(&[(10, State::Lost)])),
        (10_001, All(&[])),
    ]);
}

#[test]
fn time_may_stand_still_or_go_back() {
    play(&[
        (5000, Register("a", 10)),
        (0, Live(&[10])),
        (0, Heartbeat("a", true)),
        (1000, Live(&[10])),
        (1001, Live(&[])),
    ]);
}

#[test]
fn another_protocol_version_is_refused() {
    let mut registry = Registry::new(Limits::default());
    let mut other = registration("a", 10);
    other.protocol_version = PROTOCOL_VERSION + 1;
    let error = registry.register(other, Instant::now()).unwrap_err();
    assert_eq!(error.code, Code::VersionMismatch);
    assert!(
        error
            .message
            .contains(&format!("version {}", PROTOCOL_VERSION + 1)),
        "{error}"
    );
    assert!(
        error
            .message
            .contains(&format!("coordinator {PROTOCOL_VERSION}")),
        "{error}"
    );
    assert!(registry.all(Instant::now()).is_empty());
}

#[test]
fn the_number_of_workers_is_bounded() {
    let limits = Limits {
        max_workers: 2,
        ..Limits::default()
    };
    let mut registry = Registry::new(limits);
    let now = Instant::now();
    registry.register(registration("a", 1), now).unwrap();
    registry.register(registration("b", 2), now).unwrap();
    let error = registry.register(registration("c", 3), now).unwrap_err();
    assert_eq!(
        (error.code, error.retry),
        (Code::ResourceExhausted, RetryVerdict::Retry)
    );
    registry.register(registration("a2", 1), now).unwrap();
    assert_eq!(registry.all(now).len(), 2);
}

#[test]
fn the_load_is_kept() {
    let mut registry = Registry::new(Limits::default());
    let now = Instant::now();
    registry.register(registration("a", 1), now).unwrap();
    let load = Load {
        running_tasks: 3,
        memory_reserved_bytes: 4,
        bytes_sent: 5,
    };
    registry.heartbeat("a", load, now);
    assert_eq!(registry.live(now)[0].load, load);
}
