//! What a writer has to know of its table.

use std::collections::{BTreeSet, HashMap};

use datafusion::execution::object_store::ObjectStoreUrl;
use iceberg::spec::{
    FormatVersion, PartitionSpec, Schema, SchemaRef, SortOrder, StructType, TableMetadata,
};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

use super::options::{Distribution, WriteOptions};
use super::partitions::path_of;
use crate::store::Stores;
use crate::{Error, Result};

/// Property with the folder of data files, where it is not the table's own `data`.
const DATA_PATH: &str = "write.data.path";

/// Properties that writers heed begin so.
const WRITE_PREFIX: &str = "write.";

/// The table that rows are written for, as one statement found it. It travels to workers, so it
/// holds neither secrets nor history.
#[derive(Clone, Debug)]
pub struct WriteTarget {
    /// The table's full name, for messages.
    pub table: String,
    /// The schema of the rows.
    pub schema: SchemaRef,
    /// How files are partitioned.
    pub spec: Arc<PartitionSpec>,
    /// The type of partitions of `spec`.
    pub partition_type: StructType,
    /// How rows are sorted within a file.
    pub sort_order: Arc<SortOrder>,
    /// The table's format version.
    pub format_version: FormatVersion,
    /// How files are written.
    pub options: WriteOptions,
    /// Names of all files of one statement begin with this, so that they are found again when the
    /// statement fails.
    pub statement: Uuid,
    /// The folder of the files, as the table spells it.
    pub folder: String,
    /// The store of the folder.
    pub store: ObjectStoreUrl,
    /// The folder in its store.
    pub path: Path,
    /// Whether rows come with the range they belong to, behind the table's columns: see
    /// [`super::ranges`].
    pub is_ranged: bool,
    properties: HashMap<String, String>,
}

impl WriteTarget {
    /// Rows for a table as its metadata is now.
    ///
    /// # Errors
    /// [`Error::Refused`] for properties that cannot be heeded, [`Error::OutsideLakes`] for a folder
    /// outside the lakes.
    pub fn new(table: &str, metadata: &TableMetadata, stores: &Stores) -> Result<Self> {
        let properties = metadata.properties().iter();
        let properties = properties.filter(|(key, _)| key.starts_with(WRITE_PREFIX));
        let folder = data_folder(metadata);
        let (_, path, store) = stores.resolve(&folder)?;
        let message = Message {
            table: table.to_owned(),
            schema: metadata.current_schema().as_ref().clone(),
            spec: metadata.default_partition_spec().as_ref().clone(),
            sort_order: metadata.default_sort_order().as_ref().clone(),
            format_version: metadata.format_version(),
            properties: properties.map(|(k, v)| (k.clone(), v.clone())).collect(),
            statement: Uuid::new_v4(),
            folder,
            store: store.as_str().to_owned(),
            path: path.to_string(),
            is_ranged: false,
        };
        message.open()
    }

    /// The target for a worker.
    ///
    /// # Errors
    /// [`Error::Internal`] in practice never.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let message = Message {
            table: self.table.clone(),
            schema: self.schema.as_ref().clone(),
            spec: self.spec.as_ref().clone(),
            sort_order: self.sort_order.as_ref().clone(),
            format_version: self.format_version,
            properties: self.properties.clone(),
            statement: self.statement,
            folder: self.folder.clone(),
            store: self.store.as_str().to_owned(),
            path: self.path.to_string(),
            is_ranged: self.is_ranged,
        };
        serde_json::to_vec(&message).map_err(|error| invalid(&error))
    }

    /// What [`WriteTarget::encode`] made.
    ///
    /// # Errors
    /// [`Error::Internal`] for other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let message: Message = serde_json::from_slice(bytes).map_err(|error| invalid(&error))?;
        message.open()
    }

    /// Whether rows come to a file in the order of its partitions, so that a partition is done once
    /// another one begins.
    pub fn is_clustered(&self) -> bool {
        !self.sort_order.is_unsorted()
    }

    /// Whether rows of one partition go to one writer, unless they go by ranges.
    pub fn is_distributed(&self) -> bool {
        !self.spec.is_unpartitioned() && self.options.distribution != Distribution::None
    }

    /// Whether rows are to be dealt out by ranges of their order.
    pub fn wants_ranges(&self) -> bool {
        let has_order = !self.spec.is_unpartitioned() || !self.sort_order.is_unsorted();
        has_order && self.options.distribution == Distribution::Range
    }

    /// The places of the columns that partitions and the sort order are made of.
    pub fn order_columns(&self) -> BTreeSet<usize> {
        let partitions = self.spec.fields().iter().map(|field| field.source_id);
        let keys = self.sort_order.fields.iter().map(|field| field.source_id);
        let paths = partitions.chain(keys).map(|id| path_of(&self.schema, id));
        let places = paths.flatten().map(|path| path.first().copied());
        places.flatten().collect()
    }

    /// The target for rows that come with their range.
    #[must_use]
    pub fn ranged(&self) -> Self {
        let is_ranged = true;
        Self {
            is_ranged,
            ..self.clone()
        }
    }
}

fn invalid(error: &dyn std::fmt::Display) -> Error {
    Error::Internal(format!("a write target does not travel: {error}"))
}

fn data_folder(metadata: &TableMetadata) -> String {
    let own = || format!("{}/data", metadata.location().trim_end_matches('/'));
    let given = metadata.properties().get(DATA_PATH);
    given.map_or_else(own, |path| path.trim_end_matches('/').to_owned())
}

/// A target on its way to a worker.
#[derive(Serialize, Deserialize)]
struct Message {
    table: String,
    schema: Schema,
    spec: PartitionSpec,
    sort_order: SortOrder,
    format_version: FormatVersion,
    properties: HashMap<String, String>,
    statement: Uuid,
    folder: String,
    store: String,
    path: String,
    is_ranged: bool,
}

impl Message {
    fn open(self) -> Result<WriteTarget> {
        let partition_type = self.spec.partition_type(&self.schema);
        let partition_type = partition_type.map_err(|error| {
            Error::Refused(format!("table {}: {}", self.table, error.message()))
        })?;
        Ok(WriteTarget {
            options: WriteOptions::new(
                &self.table,
                &self.schema,
                &self.spec,
                &self.sort_order,
                &self.properties,
            )?,
            table: self.table,
            schema: Arc::new(self.schema),
            spec: Arc::new(self.spec),
            partition_type,
            sort_order: Arc::new(self.sort_order),
            format_version: self.format_version,
            statement: self.statement,
            store: ObjectStoreUrl::parse(&self.store).map_err(|error| invalid(&error))?,
            path: Path::parse(&self.path).map_err(|error| invalid(&error))?,
            folder: self.folder,
            is_ranged: self.is_ranged,
            properties: self.properties,
        })
    }
}
