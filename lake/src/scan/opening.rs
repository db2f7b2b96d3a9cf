//! Opening one file: the Parquet morselizer that fits it, and its deletes read before that.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileScanConfigBuilder, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion_datasource::morsel::{MorselPlan, MorselPlanner, Morselizer};
use object_store::ObjectStore;
use parquet::file::metadata::ParquetMetaData;

use super::adapter::FieldIdAdapterFactory;
use super::morsel::{FileName, NamedPlanner, RowDeletes, Several};
use super::reader::FileReaderFactory;
use super::source::{ScanFile, ScanInfo};
use crate::Error;
use crate::deletes::{DeleteReader, KeyFilter, KeyPath, LiveMask, has_page_index, key_path, live};

/// Everything needed to open files of one partition.
pub struct FileOpening {
    /// The Parquet source, over all columns of the table.
    pub source: ParquetSource,
    /// The columns asked for.
    pub projection: ProjectionExprs,
    /// Rows in a batch.
    pub batch_size: usize,
    /// What all files share.
    pub info: Arc<ScanInfo>,
    /// Reads delete files.
    pub deletes: DeleteReader,
    /// Opens Parquet files.
    pub readers: Arc<FileReaderFactory>,
    /// The store of the scan's files.
    pub store: Arc<dyn ObjectStore>,
    /// Its key.
    pub url: ObjectStoreUrl,
    /// Rows that are enough.
    pub limit: Option<usize>,
    /// Whether files must be read in their order.
    pub preserve_order: bool,
    /// Which partition of the scan this is.
    pub partition: usize,
}

impl FileOpening {
    /// The Parquet morselizer for a file; `None` stands for all files that have no properties of
    /// their own. `keys` are columns to read behind those asked for.
    pub fn morselizer(
        &self,
        file: Option<Arc<ScanFile>>,
        keys: &[usize],
    ) -> Result<Box<dyn Morselizer>> {
        // A limit counts rows before deletes: with deletes it is left to the stream above.
        let limit = self
            .limit
            .filter(|_| file.as_ref().is_none_or(|file| file.deletes.is_empty()));
        let adapter = FieldIdAdapterFactory::new(
            Arc::clone(&self.info.columns),
            self.info.rules.clone(),
            file,
        );
        let source = self
            .source
            .try_pushdown_projection(&self.projection_with(keys))?
            .ok_or_else(|| DataFusionError::Internal("a projection was refused".to_owned()))?;
        let config = FileScanConfigBuilder::new(self.url.clone(), Arc::clone(&source))
            .with_limit(limit)
            .with_preserve_order(self.preserve_order)
            .with_expr_adapter(Some(Arc::new(adapter)))
            .build();
        source.create_morselizer(Arc::clone(&self.store), &config, self.partition)
    }

    /// Whether the reader gives all rows of every row group that it does not leave out, in their
    /// order, and row groups may be read in any order.
    fn reads_whole_groups(&self, footer: &ParquetMetaData) -> bool {
        let options = &self.source.table_parquet_options().global;
        let leaves_out_pages =
            self.source.filter().is_some() && options.enable_page_index && has_page_index(footer);
        !self.preserve_order && !options.pushdown_filters && !leaves_out_pages
    }

    /// The projection with key columns behind it.
    pub fn projection_with(&self, keys: &[usize]) -> ProjectionExprs {
        let columns = &self.info.columns.arrow;
        let keys = keys.iter().map(|place| {
            let name = columns.field(*place).name();
            ProjectionExpr::new(Arc::new(Column::new(name, *place)), format!("key {name}"))
        });
        ProjectionExprs::new(self.projection.iter().cloned().chain(keys))
    }

    /// The filter for a file's equality deletes, and the columns it needs; none without any.
    ///
    /// # Errors
    /// As [`DeleteReader::keys`].
    pub async fn key_filter(
        &self,
        file: &ScanFile,
    ) -> crate::Result<Option<(KeyFilter, Vec<usize>)>> {
        if file.deletes.equality.is_empty() {
            return Ok(None);
        }
        let (columns, rules) = (&self.info.columns, &self.info.rules);
        let visible = self.projection.iter().count();
        let mut roots: Vec<usize> = vec![];
        let mut indexes = vec![];
        for group in file.deletes.equality.iter() {
            let index = self.deletes.keys(group, columns, rules).await?;
            let mut paths = vec![];
            for id in &group.ids {
                let path = key_path(columns, *id).ok_or_else(|| {
                    Error::Internal(format!("key column {id} is not part of the scan"))
                })?;
                let place = match roots.iter().position(|root| *root == path.column) {
                    Some(place) => place,
                    None => {
                        roots.push(path.column);
                        roots.len() - 1
                    }
                };
                paths.push(KeyPath {
                    column: visible + place,
                    children: path.children,
                });
            }
            indexes.push((index, paths));
        }
        let filter = KeyFilter {
            indexes,
            data_sequence: file.sequence_number,
            visible,
        };
        Ok(Some((filter, roots)))
    }
}

/// A Parquet file with deletes, before they are read.
pub struct DeletesPlanner {
    opening: Arc<FileOpening>,
    scan_file: Arc<ScanFile>,
    file: PartitionedFile,
}

impl DeletesPlanner {
    /// `file` is the piece to read, `scan_file` what the table says of it.
    pub fn new(opening: Arc<FileOpening>, scan_file: Arc<ScanFile>, file: PartitionedFile) -> Self {
        Self {
            opening,
            scan_file,
            file,
        }
    }

    /// Reads the deletes, and plans the file with what they leave.
    async fn open(self) -> Result<Box<dyn MorselPlanner>> {
        let name = FileName {
            path: Arc::clone(&self.scan_file.location),
            info: Arc::clone(&self.opening.info),
        };
        let parts = self.parts(&name).await?;
        let (keys, roots) = match self.opening.key_filter(&self.scan_file).await? {
            Some((filter, roots)) => (Some(Arc::new(filter)), roots),
            None => (None, vec![]),
        };
        let morselizer = self
            .opening
            .morselizer(Some(self.scan_file), &roots)
            .map_err(|error| name.name(error))?;
        let mut planners = vec![];
        for (file, mask) in parts {
            let planner = morselizer.plan_file(file);
            let planner = planner.map_err(|error| name.name(error))?;
            let keys = keys.clone();
            let deletes = RowDeletes { mask, keys };
            let named = NamedPlanner::new(planner, name.clone(), deletes);
            planners.push(Box::new(named) as Box<dyn MorselPlanner>);
        }
        Ok(match planners.len() {
            1 => planners.remove(0),
            _ => Box::new(Several(planners)),
        })
    }

    /// The parts in which the file is read, each with the mask of its rows if it needs one.
    async fn parts(&self, name: &FileName) -> Result<Vec<(PartitionedFile, Option<LiveMask>)>> {
        let (opening, file) = (&self.opening, &self.file);
        let deleted = opening
            .deletes
            .positions(&name.path, &self.scan_file.deletes.positions)
            .await?;
        let Some(rows) = deleted else {
            return Ok(vec![(file.clone(), None)]);
        };
        let metrics = opening.source.metrics();
        let mut reader =
            opening
                .readers
                .create_reader(opening.partition, file.clone(), None, metrics)?;
        let footer = reader
            .get_metadata(None)
            .await
            .map_err(|error| name.name(error.into()))?;
        let mask = opening.reads_whole_groups(&footer);
        let live = live(&rows, &footer, file.range.as_ref(), mask);
        let skipping = live.skipping.map(|plan| (plan, None));
        let masked = live.masked.into_iter().map(|g| (g.plan, Some(g.mask)));
        let parts = skipping.into_iter().chain(masked);
        Ok(parts
            .map(|(plan, mask)| (file.clone().with_extension(plan), mask))
            .collect())
    }
}

impl fmt::Debug for DeletesPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeletesPlanner({})", self.scan_file.location)
    }
}

impl MorselPlanner for DeletesPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_pending_planner(self.open())))
    }
}
