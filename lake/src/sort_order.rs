//! Sort orders by their columns' names (Iceberg specification, "Sort Orders").

use iceberg::spec::{Schema, SortField, SortOrder};

use crate::evolution::SortKey;
use crate::{Error, Result};

/// The id of an order that is no table's yet; 0 is that of no order.
const NEW_ID: i64 = 1;

/// The order of rows of this schema by `keys`.
///
/// # Errors
/// [`Error::NotFound`] for a column that is not there, [`Error::Conflict`] for one whose values cannot
/// be sorted so.
pub fn sort_order(schema: &Schema, keys: &[SortKey]) -> Result<SortOrder> {
    let fields = keys.iter().map(|key| {
        let SortKey {
            column, transform, ..
        } = key;
        let source = schema
            .field_by_name(column)
            .ok_or_else(|| Error::NotFound(format!("there is no column {column}")))?;
        let ty = &source.field_type;
        let fits = ty.is_primitive() && transform.result_type(ty).is_ok();
        match fits && crate::write::path_of(schema, source.id).is_some() {
            true => Ok(SortField {
                source_id: source.id,
                transform: *transform,
                direction: key.direction,
                null_order: key.nulls,
            }),
            false => Err(Error::Conflict(format!(
                "rows cannot be sorted by {transform} of column {column}, which is {ty}"
            ))),
        }
    });
    let fields: Vec<SortField> = fields.collect::<Result<_>>()?;
    Ok(match fields.is_empty() {
        true => SortOrder::unsorted_order(),
        false => SortOrder {
            order_id: NEW_ID,
            fields,
        },
    })
}
