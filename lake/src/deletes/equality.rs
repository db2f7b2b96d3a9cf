//! Equality deletes: an index of keys, and the filter that looks rows up in it.
//!
//! All files of a group make one index: for each key the sequence number of the latest file that
//! deletes it. A row goes when its key is there with a greater number than its data file's. A bitmap
//! of key hashes is asked first; it rules nearly all rows out at the cost of hashing them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, take};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{DataFusionError, Result as DfResult, exec_err};
use futures::TryStreamExt;
use object_store::ObjectStore;

use super::{DeleteFile, EqualityGroup};
use crate::formats::{self, Source};
use crate::scan::adapter::FileColumns;
use crate::scan::mapping::NameRules;
use crate::scan::mapping::{FileField, file_fields};
use crate::scan::schema::{TableColumns, TableField};
use crate::{Error, Result};

/// Rows of a delete file that are decoded at once.
const BATCH_ROWS: usize = 16 * 1024;

/// Bits of the bitmap for each key: one row in 16 is looked up in vain.
const BITS_PER_KEY: usize = 16;

/// Fewest bits of the bitmap.
const MIN_BITS: usize = 1024;

/// Bytes that a key costs besides its encoded values: the map's slot and the allocation.
const KEY_OVERHEAD_BYTES: usize = 64;

/// Where a key column stands: a top-level column, and the way from there through structs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPath {
    /// Place of the top-level column.
    pub column: usize,
    /// Places of children, from the outside in.
    pub children: Vec<usize>,
}

/// The way to the field with this id. Fields inside lists and maps cannot be keys.
pub fn key_path(columns: &TableColumns, id: i32) -> Option<KeyPath> {
    fn inside(field: &TableField, id: i32) -> Option<Vec<usize>> {
        if field.id == id {
            return Some(vec![]);
        }
        field
            .children
            .iter()
            .enumerate()
            .find_map(|(place, child)| {
                let mut path = inside(child, id)?;
                path.insert(0, place);
                Some(path)
            })
    }
    columns
        .fields
        .iter()
        .enumerate()
        .find_map(|(column, field)| {
            let children = inside(field, id)?;
            Some(KeyPath { column, children })
        })
}

impl KeyPath {
    /// The key's values; NULL where a struct on the way is NULL.
    fn values(&self, columns: &[ArrayRef]) -> DfResult<ArrayRef> {
        let missing = || DataFusionError::Execution("a key column is missing".to_owned());
        let mut array = Arc::clone(columns.get(self.column).ok_or_else(missing)?);
        for place in &self.children {
            let Some(parent) = array.as_struct_opt() else {
                return exec_err!("a key column lies inside a {}", array.data_type());
            };
            let child = Arc::clone(parent.columns().get(*place).ok_or_else(missing)?);
            array = match parent.nulls().filter(|nulls| nulls.null_count() > 0) {
                None => child,
                Some(nulls) => {
                    let mask = BooleanArray::new(!nulls.inner(), None);
                    arrow::compute::nullif(&child, &mask)?
                }
            };
        }
        Ok(array)
    }
}

/// The keys that a group's files delete.
pub struct EqualityIndex {
    converter: RowConverter,
    hashes: RandomState,
    bits: BooleanBuffer,
    /// Sequence number of the latest file that deletes the key.
    keys: HashMap<OwnedRow, i64>,
    bytes: usize,
}

impl std::fmt::Debug for EqualityIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EqualityIndex({} keys)", self.keys.len())
    }
}

impl EqualityIndex {
    /// Reads the group's files. `columns` must hold all key columns.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Store`] or [`Error::Unsupported`] naming the file.
    pub async fn read(
        group: &EqualityGroup,
        store_of: impl Fn(&DeleteFile) -> Result<Arc<dyn ObjectStore>>,
        columns: &Arc<TableColumns>,
        rules: &NameRules,
    ) -> Result<Self> {
        let mut builder = Builder::new(group, columns)?;
        let columns = &Arc::new(columns.relaxed());
        for file in &group.files {
            let store = store_of(file)?;
            builder.read(file, store, columns, rules).await?;
        }
        builder.finish()
    }

    /// Bytes it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// Marks in `kept` the rows that go. `data_sequence` is that of the data file.
    fn strike(&self, keys: &[ArrayRef], data_sequence: i64, kept: &mut Kept) -> DfResult<()> {
        let rows = keys.first().map_or(0, |key| key.len());
        let mut hashes = vec![0_u64; rows];
        create_hashes(keys, &self.hashes, &mut hashes)?;
        let mask = self.bits.len() - 1;
        let candidates: Vec<u32> = hashes
            .iter()
            .enumerate()
            .filter(|(_, hash)| self.bits.value(slot(**hash, mask)))
            .filter_map(|(row, _)| u32::try_from(row).ok())
            .collect();
        if candidates.is_empty() {
            return Ok(());
        }
        let places = arrow::array::UInt32Array::from(candidates);
        let chosen: Vec<ArrayRef> = keys
            .iter()
            .map(|key| take(key, &places, None))
            .collect::<Result<_, _>>()?;
        let encoded = self.converter.convert_columns(&chosen)?;
        for (row, place) in encoded.iter().zip(places.values()) {
            if self
                .keys
                .get(&row.owned())
                .is_some_and(|sequence| *sequence > data_sequence)
            {
                kept.remove(*place as usize, rows);
            }
        }
        Ok(())
    }
}

fn slot(hash: u64, mask: usize) -> usize {
    usize::try_from(hash & (mask as u64)).unwrap_or(0)
}

/// Rows of a batch that stay; nothing is allocated until the first one goes.
#[derive(Default)]
struct Kept(Option<BooleanBufferBuilder>);

impl Kept {
    fn remove(&mut self, row: usize, rows: usize) {
        let bits = self.0.get_or_insert_with(|| {
            let mut bits = BooleanBufferBuilder::new(rows);
            bits.append_n(rows, true);
            bits
        });
        bits.set_bit(row, false);
    }
}

/// Gathers the keys of a group's files.
struct Builder<'a> {
    group: &'a EqualityGroup,
    paths: Vec<KeyPath>,
    converter: RowConverter,
    hashes: RandomState,
    keys: HashMap<OwnedRow, i64>,
    key_hashes: Vec<u64>,
    bytes: usize,
}

impl<'a> Builder<'a> {
    fn new(group: &'a EqualityGroup, columns: &TableColumns) -> Result<Self> {
        let mut paths = vec![];
        let mut sort_fields = vec![];
        for id in &group.ids {
            let path = key_path(columns, *id).ok_or_else(|| {
                corrupt(
                    group,
                    format!("its key column {id} is in no schema of the table"),
                )
            })?;
            let data_type = data_type(columns, &path).ok_or_else(|| {
                corrupt(
                    group,
                    format!("its key column {id} lies inside a list or map"),
                )
            })?;
            sort_fields.push(SortField::new(data_type));
            paths.push(path);
        }
        let converter = RowConverter::new(sort_fields)
            .map_err(|error| corrupt(group, format!("its key columns: {error}")))?;
        Ok(Self {
            group,
            paths,
            converter,
            hashes: RandomState::with_seed(0),
            keys: HashMap::new(),
            key_hashes: vec![],
            bytes: 0,
        })
    }

    async fn read(
        &mut self,
        file: &DeleteFile,
        store: Arc<dyn ObjectStore>,
        columns: &Arc<TableColumns>,
        rules: &NameRules,
    ) -> Result<()> {
        let source = Source {
            store,
            path: file.path.clone(),
            size_bytes: file.size_bytes,
            format: file.format,
            record_count: Some(file.record_count),
        };
        let named = |error| Error::from_datafusion(&file.location, error);
        let reader = formats::open(&source, None, BATCH_ROWS, formats::all_columns)
            .await
            .map_err(named)?;
        let fields = file_fields(&reader.schema, rules);
        let missing = self.group.ids.iter().find(|id| !has_id(&fields, **id));
        if let Some(id) = missing {
            return Err(Error::Corrupt {
                path: file.location.to_string(),
                why: format!("it has no column with field id {id}, which is one of its keys"),
            });
        }
        let roots: Vec<usize> = self.paths.iter().map(|path| path.column).collect();
        let adapted = FileColumns::new(columns, rules, &reader.schema, &roots).map_err(named)?;
        let mut batches = reader.batches;
        while let Some((_, batch)) = batches.try_next().await.map_err(named)? {
            let arrays = adapted.project(&batch).map_err(named)?;
            self.add(file, &arrays).map_err(named)?;
        }
        Ok(())
    }

    /// `roots` are the key columns' top-level columns, one for each key.
    fn add(&mut self, file: &DeleteFile, roots: &[ArrayRef]) -> DfResult<()> {
        let keys: Vec<ArrayRef> = self
            .paths
            .iter()
            .enumerate()
            .map(|(place, path)| {
                let path = KeyPath {
                    column: place,
                    children: path.children.clone(),
                };
                path.values(roots)
            })
            .collect::<DfResult<_>>()?;
        let rows = keys.first().map_or(0, |key| key.len());
        let mut hashes = vec![0_u64; rows];
        create_hashes(&keys, &self.hashes, &mut hashes)?;
        let encoded = self.converter.convert_columns(&keys)?;
        for (row, hash) in encoded.iter().zip(hashes) {
            let size = row.as_ref().len();
            let sequence = self.keys.entry(row.owned()).or_insert_with(|| {
                self.key_hashes.push(hash);
                self.bytes += size + KEY_OVERHEAD_BYTES;
                i64::MIN
            });
            *sequence = file.sequence_number.max(*sequence);
        }
        Ok(())
    }

    fn finish(self) -> Result<EqualityIndex> {
        let bits = self
            .key_hashes
            .len()
            .saturating_mul(BITS_PER_KEY)
            .max(MIN_BITS)
            .checked_next_power_of_two()
            .ok_or_else(|| corrupt(self.group, "too many keys".to_owned()))?;
        let mut bitmap = BooleanBufferBuilder::new(bits);
        bitmap.append_n(bits, false);
        for hash in &self.key_hashes {
            bitmap.set_bit(slot(*hash, bits - 1), true);
        }
        Ok(EqualityIndex {
            converter: self.converter,
            hashes: self.hashes,
            bits: bitmap.finish(),
            keys: self.keys,
            bytes: self.bytes + bits / 8,
        })
    }
}

fn corrupt(group: &EqualityGroup, why: String) -> Error {
    Error::Corrupt {
        path: group
            .files
            .first()
            .map_or_else(String::new, |file| file.location.to_string()),
        why,
    }
}

fn has_id(fields: &[FileField], id: i32) -> bool {
    fields
        .iter()
        .any(|field| field.id == Some(id) || has_id(&field.children, id))
}

fn data_type(columns: &TableColumns, path: &KeyPath) -> Option<arrow::datatypes::DataType> {
    let mut found = columns.arrow.fields().get(path.column)?.data_type();
    for place in &path.children {
        let arrow::datatypes::DataType::Struct(children) = found else {
            return None;
        };
        found = children.get(*place)?.data_type();
    }
    Some(found.clone())
}

/// Removes deleted rows from batches of one data file, and the key columns that were read for it.
#[derive(Clone, Debug)]
pub struct KeyFilter {
    /// Each index, and where its keys stand in the batches.
    pub indexes: Vec<(Arc<EqualityIndex>, Vec<KeyPath>)>,
    /// Data sequence number of the data file.
    pub data_sequence: i64,
    /// Columns to keep: those before the key columns.
    pub visible: usize,
}

impl KeyFilter {
    /// The rows that are left, with the visible columns alone.
    ///
    /// # Errors
    /// When a key column is not where it should be.
    pub fn apply(&self, batch: &RecordBatch) -> DfResult<RecordBatch> {
        let mut kept = Kept::default();
        for (index, paths) in &self.indexes {
            let keys: Vec<ArrayRef> = paths
                .iter()
                .map(|path| path.values(batch.columns()))
                .collect::<DfResult<_>>()?;
            index.strike(&keys, self.data_sequence, &mut kept)?;
        }
        let visible: Vec<usize> = (0..self.visible).collect();
        let batch = batch.project(&visible)?;
        Ok(match kept.0 {
            None => batch,
            Some(mut bits) => filter_record_batch(&batch, &BooleanArray::new(bits.finish(), None))?,
        })
    }
}
