//! `CREATE OR REPLACE TABLE`: a table gets a new definition and new rows in one commit, and keeps its
//! identity and its history.
//!
//! As Iceberg's replace-table transaction does it: a column whose full name was there before keeps its
//! field id, others get ids that were never used; properties that are not given stay; branches and
//! tags other than `main` stay, as do all snapshots. A column whose new type cannot read the old values
//! gets a new id too, so that files which another writer adds late are not read as what they are not.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::spec::{
    FormatVersion, ListType, MAIN_BRANCH, MapType, NestedField, NestedFieldRef, Schema, SortField,
    SortOrder, StructType, TableMetadata, Type, UnboundPartitionSpec,
};
use iceberg::table::Table;
use iceberg::{TableCreation, TableUpdate};

use super::commit::{Change, built};
use super::{Catalogs, metadata};
use crate::{Error, Result, TableName};

/// The id that stands for the schema, spec or order just added.
const LAST_ADDED: i32 = -1;

/// How often a table may appear and vanish while it is being replaced.
const ROUNDS: usize = 3;

/// What a table becomes.
#[derive(Clone, Debug)]
pub struct Replacement {
    table: TableName,
    location: Option<String>,
    schema: Schema,
    spec: Option<UnboundPartitionSpec>,
    order: Option<SortOrder>,
    properties: HashMap<String, String>,
    /// Of a table that is not there yet.
    new_version: FormatVersion,
    /// Of a table that is; its own when absent.
    version: Option<FormatVersion>,
}

impl Replacement {
    /// Takes over the definition of a table. `version` is the format version, where it is given.
    pub fn new(table: TableName, creation: TableCreation, version: Option<FormatVersion>) -> Self {
        Self {
            table,
            location: creation.location,
            schema: creation.schema,
            spec: creation.partition_spec,
            order: creation.sort_order,
            properties: creation.properties,
            new_version: creation.format_version,
            version,
        }
    }

    /// The definition of the table where there is none of its name.
    pub fn creation(&self) -> TableCreation {
        TableCreation {
            name: self.table.table.clone(),
            location: self.location.clone(),
            schema: self.schema.clone(),
            partition_spec: self.spec.clone(),
            sort_order: self.order.clone(),
            properties: self.properties.clone(),
            format_version: self.new_version,
        }
    }

    /// A table as it will be, without rows, so that its rows can be written.
    ///
    /// # Errors
    /// [`Error::Conflict`] says why the table cannot become that.
    pub fn staged(&self, table: &Table) -> Result<Table> {
        let updates = self.of(table.metadata())?;
        let built = built(&self.table, table.metadata(), None, updates)?;
        let (ident, metadata) = (self.table.to_ident()?, built.metadata.into());
        metadata::table(ident, metadata, None, table.file_io())
    }

    /// The updates of a table that is there.
    fn of(&self, base: &TableMetadata) -> Result<Vec<TableUpdate>> {
        let mut updates = Vec::new();
        let version = self.version.unwrap_or(base.format_version());
        if version < base.format_version() {
            return Err(self.refused(&format!(
                "its format version is {} and cannot be lowered",
                base.format_version()
            )));
        }
        if version > base.format_version() {
            updates.push(TableUpdate::UpgradeFormatVersion {
                format_version: version,
            });
        }
        if base.snapshot_for_ref(MAIN_BRANCH).is_some() {
            updates.push(TableUpdate::RemoveSnapshotRef {
                ref_name: MAIN_BRANCH.to_owned(),
            });
        }
        let mut ids = Ids::of(base);
        let schema = self.renumbered(&mut ids)?;
        let spec = self.bound_spec(&ids)?.with_spec_id(new_spec_id(base));
        if version == FormatVersion::V1 {
            self.check_version_1(base, &spec)?;
        }
        updates.extend([
            TableUpdate::AddSchema { schema },
            TableUpdate::SetCurrentSchema {
                schema_id: LAST_ADDED,
            },
            TableUpdate::AddSpec { spec },
            TableUpdate::SetDefaultSpec {
                spec_id: LAST_ADDED,
            },
            TableUpdate::AddSortOrder {
                sort_order: self.bound_order(&ids),
            },
            TableUpdate::SetDefaultSortOrder {
                sort_order_id: i64::from(LAST_ADDED),
            },
        ]);
        if let Some(location) = self.location.clone().filter(|l| l != base.location()) {
            updates.push(TableUpdate::SetLocation { location });
        }
        if !self.properties.is_empty() {
            updates.push(TableUpdate::SetProperties {
                updates: self.properties.clone(),
            });
        }
        Ok(updates)
    }

    fn renumbered(&self, ids: &mut Ids<'_>) -> Result<Schema> {
        let fields = ids.fields("", self.schema.as_struct().fields());
        let identifiers = self.schema.identifier_field_ids();
        let identifiers: Vec<i32> = identifiers.filter_map(|id| ids.now(id)).collect();
        Schema::builder()
            .with_fields(fields)
            .with_identifier_field_ids(identifiers)
            .build()
            .map_err(|error| self.refused(error.message()))
    }

    fn bound_spec(&self, ids: &Ids<'_>) -> Result<UnboundPartitionSpec> {
        let mut spec = UnboundPartitionSpec::builder();
        for field in self.spec.iter().flat_map(|spec| spec.fields()) {
            let source = ids.now(field.source_id).unwrap_or(field.source_id);
            spec = spec
                .add_partition_field(source, field.name.clone(), field.transform)
                .map_err(|error| self.refused(error.message()))?;
        }
        Ok(spec.build())
    }

    fn bound_order(&self, ids: &Ids<'_>) -> SortOrder {
        let Some(order) = &self.order else {
            return SortOrder::unsorted_order();
        };
        let fields = order.fields.iter().map(|field| SortField {
            source_id: ids.now(field.source_id).unwrap_or(field.source_id),
            ..field.clone()
        });
        SortOrder {
            order_id: order.order_id,
            fields: fields.collect(),
        }
    }

    /// Manifests of version 1 name the fields of a partition by their places, so none may go
    /// (specification, "Partition Evolution").
    fn check_version_1(&self, base: &TableMetadata, spec: &UnboundPartitionSpec) -> Result<()> {
        let before = base.default_partition_spec().fields();
        let same = before.len() == spec.fields().len()
            && before.iter().zip(spec.fields()).all(|(a, b)| {
                (a.source_id, &a.transform, &a.name) == (b.source_id, &b.transform, &b.name)
            });
        match before.is_empty() || same {
            true => Ok(()),
            false => Err(self.refused(
                "its format version is 1, which cannot be partitioned anew; raise it with \
                 TBLPROPERTIES ('format-version' = '2')",
            )),
        }
    }

    fn refused(&self, why: &str) -> Error {
        Error::Conflict(format!("table {} cannot be replaced: {why}", self.table))
    }
}

#[async_trait]
impl Change for Replacement {
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        self.of(table.metadata())
    }
}

/// A replacement, and the rows that the table has afterwards.
pub struct ReplacementWithRows {
    replacement: Replacement,
    staged: Table,
    rows: Box<dyn Change>,
}

impl ReplacementWithRows {
    /// `rows` adds files that were written for `staged`, a table of [`Replacement::staged`].
    pub fn new(replacement: Replacement, staged: Table, rows: Box<dyn Change>) -> Self {
        Self {
            replacement,
            staged,
            rows,
        }
    }
}

#[async_trait]
impl Change for ReplacementWithRows {
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        let staged = self.replacement.staged(table)?;
        let (now, then) = (staged.metadata(), self.staged.metadata());
        let same = now.uuid() == then.uuid()
            && now.current_schema().as_struct() == then.current_schema().as_struct()
            && now.default_partition_spec() == then.default_partition_spec();
        if !same {
            // The files that were written have other field ids.
            return Err(Error::Conflict(format!(
                "table {} was defined anew by another writer while rows were written for its \
                 replacement; run the statement again",
                self.replacement.table
            )));
        }
        let mut updates = self.replacement.of(table.metadata())?;
        updates.extend(self.rows.updates(&staged).await?);
        Ok(updates)
    }

    fn unused(&self, committed: bool) -> Vec<String> {
        self.rows.unused(committed)
    }
}

impl Catalogs {
    /// Replaces a table by one without rows, or makes it.
    ///
    /// # Errors
    /// As [`Catalogs::change_table`] and [`Catalogs::create_table`].
    pub async fn create_or_replace_table(&self, replacement: &Replacement) -> Result<Table> {
        let name = &replacement.table;
        for _ in 0..ROUNDS {
            if let Some(table) = self.change_table(name, replacement).await? {
                return Ok(table);
            }
            if let Some(table) = self.create_table(name, replacement.creation()).await? {
                return Ok(table);
            }
        }
        Err(Error::Conflict(format!(
            "table {name} was made and dropped by other writers meanwhile; run the statement again"
        )))
    }
}

/// The id of a spec that is added. Services read it, and may give another.
fn new_spec_id(base: &TableMetadata) -> i32 {
    let ids = base.partition_specs_iter().map(|spec| spec.spec_id());
    ids.max().map_or(0, |id| id.saturating_add(1))
}

/// Field ids: those that the columns had before, by their full names, and new ones.
struct Ids<'a> {
    base: &'a Schema,
    last: i32,
    now: HashMap<i32, i32>,
}

impl<'a> Ids<'a> {
    fn of(base: &'a TableMetadata) -> Self {
        Self {
            base: base.current_schema(),
            last: base.last_column_id(),
            now: HashMap::new(),
        }
    }

    fn now(&self, id: i32) -> Option<i32> {
        self.now.get(&id).copied()
    }

    fn give(&mut self, path: &str, field: &NestedField) {
        let known = self.base.field_by_name(path);
        let known = known.filter(|known| readable(&known.field_type, &field.field_type));
        let id = known.map(|known| known.id).unwrap_or_else(|| {
            self.last += 1;
            self.last
        });
        self.now.insert(field.id, id);
    }

    /// The fields below `path` with their ids, those of one level before those inside.
    fn fields(&mut self, path: &str, fields: &[NestedFieldRef]) -> Vec<NestedFieldRef> {
        let full = |field: &NestedField| match path {
            "" => field.name.clone(),
            path => format!("{path}.{}", field.name),
        };
        for field in fields {
            self.give(&full(field), field);
        }
        fields
            .iter()
            .map(|field| {
                let ty = self.ty(&full(field), &field.field_type);
                Arc::new(NestedField {
                    id: self.now(field.id).unwrap_or(field.id),
                    field_type: Box::new(ty),
                    ..field.as_ref().clone()
                })
            })
            .collect()
    }

    fn ty(&mut self, path: &str, ty: &Type) -> Type {
        match ty {
            Type::Primitive(primitive) => Type::Primitive(primitive.clone()),
            Type::Struct(inner) => Type::Struct(StructType::new(self.fields(path, inner.fields()))),
            Type::List(list) => {
                let element = self.fields(path, std::slice::from_ref(&list.element_field));
                let element = element.into_iter().next();
                Type::List(ListType::new(
                    element.unwrap_or_else(|| Arc::clone(&list.element_field)),
                ))
            }
            Type::Map(map) => {
                let entry = [Arc::clone(&map.key_field), Arc::clone(&map.value_field)];
                let mut entry = self.fields(path, &entry).into_iter();
                let key = entry.next().unwrap_or_else(|| Arc::clone(&map.key_field));
                let value = entry.next();
                let value = value.unwrap_or_else(|| Arc::clone(&map.value_field));
                Type::Map(MapType::new(key, value))
            }
        }
    }
}

/// Whether values of a type can be read as another one, what is inside them aside.
fn readable(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (Type::Primitive(_), Type::Primitive(_)) => crate::evolution::is_promotion(from, to),
        (Type::Struct(_), Type::Struct(_))
        | (Type::List(_), Type::List(_))
        | (Type::Map(_), Type::Map(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn known_names_keep_their_ids_and_new_ones_are_never_used_before() {
        let schema = |fields: serde_json::Value| -> Schema {
            serde_json::from_value(json!({"type": "struct", "schema-id": 0, "fields": fields}))
                .unwrap()
        };
        let base = schema(json!([
            {"id": 1, "name": "a", "required": true, "type": "long"},
            {"id": 2, "name": "s", "required": false, "type": {"type": "struct", "fields": [
                {"id": 4, "name": "x", "required": false, "type": "int"}]}},
            {"id": 3, "name": "l", "required": false, "type": {
                "type": "list", "element-id": 5, "element": "int", "element-required": false}},
        ]));
        let mut ids = Ids {
            base: &base,
            last: 9,
            now: HashMap::new(),
        };
        let new = schema(json!([
            {"id": 1, "name": "new", "required": false, "type": "long"},
            {"id": 2, "name": "l", "required": false, "type": {
                "type": "list", "element-id": 4, "element": "long", "element-required": false}},
            {"id": 3, "name": "s", "required": false, "type": {"type": "struct", "fields": [
                {"id": 5, "name": "y", "required": false, "type": "int"},
                {"id": 6, "name": "x", "required": false, "type": "string"}]}},
            {"id": 7, "name": "a", "required": false, "type": "string"},
        ]));
        let fields = ids.fields("", new.as_struct().fields());
        let expected = schema(json!([
            {"id": 10, "name": "new", "required": false, "type": "long"},
            {"id": 3, "name": "l", "required": false, "type": {
                "type": "list", "element-id": 5, "element": "long", "element-required": false}},
            {"id": 2, "name": "s", "required": false, "type": {"type": "struct", "fields": [
                {"id": 12, "name": "y", "required": false, "type": "int"},
                {"id": 13, "name": "x", "required": false, "type": "string"}]}},
            {"id": 11, "name": "a", "required": false, "type": "string"},
        ]));
        assert_eq!(fields, expected.as_struct().fields());
        assert_eq!(ids.now(7), Some(11));
    }
}
