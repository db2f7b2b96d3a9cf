//! The bounds of one column over the files of a manifest, as pruning and statistics use them.

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array};
use arrow::compute::nullif;
use arrow::datatypes::DataType;
use iceberg::spec::{PrimitiveType, Schema, Type};

use crate::manifest::ColumnMetrics;
use crate::manifest::bounds::{Side, bounds_array};

/// The type of a primitive column.
pub fn column_type(schema: &Schema, id: i32) -> Option<&PrimitiveType> {
    match schema.field_by_id(id)?.field_type.as_ref() {
        Type::Primitive(ty) => Some(ty),
        _ => None,
    }
}

/// Bounds from the entries of a manifest, for a column of Iceberg type `ty` and Arrow type
/// `data_type`. Bounds leave NaN out, and NaN compares above everything: for floats they are given
/// only of files that are known to hold none.
pub fn entry_bounds(
    metrics: &ColumnMetrics,
    ty: &PrimitiveType,
    data_type: &DataType,
    side: Side,
) -> Option<ArrayRef> {
    let bytes = match side {
        Side::Lower => &metrics.lower,
        Side::Upper => &metrics.upper,
    };
    let bounds = bounds_array(bytes, ty, data_type, side)?;
    if !data_type.is_floating() {
        return Some(bounds);
    }
    nullif(&bounds, &may_hold_nan(&metrics.nan_counts)).ok()
}

fn may_hold_nan(nan_counts: &UInt64Array) -> BooleanArray {
    let may = (0..nan_counts.len()).map(|row| !is_zero(nan_counts, row));
    BooleanArray::from_iter(may.map(Some))
}

fn is_zero(counts: &UInt64Array, row: usize) -> bool {
    counts.is_valid(row) && counts.value(row) == 0
}
