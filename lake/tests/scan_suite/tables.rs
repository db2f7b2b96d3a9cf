//! Tables written through iceberg-rust, for tests that need to know or damage their files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, ListBuilder, StringArray,
    StringBuilder,
};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::{SessionConfig, SessionContext};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::memory::{MEMORY_CATALOG_WAREHOUSE, MemoryCatalogBuilder};
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, ListType, Literal, NestedField, PartitionKey,
    PrimitiveType, Schema, Struct, Transform, Type, UnboundPartitionSpec,
};
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use iceberg::writer::base_writer::data_file_writer::DataFileWriterBuilder;
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::writer::file_writer::location_generator::{
    DefaultFileNameGenerator, DefaultLocationGenerator,
};
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;
use iceberg::writer::{IcebergWriter, IcebergWriterBuilder};
use iceberg::{Catalog, CatalogBuilder, NamespaceIdent, TableCreation};
use inshore_lake::TableName;
use inshore_lake::plan::ManifestCache;
use inshore_lake::store::{LakeStorageFactory, Stores};
use inshore_lake::table::IcebergTable;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

/// Rows in each month's file, and in each of its row groups.
pub const ROWS: i64 = 400;
const ROW_GROUP: usize = 100;

/// A table of sales, partitioned by month, one file for each of twelve months.
pub struct Sales {
    pub table: Table,
    pub stores: Arc<Stores>,
    pub manifests: Arc<ManifestCache>,
    directory: TempDir,
}

impl Sales {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let stores = Stores::for_local_files().unwrap();
        let catalog = MemoryCatalogBuilder::default()
            .with_storage_factory(Arc::new(LakeStorageFactory::new(Arc::clone(&stores))))
            .load(
                "memory",
                HashMap::from([(
                    MEMORY_CATALOG_WAREHOUSE.to_string(),
                    format!("file://{}", directory.path().display()),
                )]),
            )
            .await
            .unwrap();
        let namespace = NamespaceIdent::new("shop".to_string());
        catalog
            .create_namespace(&namespace, HashMap::new())
            .await
            .unwrap();
        let spec = UnboundPartitionSpec::builder()
            .add_partition_field(3, "day_month", Transform::Month)
            .unwrap()
            .build();
        let creation = TableCreation::builder()
            .name("sales".to_string())
            .schema(schema())
            .partition_spec(spec)
            .build();
        let mut table = catalog.create_table(&namespace, creation).await.unwrap();
        // Three months in each commit, so that there are four manifests.
        for quarter in 0..4 {
            let mut files = vec![];
            for month in quarter * 3..quarter * 3 + 3 {
                files.extend(write_month(&table, month).await);
            }
            let transaction = Transaction::new(&table);
            let append = transaction.fast_append().add_data_files(files);
            let transaction = append.apply(transaction).unwrap();
            table = transaction.commit(&catalog).await.unwrap();
        }
        Self {
            table,
            stores,
            manifests: Arc::new(ManifestCache::default()),
            directory,
        }
    }

    pub fn provider(&self) -> Arc<IcebergTable> {
        IcebergTable::try_new(
            TableName::new("lake", "shop", "sales"),
            self.table.clone(),
            Arc::clone(&self.manifests),
            Arc::clone(&self.stores),
        )
        .unwrap()
    }

    /// A fresh session with the table as `sales`.
    pub fn session(&self, config: SessionConfig) -> SessionContext {
        let ctx = SessionContext::new_with_config(config);
        self.stores.register(&ctx.runtime_env());
        ctx.register_table("sales", self.provider()).unwrap();
        ctx
    }

    /// Every file of the table with this ending, by name.
    pub fn files(&self, ending: &str) -> Vec<PathBuf> {
        let mut found = vec![];
        collect(self.directory.path(), ending, &mut found);
        found.sort();
        found
    }
}

fn collect(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, ending, found);
        } else if path.to_str().unwrap().ends_with(ending) {
            found.push(path);
        }
    }
}

fn schema() -> Schema {
    let primitive = |ty| Type::Primitive(ty);
    let tags = Type::List(ListType::new(Arc::new(NestedField::list_element(
        6,
        primitive(PrimitiveType::String),
        false,
    ))));
    Schema::builder()
        .with_fields(vec![
            Arc::new(NestedField::required(
                1,
                "id",
                primitive(PrimitiveType::Long),
            )),
            Arc::new(NestedField::optional(
                2,
                "region",
                primitive(PrimitiveType::String),
            )),
            Arc::new(NestedField::required(
                3,
                "day",
                primitive(PrimitiveType::Date),
            )),
            Arc::new(NestedField::optional(
                4,
                "amount",
                primitive(PrimitiveType::Decimal {
                    precision: 12,
                    scale: 2,
                }),
            )),
            Arc::new(NestedField::optional(5, "tags", tags)),
        ])
        .build()
        .unwrap()
}

/// First day of a month of 2023, counted from 1970.
pub fn first_day(month: i32) -> i32 {
    let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
    let day = chrono::NaiveDate::from_ymd_opt(2023, month as u32 + 1, 1).unwrap();
    (day - epoch).num_days() as i32
}

fn month_batch(table: &Table, month: i32) -> RecordBatch {
    let ids: Vec<i64> = (0..ROWS).map(|n| i64::from(month) * ROWS + n).collect();
    let mut tags = ListBuilder::new(StringBuilder::new());
    for id in &ids {
        if id % 5 == 0 {
            tags.append_null();
        } else {
            tags.append_value((0..id % 3).map(|tag| Some(format!("t{tag}"))));
        }
    }
    let arrow = Arc::new(schema_to_arrow_schema(table.metadata().current_schema()).unwrap());
    let tags: ArrayRef = Arc::new(tags.finish());
    let tags = arrow::compute::cast(&tags, arrow.field(4).data_type()).unwrap();
    RecordBatch::try_new(
        arrow,
        vec![
            Arc::new(Int64Array::from(ids.clone())),
            Arc::new(StringArray::from_iter(ids.iter().map(|id| {
                (id % 7 != 0).then(|| ["north", "south", "west"][(id % 3) as usize])
            }))),
            Arc::new(Date32Array::from_iter_values(
                ids.iter().map(|id| first_day(month) + (id % 28) as i32),
            )),
            Arc::new(
                Decimal128Array::from_iter_values(ids.iter().map(|id| i128::from(id * 101)))
                    .with_precision_and_scale(12, 2)
                    .unwrap(),
            ),
            tags,
        ],
    )
    .unwrap()
}

async fn write_month(table: &Table, month: i32) -> Vec<iceberg::spec::DataFile> {
    let metadata = table.metadata();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .build();
    let parquet = ParquetWriterBuilder::new(properties, Arc::clone(metadata.current_schema()));
    let rolling = RollingFileWriterBuilder::new_with_default_file_size(
        parquet,
        table.file_io().clone(),
        DefaultLocationGenerator::new(metadata).unwrap(),
        DefaultFileNameGenerator::new(format!("m{month:02}"), None, DataFileFormat::Parquet),
    );
    let value = Literal::int((2023 - 1970) * 12 + month);
    let key = PartitionKey::new(
        metadata.default_partition_spec().as_ref().clone(),
        Arc::clone(metadata.current_schema()),
        Struct::from_iter([Some(value)]),
    );
    let mut writer = DataFileWriterBuilder::new(rolling)
        .build(Some(key))
        .await
        .unwrap();
    writer.write(month_batch(table, month)).await.unwrap();
    writer.close().await.unwrap()
}

/// A table of two required ints whose one file has no field ids, with a name mapping.
pub async fn without_ids(mapping: &str) -> (TempDir, Arc<IcebergTable>, Arc<Stores>) {
    let directory = tempfile::tempdir().unwrap();
    let stores = Stores::for_local_files().unwrap();
    let warehouse = format!("file://{}", directory.path().display());
    let catalog = MemoryCatalogBuilder::default()
        .with_storage_factory(Arc::new(LakeStorageFactory::new(Arc::clone(&stores))))
        .load(
            "memory",
            HashMap::from([(MEMORY_CATALOG_WAREHOUSE.to_string(), warehouse.clone())]),
        )
        .await
        .unwrap();
    let namespace = NamespaceIdent::new("shop".to_string());
    catalog
        .create_namespace(&namespace, HashMap::new())
        .await
        .unwrap();
    let int = || Type::Primitive(PrimitiveType::Int);
    let schema = Schema::builder()
        .with_fields(vec![
            Arc::new(NestedField::optional(1, "a", int())),
            Arc::new(NestedField::optional(2, "b", int())),
        ])
        .build()
        .unwrap();
    let creation = TableCreation::builder()
        .name("bare".to_string())
        .schema(schema)
        .properties([(
            "schema.name-mapping.default".to_string(),
            mapping.to_string(),
        )])
        .build();
    let table = catalog.create_table(&namespace, creation).await.unwrap();
    let path = directory.path().join("bare.parquet");
    let batch = RecordBatch::try_from_iter_with_nullable([
        (
            "a",
            Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef,
            true,
        ),
        (
            "b",
            Arc::new(Int32Array::from(vec![10, 20])) as ArrayRef,
            true,
        ),
    ])
    .unwrap();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let data_file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("file://{}", path.display()))
        .file_format(DataFileFormat::Parquet)
        .file_size_in_bytes(std::fs::metadata(&path).unwrap().len())
        .record_count(2)
        .build()
        .unwrap();
    let transaction = Transaction::new(&table);
    let append = transaction.fast_append().add_data_files([data_file]);
    let transaction = append.apply(transaction).unwrap();
    let table = transaction.commit(&catalog).await.unwrap();
    let provider = IcebergTable::try_new(
        TableName::new("lake", "shop", "bare"),
        table,
        Arc::default(),
        Arc::clone(&stores),
    )
    .unwrap();
    (directory, provider, stores)
}
