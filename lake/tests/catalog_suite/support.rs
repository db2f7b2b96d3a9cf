//! What the catalog tests share: configurations, and tables written by iceberg-rust.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{DataFile, DataFileFormat, NestedField, PrimitiveType, Schema, Type};
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
use indexmap::IndexMap;
use inshore_lake::TableName;
use inshore_lake::catalog::{CatalogLimits, Catalogs, Writer};
use inshore_lake::config::{CatalogConfig, CatalogKind, LakeConfig, Secret};
use inshore_lake::store::Stores;
use inshore_lake::table::IcebergTable;
use inshore_lake::write::{WriteExec, WriteTarget, data_files};
use parquet::file::properties::WriterProperties;

pub fn catalog(kind: CatalogKind, uri: Option<&str>, warehouse: Option<&str>) -> CatalogConfig {
    CatalogConfig {
        uri: uri.map(Secret::new),
        warehouse: warehouse.map(str::to_owned),
        ..CatalogConfig::new(kind)
    }
}

/// A SQLite catalog in `dir`, with its files in `dir/warehouse`.
pub fn sqlite(dir: &Path) -> CatalogConfig {
    let uri = format!("sqlite://{}/catalog.db", dir.display());
    let warehouse = format!("file://{}/warehouse", dir.display());
    catalog(CatalogKind::Sql, Some(&uri), Some(&warehouse))
}

pub fn stores(root: &str) -> Arc<Stores> {
    Stores::new(&BTreeMap::from([(
        "main".to_owned(),
        LakeConfig::new(root),
    )]))
    .unwrap()
}

/// One catalog called `lake` over the lake in `dir`, with deadlines fit for tests.
pub fn open(config: CatalogConfig, dir: &Path) -> Arc<Catalogs> {
    let limits = CatalogLimits {
        call_deadline: Duration::from_secs(10),
        ..CatalogLimits::default()
    };
    let configs = IndexMap::from([("lake".to_owned(), config)]);
    let stores = stores(&format!("file://{}", dir.display()));
    Catalogs::open_with(&configs, stores, limits).unwrap()
}

/// Makes the table `namespace.table` with columns `id` and `name`.
pub async fn create(
    writer: &Writer,
    namespace: &str,
    table: &str,
    properties: &[(&str, &str)],
) -> Table {
    let namespace = NamespaceIdent::from_strs(namespace.split('.')).unwrap();
    if !writer.namespace_exists(&namespace).await.unwrap() {
        let created = writer.create_namespace(&namespace, HashMap::new()).await;
        created.unwrap();
    }
    let fields = vec![
        NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long)).into(),
        NestedField::optional(2, "name", Type::Primitive(PrimitiveType::String)).into(),
    ];
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    let properties: HashMap<String, String> = properties
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let creation = TableCreation::builder()
        .name(table.to_owned())
        .schema(schema)
        .properties(properties)
        .build();
    writer.create_table(&namespace, creation).await.unwrap()
}

/// Appends one file with the ids `0..rows`.
pub async fn append(writer: &Writer, namespace: &str, table: &str, rows: i64) -> Table {
    let namespace = NamespaceIdent::from_strs(namespace.split('.')).unwrap();
    let ident = TableIdent::new(namespace, table.to_owned());
    let table = writer.load_table(&ident).await.unwrap();
    let schema = table.metadata().current_schema().clone();
    let files = RollingFileWriterBuilder::new_with_default_file_size(
        ParquetWriterBuilder::new(WriterProperties::default(), Arc::clone(&schema)),
        table.file_io().clone(),
        DefaultLocationGenerator::new(table.metadata()).unwrap(),
        DefaultFileNameGenerator::new(
            uuid::Uuid::new_v4().to_string(),
            None,
            DataFileFormat::Parquet,
        ),
    );
    let mut files = DataFileWriterBuilder::new(files).build(None).await.unwrap();
    let arrow_schema = Arc::new(schema_to_arrow_schema(&schema).unwrap());
    assert_eq!(arrow_schema.field(1).data_type(), &DataType::Utf8);
    let names = (0..rows).map(|id| Some(format!("name {id}")));
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..rows)),
        Arc::new(StringArray::from_iter(names)),
    ];
    let batch = RecordBatch::try_new(arrow_schema, columns).unwrap();
    files.write(batch).await.unwrap();
    let written = files.close().await.unwrap();
    let transaction = Transaction::new(&table);
    let append = transaction.fast_append().add_data_files(written);
    let transaction = append.apply(transaction).unwrap();
    transaction.commit(writer.as_ref()).await.unwrap()
}

/// A batch of the ids `0..count`.
pub fn rows(count: i64) -> RecordBatch {
    let ids: arrow::array::ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    RecordBatch::try_from_iter([("id", ids)]).unwrap()
}

/// Writes a batch into data files of a table; nothing refers to them yet.
pub async fn written(table: &Table, stores: &Stores, batch: &RecordBatch) -> Vec<DataFile> {
    let target = WriteTarget::new("t", table.metadata(), stores).unwrap();
    let target = Arc::new(target);
    let input = MemorySourceConfig::try_new_exec(&[vec![batch.clone()]], batch.schema(), None);
    let plan = WriteExec::try_new(Arc::clone(&target), input.unwrap()).unwrap();
    let context = SessionContext::new();
    stores.register(&context.runtime_env());
    let plan: Arc<dyn ExecutionPlan> = Arc::new(plan);
    let batches = collect(plan, context.task_ctx()).await.unwrap();
    let files = batches.iter();
    files
        .flat_map(|batch| data_files(batch, &target).unwrap())
        .collect()
}

/// Rows of a table, counted by reading it with iceberg-rust through our storage.
pub async fn count(table: &Table) -> usize {
    let scan = table.scan().build().unwrap();
    let batches: Vec<RecordBatch> = scan.to_arrow().await.unwrap().try_collect().await.unwrap();
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// The shared lakes written by other systems, at the place their locations name; none with a
/// printed reason when they are not at hand.
pub fn shared_lakes() -> Option<PathBuf> {
    let lakes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/lakes");
    let Ok(lakes) = lakes.canonicalize() else {
        println!("skipped: there is no folder {}", lakes.display());
        return None;
    };
    let place = PathBuf::from("/tmp/inshore-lakes");
    if !place.exists() {
        // Another test may be quicker.
        let _ = std::os::unix::fs::symlink(&lakes, &place);
    }
    place.exists().then_some(place)
}

/// What a query says that reads column `name`, whose type cannot be read; the others can.
pub async fn refused_column(catalogs: &Catalogs, table: Table) -> String {
    let name = TableName::new("lake", "n", "t");
    let stores = Arc::clone(catalogs.stores());
    let provider = IcebergTable::try_new(name, table, Arc::default(), stores).unwrap();
    let session = SessionContext::new();
    session.register_table("t", provider).unwrap();
    let run = async |sql: &str| session.sql(sql).await?.collect().await;
    run("SELECT id FROM t").await.unwrap();
    run("SELECT name FROM t").await.unwrap_err().to_string()
}
