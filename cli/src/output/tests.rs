//! Every format, written to a file and read back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, DictionaryArray, Int64Array, ListArray, NullArray,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Int32Type;

use super::*;

/// Two rows; the second one is NULL throughout, but for its number.
fn batch() -> RecordBatch {
    let money = Decimal128Array::from(vec![Some(12_345), None]).with_precision_and_scale(15, 2);
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int64Array::from(vec![1, 22]))),
        ("money", Arc::new(money.unwrap())),
        (
            "text",
            Arc::new(StringArray::from(vec![Some("a,\"b\"\nc"), None])),
        ),
        ("empty", Arc::new(StringArray::from(vec![Some(""), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(0), None]))),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_500_000), None])),
        ),
        ("list", Arc::new(list)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
        .unwrap()
}

/// Writes results into a file and gives its path.
fn written(
    format: Format,
    results: &[Vec<RecordBatch>],
) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result");
    let mut output = Output::open(Some(&path), format).unwrap();
    for batches in results {
        let mut writer = output.begin(&batches[0].schema()).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.finish().unwrap();
    }
    assert!(!path.exists(), "the file appears when it is whole");
    output.commit().unwrap();
    (folder, path)
}

fn text(format: Format, results: &[Vec<RecordBatch>]) -> String {
    let (_folder, path) = written(format, results);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn tables_are_aligned() {
    let text = text(
        Format::Table,
        &[vec![batch().project(&[0, 1, 2, 4, 5, 6]).unwrap()]],
    );
    let expected = "\
 n  | money  |     text     |    day     |           at          |  list
----+--------+--------------+------------+-----------------------+---------
  1 | 123.45 | a,\"b\"        | 1970-01-01 | 1970-01-01 00:00:01.500 | [1, ]
    |        | c            |            |                         |
 22 |   NULL | NULL         | NULL       | NULL                  | NULL
";
    let squeezed = |text: &str| {
        text.lines()
            .map(|line| {
                line.split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .replace("--", "")
            })
            .map(|line| line.replace('-', ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(squeezed(&text), squeezed(expected), "{text}");
    let bars: Vec<Vec<usize>> = text
        .lines()
        .map(|line| line.match_indices(['|', '+']).map(|(at, _)| at).collect())
        .collect();
    assert!(bars.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
}

#[test]
fn long_tables_stream_with_the_widths_of_their_first_rows() {
    let rows = |range: std::ops::Range<i64>| {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("n", numbers)]).unwrap()
    };
    let text = text(
        Format::Table,
        &[vec![
            rows(0..900),
            rows(900..3000),
            rows(5_000_000..5_000_001),
        ]],
    );
    assert_eq!(text.lines().count(), 2 + 3001);
    assert!(
        text.ends_with("\n 2999\n 5000000\n"),
        "{}",
        &text[text.len() - 40..]
    );
}

#[test]
fn expanded_tables_have_a_column_per_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result");
    let mut output = Output::open(Some(&path), Format::Table).unwrap();
    output.expanded = Expanded::On;
    let batch = batch().project(&[0, 1]).unwrap();
    let mut writer = output.begin(&batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    output.commit().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        text,
        "-[ 1 ]-----\nn     | 1\nmoney | 123.45\n-[ 2 ]-----\nn     | 22\nmoney | NULL\n"
    );
}

#[test]
fn values_of_several_lines_take_as_many() {
    let plan: ArrayRef = Arc::new(StringArray::from(vec![Some("A\n  B\tC\n"), None]));
    let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let batch = RecordBatch::try_from_iter([("plan", plan), ("n", n)]).unwrap();
    assert_eq!(
        text(Format::Table, &[vec![batch.clone()]]),
        "  plan  | n\n--------+---\n A      | 1\n   B\\tC |\n NULL   | 2\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result");
    let mut output = Output::open(Some(&path), Format::Table).unwrap();
    output.expanded = Expanded::On;
    let mut writer = output.begin(&batch.schema()).unwrap();
    writer.write(&batch.slice(0, 1)).unwrap();
    writer.finish().unwrap();
    output.commit().unwrap();
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        "-[ 1 ]----\nplan | A\n     |   B\\tC\nn    | 1\n"
    );
}

#[test]
fn csv_tells_null_from_empty() {
    let text = text(Format::Csv, &[vec![batch()]]);
    assert_eq!(
        text,
        "n,money,text,empty,day,at,list\n\
         1,123.45,\"a,\"\"b\"\"\nc\",\"\",1970-01-01,1970-01-01T00:00:01.500,\"[1, ]\"\n\
         22,,,,,,\n"
    );
}

#[test]
fn columns_without_a_bitmap_of_their_own_have_nulls_too() {
    let words: DictionaryArray<Int32Type> = vec![Some("a"), None].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("nothing", Arc::new(NullArray::new(2))),
        ("word", Arc::new(words)),
    ];
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)));
    let batch = batch.unwrap();
    assert_eq!(
        text(Format::Csv, &[vec![batch.clone()]]),
        "nothing,word\n,a\n,\n"
    );
    let table = text(Format::Table, &[vec![batch]]);
    assert_eq!(table.matches("NULL").count(), 3, "{table}");
}

#[test]
fn json_reads_back() {
    let one = vec![batch().project(&[0, 2, 3]).unwrap()];
    let array: serde_json::Value =
        serde_json::from_str(&text(Format::Json, std::slice::from_ref(&one))).unwrap();
    assert_eq!(array[0]["text"], "a,\"b\"\nc");
    assert_eq!(array[1]["n"], 22);
    assert_eq!(array[1]["text"], serde_json::Value::Null);
    let none = vec![one[0].slice(0, 0)];
    assert_eq!(text(Format::Json, &[none]).trim(), "[]");
    let lines = text(Format::Ndjson, &[one.clone(), one]);
    assert_eq!(lines.lines().count(), 4);
    for line in lines.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

fn read_arrow(path: &Path) -> Vec<RecordBatch> {
    let file = std::fs::File::open(path).unwrap();
    let reader = arrow::ipc::reader::StreamReader::try_new(file, None).unwrap();
    reader.map(Result::unwrap).collect()
}

#[test]
fn columnar_formats_read_back() {
    let (_folder, path) = written(Format::Arrow, &[vec![batch(), batch()]]);
    assert_eq!(read_arrow(&path), [batch(), batch()]);
    let (_folder, path) = written(Format::Parquet, &[vec![batch(), batch()]]);
    let file = std::fs::File::open(path).unwrap();
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let read: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let read = arrow::compute::concat_batches(&batch().schema(), &read).unwrap();
    let twice = arrow::compute::concat_batches(&batch().schema(), &[batch(), batch()]).unwrap();
    assert_eq!(read, twice);
}

#[test]
fn columnar_formats_hold_one_result() {
    for format in [Format::Arrow, Format::Parquet] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result");
        let mut output = Output::open(Some(&path), format).unwrap();
        let schema = batch().schema();
        output.begin(&schema).unwrap().finish().unwrap();
        let error = output.begin(&schema).err().unwrap();
        assert!(error.to_string().contains("one result"), "{error}");
        drop(output);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );
    }
}
