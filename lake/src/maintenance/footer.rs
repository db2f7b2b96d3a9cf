//! What the footer of a Parquet file says about it, as a manifest has it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::{DataType, FieldRef, Schema as ArrowSchema};
use datafusion::common::ScalarValue;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{Datum, NestedField, Schema, Type};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;

use crate::scan::mapping::FileField;
use crate::write::{MetricsMode, MetricsModes, datum};

/// The metrics of a file's columns, by field id.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub sizes: HashMap<i32, u64>,
    pub values: HashMap<i32, u64>,
    pub nulls: HashMap<i32, u64>,
    /// Whole values; see [`Metrics::restrict`].
    pub lower: HashMap<i32, Datum>,
    pub upper: HashMap<i32, Datum>,
}

impl Metrics {
    /// Adds the metrics of a footer up over its row groups. `fields` are the columns with the ids
    /// that `ids` gives them.
    pub fn of(
        footer: &ParquetMetaData,
        file: &ArrowSchema,
        ids: &[FileField],
        schema: &Schema,
    ) -> Self {
        let mut found = Self::default();
        let mut leaves = Vec::new();
        for (field, ids) in file.fields().iter().zip(ids) {
            collect_leaves(field, ids, &mut leaves);
        }
        let mut unknown: Vec<i32> = Vec::new();
        for group in footer.row_groups() {
            for (column, id) in group.columns().iter().zip(&leaves) {
                let Some(id) = *id else { continue };
                let bytes = u64::try_from(column.compressed_size()).unwrap_or_default();
                let values = u64::try_from(column.num_values()).unwrap_or_default();
                *found.sizes.entry(id).or_default() += bytes;
                *found.values.entry(id).or_default() += values;
                match column.statistics().and_then(|s| s.null_count_opt()) {
                    Some(nulls) => *found.nulls.entry(id).or_default() += nulls,
                    None => unknown.push(id),
                }
            }
        }
        for id in unknown {
            found.nulls.remove(&id);
        }
        found.add_bounds(footer, file, ids, schema);
        found
    }

    /// Bounds of columns at top level; those of nested ones are left out, as they may be.
    fn add_bounds(
        &mut self,
        footer: &ParquetMetaData,
        file: &ArrowSchema,
        ids: &[FileField],
        schema: &Schema,
    ) {
        let Ok(arrow) = schema_to_arrow_schema(schema) else {
            return;
        };
        for (field, ids) in file.fields().iter().zip(ids) {
            let column = ids.id.and_then(|id| {
                let columns = schema.as_struct().fields().iter().zip(arrow.fields());
                columns.into_iter().find(|(column, _)| column.id == id)
            });
            let Some((column, target)) = column else {
                continue;
            };
            let Some((lower, upper)) = bounds(footer, file, field, column, target.data_type())
            else {
                continue;
            };
            self.lower.insert(column.id, lower);
            self.upper.insert(column.id, upper);
        }
    }

    /// Keeps what the table wants to be known of each column.
    pub fn restrict(&mut self, modes: &MetricsModes) {
        let counted = |id: &i32| modes.of(*id) != MetricsMode::None;
        self.values.retain(|id, _| counted(id));
        self.nulls.retain(|id, _| counted(id));
        for (bounds, upper) in [(&mut self.lower, false), (&mut self.upper, true)] {
            bounds.retain(|id, bound| {
                let shorter = modes.of(*id).bound(bound, upper);
                shorter.map(|shorter| *bound = shorter).is_some()
            });
        }
    }
}

/// The field ids of the leaves of a column, in the order in which Parquet has them.
fn collect_leaves(field: &FieldRef, ids: &FileField, leaves: &mut Vec<Option<i32>>) {
    let children: Vec<&FieldRef> = match field.data_type() {
        DataType::Struct(fields) => fields.iter().collect(),
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _) => vec![element],
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => fields.iter().collect(),
            _ => vec![],
        },
        _ => {
            leaves.push(ids.id);
            return;
        }
    };
    for (at, child) in children.into_iter().enumerate() {
        let none = FileField {
            id: None,
            children: vec![],
        };
        collect_leaves(child, ids.children.get(at).unwrap_or(&none), leaves);
    }
}

/// The smallest and the largest value of a column, where every row group that has values knows
/// them exactly.
fn bounds(
    footer: &ParquetMetaData,
    file: &ArrowSchema,
    field: &FieldRef,
    column: &NestedField,
    target: &DataType,
) -> Option<(Datum, Datum)> {
    let Type::Primitive(ty) = column.field_type.as_ref() else {
        return None;
    };
    let descriptor = footer.file_metadata().schema_descr();
    let converter = StatisticsConverter::try_new(field.name(), file, descriptor).ok()?;
    let groups = || footer.row_groups().iter();
    let nulls = converter.row_group_null_counts(groups()).ok()?;
    let mins = converter.row_group_mins(groups()).ok()?;
    let maxes = converter.row_group_maxes(groups()).ok()?;
    let min_exact = converter.row_group_is_min_value_exact(groups()).ok()?;
    let max_exact = converter.row_group_is_max_value_exact(groups()).ok()?;
    let (mut lower, mut upper): (Option<ScalarValue>, Option<ScalarValue>) = (None, None);
    for (at, group) in groups().enumerate() {
        let rows = u64::try_from(group.num_rows()).unwrap_or_default();
        if nulls.is_valid(at) && nulls.value(at) == rows {
            continue;
        }
        let inexact = |exact: &arrow::array::BooleanArray| exact.is_valid(at) && !exact.value(at);
        if mins.is_null(at) || maxes.is_null(at) || inexact(&min_exact) || inexact(&max_exact) {
            return None;
        }
        let min = ScalarValue::try_from_array(&mins, at).ok()?;
        let max = ScalarValue::try_from_array(&maxes, at).ok()?;
        lower = Some(match lower {
            Some(before) if before <= min => before,
            _ => min,
        });
        upper = Some(match upper {
            Some(before) if before >= max => before,
            _ => max,
        });
    }
    Some((
        datum(&lower?.cast_to(target).ok()?, ty)?,
        datum(&upper?.cast_to(target).ok()?, ty)?,
    ))
}

/// The schema of a file, without what its writer says about Arrow.
pub(super) fn arrow_schema(footer: &ParquetMetaData) -> parquet::errors::Result<Arc<ArrowSchema>> {
    let descriptor = footer.file_metadata().schema_descr();
    parquet::arrow::parquet_to_arrow_schema(descriptor, None).map(Arc::new)
}
