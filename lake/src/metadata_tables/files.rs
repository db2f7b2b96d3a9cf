//! `$files`, `$data_files`, `$delete_files` and `$entries`: the files of a snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Int32Builder, Int64Builder, MapBuilder, MapFieldNames,
    RecordBatch, StringBuilder, StructArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;
use iceberg::spec::{DataContentType, PrimitiveType};
use serde_json::{Map, Value, json};

use super::columns::{batch, count, internal, ints, list_of, long_lists, longs, map_of, texts};
use crate::Result;
use crate::manifest::{ColumnMetrics, DataFileEntry, DecodedManifest, ManifestFile, bound_literal};
use crate::plan::bounds::primitive_to_scalar;
use crate::scan::metadata_columns::{PartitionStruct, source_type};
use crate::table::IcebergTable;

/// Which files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Which {
    /// Data and delete files.
    All,
    /// Data files.
    Data,
    /// Delete files and deletion vectors.
    Deletes,
}

impl Which {
    fn has(self, content: DataContentType) -> bool {
        match self {
            Self::All => true,
            Self::Data => content == DataContentType::Data,
            Self::Deletes => content != DataContentType::Data,
        }
    }
}

/// Manifests with what their list says of them.
pub type Manifests = [(ManifestFile, Arc<DecodedManifest>)];

/// One file: its manifest, and its place in it.
type FileRef<'a> = (&'a DecodedManifest, usize, &'a DataFileEntry);

fn fields(table: &IcebergTable) -> Vec<Field> {
    let counts = || map_of(DataType::Int32, DataType::Int64);
    let bounds = || map_of(DataType::Int32, DataType::Utf8);
    let partition = PartitionStruct::of(table.table().metadata()).data_type();
    let nullable = |name: &str, ty: DataType| Field::new(name, ty, true);
    vec![
        nullable("content", DataType::Int32),
        nullable("file_path", DataType::Utf8),
        nullable("file_format", DataType::Utf8),
        nullable("spec_id", DataType::Int32),
        nullable("partition", partition),
        nullable("record_count", DataType::Int64),
        nullable("file_size_in_bytes", DataType::Int64),
        nullable("column_sizes", counts()),
        nullable("value_counts", counts()),
        nullable("null_value_counts", counts()),
        nullable("nan_value_counts", counts()),
        nullable("lower_bounds", bounds()),
        nullable("upper_bounds", bounds()),
        nullable("split_offsets", list_of(DataType::Int64)),
        nullable("equality_ids", list_of(DataType::Int64)),
        nullable("sort_order_id", DataType::Int32),
        nullable("first_row_id", DataType::Int64),
        nullable("referenced_data_file", DataType::Utf8),
        nullable("content_offset", DataType::Int64),
        nullable("content_size_in_bytes", DataType::Int64),
        nullable("readable_metrics", DataType::Utf8),
    ]
}

pub fn schema(table: &IcebergTable) -> SchemaRef {
    Arc::new(Schema::new(fields(table)))
}

pub fn rows(
    table: &IcebergTable,
    manifests: &Manifests,
    which: Which,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let files: Vec<FileRef<'_>> = all(manifests)
        .filter(|(_, _, entry)| which.has(entry.content))
        .collect();
    batch(schema, columns(table, &files)?)
}

fn all(manifests: &Manifests) -> impl Iterator<Item = FileRef<'_>> {
    manifests.iter().flat_map(|(_, manifest)| {
        let entries = manifest.entries.iter().enumerate();
        entries.map(move |(place, entry)| (manifest.as_ref(), place, entry))
    })
}

pub fn entries_schema(table: &IcebergTable) -> SchemaRef {
    let mut own = fields(table);
    let readable = own.pop();
    let mut fields = vec![
        Field::new("status", DataType::Int32, true),
        Field::new("snapshot_id", DataType::Int64, true),
        Field::new("sequence_number", DataType::Int64, true),
        Field::new("file_sequence_number", DataType::Int64, true),
        Field::new("data_file", DataType::Struct(own.into()), true),
    ];
    fields.extend(readable);
    Arc::new(Schema::new(fields))
}

pub fn entries(
    table: &IcebergTable,
    manifests: &Manifests,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let files: Vec<FileRef<'_>> = all(manifests).collect();
    let entries = || files.iter().map(|(_, _, entry)| *entry);
    let mut own = columns(table, &files)?;
    let readable = own.pop();
    let mut own_fields = fields(table);
    own_fields.pop();
    let data_file = StructArray::try_new(own_fields.into(), own, None).map_err(internal)?;
    let mut columns: Vec<ArrayRef> = vec![
        ints(entries().map(|entry| Some(entry.status.code()))),
        longs(entries().map(|entry| entry.snapshot_id)),
        longs(entries().map(|entry| Some(entry.sequence_number))),
        longs(entries().map(|entry| entry.file_sequence_number)),
        Arc::new(data_file),
    ];
    columns.extend(readable);
    batch(schema, columns)
}

fn columns(table: &IcebergTable, files: &[FileRef<'_>]) -> Result<Vec<ArrayRef>> {
    let entries = || files.iter().map(|(_, _, entry)| *entry);
    let types = ColumnTypes::of(table);
    let content = |entry: &DataFileEntry| match entry.content {
        DataContentType::Data => 0,
        DataContentType::PositionDeletes => 1,
        DataContentType::EqualityDeletes => 2,
    };
    let format = |entry: &DataFileEntry| Some(entry.format.to_string().to_uppercase());
    let equality_ids: Vec<Vec<i64>> = entries()
        .map(|entry| entry.equality_ids.iter().map(|id| i64::from(*id)).collect())
        .collect();
    Ok(vec![
        ints(entries().map(|entry| Some(content(entry)))),
        texts(entries().map(|entry| Some(entry.path.to_string()))),
        texts(entries().map(format)),
        ints(files.iter().map(|(manifest, _, _)| Some(manifest.spec_id))),
        partition_column(table, files)?,
        longs(entries().map(|entry| count(entry.record_count))),
        longs(entries().map(|entry| count(entry.size_bytes))),
        counts(files, |metrics| &metrics.sizes)?,
        counts(files, |metrics| &metrics.value_counts)?,
        counts(files, |metrics| &metrics.null_counts)?,
        counts(files, |metrics| &metrics.nan_counts)?,
        bounds(files, &types, |metrics| &metrics.lower)?,
        bounds(files, &types, |metrics| &metrics.upper)?,
        long_lists(entries().map(|entry| entry.split_offsets.as_ref())),
        long_lists(equality_ids.iter().map(Vec::as_slice)),
        ints(entries().map(|entry| entry.sort_order_id)),
        longs(entries().map(|entry| entry.first_row_id)),
        texts(entries().map(|entry| entry.referenced_data_file.as_ref().map(|p| p.to_string()))),
        longs(entries().map(|entry| entry.content_offset)),
        longs(entries().map(|entry| entry.content_size_bytes)),
        texts(files.iter().map(|file| Some(readable(file, &types)))),
    ])
}

/// The partition of each file, as a struct of the fields of all specs.
pub fn partition_column(table: &IcebergTable, files: &[FileRef<'_>]) -> Result<ArrayRef> {
    let shape = PartitionStruct::of(table.table().metadata());
    let null = ScalarValue::try_new_null(&shape.data_type()).map_err(internal)?;
    let values: Vec<ScalarValue> = files
        .iter()
        .map(|(manifest, place, _)| {
            let value = shape.value(&manifest.partition_scalars(*place));
            value.unwrap_or_else(|| null.clone())
        })
        .collect();
    match values.is_empty() {
        true => Ok(arrow::array::new_empty_array(&shape.data_type())),
        false => ScalarValue::iter_to_array(values).map_err(internal),
    }
}

fn map_names() -> MapFieldNames {
    MapFieldNames {
        entry: "key_value".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    }
}

fn counts(files: &[FileRef<'_>], get: impl Fn(&ColumnMetrics) -> &UInt64Array) -> Result<ArrayRef> {
    let mut builder = MapBuilder::new(Some(map_names()), Int32Builder::new(), Int64Builder::new());
    for (manifest, place, _) in files {
        for (id, metrics) in &manifest.columns {
            let values = get(metrics);
            if values.is_valid(*place) {
                builder.keys().append_value(*id);
                builder.values().append_option(count(values.value(*place)));
            }
        }
        builder.append(true).map_err(internal)?;
    }
    Ok(Arc::new(builder.finish()))
}

fn bounds(
    files: &[FileRef<'_>],
    types: &ColumnTypes,
    get: impl Fn(&ColumnMetrics) -> &BinaryArray,
) -> Result<ArrayRef> {
    let mut builder = MapBuilder::new(Some(map_names()), Int32Builder::new(), StringBuilder::new());
    for (manifest, place, _) in files {
        for (id, metrics) in &manifest.columns {
            if let Some(text) = types.text(*id, get(metrics), *place) {
                builder.keys().append_value(*id);
                builder.values().append_value(text);
            }
        }
        builder.append(true).map_err(internal)?;
    }
    Ok(Arc::new(builder.finish()))
}

/// Names and types of columns by field id.
struct ColumnTypes {
    columns: HashMap<i32, (String, PrimitiveType)>,
}

impl ColumnTypes {
    fn of(table: &IcebergTable) -> Self {
        let metadata = table.table().metadata();
        let mut columns = HashMap::new();
        let current = std::iter::once(metadata.current_schema());
        for schema in current.chain(metadata.schemas_iter()) {
            for id in schema.field_id_to_name_map().keys() {
                let name = schema.name_by_field_id(*id).unwrap_or_default();
                if let Some(ty) = source_type(metadata, *id) {
                    columns.entry(*id).or_insert_with(|| (name.to_owned(), ty));
                }
            }
        }
        Self { columns }
    }

    fn text(&self, id: i32, values: &BinaryArray, place: usize) -> Option<String> {
        let (_, ty) = self.columns.get(&id)?;
        values
            .is_valid(place)
            .then(|| bound_text(values.value(place), ty))
            .flatten()
    }
}

/// A serialized bound as text.
pub fn bound_text(bytes: &[u8], ty: &PrimitiveType) -> Option<String> {
    let scalar = primitive_to_scalar(&bound_literal(bytes, ty)?, ty)?;
    array_value_to_string(&scalar.to_array().ok()?, 0).ok()
}

/// The metrics by column name, as JSON.
fn readable((manifest, place, _): &FileRef<'_>, types: &ColumnTypes) -> String {
    let mut columns = Map::new();
    for (id, metrics) in &manifest.columns {
        let Some((name, _)) = types.columns.get(id) else {
            continue;
        };
        let number = |values: &UInt64Array| match values.is_valid(*place) {
            true => Value::from(values.value(*place)),
            false => Value::Null,
        };
        let of_column = json!({
            "column_size": number(&metrics.sizes),
            "value_count": number(&metrics.value_counts),
            "null_value_count": number(&metrics.null_counts),
            "nan_value_count": number(&metrics.nan_counts),
            "lower_bound": types.text(*id, &metrics.lower, *place),
            "upper_bound": types.text(*id, &metrics.upper, *place),
        });
        columns.insert(name.clone(), of_column);
    }
    Value::Object(columns).to_string()
}
