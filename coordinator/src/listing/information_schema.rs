//! The SQL standard's `information_schema`: what the session sees, as tables. They are made when
//! they are read, and conditions on names narrow what is listed and opened.
//!
//! DataFusion's own are used for what is not about tables. Those about tables open one table after
//! the other, know no views of a catalog, and have Arrow's words for types.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{
    MemoryCatalogProviderList, SchemaProvider, Session as PlanningSession, TableProvider,
};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::Like;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use inshore_lake::sql_types::type_name;

use super::{Kind, Pattern, Wanted, details, relations, schemas};
use crate::Result;
use crate::columns::Size;
use crate::session::Session;

/// Name of the schema, in every catalog.
pub(crate) const SCHEMA: &str = "information_schema";

/// Names of its tables.
pub(crate) const TABLES: [&str; 7] = [
    "columns",
    "df_settings",
    "parameters",
    "routines",
    "schemata",
    "tables",
    "views",
];

/// A table of the schema as the session is now; none of an unknown name.
///
/// # Errors
/// Those of DataFusion.
pub(crate) async fn table(session: &Session, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    let content = match name {
        "columns" => Content::Columns,
        "schemata" => Content::Schemata,
        "tables" => Content::Tables,
        "views" => Content::Views,
        // These do not look at catalogs.
        other => {
            let nothing = Arc::new(MemoryCatalogProviderList::new());
            return Ok(InformationSchemaProvider::new(nothing).table(other).await?);
        }
    };
    Ok(Some(Arc::new(Information {
        session: Arc::new(session.frozen()),
        schema: content.schema(),
        content,
    })))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Columns,
    Schemata,
    Tables,
    Views,
}

impl Content {
    fn schema(self) -> SchemaRef {
        let (text, number) = (DataType::Utf8, DataType::UInt64);
        let fields: Vec<(&str, &DataType, bool)> = match self {
            Self::Schemata => vec![
                ("catalog_name", &text, false),
                ("schema_name", &text, false),
                ("schema_owner", &text, true),
                ("default_character_set_catalog", &text, true),
                ("default_character_set_schema", &text, true),
                ("default_character_set_name", &text, true),
                ("sql_path", &text, true),
            ],
            Self::Tables => vec![
                ("table_catalog", &text, false),
                ("table_schema", &text, false),
                ("table_name", &text, false),
                ("table_type", &text, false),
            ],
            Self::Views => vec![
                ("table_catalog", &text, false),
                ("table_schema", &text, false),
                ("table_name", &text, false),
                ("definition", &text, true),
            ],
            Self::Columns => vec![
                ("table_catalog", &text, false),
                ("table_schema", &text, false),
                ("table_name", &text, false),
                ("column_name", &text, false),
                ("ordinal_position", &number, false),
                ("column_default", &text, true),
                ("is_nullable", &text, false),
                ("data_type", &text, false),
                ("character_maximum_length", &number, true),
                ("character_octet_length", &number, true),
                ("numeric_precision", &number, true),
                ("numeric_precision_radix", &number, true),
                ("numeric_scale", &number, true),
                ("datetime_precision", &number, true),
                ("interval_type", &text, true),
                ("comment", &text, true),
            ],
        };
        let fields = fields.into_iter();
        let fields = fields.map(|(name, ty, nullable)| Field::new(name, ty.clone(), nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    async fn rows(self, session: &Session, wanted: &Wanted) -> Vec<ArrayRef> {
        match self {
            Self::Schemata => schemata(session, wanted).await,
            Self::Tables => tables(session, wanted).await,
            Self::Views => views(session, wanted).await,
            Self::Columns => columns(session, wanted).await,
        }
    }
}

struct Information {
    /// As it was when the statement was planned.
    session: Arc<Session>,
    content: Content,
    schema: SchemaRef,
}

impl fmt::Debug for Information {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Information").field(&self.content).finish()
    }
}

#[async_trait]
impl TableProvider for Information {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    /// Conditions only narrow what is looked at; they are still applied to the rows.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let narrows = |filter: &&Expr| match condition(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(narrows).collect())
    }

    async fn scan(
        &self,
        _state: &dyn PlanningSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let columns = self.content.rows(&self.session, &wanted(filters)).await;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let schema = Arc::clone(&self.schema);
        Ok(MemorySourceConfig::try_new_exec(
            &[vec![batch]],
            schema,
            projection.cloned(),
        )?)
    }
}

fn wanted(filters: &[Expr]) -> Wanted {
    let mut wanted = Wanted::default();
    for (column, pattern) in filters.iter().filter_map(condition) {
        let part = match column {
            "table_catalog" | "catalog_name" => &mut wanted.catalog,
            "table_schema" | "schema_name" => &mut wanted.schema,
            _ => &mut wanted.table,
        };
        // Of two conditions one narrows, and both are applied to the rows.
        if *part == Pattern::Any {
            *part = pattern;
        }
    }
    wanted
}

/// The condition on the name of a catalog, schema or table that a filter is.
fn condition(filter: &Expr) -> Option<(&str, Pattern)> {
    let (column, pattern) = match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _))
            | (Expr::Literal(value, _), Expr::Column(column)) => {
                let name = value.try_as_str()??;
                (column, Pattern::Exactly(name.to_owned()))
            }
            _ => return None,
        },
        Expr::Like(Like {
            negated: false,
            expr,
            pattern,
            escape_char: None | Some('\\'),
            case_insensitive: false,
        }) => match (expr.as_ref(), pattern.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) => {
                (column, Pattern::like(value.try_as_str()??))
            }
            _ => return None,
        },
        _ => return None,
    };
    const NAMES: [&str; 5] = [
        "table_catalog",
        "table_schema",
        "table_name",
        "catalog_name",
        "schema_name",
    ];
    let name = column.name.as_str();
    NAMES.contains(&name).then_some((name, pattern))
}

fn texts<T: Into<String>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    let values = values.into_iter().map(|value| Some(value.into()));
    Arc::new(values.collect::<StringArray>())
}

fn some_texts(values: impl IntoIterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn numbers(values: impl IntoIterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<UInt64Array>())
}

async fn schemata(session: &Session, wanted: &Wanted) -> Vec<ArrayRef> {
    let found = schemas(session, wanted).await;
    let none = || some_texts(found.iter().map(|_| None));
    vec![
        texts(found.iter().map(|(catalog, _)| catalog)),
        texts(found.iter().map(|(_, schema)| schema)),
        none(),
        none(),
        none(),
        none(),
        none(),
    ]
}

async fn tables(session: &Session, wanted: &Wanted) -> Vec<ArrayRef> {
    let found = relations(session, wanted, &Kind::ALL).await;
    vec![
        texts(found.keys().map(|name| &name.catalog)),
        texts(found.keys().map(|name| &name.namespace)),
        texts(found.keys().map(|name| &name.table)),
        texts(found.values().map(|kind| kind.sql_name())),
    ]
}

async fn views(session: &Session, wanted: &Wanted) -> Vec<ArrayRef> {
    let found = relations(session, wanted, &[Kind::Table, Kind::View]).await;
    let found = found.into_iter().filter(|(_, kind)| *kind == Kind::View);
    let read = found.map(|(name, _)| async move {
        let view = session.view(&name).await;
        let view = view.unwrap_or_else(|error| {
            tracing::warn!(view = %name, %error, "a view could not be read");
            None
        });
        (name, view.map(|view| view.sql))
    });
    let read = futures::stream::iter(read).buffered(super::CONCURRENT);
    let found: Vec<_> = read.collect().await;
    vec![
        texts(found.iter().map(|(name, _)| &name.catalog)),
        texts(found.iter().map(|(name, _)| &name.namespace)),
        texts(found.iter().map(|(name, _)| &name.table)),
        some_texts(found.iter().map(|(_, sql)| sql.clone())),
    ]
}

async fn columns(session: &Session, wanted: &Wanted) -> Vec<ArrayRef> {
    let found = relations(session, wanted, &Kind::ALL).await;
    let mut opened = std::pin::pin!(details::columns(session, found));
    let mut rows = Vec::new();
    while let Some((name, _, columns)) = opened.next().await {
        let columns = columns.unwrap_or_default().into_iter();
        rows.extend(
            (1..)
                .zip(columns)
                .map(|(place, column)| (name.clone(), place, column)),
        );
    }
    let types = || rows.iter().map(|(_, _, column)| column.field.data_type());
    vec![
        texts(rows.iter().map(|(name, ..)| &name.catalog)),
        texts(rows.iter().map(|(name, ..)| &name.namespace)),
        texts(rows.iter().map(|(name, ..)| &name.table)),
        texts(rows.iter().map(|(_, _, column)| column.field.name())),
        numbers(rows.iter().map(|(_, place, _)| Some(*place))),
        some_texts(rows.iter().map(|(_, _, column)| column.default.clone())),
        texts(
            rows.iter()
                .map(|(_, _, column)| match column.field.is_nullable() {
                    true => "YES",
                    false => "NO",
                }),
        ),
        texts(types().map(type_name)),
        // No length can be declared.
        numbers(types().map(|_| None)),
        numbers(types().map(octets)),
        numbers(types().map(|ty| number(ty, |size| size.precision))),
        numbers(types().map(|ty| ty.is_numeric().then_some(10))),
        numbers(types().map(|ty| number(ty, |size| size.scale))),
        numbers(types().map(|ty| {
            match ty.is_temporal() {
                true => Size::of(ty)
                    .scale
                    .and_then(|digits| u64::try_from(digits).ok()),
                false => None,
            }
        })),
        some_texts(types().map(|_| None)),
        some_texts(rows.iter().map(|(_, _, column)| column.comment.clone())),
    ]
}

/// Largest size of a text or of bytes.
fn octets(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::Utf8
        | DataType::Utf8View
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::BinaryView
        | DataType::LargeBinary
        | DataType::FixedSizeBinary(_) => {
            let length = Size::of(data_type).precision?;
            u64::try_from(length).ok()
        }
        _ => None,
    }
}

/// A figure of a number's size, in decimal digits.
fn number(data_type: &DataType, figure: impl Fn(Size) -> Option<i32>) -> Option<u64> {
    let figure = figure(Size::of(data_type))?;
    u64::try_from(figure)
        .ok()
        .filter(|_| data_type.is_numeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};

    #[test]
    fn conditions_on_names_narrow() {
        let filters = [
            col("table_schema").eq(lit("s")),
            lit("lake").eq(col("table_catalog")),
            col("table_name").like(lit("a%")),
            col("table_name").like(lit("%b")),
            col("data_type").eq(lit("x")),
            col("table_name").not_like(lit("c")),
        ];
        let wanted = wanted(&filters);
        assert_eq!(wanted.catalog, Pattern::Exactly("lake".to_owned()));
        assert_eq!(wanted.schema, Pattern::Exactly("s".to_owned()));
        assert_eq!(wanted.table, Pattern::like("a%"));
        let narrowing = filters.iter().filter_map(condition).count();
        assert_eq!(narrowing, 4);
    }
}
