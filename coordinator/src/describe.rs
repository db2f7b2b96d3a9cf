//! `DESCRIBE` and `SHOW CREATE TABLE`: a table's columns and definition in SQL's words.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::error::Result;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use inshore_lake::TableName;
use inshore_lake::catalog::View;
use inshore_lake::name::Quoted;
use inshore_lake::sql_types::type_name;

/// The answer to `DESCRIBE`. DataFusion's own has the types as Arrow calls them. Where columns have
/// `defaults`, they are shown too.
pub fn columns(schema: &Schema, defaults: &HashMap<String, String>) -> Result<LogicalPlan> {
    let fields = schema.fields();
    let names = fields.iter().map(|field| field.name().clone());
    let types = fields.iter().map(|field| type_name(field.data_type()));
    let nullable = fields.iter().map(|field| match field.is_nullable() {
        true => "YES".to_owned(),
        false => "NO".to_owned(),
    });
    let mut columns: Vec<(&str, StringArray)> = vec![
        ("column_name", names.map(Some).collect()),
        ("data_type", types.map(Some).collect()),
        ("is_nullable", nullable.map(Some).collect()),
    ];
    if !defaults.is_empty() {
        let shown = fields.iter().map(|field| defaults.get(field.name()));
        columns.push(("column_default", shown.collect()));
    }
    nullable_rows("describe", columns)
}

/// The answer to `SHOW CREATE TABLE`, in the columns that DataFusion gives it.
pub fn definition(name: &TableName, definition: String) -> Result<LogicalPlan> {
    rows(
        "show_create_table",
        [
            ("table_catalog", vec![name.catalog.clone()]),
            ("table_schema", vec![name.namespace.clone()]),
            ("table_name", vec![name.table.clone()]),
            ("definition", vec![definition]),
        ],
    )
}

/// The answer to `SHOW VIEWS`.
pub fn views(catalog: &str, namespace: &str, names: Vec<String>) -> Result<LogicalPlan> {
    let all = |text: &str| vec![text.to_owned(); names.len()];
    let (catalogs, namespaces) = (all(catalog), all(namespace));
    rows(
        "views",
        [
            ("table_catalog", catalogs),
            ("table_schema", namespaces),
            ("table_name", names),
        ],
    )
}

/// The statement that would create a view.
pub fn create_view(name: &TableName, view: &View) -> String {
    let mut text = format!("CREATE VIEW {name}");
    if !view.columns.is_empty() {
        let columns = view.columns.iter().map(|column| Quoted(column).to_string());
        let columns: Vec<String> = columns.collect();
        text.push_str(&format!(" ({})", columns.join(", ")));
    }
    if let Some(comment) = &view.comment {
        text.push_str(&format!(" COMMENT '{}'", comment.replace('\'', "''")));
    }
    format!("{text} AS\n{}", view.sql)
}

/// A plan with these rows, in this order.
fn rows<const N: usize>(name: &str, columns: [(&str, Vec<String>); N]) -> Result<LogicalPlan> {
    let columns = columns.into_iter();
    let columns = columns.map(|(name, values)| (name, StringArray::from(values)));
    nullable_rows(name, columns.collect())
}

/// A column may be NULL if a value of it is.
fn nullable_rows(name: &str, columns: Vec<(&str, StringArray)>) -> Result<LogicalPlan> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, values)| Field::new(*name, DataType::Utf8, values.null_count() > 0))
        .collect();
    let columns = columns.into_iter();
    let columns = columns.map(|(_, values)| Arc::new(values) as ArrayRef);
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect())?;
    let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(schema, vec![vec![batch]])?);
    LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.build()
}
