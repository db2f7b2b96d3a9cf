//! Changes of tables through the REST protocol, and what becomes of them when answers are lost.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use iceberg::spec::Transform;
use inshore_lake::catalog::Catalogs;
use inshore_lake::config::CatalogKind;
use inshore_lake::evolution::{Alteration, Alterations, FieldPath, PartitionChoice, PartitionKey};
use inshore_lake::snapshot::{ChangeRef, Mode, RefAction, RefChange, RefKind, Retention};
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
        parent: FieldPath::default(),
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

fn branch(mode: Mode, min_snapshots: Option<i32>) -> ChangeRef {
    let retention = Retention {
        min_snapshots,
        ..Retention::default()
    };
    let change = RefChange {
        kind: RefKind::Branch,
        name: "audit".to_owned(),
        action: RefAction::Put {
            mode,
            snapshot: None,
            retention,
        },
    };
    ChangeRef::new("lake.made.t", change)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_what_it_was_when_it_is_changed() {
    let (_dir, _server, shared, catalogs) = begin().await;
    let t = table(&catalogs).await;
    append(&catalogs, &t, 3).await.unwrap();
    let loaded = catalogs.load(&t).await.unwrap().unwrap();
    let first = loaded.metadata().current_snapshot_id().unwrap();
    // Lost answers and conflicts that were none are seen in the table's refs.
    for (number, (mode, fault)) in [
        (Mode::Create, Some(Fault::DropAfter)),
        (Mode::CreateOrReplace, Some(Fault::ConflictAfter)),
        (Mode::Replace, Some(Fault::Conflict)),
    ]
    .into_iter()
    .enumerate()
    {
        shared.lock().unwrap().faults.extend(fault);
        let keep = i32::try_from(number).unwrap() + 1;
        let change = branch(mode, Some(keep));
        catalogs.change_table(&t, &change).await.unwrap().unwrap();
    }
    let files = written(&loaded, catalogs.stores(), &rows(2)).await;
    let to_branch = Append::new("t", &loaded, files).to_branch("audit");
    catalogs
        .change_table(&t, &to_branch)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(counted(&catalogs, &t).await, 3);
    let drop = RefChange {
        kind: RefKind::Branch,
        name: "audit".to_owned(),
        action: RefAction::Drop { if_exists: false },
    };
    let drop = ChangeRef::new("lake.made.t", drop);
    let second = catalogs.load(&t).await.unwrap().unwrap();
    let second = second.metadata().snapshot_for_ref("audit").unwrap();
    let second = second.snapshot_id();
    let table = catalogs.change_table(&t, &drop).await.unwrap().unwrap();
    assert!(table.metadata().snapshot_for_ref("audit").is_none());
    let again = catalogs.change_table(&t, &to_branch).await.unwrap_err();
    assert!(
        again
            .to_string()
            .contains("branch audit of table t was dropped"),
        "{again}"
    );
    let commits = shared.lock().unwrap().commits.clone();
    let asserted: Vec<_> = commits[1..]
        .iter()
        .map(|commit| {
            let requirement = &commit["requirements"][1];
            assert_eq!(requirement["type"], "assert-ref-snapshot-id");
            assert_eq!(requirement["ref"], "audit");
            requirement["snapshot-id"].as_i64()
        })
        .collect();
    // The replacement was sent twice.
    let (first, second) = (Some(first), Some(second));
    assert_eq!(asserted, [None, first, first, first, first, second]);
    assert_eq!(
        commits[4]["updates"][0],
        json!({"action": "set-snapshot-ref", "ref-name": "audit", "type": "branch",
               "snapshot-id": first, "min-snapshots-to-keep": 3})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioning_changes_as_long_as_it_is_the_same() {
    let (_dir, _server, shared, catalogs) = begin().await;
    let t = table(&catalogs).await;
    let key = PartitionKey {
        column: "id".to_owned(),
        transform: Transform::Bucket(4),
    };
    let add = Alterations(vec![Alteration::AddPartitionField {
        key: key.clone(),
        name: None,
    }]);
    let drop = Alterations(vec![Alteration::DropPartitionField(PartitionChoice::Key(
        key,
    ))]);
    append(&catalogs, &t, 3).await.unwrap();
    for (change, updates, requirements) in [
        (
            &add,
            json!([
                {"action": "add-spec", "spec": {"spec-id": 1, "fields": [{"source-id": 1,
                 "field-id": 1000, "name": "id_bucket_4", "transform": "bucket[4]"}]}},
                {"action": "set-default-spec", "spec-id": -1},
            ]),
            json!([
                {"type": "assert-last-assigned-partition-id", "last-assigned-partition-id": 999},
                {"type": "assert-default-spec-id", "default-spec-id": 0},
            ]),
        ),
        // A spec that was there is only made the default one again.
        (
            &drop,
            json!([{"action": "set-default-spec", "spec-id": 0}]),
            json!([{"type": "assert-default-spec-id", "default-spec-id": 1}]),
        ),
        (
            &add,
            json!([{"action": "set-default-spec", "spec-id": 1}]),
            json!([{"type": "assert-default-spec-id", "default-spec-id": 0}]),
        ),
    ] {
        shared.lock().unwrap().commits.clear();
        catalogs.change_table(&t, change).await.unwrap().unwrap();
        let commit = shared.lock().unwrap().commits[0].clone();
        assert_eq!(commit["updates"], updates);
        let asserted = &commit["requirements"].as_array().unwrap()[1..];
        assert_eq!(&json!(asserted), &requirements);
    }
    append(&catalogs, &t, 5).await.unwrap();
    assert_eq!(counted(&catalogs, &t).await, 8);
    // Another writer was quicker, and an answer was lost: once more, and not once more.
    for (fault, change) in [(Fault::Conflict, &drop), (Fault::DropAfter, &add)] {
        shared.lock().unwrap().faults.push_back(fault);
        catalogs.change_table(&t, change).await.unwrap().unwrap();
    }
    let table = catalogs.load(&t).await.unwrap().unwrap();
    assert_eq!(table.metadata().default_partition_spec_id(), 1);
    assert_eq!(table.metadata().partition_specs_iter().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn null_is_forbidden_only_while_there_are_no_rows() {
    let (_dir, _server, shared, catalogs) = begin().await;
    let t = table(&catalogs).await;
    let name = FieldPath::from("note".to_owned());
    let add = Alteration::AddColumn {
        parent: FieldPath::default(),
        field: iceberg::spec::NestedField::optional(
            9,
            "note",
            iceberg::spec::Type::Primitive(iceberg::spec::PrimitiveType::String),
        ),
        if_not_exists: false,
        place: None,
    };
    let before = catalogs.change_table(&t, &Alterations(vec![add])).await;
    let before = before.unwrap().unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let notes: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None]));
    let batch = RecordBatch::try_from_iter([("id", ids), ("note", notes)]).unwrap();
    let files = written(&before, catalogs.stores(), &batch).await;
    let strict = Alterations(vec![Alteration::SetNotNull { name }]);
    shared.lock().unwrap().commits.clear();
    catalogs.change_table(&t, &strict).await.unwrap().unwrap();
    let commit = shared.lock().unwrap().commits[0].clone();
    let asserted = commit["requirements"].as_array().unwrap().iter();
    let of_ref = json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null});
    assert!(asserted.clone().any(|requirement| *requirement == of_ref));
    // Rows that were written before may be NULL.
    let late = Append::new("t", &before, files);
    let late = catalogs.change_table(&t, &late).await;
    assert!(matches!(late, Err(Error::Conflict(_))), "{late:?}");
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
