//! How the columns of one data file become the columns of the table, found by field id.
//!
//! Nothing here looks at values: a [`Conversion`] is computed once for each file from its schema,
//! and carried out by [`super::convert`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use iceberg::spec::{MappedField, NameMapping};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::schema::TableField;
use crate::plan::bounds::promotes;

/// How to find field ids in files that were written without any.
#[derive(Clone, Debug, PartialEq)]
pub enum NameRules {
    /// The table's `schema.name-mapping.default`.
    Mapping(Arc<NameMapping>),
    /// The table has none: names of top-level columns as its schemas first used them.
    History(Arc<HashMap<String, i32>>),
}

/// The field ids of a file's column; mirrors the Arrow field's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct FileField {
    /// The id; `None` when neither the file nor the rules give one.
    pub id: Option<i32>,
    /// Struct: one for each child. List: the element. Map: key and value.
    pub children: Vec<FileField>,
}

/// Finds the field ids of a file's columns.
pub fn file_fields(file: &Schema, rules: &NameRules) -> Vec<FileField> {
    if file.fields().iter().any(|field| has_id(field)) {
        return file.fields().iter().map(|field| embedded(field)).collect();
    }
    match rules {
        NameRules::Mapping(mapping) => {
            let mapped: Vec<&MappedField> = mapping.fields().iter().collect();
            file.fields()
                .iter()
                .map(|field| named(field, &mapped))
                .collect()
        }
        NameRules::History(names) => file
            .fields()
            .iter()
            .map(|field| FileField {
                id: names.get(field.name()).copied(),
                children: nameless_children(field),
            })
            .collect(),
    }
}

fn children(field: &Field) -> Vec<FieldRef> {
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().cloned().collect(),
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _) => {
            vec![Arc::clone(element)]
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => fields.iter().cloned().collect(),
            _ => vec![],
        },
        _ => vec![],
    }
}

fn own_id(field: &Field) -> Option<i32> {
    field
        .metadata()
        .get(PARQUET_FIELD_ID_META_KEY)?
        .parse()
        .ok()
}

fn has_id(field: &Field) -> bool {
    own_id(field).is_some() || children(field).iter().any(|child| has_id(child))
}

fn embedded(field: &Field) -> FileField {
    FileField {
        id: own_id(field),
        children: children(field)
            .iter()
            .map(|child| embedded(child))
            .collect(),
    }
}

fn named(field: &Field, mapping: &[&MappedField]) -> FileField {
    find_name(field.name(), mapping).map_or_else(|| unmapped(field), |found| mapped(field, found))
}

fn find_name<'a>(name: &str, mapping: &[&'a MappedField]) -> Option<&'a MappedField> {
    mapping
        .iter()
        .find(|mapped| mapped.names().iter().any(|known| known == name))
        .copied()
}

fn mapped(field: &Field, found: &MappedField) -> FileField {
    let inner: Vec<&MappedField> = found.fields().iter().map(AsRef::as_ref).collect();
    let child = |child: &FieldRef, standard: &str| {
        // Writers name the parts of lists and maps as they like; the mapping uses standard names.
        find_name(standard, &inner)
            .or_else(|| find_name(child.name(), &inner))
            .map_or_else(|| unmapped(child), |found| mapped(child, found))
    };
    let parts = children(field);
    let children = match field.data_type() {
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => {
            parts.iter().map(|part| child(part, "element")).collect()
        }
        DataType::Map(_, _) => parts
            .iter()
            .zip(["key", "value"])
            .map(|(part, standard)| child(part, standard))
            .collect(),
        _ => parts.iter().map(|part| named(part, &inner)).collect(),
    };
    FileField {
        id: found.field_id(),
        children,
    }
}

fn unmapped(field: &Field) -> FileField {
    FileField {
        id: None,
        children: nameless_children(field),
    }
}

fn nameless_children(field: &Field) -> Vec<FileField> {
    children(field)
        .iter()
        .map(|child| unmapped(child))
        .collect()
}

/// How an array of a file becomes an array of the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Conversion {
    /// It already is one.
    None,
    /// Arrow's cast to the table's type: a promotion, or another spelling of the same type.
    Cast,
    /// 16 bytes to the canonical text.
    UuidText,
    /// A struct, child by child.
    Struct(Vec<Source>),
    /// A list, by its elements.
    List(Box<Conversion>),
    /// A map, by its keys and values.
    Map(Box<Conversion>, Box<Conversion>),
}

/// Where a column or a struct's child comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The file's column or child at this place.
    File(usize, Conversion),
    /// The file does not have it: the same value in every row.
    Constant(ScalarValue),
    /// It follows from where the row stands.
    Row(RowFact),
}

/// What is known of a row by its place; see [`super::metadata_columns`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RowFact {
    /// The position in the file, which is the batch's column at this place.
    Position(usize),
    /// The row id: the file's own column where it has a value, else the first id plus the position.
    RowId {
        /// Place of the file's own column.
        own: Option<usize>,
        /// Place of the position.
        position: usize,
        /// Id of the file's first row.
        first: i64,
    },
    /// The sequence number of the last change: the file's own column where it has a value.
    LastUpdated {
        /// Place of the file's own column.
        own: Option<usize>,
        /// The file's data sequence number.
        sequence: i64,
    },
}

/// Finds where a table column comes from.
///
/// # Errors
/// A sentence saying what about the file's column does not fit.
pub fn resolve(
    target: &Field,
    ids: &TableField,
    file: &[FieldRef],
    file_ids: &[FileField],
    constants: &HashMap<i32, ScalarValue>,
) -> Result<Source, String> {
    let place = file_ids.iter().position(|field| field.id == Some(ids.id));
    if let Some(place) = place
        && let (Some(source), Some(source_ids)) = (file.get(place), file_ids.get(place))
    {
        let conversion = convert_field(target, ids, source, source_ids)?;
        return Ok(Source::File(place, conversion));
    }
    let value = constants.get(&ids.id).or(ids.initial_default.as_ref());
    match value {
        Some(value) if &value.data_type() == target.data_type() => {
            Ok(Source::Constant(value.clone()))
        }
        Some(value) => value
            .cast_to(target.data_type())
            .map(Source::Constant)
            .map_err(|error| format!("column {}: {error}", target.name())),
        None if !target.is_nullable() => Err(format!(
            "required column {} (field id {}) is missing and has no default",
            target.name(),
            ids.id
        )),
        None => ScalarValue::try_new_null(target.data_type())
            .map(Source::Constant)
            .map_err(|error| format!("column {}: {error}", target.name())),
    }
}

fn convert_field(
    target: &Field,
    ids: &TableField,
    source: &Field,
    source_ids: &FileField,
) -> Result<Conversion, String> {
    let misfit = || {
        Err(format!(
            "column {} is {} in the file, which cannot be read as {}",
            source.name(),
            source.data_type(),
            target.data_type()
        ))
    };
    match (target.data_type(), source.data_type()) {
        (DataType::Struct(targets), DataType::Struct(sources)) => {
            let none = HashMap::new();
            let sources: Vec<FieldRef> = sources.iter().cloned().collect();
            let children: Result<Vec<Source>, String> = targets
                .iter()
                .zip(&ids.children)
                .map(|(child, child_ids)| {
                    resolve(child, child_ids, &sources, &source_ids.children, &none)
                })
                .collect();
            Ok(Conversion::Struct(children?))
        }
        (DataType::List(target), DataType::List(source)) => {
            match (ids.children.first(), source_ids.children.first()) {
                (Some(ids), Some(source_ids)) => {
                    let element = convert_field(target, ids, source, source_ids)?;
                    Ok(Conversion::List(Box::new(element)))
                }
                _ => misfit(),
            }
        }
        (DataType::Map(target_entries, _), DataType::Map(source_entries, _)) => {
            match (target_entries.data_type(), source_entries.data_type()) {
                (DataType::Struct(targets), DataType::Struct(sources))
                    if targets.len() == 2
                        && sources.len() == 2
                        && ids.children.len() == 2
                        && source_ids.children.len() == 2 =>
                {
                    let part = |at: usize| {
                        convert_field(
                            &targets[at],
                            &ids.children[at],
                            &sources[at],
                            &source_ids.children[at],
                        )
                    };
                    Ok(Conversion::Map(Box::new(part(0)?), Box::new(part(1)?)))
                }
                _ => misfit(),
            }
        }
        (target_type, source_type) => match primitive(target_type, source_type) {
            Some(conversion) => Ok(conversion),
            None => misfit(),
        },
    }
}

/// Pairs of types that hold the same values, and the promotions of the specification.
fn primitive(target: &DataType, source: &DataType) -> Option<Conversion> {
    use DataType as T;
    if target == source {
        return Some(Conversion::None);
    }
    let allowed = match (source, target) {
        (T::FixedSizeBinary(16), T::Utf8 | T::Utf8View) => return Some(Conversion::UuidText),
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, T::Utf8 | T::Utf8View) => true,
        // Some writers leave out the annotation that a byte array is a text.
        (T::Binary | T::LargeBinary | T::BinaryView, T::Utf8 | T::Utf8View) => true,
        (
            T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_),
            T::Binary | T::BinaryView,
        ) => true,
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, T::Binary | T::BinaryView) => true,
        (T::Binary | T::BinaryView, T::FixedSizeBinary(_)) => true,
        (T::Int8 | T::Int16 | T::UInt8 | T::UInt16, T::Int32 | T::Int64) => true,
        (T::UInt32, T::Int64) => true,
        (T::Time32(_) | T::Time64(_), T::Time64(TimeUnit::Microsecond)) => true,
        // The unit differs between writers. Nanoseconds are cut, as other readers do.
        (T::Timestamp(_, from), T::Timestamp(_, to)) => from.is_none() || to.is_some(),
        _ => promotes(source, target),
    };
    allowed.then_some(Conversion::Cast)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with_id(name: &str, ty: DataType, id: i32) -> Field {
        Field::new(name, ty, true).with_metadata(HashMap::from([(
            PARQUET_FIELD_ID_META_KEY.to_string(),
            id.to_string(),
        )]))
    }

    fn leaf(id: i32) -> TableField {
        TableField {
            id,
            initial_default: None,
            children: vec![],
        }
    }

    fn rules() -> NameRules {
        NameRules::History(Arc::new(HashMap::from([("a".to_string(), 1)])))
    }

    #[test]
    fn swapped_names_are_read_by_id() {
        let file = Schema::new(vec![
            with_id("a", DataType::Int32, 2),
            with_id("b", DataType::Int32, 1),
        ]);
        let ids = file_fields(&file, &rules());
        let target = Field::new("a", DataType::Int32, true);
        let fields: Vec<FieldRef> = file.fields().iter().cloned().collect();
        let found = resolve(&target, &leaf(1), &fields, &ids, &HashMap::new());
        assert_eq!(found, Ok(Source::File(1, Conversion::None)));
    }

    #[test]
    fn names_count_only_in_files_without_ids() {
        let bare = Schema::new(vec![Field::new("a", DataType::Int32, true)]);
        assert_eq!(file_fields(&bare, &rules())[0].id, Some(1));
        let other = Schema::new(vec![
            Field::new("a", DataType::Int32, true),
            with_id("b", DataType::Int32, 7),
        ]);
        assert_eq!(file_fields(&other, &rules())[0].id, None);
    }

    #[test]
    fn a_narrowing_is_refused() {
        assert_eq!(primitive(&DataType::Int32, &DataType::Int64), None);
        assert_eq!(primitive(&DataType::Float32, &DataType::Float64), None);
        assert_eq!(
            primitive(&DataType::Decimal128(9, 2), &DataType::Decimal128(18, 2)),
            None
        );
        assert_eq!(
            primitive(&DataType::Int64, &DataType::Int32),
            Some(Conversion::Cast)
        );
    }

    #[test]
    fn a_missing_required_column_is_an_error() {
        let target = Field::new("a", DataType::Int32, false);
        let error = resolve(&target, &leaf(1), &[], &[], &HashMap::new()).unwrap_err();
        assert!(error.contains("field id 1"), "{error}");
    }
}
