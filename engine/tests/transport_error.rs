//! Errors keep their meaning, however deep they are wrapped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::object_store;
use datafusion::parquet::errors::ParquetError;
use inshore_engine::transport::error::{call_error, into_datafusion, panic_error, wire_error};
use inshore_proto::error::{Code, RetryVerdict, WireError};
use tonic::Status;
use url::Url;

/// The ways in which errors are wrapped on their way up.
fn wrapped(error: impl Fn() -> DataFusionError) -> Vec<DataFusionError> {
    let external = || Box::new(error());
    vec![
        error(),
        DataFusionError::Shared(Arc::new(error())),
        DataFusionError::Context("somewhere".to_owned(), external()),
        DataFusionError::External(external()),
        DataFusionError::External(Box::new(Arc::new(error()))),
        DataFusionError::ArrowError(Box::new(ArrowError::ExternalError(external())), None),
        DataFusionError::ParquetError(Box::new(ParquetError::External(external()))),
        DataFusionError::IoError(io::Error::other(error())),
        DataFusionError::Shared(Arc::new(DataFusionError::Context(
            "x".to_owned(),
            Box::new(ArrowError::from_external_error(external()).into()),
        ))),
    ]
}

fn check(error: impl Fn() -> DataFusionError, code: Code, retry: RetryVerdict, text: &str) {
    for error in wrapped(error) {
        let wire = wire_error(&error);
        assert_eq!((wire.code, wire.retry), (code, retry), "{error:?}");
        assert!(wire.to_string().contains(text), "{wire}");
    }
}

#[test]
fn wire_errors_are_found() {
    let wire = WireError::new(Code::VersionMismatch, RetryVerdict::Elsewhere, "m")
        .at_node("grpc://a:1")
        .with_file("f");
    for error in wrapped(|| into_datafusion(wire.clone())) {
        assert_eq!(wire_error(&error), wire, "{error:?}");
    }
}

#[test]
fn errors_of_the_lake_are_found() {
    use inshore_lake::Error;
    let corrupt = || {
        let (path, why) = ("s3://b/f.parquet".to_owned(), "no magic".to_owned());
        Error::Corrupt { path, why }.into()
    };
    check(
        corrupt,
        Code::Corrupt,
        RetryVerdict::Never,
        "s3://b/f.parquet",
    );
    assert_eq!(
        wire_error(&corrupt()).file.as_deref(),
        Some("s3://b/f.parquet")
    );
    let gone = || {
        let source = object_store::Error::NotFound {
            path: "f.parquet".to_owned(),
            source: "404".into(),
        };
        Error::Gone {
            table: "lake.shop.sales".to_owned(),
            snapshot_id: 7,
            path: "s3://b/f.parquet".to_owned(),
            source: Arc::new(source),
        }
        .into()
    };
    check(
        gone,
        Code::NotFound,
        RetryVerdict::Never,
        "lake.shop.sales no longer exists",
    );
    assert_eq!(
        wire_error(&gone()).file.as_deref(),
        Some("s3://b/f.parquet")
    );
    let away = || {
        let (service, why) = ("catalog lake".to_owned(), "timed out".to_owned());
        Error::Unavailable { service, why }.into()
    };
    check(away, Code::Unavailable, RetryVerdict::Retry, "catalog lake");
}

#[test]
fn errors_of_stores_are_found() {
    let missing = || {
        DataFusionError::ObjectStore(Box::new(object_store::Error::NotFound {
            path: "data/f.parquet".to_owned(),
            source: "404".into(),
        }))
    };
    check(
        missing,
        Code::NotFound,
        RetryVerdict::Never,
        "data/f.parquet",
    );
    assert_eq!(
        wire_error(&missing()).file.as_deref(),
        Some("data/f.parquet")
    );
    let away = || {
        DataFusionError::ObjectStore(Box::new(object_store::Error::Generic {
            store: "S3",
            source: "connection reset".into(),
        }))
    };
    check(
        away,
        Code::Unavailable,
        RetryVerdict::Retry,
        "connection reset",
    );
}

#[test]
fn errors_of_datafusion() {
    let never = RetryVerdict::Never;
    let plan = || DataFusionError::Plan("no such column".to_owned());
    check(plan, Code::InvalidArgument, never, "no such column");
    let memory = || DataFusionError::ResourcesExhausted("pool is full".to_owned());
    check(
        memory,
        Code::ResourceExhausted,
        RetryVerdict::Retry,
        "pool is full",
    );
    let not_yet = || DataFusionError::NotImplemented("lateral".to_owned());
    check(not_yet, Code::Unsupported, never, "lateral");
    let division = || DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
    check(division, Code::InvalidArgument, never, "ivide by zero");
    let parquet = || ParquetError::General("bad page".to_owned()).into();
    check(parquet, Code::Corrupt, never, "bad page");
    let full = || DataFusionError::IoError(io::Error::from(io::ErrorKind::StorageFull));
    check(full, Code::ResourceExhausted, RetryVerdict::Retry, "");
}

#[tokio::test]
async fn panics_are_told_from_cancellations() {
    let panicked = tokio::spawn(async { panic!("kaboom") }).await.unwrap_err();
    let panicked = Arc::new(panicked);
    let error = DataFusionError::Context(
        "Join Error".to_owned(),
        Box::new(DataFusionError::External(Box::new(Arc::clone(&panicked)))),
    );
    let wire = wire_error(&error);
    assert_eq!(wire.code, Code::Panic);
    assert!(wire.message.contains("kaboom"), "{wire}");

    let sleeping = tokio::spawn(std::future::pending::<()>());
    sleeping.abort();
    let cancelled = sleeping.await.unwrap_err();
    let wire = wire_error(&DataFusionError::ExecutionJoin(Box::new(cancelled)));
    assert_eq!(wire.code, Code::Cancelled);

    assert!(panic_error(&"a literal").message.contains("a literal"));
    assert!(
        panic_error(&String::from("a string"))
            .message
            .contains("a string")
    );
    assert_eq!(panic_error(&7).code, Code::Panic);
}

#[test]
fn a_call_that_ends_without_an_error_of_ours_names_the_worker() {
    let url = Url::parse("grpc://127.0.0.1:41231").unwrap();
    let doing = "running stage 2 task 1 of query 7";
    let status = Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)));
    let error = call_error(&status, &url, doing);
    assert_eq!(
        (error.code, error.retry),
        (Code::Unavailable, RetryVerdict::Elsewhere)
    );
    assert_eq!(
        error.to_string(),
        "worker grpc://127.0.0.1:41231 is gone: connection reset while running stage 2 task 1 of \
         query 7"
    );
    let error = call_error(
        &Status::out_of_range("message length too large"),
        &url,
        doing,
    );
    assert_eq!(
        (error.code, error.retry),
        (Code::ResourceExhausted, RetryVerdict::Never)
    );
    let error = call_error(&Status::unimplemented("unknown service"), &url, doing);
    assert_eq!(
        (error.code, error.retry),
        (Code::Unsupported, RetryVerdict::Never)
    );
    let ours = WireError::new(Code::NotFound, RetryVerdict::Never, "no file").at_node("grpc://b:2");
    assert_eq!(call_error(&ours.to_status(), &url, doing), ours);
}
