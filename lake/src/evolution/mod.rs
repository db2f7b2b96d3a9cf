//! Changing the definition of a table: its columns and properties, by the rules of the
//! specification's section "Schema Evolution".

mod columns;
mod mapping;
mod order;
mod promotion;
mod properties;
mod tree;

use std::collections::HashMap;

use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, NestedField, NestedFieldRef, NullOrder, Schema, SortDirection, SortOrder,
    TableMetadata, Transform, Type,
};
use iceberg::table::Table;
use serde_json::Value;

pub(crate) use self::mapping::{NAME_MAPPING, mapped};
use self::promotion::check_promotion;
pub(crate) use self::promotion::is_promotion;
use crate::catalog::Change;
use crate::{Error, Result};

/// The id that stands for the schema just added.
const LAST_ADDED: i32 = -1;

/// One change of a definition.
#[derive(Clone, Debug)]
pub enum Alteration {
    /// Sets properties; `format-version` raises the version.
    SetProperties(HashMap<String, String>),
    /// Adds a column. Field ids of its type are given anew.
    AddColumn {
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
        name: String,
        /// Whether it may be missing.
        if_exists: bool,
    },
    /// Renames a column.
    RenameColumn {
        /// Its name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// Gives a column a wider type.
    Promote {
        /// Its name.
        name: String,
        /// The type.
        ty: Type,
    },
    /// Lets a column be NULL.
    DropNotNull {
        /// Its name.
        name: String,
    },
    /// Sets or removes a column's comment.
    Comment {
        /// Its name.
        name: String,
        /// The comment.
        text: Option<String>,
    },
    /// Sorts the rows of files that are written from now on; not at all without keys.
    SetSortOrder(Vec<SortKey>),
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

/// Where a column goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all others.
    First,
    /// Behind the one of this name.
    After(String),
}

/// Changes of a definition, made one after another and all at once.
#[derive(Clone, Debug)]
pub struct Alterations(pub Vec<Alteration>);

#[async_trait]
impl Change for Alterations {
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Exists`] name the column; [`Error::Conflict`] says why the
    /// table cannot be changed so.
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        let mut draft = Draft::of(table.metadata())?;
        for alteration in &self.0 {
            draft.apply(alteration)?;
        }
        draft.finish()
    }
}

/// A table's definition on the way.
struct Draft<'a> {
    metadata: &'a TableMetadata,
    fields: Vec<NestedFieldRef>,
    changed: bool,
    last_id: i32,
    properties: HashMap<String, String>,
    version: Option<FormatVersion>,
    mapping: Option<Value>,
    order: Option<SortOrder>,
}

impl<'a> Draft<'a> {
    fn of(metadata: &'a TableMetadata) -> Result<Self> {
        let mapping = metadata.properties().get(NAME_MAPPING);
        let mapping = mapping.map(|json| serde_json::from_str(json)).transpose();
        let mapping = mapping.map_err(|error| {
            Error::Conflict(format!(
                "the table's property {NAME_MAPPING} is wrong: {error}"
            ))
        })?;
        Ok(Self {
            metadata,
            fields: metadata.current_schema().as_struct().fields().to_vec(),
            changed: false,
            last_id: metadata.last_column_id(),
            properties: HashMap::new(),
            version: None,
            mapping,
            order: None,
        })
    }

    fn apply(&mut self, alteration: &Alteration) -> Result<()> {
        match alteration {
            Alteration::SetProperties(properties) => return self.set_properties(properties),
            Alteration::SetSortOrder(keys) => return self.set_order(keys),
            Alteration::AddColumn {
                field,
                if_not_exists,
                place,
            } => return self.add(field, *if_not_exists, place.as_ref()),
            Alteration::DropColumn { name, if_exists } => return self.drop(name, *if_exists),
            Alteration::RenameColumn { from, to } => return self.rename(from, to),
            Alteration::Promote { name, ty } => {
                let at = self.place_of(name)?;
                let field = self.fields[at].as_ref();
                check_promotion(field, ty)?;
                let unchanged = field.field_type.as_ref() == ty;
                if unchanged {
                    return Ok(());
                }
                self.change(at, |field| *field.field_type = ty.clone());
            }
            Alteration::DropNotNull { name } => {
                let at = self.place_of(name)?;
                let id = self.fields[at].id;
                let mut identifiers = self.metadata.current_schema().identifier_field_ids();
                if identifiers.any(|identifier| identifier == id) {
                    return Err(Error::Conflict(format!(
                        "column {name} identifies rows, so it cannot be NULL"
                    )));
                }
                self.change(at, |field| field.required = false);
            }
            Alteration::Comment { name, text } => {
                let at = self.place_of(name)?;
                self.change(at, |field| field.doc.clone_from(text));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<TableUpdate>> {
        let mut updates = vec![];
        if let Some(format_version) = self.version {
            updates.push(TableUpdate::UpgradeFormatVersion { format_version });
        }
        if self.changed {
            let schema = Schema::builder()
                .with_fields(self.fields)
                .with_identifier_field_ids(self.metadata.current_schema().identifier_field_ids())
                .build()
                .map_err(|error| Error::Conflict(error.message().to_owned()))?;
            updates.push(TableUpdate::AddSchema { schema });
            updates.push(TableUpdate::SetCurrentSchema {
                schema_id: LAST_ADDED,
            });
        }
        if let Some(sort_order) = self.order
            && sort_order.fields != self.metadata.default_sort_order().fields
        {
            updates.push(TableUpdate::AddSortOrder { sort_order });
            updates.push(TableUpdate::SetDefaultSortOrder {
                sort_order_id: i64::from(LAST_ADDED),
            });
        }
        let known = self.metadata.properties();
        self.properties
            .retain(|key, value| known.get(key) != Some(value));
        if !self.properties.is_empty() {
            updates.push(TableUpdate::SetProperties {
                updates: self.properties,
            });
        }
        Ok(updates)
    }
}
