//! Data and delete files, written by hand.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use roaring::RoaringTreemap;
use serde_json::json;

use crate::arrays::{Spelling, array};
use crate::metrics::{Metrics, metrics};
use crate::switches;
use crate::types::{Field, Leaf, Prim, Schema, Ty};
use crate::values::Value;

/// Field ids of position delete files, from the specification's "Reserved Field IDs".
pub const DELETE_PATH: i32 = 2_147_483_546;
pub const DELETE_POSITION: i32 = 2_147_483_545;

/// Field id of a row's position, which deletion vectors give as theirs.
const POSITION: i32 = 2_147_483_645;

type Rows = [BTreeMap<i32, Value>];

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Data,
    PositionDeletes,
    EqualityDeletes,
}

/// A file as a manifest entry describes it.
#[derive(Clone, Debug)]
pub struct FileMeta {
    pub content: Content,
    pub puffin: bool,
    pub path: String,
    pub spec: i32,
    pub partition: Vec<Value>,
    pub records: u64,
    pub size: u64,
    pub metrics: Metrics,
    pub split_offsets: Option<Vec<i64>>,
    pub equality_ids: Option<Vec<i32>>,
    pub referenced: Option<String>,
    /// Offset and length of a deletion vector in its file.
    pub blob: Option<(i64, i64)>,
    pub first_row_id: Option<i64>,
}

/// Where a file lies in the table.
#[derive(Clone, Debug)]
pub struct Place {
    pub spec: i32,
    pub partition: Vec<Value>,
}

/// Writes a data file of these fields, with or without field ids.
pub fn data_file(
    rng: &mut fastrand::Rng,
    path: &Path,
    fields: &[Field],
    ids: bool,
    rows: &Rows,
    place: Place,
) -> FileMeta {
    let mut fields = fields.to_vec();
    if ids && rng.u8(0..3) == 0 {
        rng.shuffle(&mut fields);
    }
    // Ids decide, whatever the names.
    if ids && rng.u8(0..5) == 0 {
        let renamed = |f: &&mut Field| switches::SORT_BY_NESTED_NAMES || f.prim().is_some();
        let mut renamed: Vec<&mut Field> = fields.iter_mut().filter(renamed).collect();
        let names: Vec<String> = renamed.iter().map(|field| field.name.clone()).collect();
        for (field, name) in renamed.iter_mut().zip(names.iter().cycle().skip(1)) {
            field.name.clone_from(name);
        }
    }
    let mut rows = rows.to_vec();
    if ids && rng.u8(0..8) == 0 {
        let id = 100_000 + rng.i32(0..10);
        rows.iter_mut().for_each(|row| {
            row.insert(id, Value::Int(7));
        });
        fields.push(field(id, "a column of nobody", Prim::Int, false));
    }
    let spelling = Spelling::random(rng, ids);
    let (size, splits) = parquet(rng, path, &fields, spelling, &rows);
    let written = Schema {
        id: 0,
        fields: fields.into_iter().filter(|f| f.id < 100_000).collect(),
    };
    let metrics = metrics(rng, &written.leaves(), &rows);
    FileMeta {
        metrics,
        split_offsets: (rng.u8(0..4) > 0).then_some(splits),
        ..file(Content::Data, path, place, rows.len(), size)
    }
}

fn file(content: Content, path: &Path, place: Place, records: usize, size: u64) -> FileMeta {
    FileMeta {
        content,
        puffin: false,
        path: format!("file://{}", path.display()),
        spec: place.spec,
        partition: place.partition,
        records: records as u64,
        size,
        metrics: Metrics::default(),
        split_offsets: None,
        equality_ids: None,
        referenced: None,
        blob: None,
        first_row_id: None,
    }
}

fn field(id: i32, name: &str, prim: Prim, required: bool) -> Field {
    Field {
        id,
        name: name.into(),
        required,
        ty: Ty::Prim(prim),
        default: None,
    }
}

/// Writes a Parquet file; gives its size and the offsets of its row groups.
fn parquet(
    rng: &mut fastrand::Rng,
    path: &Path,
    fields: &[Field],
    spelling: Spelling,
    rows: &Rows,
) -> (u64, Vec<i64>) {
    let arrow: Vec<ArrowField> = fields.iter().map(|f| spelling.field(f)).collect();
    let columns: Vec<ArrayRef> = fields
        .iter()
        .zip(&arrow)
        .map(|(field, arrow)| {
            let values: Vec<&Value> = rows.iter().map(|row| &row[&field.id]).collect();
            array(&field.ty, arrow.data_type(), &values)
        })
        .collect();
    let schema = Arc::new(ArrowSchema::new(arrow));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options).unwrap();
    let options = ArrowWriterOptions::new()
        .with_properties(properties(rng, fields))
        .with_skip_arrow_metadata(rng.bool());
    let out = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new_with_options(out, schema, options).unwrap();
    writer.write(&batch).unwrap();
    let metadata = writer.close().unwrap();
    let splits = metadata
        .row_groups()
        .iter()
        .map(|group| {
            let first = group.column(0);
            let dictionary = first.dictionary_page_offset();
            dictionary.unwrap_or_else(|| first.data_page_offset())
        })
        .collect();
    (std::fs::metadata(path).unwrap().len(), splits)
}

/// Several row groups and several pages in most files, small as they are.
fn properties(rng: &mut fastrand::Rng, fields: &[Field]) -> WriterProperties {
    let bloom = switches::WIDE_DECIMAL_BLOOM_FILTERS || !fields.iter().any(has_wide_decimal);
    let statistics = [
        EnabledStatistics::Page,
        EnabledStatistics::Page,
        EnabledStatistics::Chunk,
        EnabledStatistics::None,
    ];
    let compression = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    let version = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
    let mut builder = WriterProperties::builder()
        .set_statistics_enabled(statistics[rng.usize(0..4)])
        .set_compression(compression[rng.usize(0..3)])
        .set_writer_version(version[rng.usize(0..2)])
        .set_dictionary_enabled(rng.bool())
        .set_statistics_truncate_length(rng.bool().then(|| rng.usize(1..20)))
        .set_column_index_truncate_length(rng.bool().then(|| rng.usize(1..20)));
    if rng.u8(0..4) == 0 && bloom {
        builder = builder
            .set_bloom_filter_enabled(true)
            .set_bloom_filter_ndv(50);
    }
    if rng.bool() {
        builder = builder.set_max_row_group_row_count(Some(rng.usize(2..9)));
    }
    if rng.bool() {
        let rows = rng.usize(1..4);
        builder = builder
            .set_data_page_row_count_limit(rows)
            .set_write_batch_size(rows);
    }
    builder.build()
}

fn has_wide_decimal(field: &Field) -> bool {
    matches!(field.ty, Ty::Prim(Prim::Decimal(precision, _)) if precision > 18)
        || field.children().into_iter().any(has_wide_decimal)
}

/// Writes a position delete file over `places`, which may name any files.
pub fn position_deletes(
    rng: &mut fastrand::Rng,
    path: &Path,
    places: &[(String, i64)],
    place: Place,
) -> FileMeta {
    let mut places = places.to_vec();
    places.sort();
    let fields = [
        field(DELETE_PATH, "file_path", Prim::String, true),
        field(DELETE_POSITION, "pos", Prim::Long, true),
    ];
    let rows: Vec<BTreeMap<i32, Value>> = places
        .iter()
        .map(|(path, position)| {
            BTreeMap::from([
                (DELETE_PATH, Value::Text(path.clone())),
                (DELETE_POSITION, Value::Long(*position)),
            ])
        })
        .collect();
    let spelling = Spelling::random(rng, true);
    let (size, splits) = parquet(rng, path, &fields, spelling, &rows);
    let mut meta = file(Content::PositionDeletes, path, place, rows.len(), size);
    meta.split_offsets = rng.bool().then_some(splits);
    let paths: HashSet<&str> = places.iter().map(|(path, _)| path.as_str()).collect();
    let of_one_file = paths.len() == 1;
    // Bounds of paths are never cut, or absent.
    if rng.u8(0..3) > 0 {
        let bound = |path: &str| (Prim::String, path.as_bytes().to_vec());
        let lower = bound(&places[0].0);
        let upper = bound(&places[places.len() - 1].0);
        meta.metrics.lower.insert(DELETE_PATH, lower);
        meta.metrics.upper.insert(DELETE_PATH, upper);
    }
    if of_one_file && rng.bool() {
        meta.referenced = Some(places[0].0.clone());
    }
    meta
}

/// Writes an equality delete file of these keys.
pub fn equality_deletes(
    rng: &mut fastrand::Rng,
    path: &Path,
    schema: &Schema,
    columns: &[Leaf],
    keys: &[Vec<Value>],
    place: Place,
) -> FileMeta {
    let mut fields: Vec<Field> = vec![];
    for leaf in columns {
        let mut column = schema.field(leaf.column).unwrap().clone();
        let (Some(child), Ty::Struct(children)) = (leaf.child, &mut column.ty) else {
            fields.push(column);
            continue;
        };
        children.retain(|field| field.id == child);
        fields.push(column);
    }
    let rows: Vec<BTreeMap<i32, Value>> = keys
        .iter()
        .map(|key| {
            let key = columns.iter().zip(key);
            key.map(|(leaf, value)| match leaf.child {
                None => (leaf.column, value.clone()),
                // NULL may stand for a missing struct as well as for a missing child.
                Some(_) if value.is_null() && !schema.field(leaf.column).unwrap().required => {
                    (leaf.column, Value::Null)
                }
                Some(child) => {
                    let children = BTreeMap::from([(child, value.clone())]);
                    (leaf.column, Value::Struct(children))
                }
            })
            .collect()
        })
        .collect();
    let spelling = Spelling::random(rng, true);
    let (size, splits) = parquet(rng, path, &fields, spelling, &rows);
    FileMeta {
        metrics: metrics(rng, columns, &rows),
        split_offsets: rng.bool().then_some(splits),
        equality_ids: Some(columns.iter().map(Leaf::id).collect()),
        ..file(Content::EqualityDeletes, path, place, rows.len(), size)
    }
}

/// One data file's deleted positions, for a deletion vector.
pub struct Deleted {
    pub path: String,
    pub place: Place,
    pub positions: Vec<i64>,
}

/// Writes one Puffin file with a deletion vector for each data file.
pub fn deletion_vectors(path: &Path, deleted: &[Deleted]) -> Vec<FileMeta> {
    let mut bytes = b"PFA1".to_vec();
    let mut blobs = vec![];
    let mut places = vec![];
    for vector in deleted {
        let blob = deletion_vector(&vector.positions);
        places.push((bytes.len() as i64, blob.len() as i64));
        blobs.push(json!({
            "type": "deletion-vector-v1", "fields": [POSITION],
            "snapshot-id": -1, "sequence-number": -1,
            "offset": bytes.len(), "length": blob.len(),
            "properties": {
                "referenced-data-file": vector.path,
                "cardinality": vector.positions.len().to_string(),
            },
        }));
        bytes.extend(blob);
    }
    let payload = json!({"blobs": blobs, "properties": {}}).to_string();
    bytes.extend(b"PFA1");
    bytes.extend(payload.as_bytes());
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(b"PFA1");
    std::fs::write(path, &bytes).unwrap();
    deleted
        .iter()
        .zip(places)
        .map(|(vector, blob)| {
            let count = vector.positions.len();
            let size = bytes.len() as u64;
            let place = vector.place.clone();
            FileMeta {
                puffin: true,
                referenced: Some(vector.path.clone()),
                blob: Some(blob),
                ..file(Content::PositionDeletes, path, place, count, size)
            }
        })
        .collect()
}

/// The blob `deletion-vector-v1` of the Puffin specification.
fn deletion_vector(positions: &[i64]) -> Vec<u8> {
    let mut vector: RoaringTreemap = positions.iter().map(|p| *p as u64).collect();
    // With runs, as most writers do, where they are shorter.
    vector.optimize();
    let mut body = vec![0xd1, 0xd3, 0x39, 0x64];
    vector.serialize_into(&mut body).unwrap();
    let mut blob = (body.len() as u32).to_be_bytes().to_vec();
    blob.extend(&body);
    blob.extend(crc32(&body).to_be_bytes());
    blob
}

/// The CRC-32 of zip and gzip.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn the_checksum_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

/// Apache Iceberg 1.10.1 wrote this blob for the one position 0.
#[test]
fn vectors_are_written_as_others_write_them() {
    let blob = concat!(
        "00000022",
        "d1d33964",
        "0100000000000000",
        "00000000",
        "3a300000010000000000000010000000",
        "0000",
        "f7a6b4b5"
    );
    assert_eq!(crate::values::hex(&deletion_vector(&[0])), blob);
}
