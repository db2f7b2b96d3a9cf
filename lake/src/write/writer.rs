//! Writing the rows of one stream into data files.
//!
//! ```text
//! batches -> the table's types -> gathered -> dealt out by partition -> open files -> complete files
//! ```
//!
//! Rows of a partitioned table are gathered until there are many, so that each partition's file is
//! handed many at once. What is gathered and what open files hold is reserved from the memory pool;
//! when that refuses, the largest row groups are ended first, then the largest files: memory stays
//! bounded with any number of partitions, at the price of smaller row groups.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use datafusion::execution::memory_pool::MemoryReservation;
use iceberg::spec::Struct;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use super::file::{OpenFile, WrittenFile};
use super::partitions::Partitions;
use super::rows::RowShape;
use super::target::WriteTarget;
use crate::{Error, Result};

/// Rows, and their bytes, that are gathered before they are dealt out.
const GATHERED_ROWS: usize = 1 << 18;
const GATHERED_BYTES: usize = 32 << 20;

/// Bytes that one writer takes in all, whatever the pool would give.
const WRITER_BYTES_MAX: usize = 256 << 20;

/// A row group is not ended for the memory of less than this, nor a file for that.
const FREED_BYTES_MIN: usize = 256 << 10;

/// Writes rows into new data files of a table. One that is dropped before it is finished removes
/// what it wrote.
pub struct TableWriter {
    target: Arc<WriteTarget>,
    shape: RowShape,
    parquet: WriterProperties,
    partitions: Option<Partitions>,
    /// The range of the row that came last.
    last_range: Option<i32>,
    gathered: Vec<RecordBatch>,
    gathered_rows: usize,
    gathered_bytes: usize,
    memory: MemoryReservation,
    files: Files,
}

impl TableWriter {
    /// Begins to write rows with the columns of `input` into `store`; those of a ranged target have
    /// their range behind them. Memory is reserved in
    /// `memory`.
    ///
    /// # Errors
    /// [`Error::Refused`] for types and partitions that are not written.
    pub fn new(
        target: &Arc<WriteTarget>,
        input: &SchemaRef,
        store: Arc<dyn ObjectStore>,
        memory: MemoryReservation,
    ) -> Result<Self> {
        let partitions = match target.spec.is_unpartitioned() {
            true => None,
            false => Some(Partitions::new(target)?),
        };
        Ok(Self {
            shape: RowShape::new(&target.table, &target.schema, input)?,
            last_range: None,
            parquet: target.options.parquet(),
            partitions,
            gathered: vec![],
            gathered_rows: 0,
            gathered_bytes: 0,
            memory,
            files: Files::new(target, store),
            target: Arc::clone(target),
        })
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// [`Error::Conflict`] for values that do not fit; [`Error::Store`] and [`Error::Unavailable`]
    /// when the store does not take them.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if !self.target.is_ranged {
            return self.add(batch).await;
        }
        let (batch, ranges) = without_ranges(batch)?;
        if !self.target.is_clustered() {
            return self.add(&batch).await;
        }
        let mut first = 0;
        for run in ranges.chunk_by(|a, b| a == b) {
            let range = run.first().copied();
            // Neighbouring ranges are of other writers: a file over two would overlap theirs.
            if self.last_range != range {
                self.deal_out().await?;
                self.end_all_but(None).await?;
            }
            self.last_range = range;
            self.add(&batch.slice(first, run.len())).await?;
            first += run.len();
        }
        Ok(())
    }

    async fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = self.shape.apply(batch)?;
        if self.partitions.is_none() {
            return self.write_to(WHOLE_TABLE, &batch).await;
        }
        self.gathered_rows += batch.num_rows();
        self.gathered_bytes += batch.columns().iter().map(bytes_of).sum::<usize>();
        self.gathered.push(batch);
        let is_much = self.gathered_rows >= GATHERED_ROWS || self.gathered_bytes >= GATHERED_BYTES;
        if is_much || !self.reserve(false) {
            self.deal_out().await?;
        }
        Ok(())
    }

    /// Ends all files and gives them, with what removes them again.
    ///
    /// # Errors
    /// As [`TableWriter::write`].
    pub async fn finish(mut self) -> Result<Vec<WrittenFile>> {
        self.deal_out().await?;
        let mut open: Vec<usize> = self.files.open.keys().copied().collect();
        open.sort_unstable();
        for number in open {
            self.end(number).await?;
        }
        self.files.is_over = true;
        Ok(std::mem::take(&mut self.files.complete))
    }

    /// Hands gathered rows to the files of their partitions.
    async fn deal_out(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.gathered);
        let Some(partitions) = self.partitions.as_mut().filter(|_| !batches.is_empty()) else {
            return Ok(());
        };
        // The places of rows by the number of their partition.
        let mut rows: Vec<Vec<(usize, usize)>> = vec![];
        let mut last = None;
        for (at, batch) in batches.iter().enumerate() {
            for (row, number) in partitions.of(batch)?.into_iter().enumerate() {
                if rows.len() <= number {
                    rows.resize_with(number + 1, Vec::new);
                }
                if let Some(rows) = rows.get_mut(number) {
                    rows.push((at, row));
                }
                last = Some(number);
            }
        }
        let all: Vec<&RecordBatch> = batches.iter().collect();
        for (number, rows) in rows.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let part = interleave_record_batch(&all, rows);
            let part = part.map_err(|error| Error::Internal(error.to_string()))?;
            self.write_to(number, &part).await?;
            // Encoding takes a while; others want to run.
            tokio::task::yield_now().await;
        }
        drop(batches);
        (self.gathered_rows, self.gathered_bytes) = (0, 0);
        if self.target.is_clustered() {
            self.end_all_but(last).await?;
        }
        Ok(())
    }

    /// Rows come in the order of their partitions: all but the last one are complete.
    async fn end_all_but(&mut self, last: Option<usize>) -> Result<()> {
        let open = self.files.open.keys().copied();
        let mut done: Vec<usize> = open.filter(|number| Some(*number) != last).collect();
        done.sort_unstable();
        for number in done {
            self.end(number).await?;
        }
        Ok(())
    }

    async fn write_to(&mut self, number: usize, batch: &RecordBatch) -> Result<()> {
        let file = match self.files.open.get_mut(&number) {
            Some(file) => file,
            None => self
                .files
                .begin(number, self.shape.schema(), &self.parquet)?,
        };
        let before = file.memory_bytes();
        file.write(batch).await?;
        let (after, bytes) = (file.memory_bytes(), file.file_bytes());
        self.files.memory = self
            .files
            .memory
            .saturating_sub(before)
            .saturating_add(after);
        if bytes >= self.target.options.target_bytes {
            self.end(number).await?;
        }
        self.fit().await
    }

    async fn end(&mut self, number: usize) -> Result<()> {
        let partition = match &self.partitions {
            Some(partitions) => partitions.value(number),
            // Fields that version 1 keeps are NULL.
            None => self.target.spec.fields().iter().map(|_| None).collect(),
        };
        self.files.end(number, &partition).await
    }

    /// Frees memory until what is held fits.
    async fn fit(&mut self) -> Result<()> {
        while !self.reserve(false) {
            if let Some(number) = self.files.largest(OpenFile::row_group_bytes) {
                self.files.flush(number).await?;
            } else if let Some(number) = self.files.largest(OpenFile::memory_bytes) {
                self.end(number).await?;
            } else {
                // There is nothing more to give back.
                self.reserve(true);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether what is held is granted. With `force` it is taken.
    fn reserve(&self, force: bool) -> bool {
        let held = self.gathered_bytes + self.files.memory;
        if force {
            self.memory.resize(held);
            return true;
        }
        held <= WRITER_BYTES_MAX && self.memory.try_resize(held).is_ok()
    }
}

/// The columns of the table, and the range of each row.
fn without_ranges(batch: &RecordBatch) -> Result<(RecordBatch, Vec<i32>)> {
    let missing = || Error::Internal("rows come without their range".to_owned());
    let last = batch.num_columns().checked_sub(1).ok_or_else(missing)?;
    let ranges = batch.column(last).as_primitive_opt::<Int32Type>();
    let ranges = ranges.ok_or_else(missing)?.values().to_vec();
    let columns: Vec<usize> = (0..last).collect();
    let batch = batch.project(&columns);
    Ok((
        batch.map_err(|error| Error::Internal(error.to_string()))?,
        ranges,
    ))
}

/// The number of the one partition of a table without partitions.
const WHOLE_TABLE: usize = 0;

/// The files of one writer.
struct Files {
    target: Arc<WriteTarget>,
    store: Arc<dyn ObjectStore>,
    open: HashMap<usize, OpenFile>,
    /// What the open files hold.
    memory: usize,
    complete: Vec<WrittenFile>,
    /// Tells the writers of one statement apart.
    writer: String,
    begun: Vec<Path>,
    is_over: bool,
}

impl Files {
    fn new(target: &Arc<WriteTarget>, store: Arc<dyn ObjectStore>) -> Self {
        let writer = Uuid::new_v4().simple().to_string();
        Self {
            target: Arc::clone(target),
            store,
            open: HashMap::new(),
            memory: 0,
            complete: vec![],
            writer: writer.get(..8).unwrap_or_default().to_owned(),
            begun: vec![],
            is_over: false,
        }
    }

    fn begin(
        &mut self,
        number: usize,
        schema: &SchemaRef,
        parquet: &WriterProperties,
    ) -> Result<&mut OpenFile> {
        let (statement, at) = (self.target.statement, self.begun.len());
        let name = format!("{statement}-{}-{at:05}.parquet", self.writer);
        let path = self.target.path.clone().join(name.as_str());
        let location = format!("{}/{name}", self.target.folder);
        let file = OpenFile::new(&self.store, path.clone(), location, schema, parquet)?;
        self.begun.push(path);
        self.memory += file.memory_bytes();
        Ok(self.open.entry(number).or_insert(file))
    }

    async fn flush(&mut self, number: usize) -> Result<()> {
        let Some(file) = self.open.get_mut(&number) else {
            return Ok(());
        };
        let before = file.memory_bytes();
        file.flush().await?;
        let after = file.memory_bytes();
        self.memory = self.memory.saturating_sub(before).saturating_add(after);
        Ok(())
    }

    async fn end(&mut self, number: usize, partition: &Struct) -> Result<()> {
        let Some(file) = self.open.remove(&number) else {
            return Ok(());
        };
        self.memory = self.memory.saturating_sub(file.memory_bytes());
        let written = file.finish(&self.target, partition).await?;
        self.complete.push(written);
        Ok(())
    }

    /// The file with the most of something, if that is worth freeing.
    fn largest(&self, of: fn(&OpenFile) -> usize) -> Option<usize> {
        let sizes = self.open.iter().map(|(number, file)| (of(file), *number));
        let (bytes, number) = sizes.max()?;
        (bytes >= FREED_BYTES_MIN).then_some(number)
    }
}

impl Drop for Files {
    /// A statement that failed or was cancelled: the task ends once the files are gone.
    fn drop(&mut self) {
        let begun = std::mem::take(&mut self.begun);
        if self.is_over || begun.is_empty() {
            return;
        }
        let open: Vec<OpenFile> = std::mem::take(&mut self.open).into_values().collect();
        let store = Arc::clone(&self.store);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for file in open {
                    file.abort().await;
                }
                for path in begun {
                    remove(&store, &path).await;
                }
            });
        }
    }
}

/// Removes a file that nothing refers to, if it is there.
pub(super) async fn remove(store: &Arc<dyn ObjectStore>, path: &Path) {
    match store.delete(path).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => {
            tracing::warn!(%path, %error, "a file that is not needed could not be removed");
        }
    }
}

/// Bytes of a column's values. Views share buffers with other batches, so their buffers say little.
fn bytes_of(column: &Arc<dyn Array>) -> usize {
    const VIEW_BYTES: usize = size_of::<u128>();
    let lengths = |views: &[u128]| {
        views
            .iter()
            .map(|view| (*view as u32) as usize)
            .sum::<usize>()
    };
    match column.data_type() {
        DataType::Utf8View => {
            let views = column.as_string_view().views();
            views.len() * VIEW_BYTES + lengths(views)
        }
        DataType::BinaryView => {
            let views = column.as_binary_view().views();
            views.len() * VIEW_BYTES + lengths(views)
        }
        _ => {
            let size = column.to_data().get_slice_memory_size();
            size.unwrap_or_else(|_| column.get_array_memory_size())
        }
    }
}
