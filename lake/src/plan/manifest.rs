//! Decoded manifests in a compact, columnar form: what planning needs and nothing else.
//!
//! Metrics are kept as one Arrow array per column over all files of a manifest, so that pruning is
//! vectorised and a cached manifest of thousands of files costs a few allocations per column.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, Datum, Manifest, ManifestFile, PrimitiveLiteral,
    PrimitiveType, Transform, Type,
};

use super::bounds::primitive_to_scalar;
use super::bounds::source_range;
use crate::scan::schema::primitive_type;

/// One live data or delete file of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFileEntry {
    /// Full location, as the manifest spells it.
    pub path: Arc<str>,
    /// What the file holds.
    pub content: DataContentType,
    /// The file's format.
    pub format: DataFileFormat,
    /// Whole size in bytes.
    pub size_bytes: u64,
    /// Rows in the file.
    pub record_count: u64,
    /// Data sequence number, inherited from the manifest where the entry has none.
    pub sequence_number: i64,
    /// Row-group starts in bytes from the file's start; empty when unknown.
    pub split_offsets: Box<[i64]>,
    /// Sort order id, if the writer gave one.
    pub sort_order_id: Option<i32>,
    /// Whether the file has encryption keys.
    pub encrypted: bool,
}

/// Metrics of one column over all files of a manifest. Arrays have one value per file, NULL where
/// the writer gave none.
#[derive(Clone, Debug)]
pub struct ColumnMetrics {
    /// Lower bounds, in the column's type when the manifest was written.
    pub lower: Option<ArrayRef>,
    /// Upper bounds; may be longer than any value, since long texts are cut.
    pub upper: Option<ArrayRef>,
    /// NULLs in the column.
    pub null_counts: UInt64Array,
    /// Values in the column, NULL and NaN included.
    pub value_counts: UInt64Array,
    /// NaNs in the column.
    pub nan_counts: UInt64Array,
    /// Bytes the column takes in the file.
    pub sizes: UInt64Array,
}

/// One partition field over all files of a manifest.
#[derive(Clone, Debug)]
pub struct PartitionColumn {
    /// Field id of the column the value was derived from.
    pub source_id: i32,
    /// How it was derived.
    pub transform: Transform,
    /// Type of the partition values.
    pub value_type: PrimitiveType,
    /// Type of the source column when the manifest was written.
    pub source_type: DataType,
    /// The values.
    pub values: Vec<Option<PrimitiveLiteral>>,
    /// Smallest source value of each file, where the transform says so.
    pub lower: Option<ArrayRef>,
    /// Largest source value of each file, where the transform says so.
    pub upper: Option<ArrayRef>,
}

/// A decoded manifest.
#[derive(Clone, Debug)]
pub struct DecodedManifest {
    /// Where it was read from.
    pub path: Arc<str>,
    /// The partition spec its files were written with.
    pub spec_id: i32,
    /// Its live entries, in the order of the file.
    pub entries: Vec<DataFileEntry>,
    /// Metrics by field id.
    pub columns: BTreeMap<i32, ColumnMetrics>,
    /// Partition fields in the order of the spec.
    pub partitions: Vec<PartitionColumn>,
}

impl DecodedManifest {
    /// Takes over what planning needs from an Avro manifest.
    pub fn new(file: &ManifestFile, manifest: Manifest) -> Self {
        let (entries, metadata) = manifest.into_parts();
        let live: Vec<_> = entries.into_iter().filter(|e| e.is_alive()).collect();
        let files: Vec<&DataFile> = live.iter().map(|e| e.data_file()).collect();
        let schema = metadata.schema();

        let mut columns = BTreeMap::new();
        for id in column_ids(&files) {
            let data_type =
                schema
                    .field_by_id(id)
                    .and_then(|field| match field.field_type.as_ref() {
                        Type::Primitive(ty) => Some(ty.clone()),
                        _ => None,
                    });
            columns.insert(id, ColumnMetrics::new(id, data_type.as_ref(), &files));
        }

        let spec = metadata.partition_spec();
        let partition_type = spec.partition_type(schema).ok();
        let mut partitions = Vec::new();
        for (position, field) in spec.fields().iter().enumerate() {
            let value_type = partition_type
                .as_ref()
                .and_then(|ty| ty.fields().get(position))
                .and_then(|field| field.field_type.as_primitive_type().cloned());
            let source = schema.field_by_id(field.source_id);
            let source_type = source
                .and_then(|field| field.field_type.as_primitive_type())
                .map(|ty| primitive_type(ty, true));
            if let (Some(value_type), Some(source_type)) = (value_type, source_type) {
                let values = files
                    .iter()
                    .map(|file| partition_value(file, position))
                    .collect();
                partitions.push(PartitionColumn::new(
                    field.source_id,
                    field.transform,
                    value_type,
                    source_type,
                    values,
                ));
            }
        }

        let entries = live
            .iter()
            .map(|entry| {
                let data = entry.data_file();
                DataFileEntry {
                    path: Arc::from(data.file_path()),
                    content: data.content_type(),
                    format: data.file_format(),
                    size_bytes: data.file_size_in_bytes(),
                    record_count: data.record_count(),
                    sequence_number: entry.sequence_number().unwrap_or(file.sequence_number),
                    split_offsets: data.split_offsets().unwrap_or_default().into(),
                    sort_order_id: data.sort_order_id(),
                    encrypted: data.key_metadata().is_some(),
                }
            })
            .collect();
        Self {
            path: Arc::from(file.manifest_path.as_str()),
            spec_id: file.partition_spec_id,
            entries,
            columns,
            partitions,
        }
    }

    /// Bytes this takes in memory, for the cache's weight.
    pub fn memory_bytes(&self) -> usize {
        let entries: usize = self
            .entries
            .iter()
            .map(|e| size_of::<DataFileEntry>() + e.path.len() + e.split_offsets.len() * 8)
            .sum();
        let columns: usize = self.columns.values().map(ColumnMetrics::memory_bytes).sum();
        let partitions: usize = self
            .partitions
            .iter()
            .map(PartitionColumn::memory_bytes)
            .sum();
        size_of::<Self>() + entries + columns + partitions
    }

    /// Values of identity partition fields of one file, by source field id. NULLs are left out.
    pub fn identity_values(&self, entry: usize) -> HashMap<i32, (PrimitiveType, PrimitiveLiteral)> {
        self.partitions
            .iter()
            .filter(|column| column.transform == Transform::Identity)
            .filter_map(|column| {
                let value = column.values.get(entry)?.clone()?;
                Some((column.source_id, (column.value_type.clone(), value)))
            })
            .collect()
    }
}

fn column_ids(files: &[&DataFile]) -> Vec<i32> {
    let mut ids: Vec<i32> = files
        .iter()
        .flat_map(|file| {
            file.lower_bounds()
                .keys()
                .chain(file.upper_bounds().keys())
                .chain(file.null_value_counts().keys())
                .chain(file.value_counts().keys())
                .chain(file.column_sizes().keys())
                .copied()
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn partition_value(file: &DataFile, position: usize) -> Option<PrimitiveLiteral> {
    let literal = file.partition().fields().get(position)?.as_ref()?;
    literal.as_primitive_literal()
}

impl ColumnMetrics {
    fn new(id: i32, ty: Option<&PrimitiveType>, files: &[&DataFile]) -> Self {
        let counts = |get: fn(&DataFile) -> &HashMap<i32, u64>| -> UInt64Array {
            files
                .iter()
                .map(|file| get(file).get(&id).copied())
                .collect()
        };
        let bounds = |get: fn(&DataFile) -> &HashMap<i32, Datum>| -> Option<ArrayRef> {
            let ty = ty?;
            scalars_to_array(
                files.iter().map(|file| {
                    let datum = get(file).get(&id)?;
                    primitive_to_scalar(datum.literal(), ty)
                }),
                &primitive_type(ty, true),
            )
        };
        Self {
            lower: bounds(DataFile::lower_bounds),
            upper: bounds(DataFile::upper_bounds),
            null_counts: counts(DataFile::null_value_counts),
            value_counts: counts(DataFile::value_counts),
            nan_counts: counts(DataFile::nan_value_counts),
            sizes: counts(DataFile::column_sizes),
        }
    }

    fn memory_bytes(&self) -> usize {
        array_bytes(&self.lower)
            + array_bytes(&self.upper)
            + [
                &self.null_counts,
                &self.value_counts,
                &self.nan_counts,
                &self.sizes,
            ]
            .iter()
            .map(|array| array.get_array_memory_size())
            .sum::<usize>()
    }
}

impl PartitionColumn {
    fn new(
        source_id: i32,
        transform: Transform,
        value_type: PrimitiveType,
        source_type: DataType,
        values: Vec<Option<PrimitiveLiteral>>,
    ) -> Self {
        let ranges: Vec<_> = values
            .iter()
            .map(|value| match value {
                Some(value) => source_range(transform, value, &value_type, &source_type),
                None => (None, None),
            })
            .collect();
        let (lower, upper): (Vec<_>, Vec<_>) = ranges.into_iter().unzip();
        Self {
            source_id,
            transform,
            lower: scalars_to_array(lower.into_iter(), &source_type),
            upper: scalars_to_array(upper.into_iter(), &source_type),
            value_type,
            source_type,
            values,
        }
    }

    fn memory_bytes(&self) -> usize {
        let texts: usize = self
            .values
            .iter()
            .map(|value| match value {
                Some(PrimitiveLiteral::String(v)) => v.len(),
                Some(PrimitiveLiteral::Binary(v)) => v.len(),
                _ => 0,
            })
            .sum();
        texts
            + self.values.len() * size_of::<Option<PrimitiveLiteral>>()
            + array_bytes(&self.lower)
            + array_bytes(&self.upper)
    }
}

fn array_bytes(array: &Option<ArrayRef>) -> usize {
    array
        .as_ref()
        .map_or(0, |array| array.get_array_memory_size())
}

/// Builds an array of `data_type`; `None` when no value is known.
pub fn scalars_to_array(
    values: impl Iterator<Item = Option<ScalarValue>>,
    data_type: &DataType,
) -> Option<ArrayRef> {
    let null = ScalarValue::try_from(data_type).ok()?;
    let mut known = false;
    let scalars: Vec<ScalarValue> = values
        .map(|value| match value {
            Some(value) if &value.data_type() == data_type => {
                known = true;
                value
            }
            _ => null.clone(),
        })
        .collect();
    if !known {
        return None;
    }
    ScalarValue::iter_to_array(scalars).ok()
}
