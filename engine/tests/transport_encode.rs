//! Batches survive encoding, and no message is larger than allowed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Decimal128Array, DictionaryArray, Int32Array,
    Int64Array, ListBuilder, MapBuilder, NullArray, RecordBatch, RecordBatchOptions, StringArray,
    StringViewArray, StringViewBuilder, StructArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Field, Int32Type, Schema};
use futures::TryStreamExt;
use inshore_engine::transport::encode::{BatchEncoder, compression};
use inshore_proto::error::Code;
use prost::Message;

const MAX: usize = 100_000;
const TARGET: usize = 20_000;

fn encoder(name: &str) -> BatchEncoder {
    BatchEncoder::new(compression(name).unwrap())
        .unwrap()
        .with_sizes(MAX, TARGET)
}

fn messages(name: &str, batches: &[RecordBatch]) -> Vec<FlightData> {
    let mut encoder = encoder(name);
    let mut messages = vec![encoder.encode_schema(&batches[0].schema())];
    for batch in batches {
        messages.extend(encoder.encode(batch.clone()).unwrap());
    }
    for message in &messages {
        assert!(message.encoded_len() <= MAX, "{}", message.encoded_len());
    }
    messages
}

async fn decoded(messages: Vec<FlightData>) -> Vec<RecordBatch> {
    let messages = futures::stream::iter(messages.into_iter().map(Ok));
    FlightRecordBatchStream::new_from_flight_data(messages)
        .try_collect()
        .await
        .unwrap()
}

async fn survives(batches: &[RecordBatch]) {
    for name in ["lz4", "zstd", "none"] {
        let received = decoded(messages(name, batches)).await;
        let schema = batches[0].schema();
        let sent = concat_batches(&schema, batches).unwrap();
        let received = concat_batches(&schema, &received).unwrap();
        assert_eq!(received, sent, "{name}");
    }
}

fn long(row: usize) -> String {
    format!("{row} is a value that is too long to be kept inside a view, and row {row} has it")
}

fn lists(rows: usize) -> ArrayRef {
    let mut lists = ListBuilder::new(StringViewBuilder::new());
    for row in 0..rows {
        match row % 5 {
            0 => lists.append_null(),
            n => {
                (0..n).for_each(|_| lists.values().append_value(long(row)));
                lists.append(true);
            }
        }
    }
    Arc::new(lists.finish())
}

fn maps(rows: usize) -> ArrayRef {
    let mut maps = MapBuilder::new(None, StringViewBuilder::new(), StringViewBuilder::new());
    for row in 0..rows {
        for entry in 0..row % 3 {
            maps.keys().append_value(format!("{entry} {}", long(row)));
            maps.values().append_value(long(row));
        }
        maps.append(row % 4 != 0).unwrap();
    }
    Arc::new(maps.finish())
}

fn wide(rows: usize) -> RecordBatch {
    let views: StringViewArray = (0..rows)
        .map(|row| (row % 7 != 0).then(|| long(row)))
        .collect();
    let binaries: BinaryViewArray = (0..rows).map(|row| Some(long(row).into_bytes())).collect();
    let dictionary: DictionaryArray<Int32Type> = (0..rows)
        .map(|row| (row % 11 != 0).then_some(["red", "green", "blue"][row % 3]))
        .collect();
    let inner: ArrayRef = Arc::new(views.clone());
    let field = Arc::new(Field::new("inner", inner.data_type().clone(), true));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("i", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
        (
            "b",
            Arc::new(
                (0..rows)
                    .map(|row| Some(row % 2 == 0))
                    .collect::<BooleanArray>(),
            ),
        ),
        ("views", Arc::new(views)),
        ("binaries", Arc::new(binaries)),
        (
            "plain",
            Arc::new(StringArray::from_iter_values((0..rows).map(long))),
        ),
        ("dictionary", Arc::new(dictionary)),
        ("lists", lists(rows)),
        ("maps", maps(rows)),
        ("struct", Arc::new(StructArray::from(vec![(field, inner)]))),
        ("null", Arc::new(NullArray::new(rows))),
        (
            "decimal",
            Arc::new(
                Decimal128Array::from_iter_values((0..rows).map(|row| row as i128))
                    .with_precision_and_scale(38, 10)
                    .unwrap(),
            ),
        ),
        (
            "time",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(0..rows as i64).with_timezone("UTC"),
            ),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

#[tokio::test]
async fn all_types() {
    survives(&[wide(50)]).await;
    survives(&[wide(1), wide(3), wide(0), wide(200)]).await;
}

#[tokio::test]
async fn large_batches_are_split() {
    survives(&[wide(10_000)]).await;
    let count = messages("none", &[wide(10_000)]).len();
    assert!(count > 50, "{count}");
}

#[tokio::test]
async fn slices() {
    let batch = wide(2000);
    survives(&[
        batch.slice(3, 100),
        batch.slice(1500, 1),
        batch.slice(700, 1300),
    ])
    .await;
}

#[test]
fn slices_do_not_send_what_they_do_not_hold() {
    let views: StringViewArray = (0..1000).map(|row| Some(long(row))).collect();
    let keys: Vec<_> = (0..1000).collect();
    let values: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(long)));
    let dictionary = DictionaryArray::<Int32Type>::new(Int32Array::from(keys), values);
    let columns: [(&str, ArrayRef); 4] = [
        ("v", Arc::new(views)),
        ("d", Arc::new(dictionary)),
        ("l", lists(1000)),
        ("m", maps(1000)),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let sizes = |batch| -> usize {
        messages("none", &[batch])
            .iter()
            .skip(1)
            .map(|message| message.encoded_len())
            .sum()
    };
    let all = sizes(batch.clone());
    let few = sizes(batch.slice(500, 10));
    assert!(few * 20 < all, "{few} of {all}");
}

#[test]
fn an_unchanged_dictionary_is_sent_once() {
    let values: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    let batch = |keys: Vec<i32>| {
        let array = DictionaryArray::<Int32Type>::new(Int32Array::from(keys), Arc::clone(&values));
        RecordBatch::try_from_iter([("d", Arc::new(array) as ArrayRef)]).unwrap()
    };
    let batches = [
        batch(vec![0, 1, 2, 0]),
        batch(vec![2, 2, 1, 0, 0]),
        batch(vec![1, 1, 1]),
    ];
    // Schema, dictionary, three batches.
    assert_eq!(messages("lz4", &batches).len(), 5);
}

#[tokio::test]
async fn rows_of_very_different_sizes() {
    let sizes = [10, 90_000, 5, 5, 80_000, 85_000, 1];
    let texts = StringViewArray::from_iter_values(sizes.iter().map(|size| "x".repeat(*size)));
    survives(&[RecordBatch::try_from_iter([("s", Arc::new(texts) as ArrayRef)]).unwrap()]).await;
}

#[test]
fn a_row_that_is_too_large_is_refused() {
    let texts = StringArray::from_iter_values(["x".repeat(10), "x".repeat(MAX + 1)]);
    let batch = RecordBatch::try_from_iter([("s", Arc::new(texts) as ArrayRef)]).unwrap();
    let error = encoder("none").encode(batch).unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted);
    assert!(error.message.contains("a single row of"), "{error}");
    assert!(
        error.message.contains(&format!("at most {MAX} bytes")),
        "{error}"
    );
}

#[tokio::test]
async fn rows_without_columns_keep_their_number() {
    let options = RecordBatchOptions::new().with_row_count(Some(42));
    let empty = Arc::new(Schema::empty());
    let batch = RecordBatch::try_new_with_options(empty, vec![], &options).unwrap();
    let received = decoded(messages("lz4", &[batch])).await;
    assert_eq!(
        received.iter().map(RecordBatch::num_rows).sum::<usize>(),
        42
    );
}

#[test]
fn unknown_compression_is_refused() {
    let error = compression("gzip").unwrap_err();
    assert!(error.message.contains("distributed.compression"), "{error}");
}
