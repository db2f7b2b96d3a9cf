//! `$partitions`: the files of a snapshot, added up by partition.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use iceberg::spec::{DataContentType, PrimitiveLiteral};

use super::columns::{batch, instant, instants, ints, longs};
use super::files::{Manifests, partition_column};
use crate::Result;
use crate::manifest::{DataFileEntry, DecodedManifest};
use crate::scan::metadata_columns::PartitionStruct;
use crate::table::IcebergTable;

pub fn schema(table: &IcebergTable) -> SchemaRef {
    let partition = PartitionStruct::of(table.table().metadata()).data_type();
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![
        Field::new("partition", partition, true),
        Field::new("spec_id", DataType::Int32, true),
        number("record_count"),
        number("file_count"),
        number("total_size"),
        number("total_data_file_size_in_bytes"),
        number("position_delete_record_count"),
        number("position_delete_file_count"),
        number("equality_delete_record_count"),
        number("equality_delete_file_count"),
        Field::new("last_updated_at", instant(), true),
        number("last_updated_snapshot_id"),
    ]))
}

#[derive(Default)]
struct Totals {
    records: i64,
    files: i64,
    bytes: i64,
    position_records: i64,
    position_files: i64,
    equality_records: i64,
    equality_files: i64,
    updated: Option<(i64, i64)>,
}

pub fn rows(
    table: &IcebergTable,
    manifests: &Manifests,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let metadata = table.table().metadata();
    type Key = (i32, Vec<Option<PrimitiveLiteral>>);
    let mut places: HashMap<Key, usize> = HashMap::new();
    let mut first: Vec<(&DecodedManifest, usize, &DataFileEntry)> = vec![];
    let mut totals: Vec<Totals> = vec![];
    for (_, manifest) in manifests {
        for (place, entry) in manifest.entries.iter().enumerate() {
            let at = *places
                .entry(manifest.partition_of(place))
                .or_insert_with(|| {
                    first.push((manifest.as_ref(), place, entry));
                    totals.push(Totals::default());
                    totals.len() - 1
                });
            let Some(total) = totals.get_mut(at) else {
                continue;
            };
            let records = i64::try_from(entry.record_count).unwrap_or(i64::MAX);
            match entry.content {
                DataContentType::Data => {
                    total.records += records;
                    total.files += 1;
                    total.bytes += i64::try_from(entry.size_bytes).unwrap_or(i64::MAX);
                }
                DataContentType::PositionDeletes => {
                    total.position_records += records;
                    total.position_files += 1;
                }
                DataContentType::EqualityDeletes => {
                    total.equality_records += records;
                    total.equality_files += 1;
                }
            }
            let snapshot = entry.snapshot_id.and_then(|id| metadata.snapshot_by_id(id));
            let updated = snapshot.map(|s| (s.timestamp_ms(), s.snapshot_id()));
            total.updated = total.updated.max(updated);
        }
    }
    let sum = |get: fn(&Totals) -> i64| longs(totals.iter().map(|total| Some(get(total))));
    let columns = vec![
        partition_column(table, &first)?,
        ints(first.iter().map(|(manifest, _, _)| Some(manifest.spec_id))),
        sum(|t| t.records),
        sum(|t| t.files),
        sum(|t| t.bytes),
        sum(|t| t.bytes),
        sum(|t| t.position_records),
        sum(|t| t.position_files),
        sum(|t| t.equality_records),
        sum(|t| t.equality_files),
        instants(totals.iter().map(|t| t.updated.map(|(time, _)| time))),
        longs(totals.iter().map(|t| t.updated.map(|(_, id)| id))),
    ];
    batch(schema, columns)
}
