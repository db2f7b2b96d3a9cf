//! Avro files: rows written by `apache-avro`, in containers with the schema as Iceberg writes it.
//!
//! `apache-avro` drops some of Iceberg's properties when it writes a schema, so that most files here
//! get their header from the test.

use apache_avro::types::Value;
use apache_avro::{Codec, DeflateSettings, Schema as AvroSchema, Writer, ZstandardSettings};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use iceberg::spec::DataFileFormat;

use crate::support::{PATH, expected_ids, ids, read, read_all, source};

pub const ROWS: i64 = 500;
const BLOCK_ROWS: usize = 60;
const MARK: [u8; 16] = *b"0123456789abcdef";

pub const SCHEMA: &str = r#"{"type":"record","name":"table","fields":[
  {"name":"id","type":"long","field-id":1},
  {"name":"number","type":["null","int"],"default":null,"field-id":2},
  {"name":"flag","type":["boolean","null"],"field-id":3},
  {"name":"single","type":"float","field-id":4},
  {"name":"double","type":["null","double"],"field-id":5},
  {"name":"text","type":["null","string"],"field-id":6},
  {"name":"bytes","type":"bytes","field-id":7},
  {"name":"day","type":{"type":"int","logicalType":"date"},"field-id":8},
  {"name":"time","type":{"type":"long","logicalType":"time-micros"},"field-id":9},
  {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros","adjust-to-utc":false}],"field-id":10},
  {"name":"instant","type":{"type":"long","logicalType":"timestamp-micros","adjust-to-utc":true},"field-id":11},
  {"name":"nanos","type":{"type":"long","logicalType":"timestamp-nanos","adjust-to-utc":true},"field-id":12},
  {"name":"amount","type":["null",{"type":"fixed","name":"decimal_20_3","size":9,"logicalType":"decimal","precision":20,"scale":3}],"field-id":13},
  {"name":"short_amount","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2},"field-id":14},
  {"name":"uuid","type":["null",{"type":"fixed","name":"uuid_fixed","size":16,"logicalType":"uuid"}],"field-id":15},
  {"name":"fixed","type":{"type":"fixed","name":"fixed_3","size":3},"field-id":16},
  {"name":"item","type":["null",{"type":"record","name":"r17","fields":[
     {"name":"a","type":["null","int"],"field-id":18},
     {"name":"b","type":"string","field-id":19}]}],"field-id":17},
  {"name":"list","type":["null",{"type":"array","items":["null","int"],"element-id":21}],"field-id":20},
  {"name":"map","type":{"type":"map","values":["null","long"],"key-id":23,"value-id":24},"field-id":22},
  {"name":"pairs","type":["null",{"type":"array","logicalType":"map","items":{"type":"record","name":"k26_v27","fields":[
     {"name":"key","type":"int","field-id":26},
     {"name":"value","type":["null","r17"],"field-id":27}]}}],"field-id":25},
  {"name":"_x2Fslash","type":"int","iceberg-field-name":"/slash","field-id":28},
  {"name":"kind","type":{"type":"enum","name":"kinds","symbols":["small","large"]},"field-id":29}
]}"#;

fn every<T>(n: i64, step: i64, value: T) -> Option<T> {
    (n % step != 0).then_some(value)
}

/// A value of a union in which null is the branch `null` of two.
fn optional(value: Option<Value>, null: u32) -> Value {
    match value {
        None => Value::Union(null, Box::new(Value::Null)),
        Some(value) => Value::Union(1 - null, Box::new(value)),
    }
}

fn item(n: i64) -> Value {
    Value::Record(vec![
        ("a".into(), optional(every(n, 2, Value::Int(n as i32)), 0)),
        ("b".into(), Value::String(format!("b{n}"))),
    ])
}

/// Big-endian bytes of a number, as few or as many as asked for.
fn big_endian(number: i128, bytes: usize) -> Vec<u8> {
    number.to_be_bytes()[16 - bytes..].to_vec()
}

fn amount(n: i64) -> i128 {
    i128::from(n - 250) * 123_456_789_012_345_678
}

fn row(n: i64) -> Value {
    let list = (0..n % 4).map(|i| optional(every(n + i, 3, Value::Int((n + i) as i32)), 0));
    let map = (0..n % 3).map(|i| {
        (
            format!("k{i}"),
            optional(every(n + i, 2, Value::Long(n * i)), 0),
        )
    });
    let pairs = (0..n % 3).map(|i| {
        Value::Record(vec![
            ("key".into(), Value::Int(i as i32)),
            ("value".into(), optional(every(n + i, 4, item(n + i)), 0)),
        ])
    });
    let fields = vec![
        ("id", Value::Long(n)),
        (
            "number",
            optional(every(n, 5, Value::Int((n * 7919 % 1000 - 500) as i32)), 0),
        ),
        ("flag", optional(every(n, 7, Value::Boolean(n % 3 == 0)), 1)),
        ("single", Value::Float(n as f32 / 4.0)),
        (
            "double",
            optional(every(n, 11, Value::Double(n as f64 * 1.5)), 0),
        ),
        (
            "text",
            optional(every(n, 4, Value::String(format!("täxt {}", n * n))), 0),
        ),
        ("bytes", Value::Bytes(vec![n as u8; n as usize % 4])),
        ("day", Value::Int((n * 100 - 30_000) as i32)),
        ("time", Value::Long(n * 1_000_000)),
        (
            "at",
            optional(every(n, 9, Value::Long((n - 250) * 39_876_543_210_987)), 0),
        ),
        ("instant", Value::Long((n - 250) * 39_876_543_210_987)),
        ("nanos", Value::Long((n - 250) * 9_876_543_210_987_654)),
        (
            "amount",
            optional(every(n, 6, Value::Fixed(9, big_endian(amount(n), 9))), 0),
        ),
        (
            "short_amount",
            Value::Bytes(big_endian(i128::from(n - 250), 2)),
        ),
        (
            "uuid",
            optional(every(n, 10, Value::Fixed(16, vec![(n % 250) as u8; 16])), 0),
        ),
        ("fixed", Value::Fixed(3, vec![n as u8, 1, 2])),
        ("item", optional(every(n, 5, item(n)), 0)),
        (
            "list",
            optional(every(n, 8, Value::Array(list.collect())), 0),
        ),
        ("map", Value::Map(map.collect())),
        (
            "pairs",
            optional(every(n, 6, Value::Array(pairs.collect())), 0),
        ),
        ("_x2Fslash", Value::Int(-1)),
        (
            "kind",
            Value::Enum(
                (n % 2) as u32,
                ["small", "large"][n as usize % 2].to_string(),
            ),
        ),
    ];
    let named = fields
        .into_iter()
        .map(|(name, value)| (name.to_string(), value));
    Value::Record(named.collect())
}

fn long(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = vec![];
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut all = long(bytes.len() as i64);
    all.extend(bytes);
    all
}

/// The schema without logical types: what the writer is to write is what the test says.
fn physical(json: &str) -> AvroSchema {
    let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
    strip(&mut value);
    AvroSchema::parse(&value).unwrap()
}

fn strip(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(object) => {
            object.remove("logicalType");
            object.values_mut().for_each(strip);
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

/// A container around encoded rows.
fn container(json: &str, codec: Codec, blocks: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let name: &'static str = codec.into();
    let mut file = b"Obj\x01".to_vec();
    file.extend(long(2));
    file.extend(sized(b"avro.schema"));
    file.extend(sized(json.as_bytes()));
    file.extend(sized(b"avro.codec"));
    file.extend(sized(name.as_bytes()));
    file.extend(long(0));
    file.extend(MARK);
    for (rows, data) in blocks {
        let mut data = data.clone();
        codec.compress(&mut data).unwrap();
        file.extend(long(*rows as i64));
        file.extend(sized(&data));
        file.extend(MARK);
    }
    file
}

pub fn file(codec: Codec) -> Vec<u8> {
    container(SCHEMA, codec, &blocks())
}

fn blocks() -> Vec<(usize, Vec<u8>)> {
    let schema = physical(SCHEMA);
    let rows: Vec<Vec<u8>> = (0..ROWS)
        .map(|n| apache_avro::to_avro_datum(&schema, row(n)).unwrap())
        .collect();
    rows.chunks(BLOCK_ROWS)
        .map(|rows| (rows.len(), rows.concat()))
        .collect()
}

macro_rules! assert_primitive {
    ($batch:expr, $name:expr, $type:ty, $value:expr) => {
        let found: Vec<_> = $batch
            .column_by_name($name)
            .unwrap()
            .as_primitive::<$type>()
            .iter()
            .collect();
        let expected: Vec<_> = (0..ROWS).map($value).collect();
        assert_eq!(found, expected, "{}", $name);
    };
}

#[tokio::test]
async fn all_types_with_their_ids() {
    let source = source(file(Codec::Null), DataFileFormat::Avro).await;
    let contents = read_all(&source).await;
    let expected = [
        ("id", 1),
        ("number", 2),
        ("flag", 3),
        ("single", 4),
        ("double", 5),
        ("text", 6),
        ("bytes", 7),
        ("day", 8),
        ("time", 9),
        ("at", 10),
        ("instant", 11),
        ("nanos", 12),
        ("amount", 13),
        ("short_amount", 14),
        ("uuid", 15),
        ("fixed", 16),
        ("item", 17),
        ("item.a", 18),
        ("item.b", 19),
        ("list", 20),
        ("list.element", 21),
        ("map", 22),
        ("map.key", 23),
        ("map.value", 24),
        ("pairs", 25),
        ("pairs.key", 26),
        ("pairs.value", 27),
        ("pairs.value.a", 18),
        ("pairs.value.b", 19),
        ("/slash", 28),
        ("kind", 29),
    ];
    assert_eq!(ids(&contents.schema), expected_ids(&expected));
    let batch = contents.batch();
    let type_of = |name: &str| batch.column_by_name(name).unwrap().data_type().clone();
    let micros =
        |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    assert_eq!(type_of("at"), micros(None));
    assert_eq!(type_of("instant"), micros(Some("UTC")));
    assert_eq!(type_of("amount"), DataType::Decimal128(20, 3));
    assert_eq!(type_of("short_amount"), DataType::Decimal128(9, 2));
    assert_eq!(type_of("uuid"), DataType::FixedSizeBinary(16));

    assert_primitive!(batch, "id", Int64Type, Some);
    assert_primitive!(batch, "number", Int32Type, |n| every(
        n,
        5,
        (n * 7919 % 1000 - 500) as i32
    ));
    assert_primitive!(batch, "single", Float32Type, |n| Some(n as f32 / 4.0));
    assert_primitive!(batch, "double", Float64Type, |n| every(
        n,
        11,
        n as f64 * 1.5
    ));
    assert_primitive!(batch, "day", Date32Type, |n| Some(
        (n * 100 - 30_000) as i32
    ));
    assert_primitive!(batch, "time", Time64MicrosecondType, |n| Some(
        n * 1_000_000
    ));
    assert_primitive!(batch, "at", TimestampMicrosecondType, |n| every(
        n,
        9,
        (n - 250) * 39_876_543_210_987
    ));
    assert_primitive!(batch, "nanos", TimestampNanosecondType, |n| Some(
        (n - 250) * 9_876_543_210_987_654
    ));
    assert_primitive!(batch, "amount", Decimal128Type, |n| every(n, 6, amount(n)));
    assert_primitive!(batch, "short_amount", Decimal128Type, |n| Some(i128::from(
        n - 250
    )));
    let flags: Vec<_> = batch.column(2).as_boolean().iter().collect();
    let expected: Vec<_> = (0..ROWS).map(|n| every(n, 7, n % 3 == 0)).collect();
    assert_eq!(flags, expected);
}

#[tokio::test]
async fn texts_bytes_and_nested_values() {
    let source = source(file(Codec::Null), DataFileFormat::Avro).await;
    let batch = read_all(&source).await.batch();
    let of = |name: &str| batch.column_by_name(name).unwrap();
    let texts = of("text").as_string::<i32>();
    let kinds = of("kind").as_string::<i32>();
    let bytes = of("bytes").as_binary::<i32>();
    let uuids = of("uuid").as_fixed_size_binary();
    let fixed = of("fixed").as_fixed_size_binary();
    let items = of("item").as_struct();
    let lists = of("list").as_list::<i32>();
    let maps = of("map").as_map();
    let pairs = of("pairs").as_map();
    for n in 0..ROWS {
        let row = n as usize;
        let text = texts.is_valid(row).then(|| texts.value(row).to_string());
        assert_eq!(text, every(n, 4, format!("täxt {}", n * n)));
        assert_eq!(kinds.value(row), ["small", "large"][row % 2]);
        assert_eq!(bytes.value(row), vec![n as u8; row % 4]);
        let uuid = uuids.is_valid(row).then(|| uuids.value(row).to_vec());
        assert_eq!(uuid, every(n, 10, vec![(n % 250) as u8; 16]));
        assert_eq!(fixed.value(row), [n as u8, 1, 2]);

        assert_eq!(items.is_null(row), n % 5 == 0);
        if items.is_valid(row) {
            let a = items.column(0).as_primitive::<Int32Type>();
            let a = a.is_valid(row).then(|| a.value(row));
            assert_eq!(a, every(n, 2, n as i32));
            let b = items.column(1).as_string::<i32>();
            assert_eq!(b.value(row), format!("b{n}"));
        }
        assert_eq!(lists.is_null(row), n % 8 == 0);
        if lists.is_valid(row) {
            let values = lists.value(row);
            let values: Vec<_> = values.as_primitive::<Int32Type>().iter().collect();
            let expected = (0..n % 4).map(|i| every(n + i, 3, (n + i) as i32));
            assert_eq!(values, expected.collect::<Vec<_>>());
        }
        // Keys come in any order.
        let entries = maps.value(row);
        let keys = entries.column(0).as_string::<i32>();
        let values = entries.column(1).as_primitive::<Int64Type>();
        assert_eq!(entries.len() as i64, n % 3);
        for at in 0..entries.len() {
            let i: i64 = keys.value(at).strip_prefix('k').unwrap().parse().unwrap();
            let value = values.is_valid(at).then(|| values.value(at));
            assert_eq!(value, every(n + i, 2, n * i));
        }
        assert_eq!(pairs.is_null(row), n % 6 == 0);
        if pairs.is_valid(row) {
            let entries = pairs.value(row);
            let keys = entries.column(0).as_primitive::<Int32Type>();
            let values = entries.column(1).as_struct();
            assert_eq!(entries.len() as i64, n % 3);
            for i in 0..n % 3 {
                let at = i as usize;
                assert_eq!(keys.value(at), i as i32);
                assert_eq!(values.is_null(at), (n + i) % 4 == 0);
                if values.is_valid(at) {
                    let b = values.column(1).as_string::<i32>();
                    assert_eq!(b.value(at), format!("b{}", n + i));
                }
            }
        }
    }
}

#[tokio::test]
async fn every_codec() {
    // The same for all: the entries of maps come in another order each time.
    let blocks = blocks();
    let plain = container(SCHEMA, Codec::Null, &blocks);
    let plain = source(plain, DataFileFormat::Avro).await;
    let plain = read_all(&plain).await.batch();
    for codec in [
        Codec::Deflate(DeflateSettings::default()),
        Codec::Snappy,
        Codec::Zstandard(ZstandardSettings::default()),
    ] {
        let bytes = container(SCHEMA, codec, &blocks);
        let source = source(bytes, DataFileFormat::Avro).await;
        assert_eq!(read_all(&source).await.batch(), plain, "{codec:?}");
    }
}

#[tokio::test]
async fn a_file_that_the_library_writes_as_a_whole() {
    let json = r#"{"type":"record","name":"delete","fields":[
        {"name":"file_path","type":"string","field-id":2147483546},
        {"name":"pos","type":"long","field-id":2147483545}]}"#;
    let schema = AvroSchema::parse_str(json).unwrap();
    let mut writer = Writer::with_codec(&schema, vec![], Codec::Snappy);
    for n in 0..5000_i64 {
        let row = Value::Record(vec![
            ("file_path".into(), Value::String(format!("file {}", n % 3))),
            ("pos".into(), Value::Long(n)),
        ]);
        writer.append(row).unwrap();
    }
    let source = source(writer.into_inner().unwrap(), DataFileFormat::Avro).await;
    let contents = read_all(&source).await;
    let expected = [("file_path", 2_147_483_546), ("pos", 2_147_483_545)];
    assert_eq!(ids(&contents.schema), expected_ids(&expected));
    assert!(contents.schema.fields().iter().all(|f| !f.is_nullable()));
    let positions = contents
        .batch()
        .column(1)
        .as_primitive::<Int64Type>()
        .clone();
    assert!(positions.values().iter().copied().eq(0..5000));
}

#[tokio::test]
async fn positions_run_on_over_blocks_and_batches() {
    let source = source(file(Codec::Null), DataFileFormat::Avro).await;
    for batch_size in [1, 7, 60, 64, 10_000] {
        let contents = read(&source, None, batch_size, |_| vec![20, 0])
            .await
            .unwrap();
        assert_eq!(contents.schema.fields().len(), 2);
        let all: Vec<u64> = (0..ROWS as u64).collect();
        assert_eq!(contents.positions(), all);
        assert!(
            contents
                .rows
                .iter()
                .all(|(_, batch)| batch.num_rows() <= batch_size)
        );
        let batch = contents.batch();
        assert_primitive!(batch, "id", Int64Type, Some);
        assert_primitive!(batch, "/slash", Int32Type, |_| Some(-1));
    }
    let none = read(&source, None, 64, |_| vec![]).await.unwrap();
    assert_eq!(none.positions().len() as i64, ROWS);
}

#[tokio::test]
async fn only_the_first_range_has_rows() {
    let source = source(file(Codec::Null), DataFileFormat::Avro).await;
    let size = source.size_bytes;
    let first = read(&source, Some(0..10), 1000, |_| vec![0]).await.unwrap();
    assert_eq!(first.positions().len() as i64, ROWS);
    let second = read(&source, Some(10..size), 1000, |_| vec![0])
        .await
        .unwrap();
    assert!(second.rows.is_empty());
    assert_eq!(second.schema, first.schema);
}

#[tokio::test]
async fn a_file_ends_where_a_block_does() {
    let whole = file(Codec::Null);
    let mut ends = 0;
    for cut in (0..200).chain(whole.len() - 2000..whole.len()).step_by(7) {
        let source = source(whole[..cut].to_vec(), DataFileFormat::Avro).await;
        match read(&source, None, 1000, |_| vec![0]).await {
            Ok(contents) => {
                assert_eq!(contents.positions().len() % BLOCK_ROWS, 0);
                ends += 1;
            }
            Err(error) => assert!(error.to_string().contains(PATH), "{error}"),
        }
    }
    assert!(ends <= 1, "blocks are longer than that");
}

#[tokio::test]
async fn a_file_without_its_last_block_is_told_by_its_rows() {
    let json = r#"{"type":"record","name":"r","fields":[{"name":"n","type":"long"}]}"#;
    let blocks = [(3, vec![2, 4, 6]), (1, vec![8])];
    for (written, rows) in [(2, 4), (1, 3), (0, 0)] {
        let file = container(json, Codec::Null, &blocks[..written]);
        let mut source = source(file, DataFileFormat::Avro).await;
        source.record_count = Some(4);
        match read(&source, None, 2, |_| vec![0]).await {
            Ok(contents) => assert_eq!((rows, contents.positions().len()), (4, 4)),
            Err(error) => {
                let told =
                    format!("{PATH} is corrupt: it has {rows} rows, and the manifest says 4");
                assert!(error.to_string().contains(&told), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn counts_and_marks_are_checked() {
    let json = r#"{"type":"record","name":"r","fields":[{"name":"n","type":"long"}]}"#;
    let good = container(json, Codec::Null, &[(3, vec![2, 4, 6])]);
    let source_of = |bytes| source(bytes, DataFileFormat::Avro);
    assert_eq!(
        read_all(&source_of(good.clone()).await).await.positions(),
        [0, 1, 2]
    );
    let mut without_mark = good.clone();
    *without_mark.last_mut().unwrap() = 0;
    for broken in [
        container(json, Codec::Null, &[(2, vec![2, 4, 6])]),
        container(json, Codec::Null, &[(4, vec![2, 4, 6])]),
        container(json, Codec::Null, &[(1 << 50, vec![2, 4, 6])]),
        without_mark,
    ] {
        let error = read(&source_of(broken).await, None, 10, |_| vec![0])
            .await
            .unwrap_err();
        assert!(error.to_string().contains(PATH), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named_when_it_is_asked_for() {
    let json = r#"{"type":"record","name":"r","fields":[
        {"name":"n","type":"long","field-id":1},
        {"name":"either","type":["int","string"],"field-id":2},
        {"name":"nothing","type":{"type":"array","items":"null"},"field-id":3},
        {"name":"huge","type":{"type":"fixed","name":"f","size":99999999},"field-id":4},
        {"name":"m","type":"long","field-id":5}]}"#;
    // 1, the text "ab", 2^40 elements of no bytes, and then the huge bytes are missing.
    let mut row = vec![2, 2, 4, b'a', b'b'];
    row.extend(long(1 << 40));
    row.extend([0]);
    let bytes = container(json, Codec::Null, &[(1, row)]);
    let source = source(bytes, DataFileFormat::Avro).await;
    for (column, name) in [(1, "either"), (2, "nothing"), (3, "huge")] {
        let error = read(&source, None, 10, |_| vec![column]).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains(PATH) && error.contains(name), "{error}");
    }
    let error = read(&source, None, 10, |_| vec![0]).await.unwrap_err();
    assert!(error.to_string().contains("huge"), "{error}");

    let json = json.replace("99999999", "1");
    let mut row = vec![2, 2, 4, b'a', b'b'];
    row.extend(long(1 << 40));
    row.extend([0, 7, 8]);
    let bytes = container(&json, Codec::Null, &[(1, row)]);
    let source = crate::support::source(bytes, DataFileFormat::Avro).await;
    let contents = read(&source, None, 10, |_| vec![0, 4]).await.unwrap();
    let batch = contents.batch();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[1]);
    assert_eq!(batch.column(1).as_primitive::<Int64Type>().values(), &[4]);
}

#[tokio::test]
async fn schemas_without_end_are_refused() {
    let recursive = r#"{"type":"record","name":"r","fields":[
        {"name":"next","type":["null","r"]}]}"#;
    // Each type holds the one before twice: 2^40 in all.
    let mut doubled =
        r#"{"type":"record","name":"t0","fields":[{"name":"n","type":"long"}]}"#.to_string();
    for n in 1..40 {
        doubled = format!(
            r#"{{"type":"record","name":"t{n}","fields":[{{"name":"a","type":{doubled}}},{{"name":"b","type":"t{}"}}]}}"#,
            n - 1
        );
    }
    for json in [recursive, doubled.as_str(), "{}", "[]", "3", "\"long\"", ""] {
        let bytes = container(json, Codec::Null, &[(1, vec![0])]);
        let source = source(bytes, DataFileFormat::Avro).await;
        let error = read(&source, None, 10, |_| vec![0]).await.unwrap_err();
        assert!(error.to_string().contains(PATH), "{error}");
    }
}
