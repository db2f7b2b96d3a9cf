//! Which state of a table is read: a snapshot, a branch or tag, or what was current at a time.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat};
use iceberg::spec::{Schema, Snapshot, SnapshotRef, SnapshotReference, TableMetadata};
use serde::Deserialize;

use crate::catalog::suggest;
use crate::{Error, Result};

/// How many existing snapshots an error names.
const NEAREST: usize = 3;

/// A state of a table, as a statement asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TableVersion {
    /// The snapshot with this id.
    Snapshot(i64),
    /// The branch or tag of this name; when there is none and the name is a number, the snapshot
    /// with that id.
    Ref(String),
    /// The branch of this name.
    Branch(String),
    /// The tag of this name.
    Tag(String),
    /// What was current at this time, in milliseconds since 1970 (UTC); a snapshot committed in
    /// just this millisecond counts.
    TimestampMs(i64),
}

/// The part of the metadata that iceberg-rust keeps to itself.
#[derive(Deserialize)]
struct Refs {
    #[serde(default)]
    refs: HashMap<String, SnapshotReference>,
}

impl TableVersion {
    /// The snapshot meant, and the schema it is read with: that of the snapshot for ids, tags and
    /// times, the current one for branches (Iceberg specification, "Snapshot References": a branch
    /// moves on with the table).
    ///
    /// # Errors
    /// [`Error::NotFound`] names what was asked for and what exists near it; [`Error::Corrupt`]
    /// when the snapshot names a schema that the metadata does not have.
    pub fn resolve(
        &self,
        table: &str,
        metadata: &TableMetadata,
    ) -> Result<(SnapshotRef, iceberg::spec::SchemaRef)> {
        match self {
            Self::Snapshot(id) => by_id(*id, table, metadata),
            Self::Ref(name) => by_ref(name, table, metadata),
            Self::Branch(name) => by_kind(name, true, table, metadata),
            Self::Tag(name) => by_kind(name, false, table, metadata),
            Self::TimestampMs(at) => by_time(*at, table, metadata),
        }
    }
}

type Resolved = (SnapshotRef, std::sync::Arc<Schema>);

fn by_id(id: i64, table: &str, metadata: &TableMetadata) -> Result<Resolved> {
    match metadata.snapshot_by_id(id) {
        Some(snapshot) => with_own_schema(snapshot, table, metadata),
        None => {
            // An expired snapshot may still be in the log.
            let logged = metadata.history().iter().find(|e| e.snapshot_id == id);
            let near = nearest(metadata, logged.map(|entry| entry.timestamp_ms()));
            Err(not_found(&format!("snapshot {id}"), table, &near))
        }
    }
}

fn by_ref(name: &str, table: &str, metadata: &TableMetadata) -> Result<Resolved> {
    let refs = refs(table, metadata)?;
    if let Some(reference) = refs.get(name) {
        return referred(name, reference, table, metadata);
    }
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        let Ok(id) = name.parse() else {
            let near = nearest(metadata, None);
            return Err(not_found(&format!("snapshot {name}"), table, &near));
        };
        return by_id(id, table, metadata);
    }
    Err(no_ref("branch or tag", name, refs, table))
}

fn referred(
    name: &str,
    reference: &SnapshotReference,
    table: &str,
    metadata: &TableMetadata,
) -> Result<Resolved> {
    let what = format!("snapshot {} of ref {name}", reference.snapshot_id);
    let snapshot = metadata
        .snapshot_by_id(reference.snapshot_id)
        .ok_or_else(|| not_found(&what, table, &nearest(metadata, None)))?;
    match reference.is_branch() {
        true => Ok((snapshot.clone(), metadata.current_schema().clone())),
        false => with_own_schema(snapshot, table, metadata),
    }
}

/// The branch, or the tag, of a name.
fn by_kind(name: &str, branch: bool, table: &str, metadata: &TableMetadata) -> Result<Resolved> {
    let mut refs = refs(table, metadata)?;
    refs.retain(|_, reference| reference.is_branch() == branch);
    match refs.get(name) {
        Some(reference) => referred(name, reference, table, metadata),
        None => {
            let kind = if branch { "branch" } else { "tag" };
            Err(no_ref(kind, name, refs, table))
        }
    }
}

fn no_ref(kind: &str, name: &str, refs: HashMap<String, SnapshotReference>, table: &str) -> Error {
    let mut near = suggest(name, refs.keys());
    if near.is_empty() {
        near = refs.into_keys().collect();
        near.sort();
        near.truncate(NEAREST);
    }
    let near: Vec<String> = near.iter().map(|name| format!("'{name}'")).collect();
    let what = format!("{kind} '{name}'");
    match near.is_empty() && kind == "tag" {
        true => Error::NotFound(format!("{what} of table {table} not found: it has no tag")),
        false => not_found(&what, table, &near),
    }
}

fn by_time(at: i64, table: &str, metadata: &TableMetadata) -> Result<Resolved> {
    let what = || format!("a snapshot at {}", shown_time(at));
    // The log decides and not ancestry: a table that was rolled back had another current snapshot.
    let current = match metadata.history() {
        [] => ancestors(metadata)
            .find(|snapshot| snapshot.timestamp_ms() <= at)
            .map(|snapshot| snapshot.snapshot_id()),
        log => log
            .iter()
            .rfind(|entry| entry.timestamp_ms() <= at)
            .map(|entry| entry.snapshot_id),
    };
    let near = || nearest(metadata, Some(at));
    let id = current.ok_or_else(|| not_found(&what(), table, &near()))?;
    let snapshot = metadata.snapshot_by_id(id).ok_or_else(|| {
        let what = format!("snapshot {id}, which was current at {}", shown_time(at));
        not_found(&what, table, &near())
    })?;
    with_own_schema(snapshot, table, metadata)
}

/// The current snapshot, its parent, and so on, as far as they are kept.
fn ancestors(metadata: &TableMetadata) -> impl Iterator<Item = &SnapshotRef> {
    let parent = |snapshot: &&SnapshotRef| {
        snapshot
            .parent_snapshot_id()
            .and_then(|id| metadata.snapshot_by_id(id))
    };
    // Broken metadata may lead in a circle.
    std::iter::successors(metadata.current_snapshot(), parent).take(metadata.snapshots().len())
}

fn with_own_schema(
    snapshot: &SnapshotRef,
    table: &str,
    metadata: &TableMetadata,
) -> Result<Resolved> {
    let schema = match snapshot.schema_id() {
        None => metadata.current_schema(),
        Some(id) => metadata.schema_by_id(id).ok_or_else(|| Error::Corrupt {
            path: metadata.location().to_owned(),
            why: format!(
                "snapshot {} of table {table} has schema {id}, which the metadata lacks",
                snapshot.snapshot_id()
            ),
        })?,
    };
    Ok((snapshot.clone(), schema.clone()))
}

/// All branches and tags. iceberg-rust has no way to list them, or to tell a branch from a tag, so
/// they are taken from the metadata's JSON form.
pub(crate) fn refs(
    table: &str,
    metadata: &TableMetadata,
) -> Result<HashMap<String, SnapshotReference>> {
    let broken = |error: serde_json::Error| {
        Error::Internal(format!("the refs of table {table} cannot be read: {error}"))
    };
    let json = serde_json::to_vec(metadata).map_err(broken)?;
    let mut refs = serde_json::from_slice::<Refs>(&json).map_err(broken)?.refs;
    refs.retain(|_, reference| metadata.snapshot_by_id(reference.snapshot_id).is_some());
    Ok(refs)
}

/// Existing snapshots nearest in time, or the youngest: `123 (2026-01-31T08:00:00.000Z)`.
fn nearest(metadata: &TableMetadata, at: Option<i64>) -> Vec<String> {
    let mut all: Vec<&Snapshot> = metadata.snapshots().map(AsRef::as_ref).collect();
    let at = at.unwrap_or(i64::MAX);
    all.sort_by_key(|snapshot| (snapshot.timestamp_ms().abs_diff(at), snapshot.snapshot_id()));
    all.iter()
        .take(NEAREST)
        .map(|snapshot| {
            let time = shown_time(snapshot.timestamp_ms());
            format!("{} ({time})", snapshot.snapshot_id())
        })
        .collect()
}

fn not_found(what: &str, table: &str, near: &[String]) -> Error {
    Error::NotFound(match near {
        [] => format!("{what} of table {table} not found: the table has no snapshot"),
        near => format!(
            "{what} of table {table} not found; the nearest are {}",
            near.join(", ")
        ),
    })
}

fn shown_time(ms: i64) -> String {
    match DateTime::from_timestamp_millis(ms) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => format!("{ms} ms since 1970"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use serde_json::{Value, json};

    /// Three commits; the table was rolled back to the first, then got the third.
    fn metadata(change: impl FnOnce(&mut Value)) -> TableMetadata {
        let schema = |id: i32, names: &[&str]| {
            let fields: Vec<Value> = names
                .iter()
                .zip(1..)
                .map(
                    |(name, id)| json!({"id": id, "name": name, "required": false, "type": "long"}),
                )
                .collect();
            json!({"type": "struct", "schema-id": id, "fields": fields})
        };
        let snapshot = |id: i64, parent: Option<i64>, ms: i64, schema: Option<i32>| {
            let mut snapshot = json!({
                "snapshot-id": id, "sequence-number": id, "timestamp-ms": ms,
                "summary": {"operation": "append"}, "manifest-list": format!("file:///t/{id}.avro"),
            });
            if let Some(parent) = parent {
                snapshot["parent-snapshot-id"] = json!(parent);
            }
            if let Some(schema) = schema {
                snapshot["schema-id"] = json!(schema);
            }
            snapshot
        };
        let mut value = json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
            "location": "file:///t", "last-sequence-number": 3, "last-updated-ms": 4000,
            "last-column-id": 2, "current-schema-id": 1,
            "schemas": [schema(0, &["a"]), schema(1, &["a", "b"])],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}],
            "last-partition-id": 999, "default-sort-order-id": 0,
            "sort-orders": [{"order-id": 0, "fields": []}],
            "current-snapshot-id": 3,
            "snapshots": [
                snapshot(1, None, 1000, Some(0)),
                snapshot(2, Some(1), 2000, Some(0)),
                snapshot(3, Some(1), 4000, None),
            ],
            "snapshot-log": [
                {"snapshot-id": 1, "timestamp-ms": 1000},
                {"snapshot-id": 2, "timestamp-ms": 2000},
                {"snapshot-id": 1, "timestamp-ms": 3000},
                {"snapshot-id": 3, "timestamp-ms": 4000},
            ],
            "refs": {
                "main": {"snapshot-id": 3, "type": "branch"},
                "audit": {"snapshot-id": 2, "type": "branch"},
                "v1": {"snapshot-id": 1, "type": "tag"},
                "2": {"snapshot-id": 1, "type": "tag"},
            },
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn found(version: &TableVersion, metadata: &TableMetadata) -> (i64, i32) {
        let (snapshot, schema) = version.resolve("lake.n.t", metadata).unwrap();
        (snapshot.snapshot_id(), schema.schema_id())
    }

    fn refused(version: &TableVersion, metadata: &TableMetadata) -> String {
        match version.resolve("lake.n.t", metadata) {
            Err(Error::NotFound(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ids_and_tags_have_their_snapshots_schema_and_branches_the_current_one() {
        let metadata = metadata(|_| {});
        assert_eq!(found(&TableVersion::Snapshot(1), &metadata), (1, 0));
        assert_eq!(found(&TableVersion::Snapshot(3), &metadata), (3, 1));
        assert_eq!(found(&TableVersion::Ref("v1".into()), &metadata), (1, 0));
        assert_eq!(found(&TableVersion::Ref("audit".into()), &metadata), (2, 1));
        assert_eq!(found(&TableVersion::Ref("main".into()), &metadata), (3, 1));
    }

    #[test]
    fn a_number_as_text_is_a_ref_before_it_is_an_id() {
        let metadata = metadata(|_| {});
        assert_eq!(found(&TableVersion::Ref("2".into()), &metadata), (1, 0));
        assert_eq!(found(&TableVersion::Ref("3".into()), &metadata), (3, 1));
        let long = TableVersion::Ref("99999999999999999999".into());
        assert!(refused(&long, &metadata).contains("snapshot 99999999999999999999"));
    }

    #[test]
    fn the_log_decides_what_was_current() {
        let metadata = metadata(|_| {});
        let at = |ms| found(&TableVersion::TimestampMs(ms), &metadata).0;
        assert_eq!([at(1000), at(1999), at(2000), at(2999)], [1, 1, 2, 2]);
        assert_eq!([at(3000), at(3999), at(4000), at(i64::MAX)], [1, 1, 3, 3]);
        let early = refused(&TableVersion::TimestampMs(999), &metadata);
        assert!(early.contains("1970-01-01T00:00:00.999Z"), "{early}");
        assert!(
            early.contains("nearest are 1 (1970-01-01T00:00:01.000Z)"),
            "{early}"
        );
    }

    #[test]
    fn without_a_log_the_ancestors_of_the_current_snapshot_count() {
        let metadata = metadata(|value| value["snapshot-log"] = json!([]));
        let at = |ms| found(&TableVersion::TimestampMs(ms), &metadata).0;
        assert_eq!([at(1000), at(2500), at(3999), at(4000)], [1, 1, 1, 3]);
    }

    #[test]
    fn what_is_gone_is_an_error_with_what_is_left() {
        let metadata = metadata(|value| {
            value["snapshots"].as_array_mut().unwrap().remove(1);
            value["refs"].as_object_mut().unwrap().remove("audit");
        });
        let expired = refused(&TableVersion::Snapshot(2), &metadata);
        assert!(
            expired.contains("snapshot 2 of table lake.n.t not found"),
            "{expired}"
        );
        assert!(expired.contains("nearest are 1 (1970"), "{expired}");
        let expired = refused(&TableVersion::TimestampMs(2500), &metadata);
        assert!(
            expired.contains("snapshot 2, which was current at"),
            "{expired}"
        );
        let slip = refused(&TableVersion::Ref("v2".into()), &metadata);
        assert!(
            slip.contains("branch or tag 'v2'") && slip.contains("'v1'"),
            "{slip}"
        );
    }

    #[test]
    fn a_table_without_snapshots_says_so() {
        let metadata = metadata(|value| {
            let object = value.as_object_mut().unwrap();
            for key in ["current-snapshot-id", "snapshots", "snapshot-log", "refs"] {
                object.remove(key);
            }
        });
        for version in [
            TableVersion::Snapshot(1),
            TableVersion::TimestampMs(1),
            TableVersion::Ref("main".into()),
        ] {
            assert!(refused(&version, &metadata).ends_with("has no snapshot"));
        }
    }
}
