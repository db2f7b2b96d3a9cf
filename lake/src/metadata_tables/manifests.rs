//! `$manifests`: the manifests of a snapshot.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, ListBuilder, RecordBatch, StringBuilder, StructBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use iceberg::spec::PrimitiveType;

use super::columns::{batch, count, ints, longs, texts};
use super::files::bound_text;
use crate::Result;
use crate::manifest::{ManifestContent, ManifestFile, PartitionSpecs};
use crate::table::IcebergTable;

fn summary_fields() -> Fields {
    Fields::from(vec![
        Field::new("contains_null", DataType::Boolean, true),
        Field::new("contains_nan", DataType::Boolean, true),
        Field::new("lower_bound", DataType::Utf8, true),
        Field::new("upper_bound", DataType::Utf8, true),
    ])
}

fn summary_element() -> Field {
    Field::new("element", DataType::Struct(summary_fields()), true)
}

pub fn schema() -> SchemaRef {
    let mut fields = vec![
        Field::new("content", DataType::Int32, false),
        Field::new("path", DataType::Utf8, false),
        Field::new("length", DataType::Int64, true),
        Field::new("partition_spec_id", DataType::Int32, true),
        Field::new("added_snapshot_id", DataType::Int64, true),
    ];
    for kind in ["data", "delete"] {
        for change in ["added", "existing", "deleted"] {
            let name = format!("{change}_{kind}_files_count");
            fields.push(Field::new(name, DataType::Int32, true));
        }
    }
    for change in ["added", "existing", "deleted"] {
        fields.push(Field::new(
            format!("{change}_rows_count"),
            DataType::Int64,
            true,
        ));
    }
    fields.push(Field::new("sequence_number", DataType::Int64, true));
    let summaries = DataType::List(Arc::new(summary_element()));
    fields.push(Field::new("partition_summaries", summaries, true));
    Arc::new(Schema::new(fields))
}

pub fn rows(
    table: &IcebergTable,
    manifests: &[ManifestFile],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let all = || manifests.iter();
    let mut columns = vec![
        ints(all().map(|m| Some(i32::from(m.content == ManifestContent::Deletes)))),
        texts(all().map(|m| Some(m.path.to_string()))),
        longs(all().map(|m| count(m.length_bytes))),
        ints(all().map(|m| Some(m.spec_id))),
        longs(all().map(|m| m.added_snapshot_id)),
    ];
    for content in [ManifestContent::Data, ManifestContent::Deletes] {
        let of = |get: fn(&ManifestFile) -> Option<u64>| -> ArrayRef {
            ints(all().map(|m| match m.content == content {
                true => get(m).and_then(|count| i32::try_from(count).ok()),
                false => Some(0),
            }))
        };
        columns.push(of(|m| m.added_files));
        columns.push(of(|m| m.existing_files));
        columns.push(of(|m| m.deleted_files));
    }
    columns.push(longs(all().map(|m| m.added_rows)));
    columns.push(longs(all().map(|m| m.existing_rows)));
    columns.push(longs(all().map(|m| m.deleted_rows)));
    columns.push(longs(all().map(|m| Some(m.sequence_number))));
    columns.push(summaries(table, manifests));
    batch(schema, columns)
}

fn summaries(table: &IcebergTable, manifests: &[ManifestFile]) -> ArrayRef {
    let specs = PartitionSpecs::of(table.table().metadata());
    let name = table.name().to_string();
    let fields = summary_fields();
    let item = StructBuilder::from_fields(fields, manifests.len());
    let mut builder = ListBuilder::new(item).with_field(summary_element());
    for manifest in manifests {
        let types: Vec<Option<PrimitiveType>> = specs
            .of_manifest(&name, manifest)
            .map(|spec| {
                spec.fields
                    .iter()
                    .map(|field| field.value_type.clone())
                    .collect()
            })
            .unwrap_or_default();
        for (place, summary) in manifest.partitions.iter().flatten().enumerate() {
            let ty = types.get(place).and_then(Option::as_ref);
            let text = |bytes: &Option<Box<[u8]>>| bound_text(bytes.as_deref()?, ty?);
            let item = builder.values();
            if let Some(flag) = item.field_builder::<BooleanBuilder>(0) {
                flag.append_value(summary.contains_null);
            }
            if let Some(flag) = item.field_builder::<BooleanBuilder>(1) {
                flag.append_option(summary.contains_nan);
            }
            if let Some(bound) = item.field_builder::<StringBuilder>(2) {
                bound.append_option(text(&summary.lower_bound));
            }
            if let Some(bound) = item.field_builder::<StringBuilder>(3) {
                bound.append_option(text(&summary.upper_bound));
            }
            item.append(true);
        }
        builder.append(true);
    }
    Arc::new(builder.finish())
}
