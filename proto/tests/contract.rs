//! Every message survives the wire, and what is malformed is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use bytes::Bytes;
use inshore_proto::error::{CODES, Code, RetryVerdict, WireError};
use inshore_proto::exchange::BatchMetadata;
use inshore_proto::fragment::{
    FromCoordinator, FromWorker, LoadInfo, SetPlan, WorkUnit, WorkUnitFeed,
};
use inshore_proto::membership::{
    HeartbeatAnswer, Info, Load, Registered, Registration, Request, cancel_query_action,
    decode_cancel_query,
};
use inshore_proto::task::{Head, TaskId, Ticket};
use inshore_proto::version::{PROTOCOL_VERSION, check};
use inshore_proto::{names, pb};
use prost::Message;
use tonic::Status;
use url::Url;
use uuid::Uuid;

fn task() -> TaskId {
    TaskId {
        query_id: Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0),
        stage: 3,
        task: 1,
    }
}

fn url() -> Url {
    Url::parse("grpc://127.0.0.1:41231").unwrap()
}

#[test]
fn errors_survive_a_status() {
    for code in CODES {
        for retry in [
            RetryVerdict::Never,
            RetryVerdict::Retry,
            RetryVerdict::Elsewhere,
        ] {
            let error = WireError::new(code, retry, "größer als – 数")
                .at_node("grpc://h:1")
                .with_file("s3://b/data file.parquet");
            let status = error.to_status();
            assert_eq!(WireError::from_status(&status).unwrap(), error);
        }
    }
}

#[test]
fn grpc_codes_are_those_clients_expect() {
    let grpc = |code| {
        WireError::new(code, RetryVerdict::Never, "")
            .to_status()
            .code()
    };
    assert_eq!(grpc(Code::InvalidArgument), tonic::Code::InvalidArgument);
    assert_eq!(grpc(Code::NotFound), tonic::Code::NotFound);
    assert_eq!(grpc(Code::Unsupported), tonic::Code::Unimplemented);
    assert_eq!(grpc(Code::Corrupt), tonic::Code::DataLoss);
    assert_eq!(grpc(Code::Forbidden), tonic::Code::PermissionDenied);
    assert_eq!(grpc(Code::Unavailable), tonic::Code::Unavailable);
    assert_eq!(
        grpc(Code::ResourceExhausted),
        tonic::Code::ResourceExhausted
    );
    assert_eq!(grpc(Code::DeadlineExceeded), tonic::Code::DeadlineExceeded);
    assert_eq!(grpc(Code::Cancelled), tonic::Code::Cancelled);
    assert_eq!(grpc(Code::VersionMismatch), tonic::Code::FailedPrecondition);
    assert_eq!(grpc(Code::Panic), tonic::Code::Internal);
}

#[test]
fn a_long_message_fits_into_headers() {
    let message = "ä".repeat(1_000_000);
    let error = WireError::new(Code::Internal, RetryVerdict::Never, message)
        .at_node("n".repeat(100_000))
        .with_file("f".repeat(100_000));
    let status = error.to_status();
    // Percent-encoded and base64 respectively; HTTP/2 stacks accept 16 KiB.
    let bytes = status.message().len() * 3 + status.details().len() * 4 / 3;
    assert!(bytes < 15 * 1024, "{bytes}");
    let received = WireError::from_status(&status).unwrap();
    assert!(received.message.ends_with('…'));
    assert!(
        error
            .message
            .starts_with(received.message.trim_end_matches('…'))
    );
}

#[test]
fn foreign_statuses_are_not_ours() {
    assert_eq!(WireError::from_status(&Status::unavailable("gone")), None);
    let foreign = Status::with_details(tonic::Code::Aborted, "x", Bytes::from_static(b"\x08\x01"));
    assert_eq!(WireError::from_status(&foreign), None);
    let garbage = Status::with_details(tonic::Code::Internal, "x", Bytes::from_static(b"\xff\xff"));
    assert_eq!(WireError::from_status(&garbage), None);
}

#[test]
fn the_first_node_named_stays() {
    let error = WireError::new(Code::Internal, RetryVerdict::Never, "m");
    assert_eq!(error.at_node("a").at_node("b").node.as_deref(), Some("a"));
}

#[test]
fn displays_name_node_and_file_once() {
    let error = WireError::new(
        Code::Corrupt,
        RetryVerdict::Never,
        "file f.parquet is corrupt",
    )
    .at_node("grpc://h:1")
    .with_file("f.parquet");
    assert_eq!(
        error.to_string(),
        "file f.parquet is corrupt [worker grpc://h:1]"
    );
}

#[test]
fn tickets() {
    let heads = [
        Head::Plain,
        Head::Broadcast {
            output_partitions: 12,
        },
        Head::Repartition {
            partitioning: Bytes::from_static(b"hash"),
        },
    ];
    for head in heads {
        let ticket = Ticket {
            task: task(),
            partitions: 4..9,
            head,
        };
        assert_eq!(Ticket::decode(&ticket.encode()).unwrap(), ticket);
    }
}

#[test]
fn malformed_tickets_are_refused() {
    let good = || pb::TaskTicket {
        protocol_version: PROTOCOL_VERSION,
        task: Some(task().into()),
        partition_start: 0,
        partition_end: 2,
        head: Some(pb::task_ticket::Head::Plain(pb::PlainHead {})),
    };
    let code = |ticket: pb::TaskTicket| Ticket::decode(&ticket.encode_to_vec()).unwrap_err().code;
    assert!(Ticket::decode(&good().encode_to_vec()).is_ok());
    assert_eq!(
        code(pb::TaskTicket {
            task: None,
            ..good()
        }),
        Code::InvalidArgument
    );
    assert_eq!(
        code(pb::TaskTicket {
            head: None,
            ..good()
        }),
        Code::InvalidArgument
    );
    assert_eq!(
        code(pb::TaskTicket {
            partition_start: 3,
            ..good()
        }),
        Code::InvalidArgument
    );
    assert_eq!(
        code(pb::TaskTicket {
            partition_end: u64::MAX,
            ..good()
        }),
        Code::InvalidArgument
    );
    let id = pb::TaskId {
        query_id: Bytes::from_static(b"short"),
        stage: 0,
        task: 0,
    };
    assert_eq!(
        code(pb::TaskTicket {
            task: Some(id),
            ..good()
        }),
        Code::InvalidArgument
    );
    assert_eq!(
        code(pb::TaskTicket {
            protocol_version: 77,
            ..good()
        }),
        Code::VersionMismatch
    );
}

#[test]
fn version_errors_name_both_versions() {
    assert!(check(PROTOCOL_VERSION).is_ok());
    let error = check(PROTOCOL_VERSION + 41).unwrap_err();
    assert_eq!(error.retry, RetryVerdict::Elsewhere);
    assert!(
        error
            .message
            .contains(&format!("version {}", PROTOCOL_VERSION + 41)),
        "{error}"
    );
    assert!(
        error
            .message
            .contains(&format!("this node {PROTOCOL_VERSION}")),
        "{error}"
    );
}

fn set_plan() -> SetPlan {
    SetPlan {
        task: task(),
        task_count: 2,
        plan: Bytes::from_static(b"plan"),
        feeds: vec![WorkUnitFeed {
            id: Uuid::from_u128(9),
            partitions: 5,
        }],
        target_url: url(),
        query_start_ns: 1_700_000_000_000_000_000,
    }
}

#[test]
fn messages_to_workers() {
    let unit = WorkUnit {
        feed_id: Uuid::from_u128(9),
        partition: 4,
        body: Bytes::from_static(b"file"),
        created_ns: 1,
        sent_ns: 2,
        received_ns: 3,
        processed_ns: 4,
    };
    let error = WireError::new(Code::ResourceExhausted, RetryVerdict::Never, "too large");
    let messages = [
        FromCoordinator::SetPlan(set_plan()),
        FromCoordinator::Abort {
            task: task(),
            error,
        },
        FromCoordinator::WorkUnits(vec![unit.clone(), unit]),
        FromCoordinator::WorkUnitEnd,
    ];
    for message in messages {
        assert_eq!(
            FromCoordinator::decode(message.clone().encode()).unwrap(),
            message
        );
    }
}

#[test]
fn the_target_url_keeps_its_text() {
    // datafusion-distributed compares it with the URLs in the plan.
    for text in [
        "grpc://127.0.0.1:1",
        "grpc://[::1]:2",
        "grpc://worker-3.site-a.example:32011",
    ] {
        let mut plan = set_plan();
        plan.target_url = Url::parse(text).unwrap();
        let FromCoordinator::SetPlan(received) =
            FromCoordinator::decode(FromCoordinator::SetPlan(plan.clone()).encode()).unwrap()
        else {
            panic!("another message");
        };
        assert_eq!(received.target_url, plan.target_url);
        assert_eq!(received.target_url.as_str(), text);
    }
}

#[test]
fn malformed_plans_are_refused() {
    let refused = |change: fn(&mut pb::SetPlan)| {
        let mut plan = pb::SetPlan::from(set_plan());
        change(&mut plan);
        let error = SetPlan::try_from(plan).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
    };
    refused(|plan| plan.task = None);
    refused(|plan| plan.task_count = 1);
    refused(|plan| plan.target_url = "no url".to_owned());
    refused(|plan| plan.target_url = "grpc:".to_owned());
    refused(|plan| plan.feeds[0].id = Bytes::from_static(b"x"));
}

#[test]
fn messages_to_the_coordinator() {
    let set = pb::MetricsSet {
        metrics: vec![pb::Metric {
            name: "n".to_owned(),
            partition: Some(0),
            value: Some(pb::metric::Value::Count(3)),
            ..pb::Metric::default()
        }],
    };
    let messages = [
        FromWorker::Metrics {
            nodes: vec![set.clone(), pb::MetricsSet::default()],
            task: set,
        },
        FromWorker::Load(LoadInfo {
            partition: 1,
            rows_ready: 2,
            column_bytes_ready: vec![3, 4],
            column_distinct_ratio: vec![0.5, 1.0],
            column_null_ratio: vec![0.0, 0.25],
            rows_pulled_from_leaf: 5,
            reached_end: true,
        }),
        FromWorker::LoadEnd,
    ];
    for message in messages {
        assert_eq!(
            FromWorker::decode(message.clone().encode()).unwrap(),
            message
        );
    }
}

#[test]
fn empty_messages_are_refused() {
    assert!(FromCoordinator::decode(Bytes::new()).is_err());
    assert!(FromWorker::decode(Bytes::new()).is_err());
    assert!(Ticket::decode(b"").is_err());
}

#[test]
fn batch_metadata() {
    let metadata = BatchMetadata::now(7);
    let received = BatchMetadata::decode(&metadata.encode()).unwrap();
    assert_eq!(received, metadata);
    assert!(BatchMetadata::decode(b"\xff").is_err());
}

fn registration() -> Registration {
    Registration {
        protocol_version: PROTOCOL_VERSION,
        build_version: "0.1.0".to_owned(),
        node_id: "n1".to_owned(),
        url: url(),
        site: Some("dc-1".to_owned()),
        cores: 8,
        memory_limit_bytes: 1 << 33,
    }
}

#[test]
fn membership_requests() {
    let node_id = "n1".to_owned();
    let load = Load {
        running_tasks: 3,
        memory_reserved_bytes: 4,
        bytes_sent: 5,
    };
    let requests = [
        (names::REGISTER, Request::Register(registration())),
        (
            names::HEARTBEAT,
            Request::Heartbeat {
                node_id: node_id.clone(),
                load,
            },
        ),
        (
            names::DRAIN,
            Request::Drain {
                node_id: node_id.clone(),
            },
        ),
        (names::LEAVE, Request::Leave { node_id }),
    ];
    for (name, request) in requests {
        let action = request.to_action();
        assert_eq!(action.r#type, name);
        assert_eq!(Request::from_action(&action).unwrap().unwrap(), request);
    }
    let other = arrow_flight::Action {
        r#type: "CreatePreparedStatement".to_owned(),
        body: Bytes::new(),
    };
    assert!(Request::from_action(&other).is_none());
}

#[test]
fn malformed_membership_requests_are_refused() {
    let refused = |change: fn(&mut Registration)| {
        let mut bad = registration();
        change(&mut bad);
        let error = Request::from_action(&Request::Register(bad).to_action())
            .unwrap()
            .unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
    };
    refused(|registration| registration.node_id.clear());
    refused(|registration| registration.node_id = "x".repeat(10_000));
    refused(|registration| registration.site = Some(String::new()));
    let garbage = arrow_flight::Action {
        r#type: names::HEARTBEAT.to_owned(),
        body: Bytes::from_static(b"\xff\xff"),
    };
    assert!(Request::from_action(&garbage).unwrap().is_err());
}

#[test]
fn membership_answers() {
    let registered = Registered {
        build_version: "0.1.0".to_owned(),
        heartbeat_timeout: Duration::from_millis(4321),
    };
    assert_eq!(
        Registered::decode(&registered.encode()).unwrap(),
        registered
    );
    for known in [true, false] {
        let answer = HeartbeatAnswer { known };
        assert_eq!(HeartbeatAnswer::decode(&answer.encode()).unwrap(), answer);
    }
    let info = Info {
        protocol_version: 1,
        build_version: "b".to_owned(),
        node_id: "n".to_owned(),
        url: url(),
        draining: true,
        load: Load {
            running_tasks: 1,
            memory_reserved_bytes: 2,
            bytes_sent: 3,
        },
    };
    assert_eq!(Info::decode(&info.encode()).unwrap(), info);
    let id = Uuid::from_u128(77);
    assert_eq!(
        decode_cancel_query(&cancel_query_action(id).body).unwrap(),
        id
    );
}
