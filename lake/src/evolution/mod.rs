//! Changing the definition of a table: its columns, properties, partitioning and order, by the rules of
//! the specification's sections "Schema Evolution" and "Partition Evolution".
//!
//! ```text
//! alterations -> a draft of the table as it is now, changed by one after another -> updates
//! ```

mod columns;
mod identifiers;
mod mapping;
mod order;
mod partitions;
mod path;
mod promotion;
mod properties;
mod tree;

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, NestedField, NestedFieldRef, NullOrder, PartitionField, Schema, SortDirection,
    SortOrder, TableMetadata, Transform, Type,
};
use iceberg::table::Table;

pub(crate) use self::mapping::{NAME_MAPPING, mapped};
pub use self::path::FieldPath;
pub(crate) use self::promotion::is_promotion;
use crate::catalog::Change;
use crate::{Error, Result};

/// The id that stands for the schema, spec or order just added.
const LAST_ADDED: i32 = -1;

/// One change of a definition.
#[derive(Clone, Debug)]
pub enum Alteration {
    /// Sets properties; `format-version` raises the version.
    SetProperties(HashMap<String, String>),
    /// Removes properties.
    UnsetProperties {
        /// Their names.
        keys: Vec<String>,
        /// Whether they may be missing.
        if_exists: bool,
    },
    /// Adds a column, or a field to a struct. Field ids of its type are given anew.
    AddColumn {
        /// The struct, or the list or map of structs; none for a column of the table.
        parent: FieldPath,
        /// The column.
        field: NestedField,
        /// Whether a column of that name may be there.
        if_not_exists: bool,
        /// Where; at the end by default.
        place: Option<Place>,
    },
    /// Drops a column.
    DropColumn {
        /// Its name.
        name: FieldPath,
        /// Whether it may be missing.
        if_exists: bool,
    },
    /// Renames a column.
    RenameColumn {
        /// Its name.
        from: FieldPath,
        /// The last part of its new name.
        to: String,
    },
    /// Moves a column among its siblings.
    MoveColumn {
        /// Its name.
        name: FieldPath,
        /// Where.
        place: Place,
    },
    /// Gives a column a wider type.
    Promote {
        /// Its name.
        name: FieldPath,
        /// The type.
        ty: Type,
    },
    /// Forbids NULL in a column of a table that never had rows.
    SetNotNull {
        /// Its name.
        name: FieldPath,
    },
    /// Lets a column be NULL.
    DropNotNull {
        /// Its name.
        name: FieldPath,
    },
    /// Sets or removes a column's comment.
    Comment {
        /// Its name.
        name: FieldPath,
        /// The comment.
        text: Option<String>,
    },
    /// Says which columns identify rows, and no others.
    SetIdentifierFields(Vec<FieldPath>),
    /// Takes columns out of those that identify rows.
    DropIdentifierFields(Vec<FieldPath>),
    /// Sorts the rows of files that are written from now on; not at all without keys.
    SetSortOrder(Vec<SortKey>),
    /// Partitions files that are written from now on by one more field.
    AddPartitionField {
        /// What it is derived from.
        key: PartitionKey,
        /// Its name; made of the column's and the transform's by default.
        name: Option<String>,
    },
    /// Partitions files that are written from now on by a field less.
    DropPartitionField(PartitionChoice),
    /// Partitions files that are written from now on by another field.
    ReplacePartitionField {
        /// The field that goes.
        old: PartitionChoice,
        /// What the new one is derived from.
        key: PartitionKey,
        /// Its name, as with [`Alteration::AddPartitionField`].
        name: Option<String>,
    },
}

/// A key of a sort order.
#[derive(Clone, Debug)]
pub struct SortKey {
    /// The column's full name.
    pub column: String,
    /// What of its values is sorted.
    pub transform: Transform,
    /// Smallest or largest first.
    pub direction: SortDirection,
    /// Where NULLs are.
    pub nulls: NullOrder,
}

/// What a partition field is derived from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionKey {
    /// The column's full name.
    pub column: String,
    /// What of its values makes the partition.
    pub transform: Transform,
}

/// A partition field that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionChoice {
    /// By its own name, or that of the column that it is.
    Name(String),
    /// By what it is derived from.
    Key(PartitionKey),
}

/// Where a column goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all others.
    First,
    /// Behind the sibling of this name.
    After(String),
}

/// Changes of a definition, made one after another and all at once.
#[derive(Clone, Debug)]
pub struct Alterations(pub Vec<Alteration>);

#[async_trait]
impl Change for Alterations {
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Exists`] name the column, partition field or property;
    /// [`Error::Conflict`] says why the table cannot be changed so.
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        updates(table.metadata(), &self.0)
    }
}

fn updates(metadata: &TableMetadata, alterations: &[Alteration]) -> Result<Vec<TableUpdate>> {
    let mut draft = Draft::of(metadata);
    for alteration in alterations {
        draft.apply(alteration)?;
    }
    draft.finish()
}

/// A table's definition on the way.
struct Draft<'a> {
    metadata: &'a TableMetadata,
    fields: Vec<NestedFieldRef>,
    /// Ids of the columns that identify rows.
    identifiers: BTreeSet<i32>,
    last_id: i32,
    spec: Vec<PartitionField>,
    last_partition_id: i32,
    /// New values; none for properties that are removed.
    properties: HashMap<String, Option<String>>,
    version: Option<FormatVersion>,
    order: Option<SortOrder>,
}

impl<'a> Draft<'a> {
    fn of(metadata: &'a TableMetadata) -> Self {
        let schema = metadata.current_schema();
        Self {
            metadata,
            fields: schema.as_struct().fields().to_vec(),
            identifiers: schema.identifier_field_ids().collect(),
            last_id: metadata.last_column_id(),
            spec: metadata.default_partition_spec().fields().to_vec(),
            last_partition_id: partitions::last_id(metadata),
            properties: HashMap::new(),
            version: None,
            order: None,
        }
    }

    fn apply(&mut self, alteration: &Alteration) -> Result<()> {
        use Alteration as A;
        match alteration {
            A::SetProperties(properties) => self.set_properties(properties),
            A::UnsetProperties { keys, if_exists } => self.unset_properties(keys, *if_exists),
            A::AddColumn {
                parent,
                field,
                if_not_exists,
                place,
            } => self.add(parent, field, *if_not_exists, place.as_ref()),
            A::DropColumn { name, if_exists } => self.drop(name, *if_exists),
            A::RenameColumn { from, to } => self.rename(from, to),
            A::MoveColumn { name, place } => self.move_to(name, place),
            A::Promote { name, ty } => self.promote(name, ty),
            A::SetNotNull { name } => self.set_not_null(name),
            A::DropNotNull { name } => self.drop_not_null(name),
            A::Comment { name, text } => {
                let spot = self.locate(name)?;
                self.change(&spot, |field| field.doc.clone_from(text));
                Ok(())
            }
            A::SetIdentifierFields(names) => self.set_identifiers(names),
            A::DropIdentifierFields(names) => self.drop_identifiers(names),
            A::SetSortOrder(keys) => self.set_order(keys),
            A::AddPartitionField { key, name } => self.add_partition(key, name.as_deref()),
            A::DropPartitionField(choice) => self.drop_partition(choice),
            A::ReplacePartitionField { old, key, name } => {
                self.replace_partition(old, key, name.as_deref())
            }
        }
    }

    /// The format version that the table will have.
    fn version(&self) -> FormatVersion {
        self.version.unwrap_or(self.metadata.format_version())
    }

    /// The schema that the table will have.
    fn schema(&self) -> Result<Schema> {
        Schema::builder()
            .with_fields(self.fields.clone())
            .with_identifier_field_ids(self.identifiers.iter().copied())
            .build()
            .map_err(|error| Error::Conflict(error.message().to_owned()))
    }

    fn finish(self) -> Result<Vec<TableUpdate>> {
        let mut updates = vec![];
        if let Some(format_version) = self.version {
            updates.push(TableUpdate::UpgradeFormatVersion { format_version });
        }
        let before = self.metadata.current_schema();
        let same_identifiers =
            before.identifier_field_ids().collect::<BTreeSet<_>>() == self.identifiers;
        if before.as_struct().fields() != self.fields || !same_identifiers {
            let schema = self.schema()?;
            updates.push(TableUpdate::AddSchema { schema });
            updates.push(TableUpdate::SetCurrentSchema {
                schema_id: LAST_ADDED,
            });
        }
        updates.extend(self.spec_updates()?);
        if let Some(sort_order) = &self.order
            && sort_order.fields != self.metadata.default_sort_order().fields
        {
            updates.push(TableUpdate::AddSortOrder {
                sort_order: sort_order.clone(),
            });
            updates.push(TableUpdate::SetDefaultSortOrder {
                sort_order_id: i64::from(LAST_ADDED),
            });
        }
        updates.extend(self.property_updates());
        Ok(updates)
    }
}
