//! Files in memory, and what is read from them.

use std::ops::Range;
use std::sync::Arc;

use ::parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use futures::TryStreamExt;
use iceberg::spec::DataFileFormat;
use inshore_lake::formats::{Rows, Source, all_columns, open};
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};

/// What every error has to name.
pub const PATH: &str = "table/data/some file";

/// A file in a store of its own.
pub async fn source(bytes: Vec<u8>, format: DataFileFormat) -> Source {
    let store = InMemory::new();
    let path = object_store::path::Path::from(PATH);
    let size_bytes = bytes.len() as u64;
    store.put(&path, PutPayload::from(bytes)).await.unwrap();
    Source {
        store: Arc::new(store),
        path,
        size_bytes,
        format,
        record_count: None,
    }
}

/// Everything a file holds.
#[derive(Debug)]
pub struct Contents {
    pub schema: SchemaRef,
    pub rows: Vec<Rows>,
}

impl Contents {
    /// All rows in one batch.
    pub fn batch(&self) -> RecordBatch {
        let batches = self.rows.iter().map(|(_, batch)| batch);
        concat_batches(&self.schema, batches).unwrap()
    }

    /// Positions of all rows.
    pub fn positions(&self) -> Vec<u64> {
        self.rows
            .iter()
            .flat_map(|(start, batch)| *start..*start + batch.num_rows() as u64)
            .collect()
    }
}

/// Reads a file to its end.
pub async fn read(
    source: &Source,
    range: Option<Range<u64>>,
    batch_size: usize,
    columns: impl FnOnce(&Schema) -> Vec<usize>,
) -> Result<Contents> {
    let reader = open(source, range, batch_size, columns).await?;
    let rows = reader.batches.try_collect().await?;
    Ok(Contents {
        schema: reader.schema,
        rows,
    })
}

/// Reads all columns and rows.
pub async fn read_all(source: &Source) -> Contents {
    read(source, None, 1000, all_columns).await.unwrap()
}

/// The field ids of a schema, by path, in order.
pub fn ids(schema: &Schema) -> Vec<(String, Option<i32>)> {
    let mut found = Vec::new();
    for field in schema.fields() {
        collect(field, String::new(), &mut found);
    }
    found
}

fn collect(field: &Field, prefix: String, found: &mut Vec<(String, Option<i32>)>) {
    let path = format!("{prefix}{}", field.name());
    let id = field.metadata().get(PARQUET_FIELD_ID_META_KEY);
    found.push((path.clone(), id.map(|id| id.parse().unwrap())));
    let below = format!("{path}.");
    match field.data_type() {
        DataType::Struct(fields) => {
            for field in fields {
                collect(field, below.clone(), found);
            }
        }
        DataType::List(element) => collect(element, below, found),
        DataType::Map(entries, _) => {
            let DataType::Struct(parts) = entries.data_type() else {
                panic!("a map without entries");
            };
            for part in parts {
                collect(part, below.clone(), found);
            }
        }
        _ => {}
    }
}

/// `ids` as they should be: paths and ids.
pub fn expected_ids(ids: &[(&str, i32)]) -> Vec<(String, Option<i32>)> {
    ids.iter()
        .map(|(path, id)| ((*path).to_string(), Some(*id)))
        .collect()
}
