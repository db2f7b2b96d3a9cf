//! Parquet files with positions.

use std::collections::HashMap;
use std::sync::Arc;

use ::parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use ::parquet::data_type::{Int32Type as ParquetInt32, Int96, Int96Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use arrow::array::{
    Array, AsArray, Int32Array, Int64Array, ListArray, MapArray, RecordBatch, StringArray,
    StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    DataType, Field, Fields, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use bytes::Bytes;
use iceberg::spec::DataFileFormat;

use crate::support::{PATH, expected_ids, ids, read, read_all, source};

const ROWS: i64 = 1000;
const GROUP_ROWS: usize = 300;

fn field(name: &str, data_type: DataType, id: i32) -> Field {
    Field::new(name, data_type, true).with_metadata(HashMap::from([(
        PARQUET_FIELD_ID_META_KEY.to_string(),
        id.to_string(),
    )]))
}

fn batch() -> RecordBatch {
    let count = ROWS as usize;
    let id = Int64Array::from_iter_values(0..ROWS);
    let text = StringArray::from_iter_values((0..ROWS).map(|n| format!("text {n}")));
    let a = Int32Array::from_iter_values(0..ROWS as i32);
    let parts = Fields::from(vec![field("a", DataType::Int32, 4)]);
    let item = StructArray::try_new(parts.clone(), vec![Arc::new(a.clone())], None).unwrap();
    let ones = || OffsetBuffer::from_lengths(std::iter::repeat_n(1, count));
    let element = Arc::new(field("element", DataType::Int32, 6));
    let list = ListArray::try_new(Arc::clone(&element), ones(), Arc::new(a.clone()), None).unwrap();
    let entry = Fields::from(vec![
        field("key", DataType::Utf8, 8).with_nullable(false),
        field("value", DataType::Int32, 9),
    ]);
    let pairs = StructArray::try_new(
        entry.clone(),
        vec![Arc::new(text.clone()), Arc::new(a)],
        None,
    )
    .unwrap();
    let entries = Arc::new(Field::new("key_value", DataType::Struct(entry), false));
    let map = MapArray::try_new(Arc::clone(&entries), ones(), pairs, None, false).unwrap();
    let schema = Schema::new(vec![
        field("id", DataType::Int64, 1),
        field("text", DataType::Utf8, 2),
        field("item", DataType::Struct(parts), 3),
        field("list", DataType::List(element), 5),
        field("map", DataType::Map(entries, false), 7),
    ]);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(id),
            Arc::new(text),
            Arc::new(item),
            Arc::new(list),
            Arc::new(map),
        ],
    )
    .unwrap()
}

pub fn file() -> Vec<u8> {
    let batch = batch();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let mut bytes = vec![];
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn found_ids(batch: &RecordBatch) -> Vec<i64> {
    let column = batch.column_by_name("id").unwrap();
    column.as_primitive::<Int64Type>().values().to_vec()
}

#[tokio::test]
async fn all_columns_with_their_ids() {
    let source = source(file(), DataFileFormat::Parquet).await;
    let contents = read_all(&source).await;
    let expected = [
        ("id", 1),
        ("text", 2),
        ("item", 3),
        ("item.a", 4),
        ("list", 5),
        ("list.element", 6),
        ("map", 7),
        ("map.key", 8),
        ("map.value", 9),
    ];
    assert_eq!(ids(&contents.schema), expected_ids(&expected));
    let found = contents.batch();
    for (column, expected) in found.columns().iter().zip(batch().columns()) {
        assert_eq!(column.to_data(), expected.to_data());
    }
}

#[tokio::test]
async fn positions_are_those_in_the_file() {
    let source = source(file(), DataFileFormat::Parquet).await;
    let contents = read(&source, None, 128, |_| vec![4, 0]).await.unwrap();
    assert_eq!(contents.schema.fields().len(), 2);
    let all: Vec<u64> = (0..ROWS as u64).collect();
    assert_eq!(contents.positions(), all);
    assert!(found_ids(&contents.batch()).into_iter().eq(0..ROWS));
    let none = read(&source, None, 128, |_| vec![]).await.unwrap();
    assert_eq!(none.positions(), all);
}

#[tokio::test]
async fn a_range_reads_the_row_groups_that_begin_in_it() {
    let bytes = file();
    let footer = SerializedFileReader::new(Bytes::from(bytes.clone())).unwrap();
    let footer = footer.metadata().clone();
    let starts: Vec<u64> = footer
        .row_groups()
        .iter()
        .map(|group| {
            let column = group.column(0);
            let first = column
                .dictionary_page_offset()
                .unwrap_or_else(|| column.data_page_offset());
            first as u64
        })
        .collect();
    assert_eq!(starts.len(), 4);
    let size = bytes.len() as u64;
    let source = source(bytes, DataFileFormat::Parquet).await;
    let positions = |range| {
        let source = source.clone();
        async move {
            let contents = read(&source, Some(range), 1000, |_| vec![0]).await.unwrap();
            let positions = contents.positions();
            let ids: Vec<u64> = contents
                .rows
                .iter()
                .flat_map(|(_, batch)| found_ids(batch))
                .map(|id| id as u64)
                .collect();
            assert_eq!(ids, positions);
            positions
        }
    };
    assert!(positions(0..starts[1]).await.into_iter().eq(0..300));
    assert!(
        positions(starts[1]..starts[3])
            .await
            .into_iter()
            .eq(300..900)
    );
    assert!(
        positions(starts[2] + 1..size)
            .await
            .into_iter()
            .eq(900..1000)
    );
    assert!(positions(starts[3] + 1..size).await.is_empty());
}

#[tokio::test]
async fn the_manifest_may_be_wrong_about_the_size_of_a_whole_file() {
    let mut source = source(file(), DataFileFormat::Parquet).await;
    for wrong in [source.size_bytes - 7, source.size_bytes + 7, 0] {
        source.size_bytes = wrong;
        assert_eq!(read_all(&source).await.positions().len() as i64, ROWS);
        let error = read(&source, Some(0..1 << 40), 1000, |_| vec![0])
            .await
            .unwrap_err();
        assert!(error.to_string().contains(PATH), "{error}");
    }
}

#[tokio::test]
async fn old_timestamps_keep_ids_and_range() {
    let message = "message table {
        required int96 at = 1;
        required group item = 2 { required int96 at = 3; required int32 a = 4; }
        required group list (LIST) = 5 { repeated group list { required int96 element = 6; } }
    }";
    let parsed = parse_message_type(message).unwrap();
    let mut bytes = vec![];
    let mut writer =
        SerializedFileWriter::new(&mut bytes, Arc::new(parsed), Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    // The first day of the year 5000, in Julian days, and a second after midnight.
    let mut at = Int96::new();
    at.set_data(1_000_000_000, 0, 3_547_273);
    for column in 0..4 {
        let mut chunk = group.next_column().unwrap().unwrap();
        match column {
            2 => {
                let typed = chunk.typed::<ParquetInt32>();
                typed.write_batch(&[7], None, None).unwrap();
            }
            3 => {
                let typed = chunk.typed::<Int96Type>();
                typed.write_batch(&[at], Some(&[1]), Some(&[0])).unwrap();
            }
            _ => {
                let typed = chunk.typed::<Int96Type>();
                typed.write_batch(&[at], None, None).unwrap();
            }
        }
        chunk.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();

    let source = source(bytes, DataFileFormat::Parquet).await;
    let contents = read_all(&source).await;
    let expected = [
        ("at", 1),
        ("item", 2),
        ("item.at", 3),
        ("item.a", 4),
        ("list", 5),
        ("list.element", 6),
    ];
    assert_eq!(ids(&contents.schema), expected_ids(&expected));
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    assert_eq!(contents.schema.field(0).data_type(), &micros);
    let batch = contents.batch();
    let expected = (3_547_273 - 2_440_588) * 86_400_000_000 + 1_000_000;
    let value = |array: &dyn Array| array.as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(value(batch.column(0)), expected);
    assert_eq!(value(batch.column(1).as_struct().column(0)), expected);
    assert_eq!(value(&batch.column(2).as_list::<i32>().value(0)), expected);
}
