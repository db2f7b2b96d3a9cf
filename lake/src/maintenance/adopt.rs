//! Taking Parquet files over into a table without copying them.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema as ArrowSchema};
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use futures::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use iceberg::TableUpdate;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, Literal, NameMapping,
    NestedField, PartitionField, PrimitiveType, SchemaRef, Struct, Transform, Type,
};
use iceberg::table::Table;
use iceberg::transform::create_transform_function;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::async_reader::ParquetObjectReader;
use parquet::file::metadata::ParquetMetaData;
use serde_json::Value;

use super::footer::{Metrics, arrow_schema};
use super::reachable::Address;
use crate::catalog::{Catalogs, Change};
use crate::evolution::{NAME_MAPPING, mapped};
use crate::files::{Found, HiveFolders, Place, expand_place};
use crate::manifest::{Entries, PartitionSpecs};
use crate::plan::ManifestCache;
use crate::scan::mapping::{FileField, NameRules, file_fields, resolve};
use crate::scan::schema::TableColumns;
use crate::store::Stores;
use crate::write::{Append, MetricsModes, datum, split_offsets};
use crate::{Error, Result, TableName};

/// Footers that are read at once.
const CONCURRENT_FOOTERS: usize = 16;

/// What was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
}

/// Takes the Parquet files at `source`, a file, a folder or a pattern in a lake, over into a table.
/// They belong to the table from then on. A commit that has begun goes on to its end, whoever waits
/// for it; dropped before, nothing happens.
///
/// # Errors
/// [`Error::NotFound`] without such a table or any file; [`Error::OutsideLakes`]; [`Error::Refused`]
/// naming the file for columns that do not fit the table's, rows of several partitions, and files
/// that belong to the table already; and those of a commit.
pub async fn adopt_files(
    catalogs: &Arc<Catalogs>,
    stores: &Arc<Stores>,
    name: &TableName,
    source: &str,
) -> Result<Adopted> {
    let Some(table) = catalogs.load(name).await? else {
        return Err(catalogs.not_found(name).await);
    };
    let (place, found) = expand_place(stores, source).await?;
    let adoption = Adoption::new(&name.to_string(), &table, stores)?;
    let read = found.into_iter().map(|file| adoption.read(&place, file));
    let read: Vec<Read> = stream::iter(read.collect::<Vec<_>>())
        .buffered(CONCURRENT_FOOTERS)
        .try_collect()
        .await?;
    let adopted = Adopted {
        files: read.len() as u64,
        rows: read.iter().map(|file| file.data.record_count()).sum(),
    };
    let lacks_ids = read.iter().any(|file| !file.has_ids);
    let places = read
        .iter()
        .map(|file| (file.address.clone(), file.data.file_path().to_owned()));
    let change = AddFiles {
        name: name.to_string(),
        stores: Arc::clone(stores),
        places: places.collect(),
        mapping: adoption.new_mapping.filter(|_| lacks_ids),
        append: Append::new(
            &name.to_string(),
            &table,
            read.into_iter().map(|file| file.data).collect(),
        ),
    };
    let (catalogs, name) = (Arc::clone(catalogs), name.clone());
    let table = name.to_string();
    let commit = tokio::spawn(async move {
        match catalogs.change_table(&name, &change).await? {
            Some(_) => Ok(adopted),
            None => Err(catalogs.not_found(&name).await),
        }
    });
    commit.await.unwrap_or_else(|error| {
        let why = error.to_string();
        Err(Error::CommitUnknown { table, why })
    })
}

/// A file that fits.
struct Read {
    data: DataFile,
    address: Address,
    has_ids: bool,
}

/// What files must fit to.
struct Adoption {
    name: String,
    stores: Arc<Stores>,
    schema: SchemaRef,
    /// All schemas that the table has had.
    schemas: Vec<SchemaRef>,
    columns: TableColumns,
    rules: NameRules,
    /// The mapping to add to the table when files have no ids.
    new_mapping: Option<String>,
    spec_id: i32,
    fields: Vec<PartitionField>,
    modes: MetricsModes,
}

impl Adoption {
    fn new(name: &str, table: &Table, stores: &Arc<Stores>) -> Result<Self> {
        let metadata = table.metadata();
        let schema = Arc::clone(metadata.current_schema());
        let given = metadata.properties().get(NAME_MAPPING).cloned();
        let own = mapping_of(schema.as_struct().fields()).to_string();
        let text = given.clone().unwrap_or_else(|| own.clone());
        let mapping: NameMapping = serde_json::from_str(&text).map_err(|error| {
            Error::Refused(format!(
                "table {name}: its property {NAME_MAPPING} is wrong: {error}"
            ))
        })?;
        let spec = metadata.default_partition_spec();
        let order = metadata.default_sort_order();
        let modes = MetricsModes::new(&schema, order, metadata.properties());
        Ok(Self {
            modes: modes.map_err(|why| Error::Refused(format!("table {name} {why}")))?,
            name: name.to_owned(),
            stores: Arc::clone(stores),
            columns: TableColumns::try_new(name, &schema)?,
            schema,
            schemas: metadata.schemas_iter().cloned().collect(),
            rules: NameRules::Mapping(Arc::new(mapping)),
            new_mapping: given.is_none().then_some(own),
            spec_id: spec.spec_id(),
            fields: spec.fields().to_vec(),
        })
    }

    async fn read(&self, place: &Place, file: Found) -> Result<Read> {
        let path = &file.object.location;
        let location = self.stores.location_of(&place.url, path)?;
        let footer = footer(place, &file, &location).await?;
        let refused = |why: String| Error::Refused(format!("file {location}: {why}"));
        let arrow = arrow_schema(&footer).map_err(|error| Error::Corrupt {
            path: location.clone(),
            why: error.to_string(),
        })?;
        let ids = file_fields(&arrow, &self.rules);
        let folders = HiveFolders::of(&file.folders);
        self.check(&arrow, &ids, &folders).map_err(refused)?;
        let mut metrics = Metrics::of(&footer, &arrow, &ids, &self.schema);
        let rows = u64::try_from(footer.file_metadata().num_rows()).unwrap_or_default();
        let partition = self.fields.iter();
        let partition =
            partition.map(|field| self.partition_value(field, &metrics, rows, &folders));
        let partition: Vec<Option<Literal>> =
            partition.collect::<Result<_, String>>().map_err(refused)?;
        metrics.restrict(&self.modes);
        let data = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(location.clone())
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::from_iter(partition))
            .partition_spec_id(self.spec_id)
            .record_count(rows)
            .file_size_in_bytes(file.object.size)
            .column_sizes(metrics.sizes)
            .value_counts(metrics.values)
            .null_value_counts(metrics.nulls)
            .lower_bounds(metrics.lower)
            .upper_bounds(metrics.upper)
            .split_offsets(Some(split_offsets(&footer)))
            .build();
        Ok(Read {
            data: data.map_err(|error| Error::Internal(error.to_string()))?,
            address: (place.url.clone(), path.clone()),
            has_ids: arrow.fields().iter().any(has_id),
        })
    }

    /// Whether the columns of a file are the table's.
    fn check(
        &self,
        file: &ArrowSchema,
        ids: &[FileField],
        folders: &HiveFolders,
    ) -> Result<(), String> {
        for (field, ids) in file.fields().iter().zip(ids) {
            let known = ids.id.and_then(|id| self.schema.field_by_id(id));
            match known {
                None => {
                    return Err(format!(
                        "it has a column {}, which table {} has not",
                        field.name(),
                        self.name
                    ));
                }
                // Ids that another table gave.
                Some(known) if has_id(field) && !self.was_called(known.id, field.name()) => {
                    return Err(format!(
                        "its column {} has the field id of the table's column {}; files with field \
                         ids must have been written for this table",
                        field.name(),
                        known.name
                    ));
                }
                Some(_) => {}
            }
        }
        let sources: Vec<FieldRef> = file.fields().iter().cloned().collect();
        // Columns that stand in the names of folders are read from the partition.
        let mut constants = HashMap::new();
        for field in &self.fields {
            if let Some((column, value)) = self.in_folders(field, folders)? {
                constants.insert(column.id, value);
            }
        }
        let targets = self.columns.arrow.fields().iter();
        for (target, table_ids) in targets.zip(&self.columns.fields) {
            resolve(target, table_ids, &sources, ids, &constants)?;
        }
        Ok(())
    }

    /// Whether a column had a name in one of the table's schemas.
    fn was_called(&self, id: i32, name: &str) -> bool {
        self.schemas.iter().any(|schema| {
            schema
                .field_by_id(id)
                .is_some_and(|field| field.name == name)
        })
    }

    fn column(&self, id: i32) -> Result<(&NestedField, PrimitiveType), String> {
        let field = self.schema.field_by_id(id);
        let field = field.ok_or_else(|| format!("there is no column with field id {id}"))?;
        match field.field_type.as_ref() {
            Type::Primitive(ty) => Ok((field.as_ref(), ty.clone())),
            other => Err(format!("column {} has type {other}", field.name)),
        }
    }

    /// The value of a column that the names of the file's folders give.
    fn in_folders(
        &self,
        field: &PartitionField,
        folders: &HiveFolders,
    ) -> Result<Option<(&NestedField, ScalarValue)>, String> {
        if field.transform != Transform::Identity {
            return Ok(None);
        }
        let (column, _) = self.column(field.source_id)?;
        let Some(text) = folders.value(&column.name) else {
            return Ok(None);
        };
        let arrow = schema_to_arrow_schema(&self.schema).map_err(|error| error.to_string())?;
        let target = arrow.field_with_name(&column.name);
        let target = target.map_err(|error| error.to_string())?;
        let value = ScalarValue::Utf8(text.map(str::to_owned));
        let value = value.cast_to(target.data_type()).map_err(|error| {
            format!(
                "its folder's value of {}: {}",
                column.name,
                error.strip_backtrace()
            )
        })?;
        Ok(Some((column, value)))
    }

    /// The one value that all rows of a file have of a partition field.
    fn partition_value(
        &self,
        field: &PartitionField,
        metrics: &Metrics,
        rows: u64,
        folders: &HiveFolders,
    ) -> Result<Option<Literal>, String> {
        let (column, ty) = self.column(field.source_id)?;
        if field.transform == Transform::Void {
            return Ok(None);
        }
        let id = column.id;
        let several = || {
            format!(
                "its rows belong to several partitions by {} ({} of column {}), or its statistics do \
                 not say to which; a file can be taken over into one partition only",
                field.name, field.transform, column.name
            )
        };
        if !metrics.values.contains_key(&id) {
            return match self.in_folders(field, folders)? {
                Some((_, value)) if value.is_null() => Ok(None),
                Some((_, value)) => {
                    let value = datum(&value, &ty).ok_or_else(several)?;
                    Ok(Some(Literal::Primitive(value.literal().clone())))
                }
                // The column is missing, and NULL in every row.
                None if column.initial_default.is_none() => Ok(None),
                None => Err(several()),
            };
        }
        let nulls = metrics.nulls.get(&id).copied();
        if nulls == Some(rows) {
            return Ok(None);
        }
        // Bounds say nothing about NaN.
        let floating = matches!(ty, PrimitiveType::Float | PrimitiveType::Double);
        let (lower, upper) = match (metrics.lower.get(&id), metrics.upper.get(&id)) {
            (Some(lower), Some(upper)) if nulls == Some(0) && !floating => (lower, upper),
            _ => return Err(several()),
        };
        let ordered = !matches!(field.transform, Transform::Bucket(_));
        if lower != upper && !ordered {
            return Err(several());
        }
        let transform = create_transform_function(&field.transform);
        let transform = transform.map_err(|error| error.to_string())?;
        let apply = |value: &Datum| {
            let value = transform.transform_literal(value);
            value.map_err(|error| error.to_string())
        };
        match (apply(lower)?, apply(upper)?) {
            (Some(from), Some(to)) if from == to => {
                Ok(Some(Literal::Primitive(from.literal().clone())))
            }
            _ => Err(several()),
        }
    }
}

/// Whether a column of a file has a field id of its own.
fn has_id(field: &FieldRef) -> bool {
    let key = parquet::arrow::PARQUET_FIELD_ID_META_KEY;
    field.metadata().contains_key(key)
}

async fn footer(place: &Place, file: &Found, location: &str) -> Result<Arc<ParquetMetaData>> {
    let path = file.object.location.clone();
    let mut reader =
        ParquetObjectReader::new(Arc::clone(&place.store), path).with_file_size(file.object.size);
    let corrupt = |why: String| Error::Corrupt {
        path: location.to_owned(),
        why,
    };
    let loaded = ArrowReaderMetadata::load_async(&mut reader, Default::default());
    // The reader of footers believes what a broken one says of its length.
    match AssertUnwindSafe(loaded).catch_unwind().await {
        Ok(Ok(loaded)) => Ok(Arc::clone(loaded.metadata())),
        Ok(Err(error)) => {
            Err(Error::in_chain(&error).unwrap_or_else(|| corrupt(error.to_string())))
        }
        Err(_) => Err(corrupt("its footer is broken".to_owned())),
    }
}

/// The names of columns as the specification's name mapping has them.
fn mapping_of(fields: &[iceberg::spec::NestedFieldRef]) -> Value {
    Value::Array(fields.iter().map(|field| mapped(field)).collect())
}

/// The append of the files, and the name mapping that they need.
struct AddFiles {
    name: String,
    stores: Arc<Stores>,
    /// Where the files are, and how they are called.
    places: BTreeMap<Address, String>,
    mapping: Option<String>,
    append: Append,
}

impl AddFiles {
    /// Refuses files that belong to the table already: their rows would be there twice.
    async fn refuse_known(&self, table: &Table) -> Result<()> {
        let metadata = table.metadata();
        let Some(snapshot) = metadata.current_snapshot() else {
            return Ok(());
        };
        let cache = ManifestCache::new(0);
        let specs = PartitionSpecs::of(metadata);
        for manifest in cache.manifest_list(table, snapshot).await?.iter() {
            let spec = specs.of_manifest(&self.name, manifest)?;
            let io = table.file_io();
            let decoded = cache
                .manifest_with(io, manifest, spec, Entries::Live)
                .await?;
            for entry in &decoded.entries {
                let known = self.stores.address(&entry.path).ok();
                if let Some(location) = known.and_then(|place| self.places.get(&place)) {
                    return Err(Error::Refused(format!(
                        "file {location} belongs to table {} already",
                        self.name
                    )));
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Change for AddFiles {
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        self.refuse_known(table).await?;
        let mut updates = Vec::new();
        let has_mapping = table.metadata().properties().contains_key(NAME_MAPPING);
        if let Some(mapping) = self.mapping.as_ref().filter(|_| !has_mapping) {
            updates.push(TableUpdate::SetProperties {
                updates: HashMap::from([(NAME_MAPPING.to_owned(), mapping.clone())]),
            });
        }
        updates.extend(self.append.updates(table).await?);
        Ok(updates)
    }

    fn unused(&self, committed: bool) -> Vec<String> {
        self.append.unused(committed)
    }
}
