//! `$snapshots`, `$history`, `$refs`, `$properties` and `$metadata_log_entries`: what the metadata
//! file says.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use iceberg::spec::{SnapshotRef, SnapshotRetention, TableMetadata};
use serde_json::Value;

use super::columns::{
    batch, booleans, instant, instants, internal, ints, longs, map_of, text_maps, texts,
};
use crate::Result;
use crate::catalog::COLUMN_TYPE_PROPERTY;
use crate::table::IcebergTable;

fn schema(fields: Vec<(&str, DataType)>) -> SchemaRef {
    let fields = fields
        .into_iter()
        .map(|(name, ty)| Field::new(name, ty, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

pub fn snapshots_schema() -> SchemaRef {
    schema(vec![
        ("committed_at", instant()),
        ("snapshot_id", DataType::Int64),
        ("parent_id", DataType::Int64),
        ("operation", DataType::Utf8),
        ("manifest_list", DataType::Utf8),
        ("summary", map_of(DataType::Utf8, DataType::Utf8)),
    ])
}

/// The snapshots, oldest first.
pub fn snapshots(table: &IcebergTable, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut all: Vec<&SnapshotRef> = table.table().metadata().snapshots().collect();
    all.sort_by_key(|snapshot| (snapshot.timestamp_ms(), snapshot.sequence_number()));
    let columns = vec![
        instants(all.iter().map(|s| Some(s.timestamp_ms()))),
        longs(all.iter().map(|s| Some(s.snapshot_id()))),
        longs(all.iter().map(|s| s.parent_snapshot_id())),
        texts(
            all.iter()
                .map(|s| Some(s.summary().operation.as_str().to_owned())),
        ),
        texts(all.iter().map(|s| Some(s.manifest_list().to_owned()))),
        text_maps(all.iter().map(|s| &s.summary().additional_properties))?,
    ];
    batch(schema, columns)
}

pub fn history_schema() -> SchemaRef {
    schema(vec![
        ("made_current_at", instant()),
        ("snapshot_id", DataType::Int64),
        ("parent_id", DataType::Int64),
        ("is_current_ancestor", DataType::Boolean),
    ])
}

pub fn history(table: &IcebergTable, schema: &SchemaRef) -> Result<RecordBatch> {
    let metadata = table.table().metadata();
    let log = metadata.history();
    let ancestors = ancestors(metadata);
    let parent = |id: i64| metadata.snapshot_by_id(id)?.parent_snapshot_id();
    let columns = vec![
        instants(log.iter().map(|entry| Some(entry.timestamp_ms()))),
        longs(log.iter().map(|entry| Some(entry.snapshot_id))),
        longs(log.iter().map(|entry| parent(entry.snapshot_id))),
        booleans(
            log.iter()
                .map(|entry| Some(ancestors.contains(&entry.snapshot_id))),
        ),
    ];
    batch(schema, columns)
}

/// The current snapshot and those it grew out of.
fn ancestors(metadata: &TableMetadata) -> HashSet<i64> {
    let mut found = HashSet::new();
    let mut next = metadata.current_snapshot();
    while let Some(snapshot) = next {
        // Broken metadata may have a circle.
        if !found.insert(snapshot.snapshot_id()) {
            break;
        }
        next = snapshot
            .parent_snapshot_id()
            .and_then(|id| metadata.snapshot_by_id(id));
    }
    found
}

pub fn refs_schema() -> SchemaRef {
    schema(vec![
        ("name", DataType::Utf8),
        ("type", DataType::Utf8),
        ("snapshot_id", DataType::Int64),
        ("max_reference_age_in_ms", DataType::Int64),
        ("min_snapshots_to_keep", DataType::Int32),
        ("max_snapshot_age_in_ms", DataType::Int64),
    ])
}

/// Branches and tags, by name. iceberg-rust keeps the list of names to itself, its JSON does not.
pub fn refs(table: &IcebergTable, schema: &SchemaRef) -> Result<RecordBatch> {
    let json = serde_json::to_value(table.table().metadata()).map_err(internal)?;
    let mut refs: Vec<(String, i64, Option<SnapshotRetention>)> = vec![];
    for (name, reference) in json
        .get("refs")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let id = reference.get("snapshot-id").and_then(Value::as_i64);
        let retention = serde_json::from_value(reference.clone()).ok();
        refs.extend(id.map(|id| (name.clone(), id, retention)));
    }
    refs.sort_by(|a, b| a.0.cmp(&b.0));
    let kind = |retention: &Option<SnapshotRetention>| match retention {
        Some(SnapshotRetention::Tag { .. }) => "TAG".to_owned(),
        _ => "BRANCH".to_owned(),
    };
    let ref_age = |retention: &Option<SnapshotRetention>| match retention {
        Some(SnapshotRetention::Branch { max_ref_age_ms, .. })
        | Some(SnapshotRetention::Tag { max_ref_age_ms }) => *max_ref_age_ms,
        None => None,
    };
    let (keep, age): (Vec<Option<i32>>, Vec<Option<i64>>) = refs
        .iter()
        .map(|(_, _, retention)| match retention {
            Some(SnapshotRetention::Branch {
                min_snapshots_to_keep,
                max_snapshot_age_ms,
                ..
            }) => (*min_snapshots_to_keep, *max_snapshot_age_ms),
            _ => (None, None),
        })
        .unzip();
    let columns = vec![
        texts(refs.iter().map(|(name, _, _)| Some(name.clone()))),
        texts(refs.iter().map(|(_, _, retention)| Some(kind(retention)))),
        longs(refs.iter().map(|(_, id, _)| Some(*id))),
        longs(refs.iter().map(|(_, _, retention)| ref_age(retention))),
        ints(keep),
        longs(age),
    ];
    batch(schema, columns)
}

pub fn properties_schema() -> SchemaRef {
    schema(vec![("key", DataType::Utf8), ("value", DataType::Utf8)])
}

/// The table's properties, by key.
pub fn properties(table: &IcebergTable, schema: &SchemaRef) -> Result<RecordBatch> {
    let properties = table.table().metadata().properties().iter();
    let mut pairs: Vec<_> = properties
        .filter(|(key, _)| !key.starts_with(COLUMN_TYPE_PROPERTY))
        .collect();
    pairs.sort();
    let columns = vec![
        texts(pairs.iter().map(|(key, _)| Some((*key).clone()))),
        texts(pairs.iter().map(|(_, value)| Some((*value).clone()))),
    ];
    batch(schema, columns)
}

pub fn metadata_log_schema() -> SchemaRef {
    schema(vec![
        ("timestamp", instant()),
        ("file", DataType::Utf8),
        ("latest_snapshot_id", DataType::Int64),
        ("latest_schema_id", DataType::Int32),
        ("latest_sequence_number", DataType::Int64),
    ])
}

/// The metadata files so far, the current one last, each with the snapshot that was current.
pub fn metadata_log(table: &IcebergTable, schema: &SchemaRef) -> Result<RecordBatch> {
    let metadata = table.table().metadata();
    let mut log: Vec<(i64, String)> = metadata
        .metadata_log()
        .iter()
        .map(|entry| (entry.timestamp_ms, entry.metadata_file.clone()))
        .collect();
    if let Some(current) = table.table().metadata_location() {
        log.push((metadata.last_updated_ms(), current.to_owned()));
    }
    let snapshots: Vec<Option<&SnapshotRef>> = log
        .iter()
        .map(|(time, _)| {
            let before = metadata.history().iter().rev();
            let entry = before
                .into_iter()
                .find(|entry| entry.timestamp_ms() <= *time)?;
            metadata.snapshot_by_id(entry.snapshot_id)
        })
        .collect();
    let columns = vec![
        instants(log.iter().map(|(time, _)| Some(*time))),
        texts(log.iter().map(|(_, file)| Some(file.clone()))),
        longs(snapshots.iter().map(|s| s.map(|s| s.snapshot_id()))),
        ints(snapshots.iter().map(|s| s.and_then(|s| s.schema_id()))),
        longs(snapshots.iter().map(|s| s.map(|s| s.sequence_number()))),
    ];
    batch(schema, columns)
}
