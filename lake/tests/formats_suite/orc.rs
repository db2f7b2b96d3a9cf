//! ORC files made by `lake/tests/data/make_orc.py`.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use iceberg::spec::DataFileFormat;

use crate::support::{PATH, expected_ids, ids, read, read_all, source};

const ROWS: i64 = 600;
const STRIPE_ROWS: u64 = 200;

pub fn file(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

/// NULL in every row that `step` divides.
fn every<T>(n: i64, step: i64, value: T) -> Option<T> {
    (n % step != 0).then_some(value)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a dyn Array {
    batch.column_by_name(name).unwrap().as_ref()
}

macro_rules! assert_primitive {
    ($batch:expr, $name:expr, $type:ty, $value:expr) => {
        let found: Vec<_> = column($batch, $name)
            .as_primitive::<$type>()
            .iter()
            .collect();
        let expected: Vec<_> = (0..ROWS).map($value).collect();
        assert_eq!(found, expected, "{}", $name);
    };
}

fn texts(array: &dyn Array) -> Vec<Option<String>> {
    let texts = array.as_string::<i32>();
    texts.iter().map(|text| text.map(str::to_string)).collect()
}

fn check_few(batch: &RecordBatch) {
    assert_primitive!(batch, "id", Int64Type, Some);
    assert_primitive!(batch, "number", Int32Type, |n| every(
        n,
        5,
        ((n * 7919) % 1000 - 500) as i32
    ));
    let kinds: Vec<_> = (0..ROWS)
        .map(|n| every(n, 13, format!("kind {}", n % 4)))
        .collect();
    assert_eq!(texts(column(batch, "kind")), kinds);
    let long: Vec<_> = (0..ROWS).map(|n| Some(format!("text {}", n * n))).collect();
    assert_eq!(texts(column(batch, "text")), long);
    assert_primitive!(batch, "amount", Decimal128Type, |n| every(
        n,
        6,
        i128::from((n - 300) * 12_345_678_901)
    ));
    assert_eq!(
        column(batch, "amount").data_type(),
        &DataType::Decimal128(20, 3)
    );
    assert_primitive!(batch, "at", TimestampMicrosecondType, |n| every(
        n,
        9,
        (n - 300) * 39_876_543_210_987
    ));
    // Its streams of values are empty.
    assert_primitive!(batch, "nothing", Int64Type, |_| None);
    let lists = column(batch, "list").as_list::<i32>();
    for n in 0..ROWS {
        let row = n as usize;
        assert_eq!(lists.is_null(row), n % 8 == 0);
        if lists.is_valid(row) {
            let values = lists.value(row);
            let values: Vec<_> = values.as_primitive::<Int32Type>().iter().collect();
            let expected: Vec<_> = (0..n % 4)
                .map(|i| every(n + i, 3, (n + i) as i32))
                .collect();
            assert_eq!(values, expected, "row {n}");
        }
    }
}

#[tokio::test]
async fn all_types_with_their_ids() {
    let source = source(file("nested.orc"), DataFileFormat::Orc).await;
    let contents = read_all(&source).await;
    let expected = [
        ("id", 1),
        ("number", 2),
        ("flag", 3),
        ("single", 4),
        ("double", 5),
        ("kind", 6),
        ("text", 7),
        ("bytes", 8),
        ("day", 9),
        ("amount", 10),
        ("at", 11),
        ("instant", 12),
        ("nanos", 13),
        ("uuid", 14),
        ("fixed", 15),
        ("time", 16),
        ("item", 17),
        ("item.a", 18),
        ("item.b", 19),
        ("list", 20),
        ("list.element", 21),
        ("map", 22),
        ("map.key", 23),
        ("map.value", 24),
        ("deep", 25),
        ("deep.element", 26),
        ("deep.element.tags", 27),
        ("deep.element.tags.element", 28),
        ("nothing", 29),
    ];
    assert_eq!(ids(&contents.schema), expected_ids(&expected));
    let batch = contents.batch();
    check_few(&batch);

    let flags: Vec<_> = column(&batch, "flag").as_boolean().iter().collect();
    let expected: Vec<_> = (0..ROWS).map(|n| every(n, 7, n % 3 == 0)).collect();
    assert_eq!(flags, expected);
    assert_primitive!(&batch, "single", Float32Type, |n| every(
        n,
        11,
        n as f32 / 4.0
    ));
    assert_primitive!(&batch, "double", Float64Type, |n| Some(n as f64 * 1.5));
    assert_primitive!(&batch, "day", Date32Type, |n| Some(
        (n * 100 - 30_000) as i32
    ));
    assert_primitive!(&batch, "time", Time64MicrosecondType, |n| Some(
        n * 1_000_000
    ));
    assert_primitive!(&batch, "instant", TimestampMicrosecondType, |n| Some(
        (n - 300) * 39_876_543_210_987
    ));
    assert_eq!(
        column(&batch, "instant").data_type(),
        &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    );
    assert_primitive!(&batch, "nanos", TimestampNanosecondType, |n| Some(
        (n - 300) * 9_876_543_210_987_654
    ));
}

#[tokio::test]
async fn bytes_of_all_kinds() {
    let source = source(file("nested.orc"), DataFileFormat::Orc).await;
    let batch = read_all(&source).await.batch();
    let bytes = column(&batch, "bytes").as_binary::<i32>();
    let uuids = column(&batch, "uuid").as_fixed_size_binary();
    let fixed = column(&batch, "fixed").as_fixed_size_binary();
    assert_eq!((uuids.value_length(), fixed.value_length()), (16, 3));
    for n in 0..ROWS {
        let row = n as usize;
        assert_eq!(bytes.is_null(row), n % 3 == 0);
        if bytes.is_valid(row) {
            assert_eq!(bytes.value(row), vec![n as u8; row % 4]);
        }
        let uuid: Vec<u8> = (n % 200..n % 200 + 16).map(|byte| byte as u8).collect();
        assert_eq!(uuids.value(row), uuid);
        assert_eq!(fixed.is_null(row), n % 4 == 0);
        if fixed.is_valid(row) {
            assert_eq!(fixed.value(row), [n as u8, 1, 2]);
        }
    }
}

#[tokio::test]
async fn nested_values() {
    let source = source(file("nested.orc"), DataFileFormat::Orc).await;
    let batch = read_all(&source).await.batch();
    let items = column(&batch, "item").as_struct();
    let a = items.column(0).as_primitive::<Int32Type>();
    let b = texts(items.column(1));
    let maps = column(&batch, "map").as_map();
    let deep = column(&batch, "deep").as_list::<i32>();
    for n in 0..ROWS {
        let row = n as usize;
        assert_eq!(items.is_null(row), n % 5 == 0);
        if items.is_valid(row) {
            let found = a.is_valid(row).then(|| a.value(row));
            assert_eq!(found, every(n, 2, n as i32));
            assert_eq!(b[row], Some(format!("b{n}")));
        }
        assert_eq!(maps.is_null(row), n % 10 == 0);
        if maps.is_valid(row) {
            let entries = maps.value(row);
            let keys: Vec<_> = (0..n % 3).map(|i| Some(format!("k{i}"))).collect();
            assert_eq!(texts(entries.column(0)), keys);
            let values: Vec<_> = entries
                .column(1)
                .as_primitive::<Int64Type>()
                .iter()
                .collect();
            let expected: Vec<_> = (0..n % 3).map(|i| every(n + i, 2, n * i)).collect();
            assert_eq!(values, expected);
        }
        let elements = deep.value(row);
        let tags = elements.as_struct().column(0).as_list::<i32>();
        assert_eq!(tags.len() as i64, n % 3);
        for i in 0..n % 3 {
            let at = i as usize;
            assert_eq!(tags.is_null(at), (n + i) % 4 == 0);
            if tags.is_valid(at) {
                let expected = [Some(n.to_string()), Some(i.to_string())];
                assert_eq!(texts(&tags.value(at)), expected);
            }
        }
    }
}

#[tokio::test]
async fn every_codec_and_both_versions() {
    for name in [
        "plain.orc",
        "snappy.orc",
        "zstd.orc",
        "lz4.orc",
        "first.orc",
    ] {
        let source = source(file(name), DataFileFormat::Orc).await;
        let contents = read_all(&source).await;
        println!("{name}");
        check_few(&contents.batch());
    }
}

#[tokio::test]
async fn positions_run_on_over_stripes() {
    let source = source(file("nested.orc"), DataFileFormat::Orc).await;
    let contents = read(&source, None, 70, |_| vec![19, 0, 0]).await.unwrap();
    let names: Vec<_> = contents.schema.fields().iter().map(|f| f.name()).collect();
    assert_eq!(names, ["id", "deep"], "in the order of the file");
    let all: Vec<u64> = (0..ROWS as u64).collect();
    assert_eq!(contents.positions(), all);
    let starts: Vec<u64> = contents.rows.iter().map(|(start, _)| *start).collect();
    let expected =
        [0, 70, 140].map(|start| [0, 1, 2].map(|stripe: u64| stripe * STRIPE_ROWS + start));
    let mut expected: Vec<u64> = expected.into_iter().flatten().collect();
    expected.sort_unstable();
    assert_eq!(starts, expected);
    assert_primitive!(&contents.batch(), "id", Int64Type, Some);
}

#[tokio::test]
async fn rows_without_columns_are_counted() {
    let source = source(file("plain.orc"), DataFileFormat::Orc).await;
    let contents = read(&source, None, 1000, |_| vec![]).await.unwrap();
    assert_eq!(contents.positions().len() as i64, ROWS);
}

#[tokio::test]
async fn only_the_first_range_has_rows() {
    let source = source(file("plain.orc"), DataFileFormat::Orc).await;
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
async fn the_manifest_may_be_wrong_about_the_size() {
    let mut source = source(file("nested.orc"), DataFileFormat::Orc).await;
    for wrong in [source.size_bytes - 7, source.size_bytes + 7, 0] {
        source.size_bytes = wrong;
        assert_eq!(read_all(&source).await.positions().len() as i64, ROWS);
    }
}

#[tokio::test]
async fn a_column_that_does_not_exist_is_a_named_error() {
    let source = source(file("plain.orc"), DataFileFormat::Orc).await;
    let error = read(&source, None, 10, |_| vec![8]).await.unwrap_err();
    assert!(error.to_string().contains(PATH), "{error}");
}
