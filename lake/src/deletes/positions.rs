//! Reading deleted positions.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use roaring::RoaringTreemap;

use super::index::DELETE_FILE_PATH_ID;
use super::{DeleteFile, DeleteKind, DeletedRows, vector};
use crate::formats::{self, Source};
use crate::{Error, Result};

/// Field id of the column `pos` in position delete files (specification, "Reserved Field IDs").
const DELETE_FILE_POS_ID: i32 = 2_147_483_545;

/// Rows of a delete file that are decoded at once.
const BATCH_ROWS: usize = 16 * 1024;

/// Longest deletion vector that is read, in bytes. One for 2^31 rows, half of them deleted, has 256
/// MiB.
const MAX_VECTOR_BYTES: u64 = 512 << 20;

/// Deleted positions by the location of the data file.
pub type Positions = HashMap<Arc<str>, Arc<DeletedRows>>;

/// Reads a position delete file.
///
/// # Errors
/// [`Error::Corrupt`] or [`Error::Store`] naming the file.
pub async fn read_positions(
    store: Arc<dyn ObjectStore>,
    file: &DeleteFile,
    only: Option<&Arc<str>>,
) -> Result<Positions> {
    let source = Source {
        store,
        path: file.path.clone(),
        size_bytes: file.size_bytes,
        format: file.format,
        record_count: Some(file.record_count),
    };
    // The paths of a file that speaks of one data file are all the same, and most of its bytes.
    let wanted = |schema: &Schema| -> Vec<usize> {
        let names = [
            (DELETE_FILE_PATH_ID, "file_path"),
            (DELETE_FILE_POS_ID, "pos"),
        ];
        names
            .iter()
            .skip(usize::from(only.is_some()))
            .filter_map(|(id, name)| find_column(schema, *id, name))
            .collect()
    };
    let reader = formats::open(&source, None, BATCH_ROWS, wanted)
        .await
        .map_err(|error| Error::from_datafusion(&file.location, error))?;
    let corrupt = |why: String| Error::Corrupt {
        path: file.location.to_string(),
        why,
    };
    let column = |id: i32, name: &str| {
        find_column(&reader.schema, id, name)
            .ok_or_else(|| corrupt(format!("it has no column {name} (field id {id})")))
    };
    let pos_column = column(DELETE_FILE_POS_ID, "pos")?;
    let path_column = match only {
        Some(_) => None,
        None => Some(column(DELETE_FILE_PATH_ID, "file_path")?),
    };
    let mut found = Found::default();
    let mut batches = reader.batches;
    while let Some((_, batch)) = batches
        .try_next()
        .await
        .map_err(|error| Error::from_datafusion(&file.location, error))?
    {
        let positions = cast(batch.column(pos_column), &DataType::Int64)
            .map_err(|error| corrupt(format!("column pos: {error}")))?;
        let positions = positions.as_primitive::<Int64Type>();
        let paths = path_column
            .map(|column| cast(batch.column(column), &DataType::Utf8))
            .transpose()
            .map_err(|error| corrupt(format!("column file_path: {error}")))?;
        match (only, &paths) {
            (Some(path), _) => found.add_all(path, positions),
            (None, Some(paths)) => found.add_each(paths.as_string::<i32>(), positions),
            (None, None) => Err("it has no column file_path".to_owned()),
        }
        .map_err(corrupt)?;
    }
    Ok(found.finish())
}

/// The column with this field id, else, in files without ids, that name.
fn find_column(schema: &Schema, id: i32, name: &str) -> Option<usize> {
    let with_id = schema.fields().iter().position(|field| {
        let found = field.metadata().get(PARQUET_FIELD_ID_META_KEY);
        found.and_then(|text| text.parse().ok()) == Some(id)
    });
    with_id.or_else(|| schema.index_of(name).ok())
}

/// Positions gathered so far.
#[derive(Default)]
struct Found {
    rows: HashMap<Arc<str>, RoaringTreemap>,
}

impl Found {
    fn add_all(
        &mut self,
        path: &Arc<str>,
        positions: &PrimitiveArray<Int64Type>,
    ) -> Result<(), String> {
        let rows = self.rows.entry(Arc::clone(path)).or_default();
        insert(rows, positions, 0, positions.len())
    }

    /// Rows are sorted by path (specification, "Position Delete Files"), so equal paths stand
    /// together; if they do not, it only takes longer.
    fn add_each(
        &mut self,
        paths: &StringArray,
        positions: &PrimitiveArray<Int64Type>,
    ) -> Result<(), String> {
        if paths.null_count() > 0 {
            return Err("column file_path has NULLs".to_owned());
        }
        let mut start = 0;
        while start < paths.len() {
            let path = paths.value(start);
            let same = (start..paths.len()).take_while(|row| paths.value(*row) == path);
            let end = start + same.count();
            if !self.rows.contains_key(path) {
                self.rows.insert(Arc::from(path), RoaringTreemap::new());
            }
            if let Some(rows) = self.rows.get_mut(path) {
                insert(rows, positions, start, end)?;
            }
            start = end;
        }
        Ok(())
    }

    fn finish(self) -> Positions {
        self.rows
            .into_iter()
            .map(|(path, rows)| (path, Arc::new(rows.into())))
            .collect()
    }
}

fn insert(
    rows: &mut RoaringTreemap,
    positions: &PrimitiveArray<Int64Type>,
    start: usize,
    end: usize,
) -> Result<(), String> {
    if positions.null_count() > 0 {
        return Err("column pos has NULLs".to_owned());
    }
    for position in positions.values().get(start..end).unwrap_or_default() {
        let position = u64::try_from(*position).map_err(|_| format!("position {position}"))?;
        rows.insert(position);
    }
    Ok(())
}

/// Reads a deletion vector.
///
/// # Errors
/// [`Error::Corrupt`] or [`Error::Store`] naming the file.
pub async fn read_vector(store: Arc<dyn ObjectStore>, file: &DeleteFile) -> Result<RoaringTreemap> {
    let corrupt = |why: String| Error::Corrupt {
        path: file.location.to_string(),
        why,
    };
    let DeleteKind::Vector {
        offset,
        length_bytes,
        ..
    } = &file.kind
    else {
        return Err(Error::Internal(format!("{} is no vector", file.location)));
    };
    if *length_bytes > MAX_VECTOR_BYTES {
        return Err(corrupt(format!(
            "a deletion vector of {length_bytes} bytes is longer than the {MAX_VECTOR_BYTES} that \
             are read"
        )));
    }
    let end = offset
        .checked_add(*length_bytes)
        .ok_or_else(|| corrupt("a deletion vector lies outside the file".to_owned()))?;
    let blob = store
        .get_range(&file.path, *offset..end)
        .await
        .map_err(|error| Error::store(file.location.as_ref(), error))?;
    vector::decode(&blob).map_err(corrupt)
}
