//! `CREATE TABLE` as Iceberg's definition of a table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Schema as ArrowSchema;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, CommentDef, CreateTable, CreateTableOptions, Expr,
    HiveDistributionStyle, Query, SqlOption, Value,
};
use iceberg::TableCreation;
use iceberg::spec::{FormatVersion, NestedField, Schema};
use inshore_lake::defaults::literal;

use super::arrow_types::schema_of;
use super::defaults::Defaults;
use super::partitions::partition_spec;
use super::sorted::order_of;
use super::types::{Columns, iceberg_type};
use super::with::{self, Layout};
use super::{Clauses, folded, unsupported};
use crate::scope::normalized;
use crate::{Error, Result};

/// Property that chooses the format version, and is none afterwards (Iceberg's reserved table
/// properties).
const FORMAT_VERSION: &str = "format-version";

/// The format version of new tables.
const DEFAULT_VERSION: FormatVersion = FormatVersion::V2;

/// A table to be made.
#[derive(Debug)]
pub struct NewTable {
    /// Its folded name.
    pub name: Vec<String>,
    /// Whether it may be there already.
    pub if_not_exists: bool,
    /// Whether a table that is there is replaced.
    pub or_replace: bool,
    /// The format version, where it is given.
    pub format_version: Option<FormatVersion>,
    /// What it is made of. The name is that of the last part.
    pub creation: TableCreation,
}

/// A table to be made of a query's rows.
#[derive(Debug)]
pub struct NewTableAs {
    /// Its folded name.
    pub name: Vec<String>,
    /// Whether it may be there already.
    pub if_not_exists: bool,
    /// Whether a table that is there is replaced.
    pub or_replace: bool,
    /// The format version, where it is given.
    pub format_version: Option<FormatVersion>,
    /// The query.
    pub query: Box<Query>,
    layout: Layout,
    location: Option<String>,
    properties: HashMap<String, String>,
}

impl NewTableAs {
    /// Reads a `CREATE TABLE ... AS`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for clauses that would be ignored.
    pub fn of(mut create: CreateTable, clauses: &Clauses) -> Result<Option<Self>> {
        let layout = with::take(&mut create, clauses)?;
        let Some(query) = create.query.take() else {
            return Ok(None);
        };
        refuse_unknown(&create)?;
        if !create.columns.is_empty() {
            return unsupported("a column list in CREATE TABLE ... AS; name them in the query,");
        }
        let mut properties = properties(&create)?;
        Ok(Some(Self {
            name: folded(&create.name)?,
            if_not_exists: create.if_not_exists,
            or_replace: create.or_replace,
            query,
            layout,
            location: location(&create),
            format_version: format_version(properties.remove(FORMAT_VERSION))?,
            properties,
        }))
    }

    /// The table for rows of this schema.
    ///
    /// # Errors
    /// As [`schema_of`], [`partition_spec`] and [`order_of`].
    pub fn creation(&self, rows: &ArrowSchema) -> Result<TableCreation> {
        let format_version = self.format_version.unwrap_or(DEFAULT_VERSION);
        let schema = schema_of(rows, format_version >= FormatVersion::V3)?;
        let partitions = self.layout.partitions.as_deref();
        let spec = partition_spec(&schema, partitions.unwrap_or_default())?;
        let mut properties = self.properties.clone();
        let sorted = self.layout.sorted.as_deref();
        let order = order_of(&schema, sorted.unwrap_or_default(), &mut properties)?;
        Ok(TableCreation::builder()
            .name(self.name.last().cloned().unwrap_or_default())
            .location_opt(self.location.clone())
            .schema(schema)
            .partition_spec_opt(spec)
            .sort_order_opt(order)
            .properties(properties)
            .format_version(format_version)
            .build())
    }
}

/// A table for rows of this schema, and nothing else said of it.
///
/// # Errors
/// As [`schema_of`].
pub fn creation_of(name: &str, rows: &ArrowSchema) -> Result<TableCreation> {
    let schema = schema_of(rows, DEFAULT_VERSION >= FormatVersion::V3)?;
    Ok(TableCreation::builder()
        .name(name.to_owned())
        .schema(schema)
        .format_version(DEFAULT_VERSION)
        .build())
}

/// Reads a `CREATE TABLE`, whose `PARTITIONED BY` and `ORDER BY` stand beside it.
pub fn new_table(
    mut create: CreateTable,
    clauses: &Clauses,
    defaults: Defaults<'_>,
) -> Result<NewTable> {
    let layout = with::take(&mut create, clauses)?;
    let create = &create;
    refuse_unknown(create)?;
    let name = folded(&create.name)?;
    let mut columns = Columns::default();
    let fields = create.columns.iter();
    let fields = fields.map(|column| field(column, &mut columns, defaults));
    let fields = fields.collect::<Result<Vec<_>>>()?;
    if fields.is_empty() {
        return Err(Error::Sql("a table needs at least one column".to_owned()));
    }
    let schema = Schema::builder().with_fields(fields).build();
    let schema = schema.map_err(|error| Error::Sql(error.message().to_owned()))?;
    let spec = partition_spec(&schema, layout.partitions.as_deref().unwrap_or_default())?;
    let mut properties = properties(create)?;
    let sorted = layout.sorted.as_deref().unwrap_or_default();
    let order = order_of(&schema, sorted, &mut properties)?;
    let given_version = format_version(properties.remove(FORMAT_VERSION))?;
    let format_version = given_version.unwrap_or(DEFAULT_VERSION);
    if let Some(ty) = columns
        .of_version_3
        .filter(|_| format_version < FormatVersion::V3)
    {
        return Err(Error::Sql(format!(
            "{ty} needs TBLPROPERTIES ('{FORMAT_VERSION}' = '3')"
        )));
    }
    let creation = TableCreation::builder()
        .name(name.last().cloned().unwrap_or_default())
        .location_opt(location(create))
        .schema(schema)
        .partition_spec_opt(spec)
        .sort_order_opt(order)
        .properties(properties)
        .format_version(format_version)
        .build();
    Ok(NewTable {
        name,
        if_not_exists: create.if_not_exists,
        or_replace: create.or_replace,
        format_version: given_version,
        creation,
    })
}

/// Clauses that are not understood must not be ignored.
fn refuse_unknown(create: &CreateTable) -> Result<()> {
    if create.or_replace && create.if_not_exists {
        return Err(Error::Sql(
            "OR REPLACE and IF NOT EXISTS exclude each other".to_owned(),
        ));
    }
    let refused = [
        (
            create.temporary || create.global.is_some(),
            "a temporary table",
        ),
        (
            create.like.is_some() || create.clone.is_some(),
            "CREATE TABLE ... LIKE",
        ),
        (create.order_by.is_some(), "ORDER BY in CREATE TABLE"),
        (!create.constraints.is_empty(), "a constraint of a table"),
        (create.primary_key.is_some(), "a primary key"),
        (create.file_format.is_some(), "STORED AS"),
        (
            create.partition_by.is_some(),
            "PARTITION BY; PARTITIONED BY is,",
        ),
        (
            create.cluster_by.is_some() || create.clustered_by.is_some(),
            "clustering",
        ),
        (create.inherits.is_some(), "INHERITS"),
        (
            !matches!(create.hive_distribution, HiveDistributionStyle::NONE),
            "this form of distribution",
        ),
    ];
    match refused.iter().find(|(found, _)| *found) {
        Some((_, what)) => unsupported(what),
        None => Ok(()),
    }
}

/// A column as Iceberg has it.
pub fn field(
    column: &ColumnDef,
    columns: &mut Columns,
    defaults: Defaults<'_>,
) -> Result<Arc<NestedField>> {
    let name = normalized(&column.name);
    let id = columns.next_id();
    let ty = iceberg_type(&column.data_type, columns)?;
    let mut field = NestedField::optional(id, &name, ty);
    for option in &column.options {
        match &option.option {
            ColumnOption::Null => {}
            ColumnOption::NotNull => field.required = true,
            ColumnOption::Comment(text) => field = field.with_doc(text),
            ColumnOption::Default(expression) => {
                let value = defaults.value(expression)?;
                let default = literal(&name, &value, &field.field_type)?;
                if default.is_some() {
                    columns.of_version_3 = Some(format!("a default of column {name}"));
                }
                field.initial_default.clone_from(&default);
                field.write_default = default;
            }
            other => return unsupported(&format!("{other} of column {name}")),
        }
    }
    Ok(Arc::new(field))
}

fn location(create: &CreateTable) -> Option<String> {
    let hive = create.hive_formats.as_ref();
    let location = create.location.clone();
    let location = location.or_else(|| hive.and_then(|hive| hive.location.clone()));
    location.map(|location| location.trim_end_matches('/').to_owned())
}

fn properties(create: &CreateTable) -> Result<HashMap<String, String>> {
    let options = match &create.table_options {
        CreateTableOptions::None => &[][..],
        CreateTableOptions::With(options) | CreateTableOptions::TableProperties(options) => options,
        other => return unsupported(&other.to_string()),
    };
    let mut found = text_properties(options)?;
    if let Some(CommentDef::WithEq(comment) | CommentDef::WithoutEq(comment)) = &create.comment {
        found.insert("comment".to_owned(), comment.clone());
    }
    Ok(found)
}

/// Properties, each a text.
pub fn text_properties(options: &[SqlOption]) -> Result<HashMap<String, String>> {
    let mut found = HashMap::new();
    for option in options {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(Error::Sql(format!(
                "{option} is no property; 'key' = 'value' is"
            )));
        };
        let value = text(value).ok_or_else(|| {
            Error::Sql(format!("property {} needs a text or a number", key.value))
        })?;
        if found.insert(key.value.clone(), value).is_some() {
            return Err(Error::Sql(format!("property {} is given twice", key.value)));
        }
    }
    Ok(found)
}

/// A literal as the text of a property.
pub fn text(value: &Expr) -> Option<String> {
    let Expr::Value(value) = value else {
        return None;
    };
    match &value.value {
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Some(text.clone()),
        Value::Number(number, _) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

fn format_version(property: Option<String>) -> Result<Option<FormatVersion>> {
    match property.as_deref() {
        None => Ok(None),
        Some("1") => Ok(Some(FormatVersion::V1)),
        Some("2") => Ok(Some(FormatVersion::V2)),
        Some("3") => Ok(Some(FormatVersion::V3)),
        Some(other) => Err(Error::Sql(format!(
            "property {FORMAT_VERSION} is {other}; it may be 1, 2 or 3"
        ))),
    }
}
