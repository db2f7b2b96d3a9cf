//! Batches of a query as batches of a table.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{PrimitiveType, Schema, Type};
use uuid::Uuid;

use crate::{Error, Result};

/// Bytes of a UUID.
const UUID_BYTES: i32 = 16;

/// Turns batches into the types in which the table's files have its columns.
#[derive(Debug)]
pub struct RowShape {
    table: String,
    schema: Arc<Schema>,
    arrow: SchemaRef,
}

impl RowShape {
    /// For rows of all columns of `schema`, in its order, that come with the columns of `input`.
    ///
    /// # Errors
    /// [`Error::Refused`] for a type that is not written.
    pub fn new(table: &str, schema: &Arc<Schema>, input: &SchemaRef) -> Result<Self> {
        let arrow = schema_to_arrow_schema(schema)
            .map_err(|error| Error::Refused(format!("table {table}: {}", error.message())))?;
        let fields = arrow.fields().iter().enumerate().map(|(place, field)| {
            let given = input.fields().get(place).map(|field| field.data_type());
            match given.and_then(|given| kept(given, field.data_type())) {
                Some(view) => Arc::new(field.as_ref().clone().with_data_type(view)),
                None => Arc::clone(field),
            }
        });
        let arrow = arrow::datatypes::Schema::new(fields.collect::<Vec<_>>());
        Ok(Self {
            table: table.to_owned(),
            schema: Arc::clone(schema),
            arrow: Arc::new(arrow),
        })
    }

    /// The schema of the rows that come out, with field ids.
    pub fn schema(&self) -> &SchemaRef {
        &self.arrow
    }

    /// The batch in the table's types.
    ///
    /// # Errors
    /// [`Error::Conflict`] names the column of a value that does not fit, or that is NULL and must
    /// not be.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let fields = self.schema.as_struct().fields();
        if batch.num_columns() != fields.len() {
            return Err(Error::Internal(format!(
                "{} columns for the {} of table {}",
                batch.num_columns(),
                fields.len(),
                self.table
            )));
        }
        let columns = batch.columns().iter().zip(self.arrow.fields()).zip(fields);
        let columns = columns.map(|((column, target), field)| {
            let wrong = |why: String| {
                let (table, name) = (&self.table, &field.name);
                Error::Conflict(format!("column {name} of table {table}: {why}"))
            };
            if field.required && column.null_count() > 0 {
                return Err(wrong("it must not be NULL".to_owned()));
            }
            match field.field_type.as_ref() {
                Type::Primitive(PrimitiveType::Uuid) => uuids(column).map_err(wrong),
                _ => converted(column, target.data_type()).map_err(wrong),
            }
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::clone(&self.arrow), columns)
            .map_err(|error| Error::Conflict(format!("table {}: {error}", self.table)))
    }
}

/// Views are written as the texts and bytes they are: no copy is made of them before.
fn kept(given: &DataType, wanted: &DataType) -> Option<DataType> {
    match (given, wanted) {
        (DataType::Utf8View, DataType::Utf8 | DataType::LargeUtf8)
        | (DataType::BinaryView, DataType::Binary | DataType::LargeBinary) => Some(given.clone()),
        _ => None,
    }
}

fn converted(column: &ArrayRef, target: &DataType) -> Result<ArrayRef, String> {
    if column.data_type() == target {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, target, &options).map_err(|error| error.to_string())
}

/// UUIDs are texts in queries.
fn uuids(column: &ArrayRef) -> Result<ArrayRef, String> {
    if column.data_type() == &DataType::FixedSizeBinary(UUID_BYTES) {
        return Ok(Arc::clone(column));
    }
    let texts = converted(column, &DataType::Utf8)?;
    let mut builder = FixedSizeBinaryBuilder::with_capacity(texts.len(), UUID_BYTES);
    for text in texts.as_string::<i32>() {
        match text {
            None => builder.append_null(),
            Some(text) => {
                let uuid = Uuid::try_parse(text).map_err(|_| format!("{text:?} is no UUID"))?;
                let appended = builder.append_value(uuid.as_bytes());
                appended.map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}
