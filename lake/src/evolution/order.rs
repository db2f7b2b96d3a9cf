//! The order in which rows are written.

use iceberg::spec::{SortField, SortOrder};

use super::{Draft, SortKey};
use crate::{Error, Result};

impl Draft<'_> {
    pub(super) fn set_order(&mut self, keys: &[SortKey]) -> Result<()> {
        let schema = self.schema()?;
        let fields = keys.iter().map(|key| {
            let SortKey {
                column, transform, ..
            } = key;
            let source = schema
                .field_by_name(column)
                .ok_or_else(|| Error::NotFound(format!("there is no column {column}")))?;
            let ty = &source.field_type;
            let fits = ty.is_primitive() && transform.result_type(ty).is_ok();
            match fits && crate::write::path_of(&schema, source.id).is_some() {
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
        let fields = fields.collect::<Result<_>>()?;
        self.order = Some(SortOrder {
            order_id: 0,
            fields,
        });
        Ok(())
    }
}
