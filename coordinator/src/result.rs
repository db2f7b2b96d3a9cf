//! The one schema a statement's result has: announced, and then kept.
//!
//! DataFusion's logical and physical schemas drift apart in names and nullability, and clients take
//! a difference between the announced and the delivered schema for an error. So one schema is
//! derived from the logical plan, and every batch is cast to it. View and dictionary types become
//! their plain forms, since several clients know neither.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};

use crate::columns;

/// Brings batches into the announced schema.
#[derive(Clone, Debug)]
pub struct ResultShape {
    schema: SchemaRef,
}

impl ResultShape {
    /// The shape of a plan's result.
    pub fn of(schema: &DFSchema) -> Self {
        Self::of_arrow(schema.as_arrow())
    }

    /// The shape of batches with this schema.
    pub fn of_arrow(schema: &Schema) -> Self {
        let plain = Self::plain(schema);
        let fields = plain.schema.fields().iter().map(|field| {
            let told = columns::of_result(field.data_type());
            field.as_ref().clone().with_metadata(told)
        });
        let fields = fields.collect::<Vec<_>>();
        Self {
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// As [`Self::of_arrow`], without what only clients of Flight SQL are told of columns: for files, and for rows that
    /// come from clients.
    pub fn plain(schema: &Schema) -> Self {
        let fields = schema.fields().iter().map(client_field).collect::<Vec<_>>();
        Self {
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// The announced schema.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Casts a batch to the announced schema, column by column in order.
    pub fn apply(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if batch.num_columns() != self.schema.fields().len() {
            return Err(DataFusionError::Internal(format!(
                "a result has {} columns where {} were announced",
                batch.num_columns(),
                self.schema.fields().len()
            )));
        }
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(
                |(column, field)| match column.data_type() == field.data_type() {
                    true => Ok(Arc::clone(column)),
                    false => cast(column, field.data_type()),
                },
            )
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }
}

/// Every field is announced as nullable: whether a computed column can hold NULL is decided
/// differently by the logical and the physical plan.
fn client_field(field: &FieldRef) -> Field {
    Field::new(field.name(), client_type(field.data_type()), true)
}

/// The type that clients get for one of ours.
pub(crate) fn client_type(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| {
        Arc::new(
            field
                .as_ref()
                .clone()
                .with_metadata(Default::default())
                .with_data_type(client_type(field.data_type())),
        )
    };
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => client_type(values),
        DataType::RunEndEncoded(_, values) => client_type(values.data_type()),
        DataType::List(field) | DataType::ListView(field) => DataType::List(inner(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => {
            DataType::LargeList(inner(field))
        }
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(inner(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{Array, ArrayRef, StringViewArray};

    #[test]
    fn views_become_plain_and_required_becomes_nullable() {
        let names: ArrayRef = Arc::new(StringViewArray::from(vec![
            "a",
            "a string of more than 12 bytes",
        ]));
        let schema = Schema::new(vec![Field::new("name", DataType::Utf8View, false)]);
        let shape = ResultShape::of_arrow(&schema);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![names]).unwrap();
        let batch = shape.apply(batch).unwrap();
        let name = Field::new("name", DataType::Utf8, true);
        let told = columns::of_result(&DataType::Utf8);
        assert_eq!(batch.schema().field(0), &name.clone().with_metadata(told));
        assert_eq!(ResultShape::plain(&batch.schema()).schema().field(0), &name);
        assert_eq!(batch.column(0).len(), 2);
    }

    #[test]
    fn rows_without_columns_keep_their_number() {
        let shape = ResultShape::of_arrow(&Schema::empty());
        let options = RecordBatchOptions::new().with_row_count(Some(3));
        let batch =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        assert_eq!(shape.apply(batch).unwrap().num_rows(), 3);
    }
}
