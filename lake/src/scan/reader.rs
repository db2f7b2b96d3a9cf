//! Access to one Parquet file: footers cached per process, reads coalesced by the object store.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetMetaData;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::error::Result;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetObjectReader};
use parquet::basic::{ConvertedType, Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, KeyValue, PageIndexPolicy, ParquetMetaData,
    ParquetMetaDataReader, RowGroupMetaData,
};

/// Bytes read from the end of a file at first: enough for the footer of most files, so that opening
/// one takes a single request.
const FOOTER_READ_BYTES: usize = 64 * 1024;

/// Key of the mark that keeps a file's Arrow schema apart from the table's; see [`marked`].
const MARK: &str = "inshore.columns-by-field-id";

/// Opens the files of a scan.
#[derive(Clone)]
pub struct FileReaderFactory {
    store: Arc<dyn ObjectStore>,
    footers: Arc<dyn FileMetadataCache>,
}

impl FileReaderFactory {
    /// Reads from `store`, and keeps footers in `footers`.
    pub fn new(store: Arc<dyn ObjectStore>, footers: Arc<dyn FileMetadataCache>) -> Self {
        Self { store, footers }
    }
}

impl fmt::Debug for FileReaderFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReaderFactory").finish_non_exhaustive()
    }
}

impl ParquetFileReaderFactory for FileReaderFactory {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let whole = file.range.is_none();
        let meta = file.object_meta;
        let metrics = ParquetFileMetrics::new(partition, meta.location.as_ref(), metrics);
        let inner = ParquetObjectReader::new(Arc::clone(&self.store), meta.location.clone())
            .with_file_size(meta.size);
        Ok(Box::new(FileReader {
            inner,
            store: Arc::clone(&self.store),
            metrics,
            meta,
            whole,
            footers: Arc::clone(&self.footers),
        }))
    }
}

struct FileReader {
    inner: ParquetObjectReader,
    store: Arc<dyn ObjectStore>,
    metrics: ParquetFileMetrics,
    meta: ObjectMeta,
    /// Whether the whole file is read, not a range of it.
    whole: bool,
    footers: Arc<dyn FileMetadataCache>,
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let bytes = range.end.saturating_sub(range.start);
        self.metrics
            .bytes_scanned
            .add(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        let bytes: u64 = ranges.iter().map(|r| r.end.saturating_sub(r.start)).sum();
        self.metrics
            .bytes_scanned
            .add(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            if let Some(cached) = self.cached() {
                return Ok(cached);
            }
            let metadata = match self.load(self.meta.size).await {
                Ok(metadata) => metadata,
                Err(error) => self.load_by_actual_size(error).await?,
            };
            let metadata = Arc::new(marked(metadata));
            let entry = CachedFileMetadataEntry::new(
                self.meta.clone(),
                Arc::new(CachedParquetMetaData::new(Arc::clone(&metadata))),
            );
            self.footers.put(&self.meta.location, entry);
            Ok(metadata)
        }
        .boxed()
    }
}

impl FileReader {
    async fn load(&mut self, size: u64) -> parquet::errors::Result<ParquetMetaData> {
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Skip)
            .with_prefetch_hint(Some(FOOTER_READ_BYTES))
            .load_and_finish(&mut *self, size)
            .await?;
        check(&metadata, size)?;
        Ok(metadata)
    }

    /// Some writers put a wrong file size into the manifest. A file that is read as a whole can be
    /// read all the same; pieces of it were cut by the wrong size, and would miss row groups.
    async fn load_by_actual_size(
        &mut self,
        error: ParquetError,
    ) -> parquet::errors::Result<ParquetMetaData> {
        let Ok(actual) = self.store.head(&self.meta.location).await else {
            return Err(error);
        };
        if actual.size == self.meta.size {
            return Err(error);
        }
        if !self.whole {
            return Err(ParquetError::General(format!(
                "it has {} bytes, but the manifest says {}",
                actual.size, self.meta.size
            )));
        }
        self.load(actual.size).await
    }

    fn cached(&self) -> Option<Arc<ParquetMetaData>> {
        let entry = self.footers.get(&self.meta.location)?;
        if !entry.is_valid_for(&self.meta) {
            return None;
        }
        let cached = entry
            .file_metadata
            .as_any()
            .downcast_ref::<CachedParquetMetaData>()?;
        Some(Arc::clone(cached.parquet_metadata()))
    }
}

/// Replaces the key-value pairs of a footer.
///
/// The Arrow schema that some writers embed has to go: it may lack field ids that the Parquet schema
/// has, and it asks for types (large strings, dictionaries, other time zones) that would have to be
/// converted back. A mark has to come: DataFusion takes columns by name, without asking the adapter,
/// when the file's Arrow schema equals the table's, and that must never be so. Pairs become metadata
/// of the Arrow schema, and the table's has none.
fn marked(metadata: ParquetMetaData) -> ParquetMetaData {
    let file = metadata.file_metadata();
    let mark = KeyValue::new(MARK.to_string(), String::new());
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_string),
        Some(vec![mark]),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let groups = metadata
        .row_groups()
        .iter()
        .cloned()
        .map(without_wide_blooms);
    ParquetMetaData::new(file, groups.collect())
}

/// Forgets the bloom filters of decimals in fewer than 16 bytes: DataFusion looks for their values
/// as 16 bytes, finds none, and would leave out every row group.
fn without_wide_blooms(group: RowGroupMetaData) -> RowGroupMetaData {
    let is_short_decimal = |column: &ColumnChunkMetaData| {
        let kind = column.column_descr();
        column.bloom_filter_offset().is_some()
            && kind.physical_type() == Type::FIXED_LEN_BYTE_ARRAY
            && kind.type_length() < 16
            && kind.converted_type() == ConvertedType::DECIMAL
    };
    if !group.columns().iter().any(is_short_decimal) {
        return group;
    }
    let columns = group.columns().iter().cloned().map(|column| {
        if !is_short_decimal(&column) {
            return Ok(column);
        }
        let builder = column.into_builder().set_bloom_filter_offset(None);
        builder.set_bloom_filter_length(None).build()
    });
    let columns: Result<Vec<_>, ParquetError> = columns.collect();
    let rebuilt = columns.and_then(|columns| {
        let builder = group.clone().into_builder();
        builder.set_column_metadata(columns).build()
    });
    rebuilt.unwrap_or(group)
}

/// Checks what the reader takes for granted, so that a broken footer is an error and not a panic.
pub(crate) fn check(metadata: &ParquetMetaData, size: u64) -> Result<(), ParquetError> {
    let columns = metadata.file_metadata().schema_descr().num_columns();
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let broken = |what: &str| Err(ParquetError::General(format!("row group {number} {what}")));
        if group.num_columns() != columns || columns == 0 {
            return broken("has another number of columns than the schema");
        }
        if group.num_rows() < 0 {
            return broken("has a negative number of rows");
        }
        if !chunks_lie_inside(group, size) {
            return broken("lies outside the file");
        }
    }
    Ok(())
}

fn chunks_lie_inside(group: &RowGroupMetaData, size: u64) -> bool {
    group.columns().iter().all(|column| {
        let start = column
            .dictionary_page_offset()
            .unwrap_or_else(|| column.data_page_offset());
        let end = start.checked_add(column.compressed_size());
        start >= 0
            && column.data_page_offset() >= 0
            && column.compressed_size() >= 0
            && end
                .and_then(|end| u64::try_from(end).ok())
                .is_some_and(|end| end <= size)
    })
}
