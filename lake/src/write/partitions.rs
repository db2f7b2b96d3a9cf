//! Which partition each row belongs to.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Fields, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::HashMap;
use iceberg::arrow::{arrow_struct_to_literal, type_to_arrow_type};
use iceberg::spec::{Literal, Schema, Struct, StructType, Type};
use iceberg::transform::{BoxedTransformFunction, create_transform_function};

use super::target::WriteTarget;
use crate::{Error, Result};

/// Where a column lies: the place of a top-level column, then those of fields of structs.
pub type ColumnPath = Vec<usize>;

/// The place of a field that no list or map holds.
pub fn path_of(schema: &Schema, id: i32) -> Option<ColumnPath> {
    fn below(fields: &StructType, id: i32) -> Option<ColumnPath> {
        for (place, field) in fields.fields().iter().enumerate() {
            if field.id == id {
                return Some(vec![place]);
            }
            if let Type::Struct(inner) = field.field_type.as_ref()
                && let Some(rest) = below(inner, id)
            {
                return Some([vec![place], rest].concat());
            }
        }
        None
    }
    below(schema.as_struct(), id)
}

/// Works out partitions.
pub struct Partitions {
    fields: Vec<PartitionField>,
    ty: StructType,
    arrow: Fields,
    converter: RowConverter,
    /// All partitions met, by their rows' form.
    known: HashMap<Box<[u8]>, usize>,
    values: Vec<Struct>,
}

struct PartitionField {
    path: ColumnPath,
    transform: BoxedTransformFunction,
    result: DataType,
}

impl Partitions {
    /// For rows of a table with partitions.
    ///
    /// # Errors
    /// [`Error::Refused`] for a spec that cannot be computed.
    pub fn new(target: &WriteTarget) -> Result<Self> {
        let table = &target.table;
        let refused = |why: &dyn std::fmt::Display| {
            Error::Refused(format!(
                "table {table} has partitions that cannot be computed: {why}"
            ))
        };
        let arrow = type_to_arrow_type(&Type::Struct(target.partition_type.clone()));
        let DataType::Struct(arrow) = arrow.map_err(|error| refused(&error.message()))? else {
            return Err(refused(&"they are no struct"));
        };
        let fields = target.spec.fields().iter().zip(&arrow);
        let fields = fields.map(|(field, result)| {
            Ok(PartitionField {
                path: path_of(&target.schema, field.source_id)
                    .ok_or_else(|| refused(&format!("there is no source of {}", field.name)))?,
                transform: create_transform_function(&field.transform)
                    .map_err(|error| refused(&error.message()))?,
                result: result.data_type().clone(),
            })
        });
        let fields = fields.collect::<Result<_>>()?;
        let sorts = arrow
            .iter()
            .map(|field| SortField::new(field.data_type().clone()));
        Ok(Self {
            fields,
            ty: target.partition_type.clone(),
            converter: RowConverter::new(sorts.collect()).map_err(|error| refused(&error))?,
            arrow,
            known: HashMap::new(),
            values: vec![],
        })
    }

    /// The number of each row's partition, from 0 on, for [`Partitions::value`].
    ///
    /// # Errors
    /// [`Error::Conflict`] for values that have no partition.
    pub fn of(&mut self, batch: &RecordBatch) -> Result<Vec<usize>> {
        let wrong = |error: &dyn std::fmt::Display| Error::Conflict(format!("{error}"));
        let columns = self.fields.iter().map(|field| {
            let source = plain(&column_at(batch, &field.path)?).map_err(|e| wrong(&e))?;
            let values = field.transform.transform(source);
            let values = values.map_err(|error| wrong(&error.message()))?;
            cast(&values, &field.result).map_err(|error| wrong(&error))
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        let rows = self
            .converter
            .convert_columns(&columns)
            .map_err(|e| wrong(&e))?;
        let mut numbers = Vec::with_capacity(batch.num_rows());
        let mut last: Option<(arrow::row::Row<'_>, usize)> = None;
        for (place, row) in rows.iter().enumerate() {
            let number = match last {
                Some((same, number)) if same == row => number,
                _ => self.number(row, place, &columns)?,
            };
            last = Some((row, number));
            numbers.push(number);
        }
        Ok(numbers)
    }

    fn number(
        &mut self,
        row: arrow::row::Row<'_>,
        place: usize,
        columns: &[ArrayRef],
    ) -> Result<usize> {
        if let Some(number) = self.known.get(row.as_ref()) {
            return Ok(*number);
        }
        let internal =
            |error: &dyn std::fmt::Display| Error::Internal(format!("a partition: {error}"));
        let at = UInt32Array::from(vec![u32::try_from(place).unwrap_or(u32::MAX)]);
        let one = columns.iter().map(|column| take(column, &at, None));
        let one = one
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| internal(&e))?;
        let one = StructArray::try_new(self.arrow.clone(), one, None).map_err(|e| internal(&e))?;
        let one: ArrayRef = Arc::new(one);
        let literals = arrow_struct_to_literal(&one, &self.ty);
        let literals = literals.map_err(|error| internal(&error.message()))?;
        let Some(Some(Literal::Struct(value))) = literals.into_iter().next() else {
            return Err(internal(&"it has no value"));
        };
        let number = self.values.len();
        self.values.push(value);
        self.known.insert(Box::from(row.as_ref()), number);
        Ok(number)
    }

    /// The values of a partition.
    pub fn value(&self, number: usize) -> Struct {
        self.values
            .get(number)
            .cloned()
            .unwrap_or_else(Struct::empty)
    }
}

/// The column at a path; rows whose structs are NULL have NULL.
fn column_at(batch: &RecordBatch, path: &[usize]) -> Result<ArrayRef> {
    let missing = || Error::Internal("a partition's source column is missing".to_owned());
    let (first, rest) = path.split_first().ok_or_else(missing)?;
    let mut column = Arc::clone(batch.columns().get(*first).ok_or_else(missing)?);
    for place in rest {
        let parent = column.as_struct_opt().ok_or_else(missing)?;
        let child = parent.columns().get(*place).ok_or_else(missing)?;
        column = match parent.nulls() {
            None => Arc::clone(child),
            Some(nulls) => {
                let valid = arrow::array::BooleanArray::new(nulls.inner().clone(), None);
                let invalid = arrow::compute::not(&valid);
                let masked = invalid.and_then(|invalid| arrow::compute::nullif(child, &invalid));
                masked.map_err(|error| Error::Internal(error.to_string()))?
            }
        };
    }
    Ok(column)
}

/// Views as the arrays that transforms know.
pub fn plain(column: &ArrayRef) -> Result<ArrayRef, arrow::error::ArrowError> {
    match column.data_type() {
        DataType::Utf8View => cast(column, &DataType::Utf8),
        DataType::BinaryView => cast(column, &DataType::LargeBinary),
        _ => Ok(Arc::clone(column)),
    }
}

/// Names along a path, and the column's type.
pub fn named(schema: &SchemaRef, path: &[usize]) -> Option<(Vec<String>, DataType)> {
    let (first, rest) = path.split_first()?;
    let mut field = Arc::clone(schema.fields().get(*first)?);
    let mut names = vec![field.name().clone()];
    for place in rest {
        let DataType::Struct(fields) = field.data_type() else {
            return None;
        };
        let child = Arc::clone(fields.get(*place)?);
        names.push(child.name().clone());
        field = child;
    }
    Some((names, field.data_type().clone()))
}
