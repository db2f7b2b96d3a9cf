//! Manifests and manifest lists, through iceberg-rust's public writers.

use std::collections::BTreeMap;
use std::path::Path;

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, Literal,
    ManifestContentType, ManifestFile, ManifestListWriter, ManifestWriterBuilder, PrimitiveLiteral,
    PrimitiveType, Struct,
};

use crate::files::{Content, FileMeta};
use crate::table::{Draft, Table, iceberg_schema, location};
use crate::types::Prim;
use crate::values::Value;

/// A live file of a manifest.
#[derive(Clone, Debug)]
pub struct Entry {
    pub meta: FileMeta,
    pub snapshot: i64,
    /// Data sequence number.
    pub sequence: i64,
    pub file_sequence: i64,
    /// Whether the data sequence number is written for a new file, not inherited.
    pub explicit: bool,
}

/// A manifest with its live entries in order.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub file: ManifestFile,
    pub entries: Vec<Entry>,
}

impl Manifest {
    pub fn is_data(&self) -> bool {
        self.file.content == ManifestContentType::Data
    }
}

/// Writes a manifest with the entries of `draft`, and with `removed` as deleted ones.
pub async fn write_manifest(table: &Table, mut draft: Draft, removed: Vec<Entry>) -> Manifest {
    let spec = table.spec(draft.spec);
    let schema = table.schema_of_spec(spec);
    let types = spec.types(schema);
    let output = table.file_io.new_output(location(&draft.path)).unwrap();
    let builder = ManifestWriterBuilder::new(
        output,
        Some(draft.snapshot),
        iceberg_schema(schema),
        spec.iceberg(),
    );
    let mut all = draft.added.iter().chain(&draft.existing).chain(&removed);
    let data = all.next().unwrap().meta.content == Content::Data;
    let mut writer = match (table.version, data) {
        (1, _) => builder.build_v1(),
        (2, true) => builder.build_v2_data(),
        (2, false) => builder.build_v2_deletes(),
        (_, true) => builder.build_v3_data(),
        (_, false) => builder.build_v3_deletes(),
    };
    // Existing entries first: new ones inherit row ids from the manifest, these have them.
    for entry in &draft.existing {
        let file = data_file(&entry.meta, &types);
        let (sequence, file_sequence) = (entry.sequence, Some(entry.file_sequence));
        writer
            .add_existing_file(file, entry.snapshot, sequence, file_sequence)
            .unwrap();
    }
    for entry in &draft.added {
        let sequence = if entry.explicit { entry.sequence } else { -1 };
        writer
            .add_file(data_file(&entry.meta, &types), sequence)
            .unwrap();
    }
    for entry in &removed {
        let file = data_file(&entry.meta, &types);
        writer
            .add_delete_file(file, entry.sequence, Some(entry.file_sequence))
            .unwrap();
    }
    let mut file = writer.write_manifest_file().await.unwrap();
    let mut entries = draft.existing;
    entries.append(&mut draft.added);
    file.sequence_number = table.sequence;
    let least = entries.iter().map(|entry| entry.sequence).min();
    file.min_sequence_number = least.unwrap_or(table.sequence);
    Manifest { file, entries }
}

/// Writes the list of the table's manifests, and gives row ids to new files.
pub async fn write_list(table: &mut Table, path: &Path, snapshot: i64, parent: Option<i64>) {
    let output = table.file_io.new_output(location(path)).unwrap();
    let output = output.writer().await.unwrap();
    let mut writer = match table.version {
        1 => ManifestListWriter::v1(output, snapshot, parent),
        2 => ManifestListWriter::v2(output, snapshot, parent, table.sequence),
        _ => {
            assign_row_ids(table);
            let next = Some(table.next_row_id as u64);
            ManifestListWriter::v3(output, snapshot, parent, table.sequence, next)
        }
    };
    let files = table.manifests.iter().map(|manifest| manifest.file.clone());
    writer.add_manifests(files).unwrap();
    writer.close().await.unwrap();
}

/// The specification's section "First Row ID Assignment". Ids are noted in the entries too, which
/// are written with them when the manifest is rewritten.
fn assign_row_ids(table: &mut Table) {
    for manifest in table.manifests.iter_mut().filter(|m| m.is_data()) {
        if manifest.file.first_row_id.is_some() {
            continue;
        }
        manifest.file.first_row_id = Some(table.next_row_id as u64);
        for entry in &mut manifest.entries {
            if entry.meta.first_row_id.is_none() {
                entry.meta.first_row_id = Some(table.next_row_id);
                table.next_row_id += entry.meta.records as i64;
            }
        }
    }
}

fn data_file(meta: &FileMeta, types: &[Prim]) -> DataFile {
    let bounds = |bounds: &BTreeMap<i32, (Prim, Vec<u8>)>| {
        let datum = |prim: &Prim, bytes: &[u8]| Datum::try_from_bytes(bytes, primitive(*prim));
        bounds
            .iter()
            .map(|(id, (prim, bytes))| (*id, datum(prim, bytes).unwrap()))
            .collect()
    };
    let counts =
        |counts: &BTreeMap<i32, u64>| counts.iter().map(|(id, count)| (*id, *count)).collect();
    let partition = meta
        .partition
        .iter()
        .zip(types)
        .map(|(value, prim)| literal(&value.promoted(*prim)));
    let metrics = &meta.metrics;
    DataFileBuilder::default()
        .content(match meta.content {
            Content::Data => DataContentType::Data,
            Content::PositionDeletes => DataContentType::PositionDeletes,
            Content::EqualityDeletes => DataContentType::EqualityDeletes,
        })
        .file_path(meta.path.clone())
        .file_format(if meta.puffin {
            DataFileFormat::Puffin
        } else {
            DataFileFormat::Parquet
        })
        .partition(Struct::from_iter(partition))
        .partition_spec_id(meta.spec)
        .record_count(meta.records)
        .file_size_in_bytes(meta.size)
        .column_sizes(counts(&metrics.sizes))
        .value_counts(counts(&metrics.values))
        .null_value_counts(counts(&metrics.nulls))
        .nan_value_counts(counts(&metrics.nans))
        .lower_bounds(bounds(&metrics.lower))
        .upper_bounds(bounds(&metrics.upper))
        .split_offsets(meta.split_offsets.clone())
        .equality_ids(meta.equality_ids.clone())
        .first_row_id(meta.first_row_id)
        .referenced_data_file(meta.referenced.clone())
        .content_offset(meta.blob.map(|(offset, _)| offset))
        .content_size_in_bytes(meta.blob.map(|(_, length)| length))
        .build()
        .unwrap()
}

fn primitive(prim: Prim) -> PrimitiveType {
    match prim {
        Prim::Boolean => PrimitiveType::Boolean,
        Prim::Int => PrimitiveType::Int,
        Prim::Long => PrimitiveType::Long,
        Prim::Float => PrimitiveType::Float,
        Prim::Double => PrimitiveType::Double,
        Prim::Decimal(precision, scale) => PrimitiveType::Decimal { precision, scale },
        Prim::Date => PrimitiveType::Date,
        Prim::Timestamp => PrimitiveType::Timestamp,
        Prim::Timestamptz => PrimitiveType::Timestamptz,
        Prim::String => PrimitiveType::String,
        Prim::Binary => PrimitiveType::Binary,
        Prim::Fixed(length) => PrimitiveType::Fixed(length as u64),
        Prim::Uuid => PrimitiveType::Uuid,
    }
}

fn literal(value: &Value) -> Option<Literal> {
    Some(Literal::Primitive(match value {
        Value::Null => return None,
        Value::Boolean(v) => PrimitiveLiteral::Boolean(*v),
        Value::Int(v) | Value::Date(v) => PrimitiveLiteral::Int(*v),
        Value::Long(v) | Value::Micros(v) => PrimitiveLiteral::Long(*v),
        Value::Float(v) => PrimitiveLiteral::Float((*v).into()),
        Value::Double(v) => PrimitiveLiteral::Double((*v).into()),
        Value::Decimal(v) => PrimitiveLiteral::Int128(*v),
        Value::Text(v) => PrimitiveLiteral::String(v.clone()),
        Value::Bytes(v) => PrimitiveLiteral::Binary(v.clone()),
        Value::Uuid(v) => PrimitiveLiteral::UInt128(*v),
        other => panic!("{other:?} is no partition value"),
    }))
}
