//! A lake in a folder of its own: an SQLite catalog, a warehouse, and tables filled by queries.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::SessionContext;
use iceberg::arrow::{
    RecordBatchPartitionSplitter, arrow_schema_to_schema_auto_assign_ids, schema_to_arrow_schema,
};
use iceberg::spec::{DataFile, DataFileFormat, PartitionKey, Transform, UnboundPartitionSpec};
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use iceberg::writer::base_writer::data_file_writer::DataFileWriterBuilder;
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::writer::file_writer::location_generator::{
    DefaultFileNameGenerator, DefaultLocationGenerator,
};
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;
use iceberg::writer::{IcebergWriter, IcebergWriterBuilder};
use iceberg::{NamespaceIdent, TableCreation, TableIdent};
use inshore_lake::catalog::{Catalogs, Writer, embedded_config};
use inshore_lake::config::{CatalogConfig, LakeConfig};
use inshore_lake::store::Stores;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

/// Rows per row group of the tables, small so that a small table has several.
const ROW_GROUP_ROWS: usize = 1_000;

/// Where the locations inside the shared lakes point.
const SHARED_LINK: &str = "/tmp/inshore-lakes";

/// Where those of one of the sets point.
const SHARED_HDFS: &str = "hdfs://localhost:20500/test-warehouse/";

/// A lake. A folder that was made for it is removed when it is dropped.
pub struct Lake {
    folder: PathBuf,
    _temporary: Option<TempDir>,
    catalogs: Arc<Catalogs>,
    stores: Arc<Stores>,
}

impl Lake {
    /// An empty lake.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut lake = Self::open(folder.path()).await?;
        lake._temporary = Some(folder);
        Ok(lake)
    }

    /// A lake with no tables of its own, whose stores are those of `lakes`.
    ///
    /// # Errors
    /// The folder cannot be made, or the configuration is wrong.
    pub async fn over(lakes: &BTreeMap<String, LakeConfig>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut lake = Self::make(folder.path(), lakes).await?;
        lake._temporary = Some(folder);
        Ok(lake)
    }

    /// The lake in a folder.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub async fn open(folder: &Path) -> Result<Self> {
        let (_, lakes) = embedded_config(folder).await?;
        Self::make(folder, &lakes).await
    }

    /// A lake with its files in a folder, and one catalog called `lake`.
    ///
    /// # Errors
    /// The folder cannot be made, or the configuration is wrong.
    pub async fn with_catalog(folder: &Path, catalog: CatalogConfig) -> Result<Self> {
        let mut lake = Self::open(folder).await?;
        let catalogs = std::iter::once(("lake".to_owned(), catalog)).collect();
        lake.catalogs = Catalogs::open(&catalogs, Arc::clone(&lake.stores))?;
        Ok(lake)
    }

    async fn make(folder: &Path, lakes: &BTreeMap<String, LakeConfig>) -> Result<Self> {
        let (catalogs, _) = embedded_config(folder).await?;
        let stores = Stores::new(lakes)?;
        let catalogs = Catalogs::open(&catalogs, Arc::clone(&stores))?;
        Ok(Self {
            folder: folder.to_owned(),
            _temporary: None,
            catalogs,
            stores,
        })
    }

    /// One of the shared lakes written by other systems, to be read only. None, with a printed
    /// reason, when they are not at hand.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn shared(set: &str) -> Result<Option<Self>> {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/lakes");
        if !shared.join(set).exists() {
            println!("skipped: {} is not there", shared.join(set).display());
            return Ok(None);
        }
        let link = Path::new(SHARED_LINK);
        if !link.exists() {
            // Another test process may be quicker.
            let _ = std::os::unix::fs::symlink(shared.canonicalize()?, link);
        }
        if !link.join(set).exists() {
            println!("skipped: {SHARED_LINK} cannot be made a link to the shared lakes");
            return Ok(None);
        }
        Ok(Some(Self::open(&link.join(set)).await?))
    }

    /// A lake with copies of tables of the shared lakes, which may be changed: folders of tables,
    /// relative to the shared lakes. They lie in `copies` below the lake's folder, and are called as
    /// the folders are. None, with a printed reason, when the shared lakes are not at hand.
    ///
    /// # Errors
    /// They cannot be copied or opened.
    pub async fn of_copies(namespace: &str, tables: &[&str]) -> Result<Option<Self>> {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/lakes");
        if let Some(missing) = tables.iter().find(|table| !shared.join(table).exists()) {
            println!("skipped: {} is not there", shared.join(missing).display());
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let copies = folder.path().join("copies");
        for table in tables {
            copy_folder(&shared.join(table), &copies.join(table))?;
        }
        let at = format!("file://{}/", copies.display());
        let config = LakeConfig {
            map: BTreeMap::from([
                (format!("file://{SHARED_LINK}/"), at.clone()),
                (SHARED_HDFS.to_owned(), format!("{at}impala_v3/")),
            ]),
            base: Some(format!("{at}duckdb/")),
            ..LakeConfig::new("file:///")
        };
        let lakes = BTreeMap::from([("files".to_owned(), config)]);
        let mut lake = Self::make(folder.path(), &lakes).await?;
        lake._temporary = Some(folder);
        let catalog = lake.catalog().await?;
        let namespace = NamespaceIdent::new(namespace.to_owned());
        catalog.create_namespace(&namespace, HashMap::new()).await?;
        for table in tables {
            let metadata = newest_metadata(&copies.join(table).join("metadata"))?;
            let name = table.rsplit('/').next().unwrap_or(table);
            let ident = TableIdent::new(namespace.clone(), name.to_owned());
            catalog.register_table(&ident, metadata).await?;
        }
        Ok(Some(lake))
    }

    /// The lake's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The catalogs, as a coordinator takes them.
    pub fn catalogs(&self) -> Arc<Catalogs> {
        Arc::clone(&self.catalogs)
    }

    /// The stores, as coordinator and workers take them.
    pub fn stores(&self) -> Arc<Stores> {
        Arc::clone(&self.stores)
    }

    /// Makes table `namespace.name` from a query that needs no table, for instance over
    /// `generate_series`, in `files` data files of about equal numbers of rows.
    ///
    /// # Errors
    /// The query fails, or the table cannot be written.
    pub async fn create_table(
        &self,
        namespace: &str,
        name: &str,
        query: &str,
        files: usize,
    ) -> Result<()> {
        let rows = rows_of(query).await?;
        let schema = plain_schema(&rows.schema());
        let table = self.empty_table(namespace, name, &schema, None).await?;
        let per_file = rows.num_rows().div_ceil(files.max(1)).max(1);
        let mut written = Vec::new();
        let mut at = 0;
        while at < rows.num_rows() {
            let length = per_file.min(rows.num_rows() - at);
            let part = in_table_types(&table, &rows.slice(at, length))?;
            written.extend(write_file(&table, part, None).await?);
            at += length;
        }
        if !written.is_empty() {
            self.append(&table, written).await?;
        }
        Ok(())
    }

    /// Makes a table from a query, partitioned by a transform of one column, with one file for each
    /// partition.
    ///
    /// # Errors
    /// The query fails, or the table cannot be written.
    pub async fn create_partitioned_table(
        &self,
        namespace: &str,
        name: &str,
        query: &str,
        (column, transform): (&str, Transform),
    ) -> Result<()> {
        let rows = rows_of(query).await?;
        let schema = plain_schema(&rows.schema());
        let table = self
            .empty_table(namespace, name, &schema, Some((column, transform)))
            .await?;
        let metadata = table.metadata();
        let splitter = RecordBatchPartitionSplitter::try_new_with_computed_values(
            Arc::clone(metadata.current_schema()),
            Arc::clone(metadata.default_partition_spec()),
        )?;
        let mut written = Vec::new();
        for (key, part) in splitter.split(&in_table_types(&table, &rows)?)? {
            written.extend(write_file(&table, part, Some(key)).await?);
        }
        self.append(&table, written).await
    }

    async fn catalog(&self) -> Result<Writer> {
        let name = self
            .catalogs
            .default_name()
            .context("the lake has no catalog")?;
        Ok(self.catalogs.writer(name).await?)
    }

    async fn empty_table(
        &self,
        namespace: &str,
        name: &str,
        schema: &Schema,
        partition: Option<(&str, Transform)>,
    ) -> Result<Table> {
        let catalog = self.catalog().await?;
        let namespace = NamespaceIdent::from_strs(namespace.split('.'))?;
        if !catalog.namespace_exists(&namespace).await? {
            catalog.create_namespace(&namespace, HashMap::new()).await?;
        }
        let schema = arrow_schema_to_schema_auto_assign_ids(schema)?;
        let spec = match partition {
            None => UnboundPartitionSpec::default(),
            Some((column, transform)) => {
                let id = schema
                    .field_id_by_name(column)
                    .context("the partition column does not exist")?;
                UnboundPartitionSpec::builder()
                    .add_partition_field(id, format!("{column}_{transform}"), transform)?
                    .build()
            }
        };
        let creation = TableCreation::builder()
            .name(name.to_owned())
            .schema(schema)
            .partition_spec(spec)
            .build();
        Ok(catalog.create_table(&namespace, creation).await?)
    }

    async fn append(&self, table: &Table, files: Vec<DataFile>) -> Result<()> {
        let transaction = Transaction::new(table);
        let transaction = transaction
            .fast_append()
            .add_data_files(files)
            .apply(transaction)?;
        transaction.commit(self.catalog().await?.as_ref()).await?;
        Ok(())
    }

    /// The table as its catalog has it now.
    ///
    /// # Errors
    /// The table does not exist.
    pub async fn table(&self, namespace: &str, name: &str) -> Result<Table> {
        let ident = TableIdent::new(
            NamespaceIdent::from_strs(namespace.split('.'))?,
            name.to_owned(),
        );
        Ok(self.catalog().await?.load_table(&ident).await?)
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &to)?,
            false => std::fs::copy(entry.path(), to).map(drop)?,
        }
    }
    Ok(())
}

/// The location of the metadata file with the highest number in a folder: `00003-….metadata.json`
/// or `v3.metadata.json`.
fn newest_metadata(folder: &Path) -> Result<String> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let digits = name.trim_start_matches('v');
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        if name.ends_with(".metadata.json") {
            found.push((digits.parse::<u64>().unwrap_or(u64::MAX), name));
        }
    }
    let (_, name) = found.into_iter().max().context("no metadata file")?;
    Ok(format!("file://{}", folder.join(name).display()))
}

/// Iceberg knows neither view types nor unsigned integers.
fn plain_schema(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| {
        let plain = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            DataType::UInt8 | DataType::UInt16 | DataType::Int8 | DataType::Int16 => {
                DataType::Int32
            }
            DataType::UInt32 | DataType::UInt64 => DataType::Int64,
            other => other.clone(),
        };
        Field::new(field.name(), plain, true)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// What a query gives, in one batch.
async fn rows_of(query: &str) -> Result<RecordBatch> {
    let frame = SessionContext::new().sql(query).await?;
    let planned = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await?;
    let schema = batches.first().map_or(planned, RecordBatch::schema);
    Ok(arrow::compute::concat_batches(&schema, &batches)?)
}

fn in_table_types(table: &Table, rows: &RecordBatch) -> Result<RecordBatch> {
    let target = Arc::new(schema_to_arrow_schema(table.metadata().current_schema())?);
    let columns = rows
        .columns()
        .iter()
        .zip(target.fields())
        .map(|(column, field)| arrow::compute::cast(column, field.data_type()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(target, columns)?)
}

async fn write_file(
    table: &Table,
    rows: RecordBatch,
    partition: Option<PartitionKey>,
) -> Result<Vec<DataFile>> {
    let metadata = table.metadata();
    let schema = metadata.current_schema();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let names = DefaultFileNameGenerator::new(
        uuid::Uuid::new_v4().to_string(),
        None,
        DataFileFormat::Parquet,
    );
    let files = RollingFileWriterBuilder::new_with_default_file_size(
        ParquetWriterBuilder::new(properties, Arc::clone(schema)),
        table.file_io().clone(),
        DefaultLocationGenerator::new(metadata)?,
        names,
    );
    let mut writer = DataFileWriterBuilder::new(files).build(partition).await?;
    writer.write(rows).await?;
    Ok(writer.close().await?)
}
