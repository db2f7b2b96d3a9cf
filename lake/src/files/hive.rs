//! Folders named `column=value`, as Hive names those of partitions.

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::ScalarValue;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::sync::Arc;

use super::expand::Found;

/// Hive's name for the folder of NULL.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// What Hive encodes in names of folders.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'\'')
    .add(b'*')
    .add(b'/')
    .add(b':')
    .add(b'=')
    .add(b'?')
    .add(b'\\')
    .add(b'{')
    .add(b'[')
    .add(b']')
    .add(b'^');

/// The columns that all of the files' folders name, and each file's values of them. None unless the
/// folders of all files name the same columns, in one order. A column that the files have
/// themselves is read from them.
pub(super) fn partitions(
    found: &[Found],
    in_files: &Schema,
) -> (Vec<FieldRef>, Vec<Vec<ScalarValue>>) {
    let pairs: Vec<Vec<(String, Option<String>)>> =
        found.iter().map(|file| pairs_of(&file.folders)).collect();
    let names = |pairs: &[(String, Option<String>)]| -> Vec<String> {
        pairs.iter().map(|(name, _)| name.clone()).collect()
    };
    let first = pairs.first().map(|pairs| names(pairs)).unwrap_or_default();
    let none = (vec![], vec![vec![]; found.len()]);
    let repeats = (1..first.len()).any(|at| first[..at].contains(&first[at]));
    if first.is_empty() || repeats || pairs.iter().any(|pairs| names(pairs) != first) {
        return none;
    }
    let wanted: Vec<usize> = (0..first.len())
        .filter(|at| in_files.field_with_name(&first[*at]).is_err())
        .collect();
    let value = |row: &[(String, Option<String>)], at: usize| -> Option<String> {
        row.get(at).and_then(|(_, value)| value.clone())
    };
    let types: Vec<DataType> = wanted
        .iter()
        .map(|at| type_of(pairs.iter().filter_map(|row| value(row, *at))))
        .collect();
    let fields = wanted
        .iter()
        .zip(&types)
        .map(|(at, data_type)| Arc::new(Field::new(first[*at].clone(), data_type.clone(), true)));
    let values = pairs.iter().map(|row| {
        let typed = wanted.iter().zip(&types).map(|(at, data_type)| {
            let text = ScalarValue::Utf8(value(row, *at));
            text.cast_to(data_type).unwrap_or(ScalarValue::Null)
        });
        typed.collect()
    });
    (fields.collect(), values.collect())
}

/// The columns that the folders of one file name.
pub(crate) struct HiveFolders(Vec<(String, Option<String>)>);

impl HiveFolders {
    /// Of the folders above a file.
    pub fn of(folders: &[String]) -> Self {
        Self(pairs_of(folders))
    }

    /// The value of a column, which may be NULL; none when no folder names it.
    pub fn value(&self, column: &str) -> Option<Option<&str>> {
        let found = self.0.iter().find(|(name, _)| name == column);
        found.map(|(_, value)| value.as_deref())
    }
}

fn pairs_of(folders: &[String]) -> Vec<(String, Option<String>)> {
    let named = folders.iter().filter_map(|folder| folder.split_once('='));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    named
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| {
            let value = (value != NULL).then(|| decoded(value));
            (decoded(name), value)
        })
        .collect()
}

/// `bigint` or `date` where all values are such, else text.
fn type_of(values: impl Iterator<Item = String>) -> DataType {
    let (mut integers, mut dates, mut any) = (true, true, false);
    for value in values {
        any = true;
        // `007` and `+7` are texts: they would not come back as they were.
        integers &= value.parse::<i64>().is_ok_and(|n| n.to_string() == value);
        dates &= value.len() == 10
            && ScalarValue::Utf8(Some(value))
                .cast_to(&DataType::Date32)
                .is_ok();
    }
    match (any, integers, dates) {
        (true, true, _) => DataType::Int64,
        (true, _, true) => DataType::Date32,
        _ => DataType::Utf8,
    }
}

/// The folder of a value of a column.
pub(super) fn folder(column: &str, value: Option<&str>) -> String {
    let name = utf8_percent_encode(column, ENCODED);
    match value {
        None => format!("{name}={NULL}"),
        Some(value) => format!("{name}={}", utf8_percent_encode(value, ENCODED)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use object_store::ObjectMeta;

    fn found(folders: &[&str]) -> Found {
        Found {
            object: ObjectMeta {
                location: "x".into(),
                last_modified: Default::default(),
                size: 1,
                e_tag: None,
                version: None,
            },
            folders: folders.iter().map(|f| (*f).to_owned()).collect(),
        }
    }

    #[test]
    fn types_follow_the_values() {
        let files = [
            found(&["x", "n=1", "d=2026-01-31", "z=007", "s=a%2Fb"]),
            found(&["x", "n=-2", &folder("d", None), "z=7", "s=c d"]),
        ];
        let (fields, values) = partitions(&files, &Schema::empty());
        let types: Vec<_> = fields.iter().map(|f| f.data_type().clone()).collect();
        let text = DataType::Utf8;
        assert_eq!(
            types,
            [DataType::Int64, DataType::Date32, text.clone(), text]
        );
        assert_eq!(values[0][3], ScalarValue::Utf8(Some("a/b".to_owned())));
        assert!(values[1][1].is_null());
    }

    #[test]
    fn only_columns_of_all_files_count() {
        let files = [found(&["a=1", "b=2"]), found(&["a=1"])];
        assert!(partitions(&files, &Schema::empty()).0.is_empty());
        let files = [found(&["a=1", "b=2"]), found(&["a=1", "b=3"])];
        let own = Schema::new(vec![Field::new("a", DataType::Utf8, true)]);
        let (fields, values) = partitions(&files, &own);
        assert_eq!(fields[0].name(), "b");
        assert_eq!(values[1], [ScalarValue::Int64(Some(3))]);
    }

    #[test]
    fn folders_are_encoded_as_hive_does() {
        assert_eq!(folder("a=b", Some("x/y z%")), "a%3Db=x%2Fy z%25");
        let pairs = pairs_of(&[folder("a=b", Some("x/y z%"))]);
        assert_eq!(pairs, [("a=b".to_owned(), Some("x/y z%".to_owned()))]);
    }
}
