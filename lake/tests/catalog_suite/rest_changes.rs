//! Changes of tables through the REST protocol, and what becomes of them when answers are lost.

use std::sync::Arc;

use inshore_lake::catalog::Catalogs;
use inshore_lake::config::CatalogKind;
use inshore_lake::evolution::{Alteration, Alterations};
use inshore_lake::maintenance::{Purged, purge_table};
use inshore_lake::write::Append;
use inshore_lake::{Error, TableName};
use serde_json::json;
use tempfile::TempDir;

use crate::changes::{check_changes, creation, name, property};
use crate::http::Server;
use crate::rest_server::{Fault, Shared, start};
use crate::support::{catalog, count, open, rows, written};

async fn begin() -> (TempDir, Server, Shared, Arc<Catalogs>) {
    let dir = tempfile::tempdir().unwrap();
    let (server, shared) = start(dir.path()).await;
    let config = catalog(CatalogKind::Rest, Some(&server.uri), None);
    let catalogs = open(config, dir.path());
    (dir, server, shared, catalogs)
}

/// A table `made.t`, of which nobody else knows.
async fn table(catalogs: &Catalogs) -> TableName {
    catalogs.create_namespace("lake", "made").await.unwrap();
    let t = name("made", "t");
    let made = catalogs.create_table(&t, creation("t")).await.unwrap();
    assert!(made.is_some());
    t
}

/// Adds the ids `0..count` to a table.
async fn append(catalogs: &Catalogs, t: &TableName, count: i64) -> Result<(), Error> {
    let table = catalogs.load(t).await.unwrap().unwrap();
    let files = written(&table, catalogs.stores(), &rows(count)).await;
    let changed = catalogs
        .change_table(t, &Append::new("t", &table, files))
        .await;
    changed.map(|table| assert!(table.is_some()))
}

async fn counted(catalogs: &Catalogs, t: &TableName) -> usize {
    count(&catalogs.load(t).await.unwrap().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_catalog_changes() {
    let (_dir, _server, _, catalogs) = begin().await;
    check_changes(&catalogs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_asserts_what_it_depends_on() {
    let (_dir, _server, shared, catalogs) = begin().await;
    let t = table(&catalogs).await;
    append(&catalogs, &t, 3).await.unwrap();
    let add = Alterations(vec![Alteration::AddColumn {
        field: iceberg::spec::NestedField::optional(
            9,
            "note",
            iceberg::spec::Type::Primitive(iceberg::spec::PrimitiveType::String),
        ),
        if_not_exists: false,
        place: None,
    }]);
    catalogs.change_table(&t, &add).await.unwrap().unwrap();
    let commits = shared.lock().unwrap().commits.clone();
    let kinds = |commit: &serde_json::Value, key: &str, kind: &str| -> Vec<String> {
        let entries = commit[key].as_array().unwrap().iter();
        entries
            .map(|entry| entry[kind].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        kinds(&commits[0], "requirements", "type"),
        ["assert-table-uuid", "assert-ref-snapshot-id"]
    );
    assert_eq!(
        commits[0]["requirements"][1]["snapshot-id"],
        serde_json::Value::Null
    );
    assert_eq!(
        kinds(&commits[0], "updates", "action"),
        ["add-snapshot", "set-snapshot-ref"]
    );
    assert_eq!(
        kinds(&commits[1], "requirements", "type"),
        [
            "assert-table-uuid",
            "assert-last-assigned-field-id",
            "assert-current-schema-id"
        ]
    );
    assert_eq!(commits[1]["requirements"][1]["last-assigned-field-id"], 1);
    assert_eq!(
        commits[1]["identifier"],
        json!({"namespace": ["made"], "name": "t"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_are_resolved_by_looking() {
    let (_dir, _server, shared, catalogs) = begin().await;
    let t = table(&catalogs).await;
    let mut expected = 0;
    // Each is tried again, or found to have happened: the rows are there once.
    for (fault, sent) in [
        (Fault::Conflict, 2),
        (Fault::ConflictAfter, 1),
        (Fault::StatusAfter(500), 1),
        (Fault::StatusAfter(502), 1),
        (Fault::StatusAfter(503), 1),
        (Fault::StatusAfter(504), 1),
        (Fault::DropAfter, 1),
    ] {
        {
            let mut shared = shared.lock().unwrap();
            shared.faults.push_back(fault);
            shared.commits.clear();
        }
        append(&catalogs, &t, 5).await.unwrap();
        expected += 5;
        assert_eq!(shared.lock().unwrap().commits.len(), sent, "{fault:?}");
        assert_eq!(counted(&catalogs, &t).await, expected, "{fault:?}");
    }
    // Another writer went on instead, so the service can no longer do what was sent: once more.
    shared
        .lock()
        .unwrap()
        .faults
        .push_back(Fault::DropBeforeOther);
    append(&catalogs, &t, 5).await.unwrap();
    assert_eq!(counted(&catalogs, &t).await, expected);
    // Properties are found by their values.
    for fault in [Fault::Conflict, Fault::DropAfter, Fault::ConflictAfter] {
        shared.lock().unwrap().faults.push_back(fault);
        let change = property("fault", &format!("{fault:?}"));
        let table = catalogs.change_table(&t, &change).await.unwrap().unwrap();
        assert_eq!(table.metadata().properties()["fault"], format!("{fault:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_known_is_said_and_not_sent_again() {
    let (_dir, _server, shared, catalogs) = begin().await;
    let t = table(&catalogs).await;
    for fault in [
        Fault::DropBefore,
        Fault::StatusBefore(500),
        Fault::StatusBefore(503),
    ] {
        {
            let mut shared = shared.lock().unwrap();
            shared.faults.push_back(fault);
            shared.commits.clear();
        }
        let error = append(&catalogs, &t, 5).await.unwrap_err();
        assert!(matches!(error, Error::CommitUnknown { .. }), "{error}");
        assert!(!error.is_retryable());
        assert_eq!(shared.lock().unwrap().commits.len(), 1, "{fault:?}");
        assert_eq!(counted(&catalogs, &t).await, 0);
    }
    // What the service refuses did not happen, and is said in its words.
    for (status, part) in [
        (400, "Fault: a fault before"),
        (403, "check token"),
        (422, "422"),
    ] {
        let fault = Fault::StatusBefore(status);
        shared.lock().unwrap().faults.push_back(fault);
        let error = append(&catalogs, &t, 5).await.unwrap_err().to_string();
        assert!(
            error.contains(part) && error.contains("catalog lake"),
            "{error}"
        );
    }
    assert_eq!(counted(&catalogs, &t).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_table_appears_with_its_rows_or_not_at_all() {
    let (_dir, _server, shared, catalogs) = begin().await;
    catalogs.create_namespace("lake", "made").await.unwrap();
    let t = name("made", "t");
    let make = async |fault: Option<Fault>| {
        let mut creation = creation("t");
        creation.format_version = iceberg::spec::FormatVersion::V3;
        let staged = catalogs.stage_table(&t, creation).await.unwrap().unwrap();
        assert!(catalogs.load(&t).await.unwrap().is_none());
        let files = written(&staged, catalogs.stores(), &rows(4)).await;
        let append = Append::new("t", &staged, files);
        shared.lock().unwrap().faults.extend(fault);
        catalogs.create_staged(&t, &staged, &append).await
    };
    for fault in [
        None,
        Some(Fault::DropAfter),
        Some(Fault::StatusAfter(503)),
        Some(Fault::ConflictAfter),
    ] {
        let table = make(fault).await.unwrap().unwrap();
        assert_eq!(count(&table).await, 4, "{fault:?}");
        assert_eq!(counted(&catalogs, &t).await, 4, "{fault:?}");
        assert_eq!(
            table.metadata().format_version(),
            iceberg::spec::FormatVersion::V3
        );
        let again = catalogs.stage_table(&t, creation("t")).await.unwrap();
        assert!(again.is_none());
        assert!(catalogs.drop_table(&t).await.unwrap());
    }
    let unknown = make(Some(Fault::DropBefore)).await.unwrap_err();
    assert!(matches!(unknown, Error::CommitUnknown { .. }), "{unknown}");
    assert!(catalogs.load(&t).await.unwrap().is_none());
    // Another table of that name was made meanwhile.
    let staged = catalogs.stage_table(&t, creation("t")).await.unwrap();
    let other = catalogs.create_table(&t, creation("t")).await.unwrap();
    let append = Append::new("t", staged.as_ref().unwrap(), vec![]);
    let made = catalogs
        .create_staged(&t, staged.as_ref().unwrap(), &append)
        .await;
    assert!(made.unwrap().is_none());
    let there = catalogs.load(&t).await.unwrap().unwrap();
    assert_eq!(there.metadata().uuid(), other.unwrap().metadata().uuid());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_deletes_the_files_of_its_tables() {
    let (dir, _server, shared, catalogs) = begin().await;
    let t = table(&catalogs).await;
    append(&catalogs, &t, 3).await.unwrap();
    let location = catalogs.load(&t).await.unwrap().unwrap();
    let location = location.metadata().location().to_owned();
    let files = || {
        std::fs::read_dir(dir.path().join("made/t/data"))
            .unwrap()
            .count()
    };
    assert_eq!(files(), 1);
    // What is not known is said, and no file of ours is touched.
    shared.lock().unwrap().faults.push_back(Fault::DropBefore);
    let error = purge_table(&catalogs, &t).await.unwrap_err();
    assert!(matches!(error, Error::CommitUnknown { .. }), "{error}");
    assert!(!error.is_retryable());
    let purged = purge_table(&catalogs, &t).await.unwrap();
    assert_eq!(purged, Some(Purged::default()));
    assert_eq!(shared.lock().unwrap().purged, [location]);
    assert_eq!(files(), 1);
    assert_eq!(purge_table(&catalogs, &t).await.unwrap(), None);
    // Where files must not be deleted, nothing is sent.
    let mut creation = creation("t");
    let gc = ("gc.enabled".to_owned(), "false".to_owned());
    creation.properties.extend([gc]);
    catalogs.create_table(&t, creation).await.unwrap().unwrap();
    let error = purge_table(&catalogs, &t).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert!(catalogs.load(&t).await.unwrap().is_some());
    // Dropping it without its files says so.
    assert!(catalogs.drop_table(&t).await.unwrap());
    assert_eq!(shared.lock().unwrap().purged.len(), 1);
}
