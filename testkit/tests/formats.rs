//! A table with data files of every format, and deletes by position and by value over all of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apache_avro::types::Value;
use apache_avro::{Codec, Schema as AvroSchema, Writer};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema as ArrowSchema};
use futures::TryStreamExt;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, ManifestFile, ManifestListWriter,
    ManifestWriterBuilder, PartitionSpec, Schema, Struct,
};
use inshore_coordinator::{Coordinator, Session, Topology};
use inshore_lake::store::LakeStorageFactory;
use inshore_testkit::cluster::{forced, options};
use inshore_testkit::{Cluster, Lake, rows};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use serde_json::json;

/// Rows in the ORC file, which `lake/tests/data/make_orc.py` made, and in the files after it.
const ORC_ROWS: i64 = 600;
const OTHER_ROWS: i64 = 500;

/// Deleted by value: rows with this `kind`.
const DELETED_KIND: &str = "kind 3";

/// Deleted by position: every so many rows of each file.
const DELETED_STEP: i64 = 50;

const SNAPSHOT: i64 = 7_001;

/// The columns of row `n` as `make_orc.py` has them: `id`, `number`, `kind` and `text`.
fn number(n: i64) -> Option<i32> {
    (n % 5 != 0).then_some((n * 7919 % 1000 - 500) as i32)
}

fn kind(n: i64) -> Option<String> {
    (n % 13 != 0).then(|| format!("kind {}", n % 4))
}

fn text(n: i64) -> String {
    format!("text {}", n * n)
}

/// The rows that are left, as `id|number|kind|text`.
fn model() -> Vec<(i64, String)> {
    let starts = [0, ORC_ROWS, ORC_ROWS + OTHER_ROWS];
    let or_null = |value: Option<String>| value.unwrap_or_else(|| "NULL".into());
    (0..ORC_ROWS + 2 * OTHER_ROWS)
        .filter(|n| {
            let start = starts.iter().rev().find(|start| *start <= n).unwrap();
            (n - start) % DELETED_STEP != 0 && kind(*n).as_deref() != Some(DELETED_KIND)
        })
        .map(|n| {
            let (number, kind) = (or_null(number(n).map(|v| v.to_string())), or_null(kind(n)));
            (n, format!("{n}|{number}|{kind}|{}", text(n)))
        })
        .collect()
}

fn schema() -> Schema {
    let field = |id: i32, name: &str, ty: &str, required: bool| json!({"id": id, "name": name, "type": ty, "required": required});
    serde_json::from_value(json!({
        "type": "struct", "schema-id": 0, "fields": [
            field(1, "id", "long", false), field(2, "number", "int", false),
            field(6, "kind", "string", false), field(7, "text", "string", false),
        ],
    }))
    .unwrap()
}

/// An Avro file of records, each field with its id.
fn write_avro(path: &Path, fields: serde_json::Value, rows: impl Iterator<Item = Value>) {
    let schema = json!({"type": "record", "name": "table", "fields": fields});
    let schema = AvroSchema::parse(&schema).unwrap();
    let mut writer = Writer::with_codec(&schema, vec![], Codec::Null);
    rows.for_each(|row| {
        writer.append(row).unwrap();
    });
    fs::write(path, writer.into_inner().unwrap()).unwrap();
}

fn avro_data(path: &Path, ids: std::ops::Range<i64>) {
    let optional = |name: &str, ty: &str, id: i32| json!({"name": name, "type": ["null", ty], "default": null, "field-id": id});
    let union = |value: Option<Value>| match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    };
    let fields = json!([
        optional("id", "long", 1),
        optional("number", "int", 2),
        optional("kind", "string", 6),
        optional("text", "string", 7),
    ]);
    let rows = ids.map(|n| {
        Value::Record(vec![
            ("id".into(), union(Some(Value::Long(n)))),
            ("number".into(), union(number(n).map(Value::Int))),
            ("kind".into(), union(kind(n).map(Value::String))),
            ("text".into(), union(Some(Value::String(text(n))))),
        ])
    });
    write_avro(path, fields, rows);
}

/// Positions to delete of all data files, in the order of the specification.
fn avro_deletes(path: &Path, files: &[(PathBuf, i64)]) {
    let fields = json!([
        {"name": "file_path", "type": "string", "field-id": 2_147_483_546},
        {"name": "pos", "type": "long", "field-id": 2_147_483_545},
    ]);
    let rows = files.iter().flat_map(|(file, rows)| {
        let positions = (0..*rows).step_by(DELETED_STEP as usize);
        positions.map(|pos| {
            Value::Record(vec![
                ("file_path".into(), Value::String(location(file))),
                ("pos".into(), Value::Long(pos)),
            ])
        })
    });
    write_avro(path, fields, rows);
}

fn write_parquet(path: &Path, columns: Vec<(&str, i32, ArrayRef)>) {
    let fields = columns.iter().map(|(name, id, array)| {
        let id = (PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string());
        Field::new(*name, array.data_type().clone(), true).with_metadata(HashMap::from([id]))
    });
    let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
    let arrays = columns.iter().map(|(_, _, array)| Arc::clone(array));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays.collect()).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn parquet_data(path: &Path, ids: std::ops::Range<i64>) {
    write_parquet(
        path,
        vec![
            ("id", 1, Arc::new(Int64Array::from_iter_values(ids.clone()))),
            (
                "number",
                2,
                Arc::new(Int32Array::from_iter(ids.clone().map(number))),
            ),
            (
                "kind",
                6,
                Arc::new(StringArray::from_iter(ids.clone().map(kind))),
            ),
            (
                "text",
                7,
                Arc::new(StringArray::from_iter_values(ids.map(text))),
            ),
        ],
    );
}

fn location(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn entry(path: &Path, content: DataContentType, format: DataFileFormat, rows: i64) -> DataFile {
    let keys = (content == DataContentType::EqualityDeletes).then(|| vec![6]);
    DataFileBuilder::default()
        .content(content)
        .file_path(location(path))
        .file_format(format)
        .partition(Struct::empty())
        .partition_spec_id(0)
        .record_count(rows as u64)
        .file_size_in_bytes(fs::metadata(path).unwrap().len())
        .equality_ids(keys)
        .build()
        .unwrap()
}

async fn manifest(io: &FileIO, path: &Path, files: Vec<DataFile>, sequence: i64) -> ManifestFile {
    let output = io.new_output(location(path)).unwrap();
    let spec = PartitionSpec::unpartition_spec();
    let builder = ManifestWriterBuilder::new(output, Some(SNAPSHOT), Arc::new(schema()), spec);
    let mut writer = match files[0].content_type() {
        DataContentType::Data => builder.build_v2_data(),
        _ => builder.build_v2_deletes(),
    };
    for file in files {
        writer.add_file(file, sequence).unwrap();
    }
    let mut manifest = writer.write_manifest_file().await.unwrap();
    manifest.sequence_number = sequence;
    manifest.min_sequence_number = sequence;
    manifest
}

/// Writes the table below `folder`; gives the place of its metadata.
async fn write_table(lake: &Lake, folder: &Path) -> String {
    use DataContentType as Content;
    use DataFileFormat as Format;
    let paths = ["plain.orc", "more.avro", "last.parquet"].map(|name| folder.join(name));
    let [orc, avro, parquet] = &paths;
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lake/tests/data/plain.orc");
    fs::copy(made, orc).unwrap();
    let second = ORC_ROWS + OTHER_ROWS;
    avro_data(avro, ORC_ROWS..second);
    parquet_data(parquet, second..second + OTHER_ROWS);
    let rows = [ORC_ROWS, OTHER_ROWS, OTHER_ROWS];
    let (positions, values) = (folder.join("positions.avro"), folder.join("values.parquet"));
    let files: Vec<_> = paths.iter().cloned().zip(rows).collect();
    avro_deletes(&positions, &files);
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values([DELETED_KIND]));
    write_parquet(&values, vec![("kind", 6, keys)]);

    let io = LakeStorageFactory::file_io(lake.stores());
    let formats = [Format::Orc, Format::Avro, Format::Parquet];
    let data = files.iter().zip(formats);
    let data = data.map(|((path, rows), format)| entry(path, Content::Data, format, *rows));
    let deletes = vec![
        entry(&positions, Content::PositionDeletes, Format::Avro, 32),
        entry(&values, Content::EqualityDeletes, Format::Parquet, 1),
    ];
    let manifests = [
        manifest(&io, &folder.join("data-m0.avro"), data.collect(), 1).await,
        manifest(&io, &folder.join("deletes-m0.avro"), deletes, 2).await,
    ];
    let list = folder.join("snap.avro");
    let output = io.new_output(location(&list)).unwrap().writer().await;
    let mut writer = ManifestListWriter::v2(output.unwrap(), SNAPSHOT, None, 2);
    writer.add_manifests(manifests.into_iter()).unwrap();
    writer.close().await.unwrap();
    let metadata = json!({
        "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
        "location": location(folder), "last-sequence-number": 2, "last-updated-ms": 1_700_000_000_000_i64,
        "last-column-id": 7, "schemas": [schema()], "current-schema-id": 0,
        "partition-specs": [{"spec-id": 0, "fields": []}], "default-spec-id": 0,
        "last-partition-id": 999, "sort-orders": [{"order-id": 0, "fields": []}],
        "default-sort-order-id": 0, "current-snapshot-id": SNAPSHOT,
        "refs": {"main": {"snapshot-id": SNAPSHOT, "type": "branch"}},
        "snapshots": [{"snapshot-id": SNAPSHOT, "timestamp-ms": 1_700_000_000_000_i64,
            "sequence-number": 2, "schema-id": 0, "manifest-list": location(&list),
            "summary": {"operation": "append"}}],
    });
    let path = folder.join("v1.metadata.json");
    fs::write(&path, metadata.to_string()).unwrap();
    location(&path)
}

/// Runs statements one after another in one session; the rows of the last one, sorted.
async fn run(session: &Session, statements: &[&str]) -> Result<Vec<String>, String> {
    let mut found = vec![];
    for sql in statements {
        let execution = session.execute(sql).await.map_err(|e| e.to_string())?;
        let batches: Result<Vec<_>, _> = execution.stream.try_collect().await;
        found = rows::sorted(&batches.map_err(|e| e.to_string())?).unwrap();
    }
    Ok(found)
}

async fn embedded(lake: &Lake, statements: &[&str]) -> Result<Vec<String>, String> {
    let options = options(lake, forced(), Topology::Embedded);
    let session = Coordinator::new(options).unwrap().session();
    run(&session, statements).await
}

async fn on_cluster(lake: &Lake, statements: &[&str]) -> Result<Vec<String>, String> {
    let cluster = Cluster::start(lake, 2).await.unwrap();
    let session = cluster.coordinator().session();
    let found = run(&session, statements).await;
    cluster.stop().await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_format_make_one_table() {
    let lake = Lake::new().await.unwrap();
    let folder = lake.folder().join("warehouse/mixed");
    fs::create_dir_all(&folder).unwrap();
    let metadata = write_table(&lake, &folder).await;
    let create = format!("CREATE EXTERNAL TABLE t STORED AS ICEBERG LOCATION '{metadata}'");
    let model = model();
    let rows_where = |keep: &dyn Fn(i64) -> bool| {
        let rows = model.iter().filter(|(n, _)| keep(*n));
        let mut rows: Vec<String> = rows.map(|(_, row)| row.clone()).collect();
        rows.sort();
        rows
    };
    let cases = [
        (
            "SELECT id, number, kind, text FROM t",
            rows_where(&|_| true),
        ),
        (
            "SELECT * FROM t WHERE id BETWEEN 550 AND 1150 AND kind = 'kind 2'",
            rows_where(&|n| (550..=1150).contains(&n) && kind(n).as_deref() == Some("kind 2")),
        ),
        (
            "SELECT * FROM t WHERE number < -100 OR kind IS NULL",
            rows_where(&|n| number(n).is_some_and(|v| v < -100) || kind(n).is_none()),
        ),
        ("SELECT count(*) FROM t", vec![model.len().to_string()]),
        (
            "SELECT split_part(_file, '.', -1), count(*), min(_pos) FROM t GROUP BY 1",
            ["avro", "orc", "parquet"]
                .iter()
                .zip([ORC_ROWS..1100, 0..ORC_ROWS, 1100..1600])
                .map(|(format, ids)| {
                    let left: Vec<i64> = model
                        .iter()
                        .map(|(n, _)| *n)
                        .filter(|n| ids.contains(n))
                        .collect();
                    format!("{format}|{}|{}", left.len(), left[0] - ids.start)
                })
                .collect(),
        ),
    ];
    for (sql, expected) in &cases {
        let statements = [create.as_str(), sql];
        assert_eq!(
            &embedded(&lake, &statements).await.unwrap(),
            expected,
            "{sql}"
        );
        assert_eq!(
            &on_cluster(&lake, &statements).await.unwrap(),
            expected,
            "{sql}"
        );
    }
    for file in ["positions.avro", "values.parquet", "more.avro", "plain.orc"] {
        let path = folder.join(file);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let statements = [create.as_str(), "SELECT sum(id) FROM t"];
        for found in [
            embedded(&lake, &statements).await,
            on_cluster(&lake, &statements).await,
        ] {
            let error = found.unwrap_err();
            assert!(
                error.contains(file) && error.contains("not found"),
                "{error}"
            );
        }
        fs::write(&path, whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_metadata_knows_needs_no_data_file() {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, value % 7 AS k, CAST(value AS varchar) AS name \
                 FROM generate_series(1, 9000) AS s(value)";
    lake.create_table("t", "gone", query, 3).await.unwrap();
    fs::remove_dir_all(lake.folder().join("warehouse/t/gone/data")).unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    for (sql, expected) in [
        ("SELECT count(*) FROM t.gone", "9000"),
        (
            "SELECT count(*), min(id), max(id), max(k) FROM t.gone",
            "9000|1|9000|6",
        ),
        ("SELECT 1 WHERE EXISTS (SELECT 1 FROM t.gone)", "1"),
        ("SELECT sum(1) FROM t.gone", "9000"),
        ("SELECT count(*) FROM (SELECT 1 FROM t.gone LIMIT 5)", "5"),
        (
            "SELECT count(*) FROM t.gone a, (VALUES (1), (2)) b",
            "18000",
        ),
        (
            "SELECT x, count(*) FROM (VALUES (1), (2)) b(x), t.gone GROUP BY x HAVING x > 1",
            "2|9000",
        ),
    ] {
        for found in [lake.rows_embedded(sql).await, cluster.rows(sql).await] {
            assert_eq!(found.unwrap(), [expected], "{sql}");
        }
    }
    let read = cluster.rows("SELECT max(name) FROM t.gone").await;
    assert!(read.unwrap_err().to_string().contains("not found"));
    cluster.stop().await;
}
