//! `WITH (partitioning = ARRAY['day(ts)'], sorted_by = ARRAY['id DESC'], format_version = 2, format =
//! 'PARQUET', location = 's3://…')`: the table properties of Trino's Iceberg connector, as clauses.

use datafusion::sql::sqlparser::ast::{
    CreateTable, CreateTableOptions, Expr, OrderByExpr, SqlOption, Value,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

use super::Clauses;
use crate::{Error, Result};

/// What Trino calls a property that is Iceberg's.
const SAME: [(&str, &str); 2] = [
    ("format_version", "format-version"),
    ("format", "write.format.default"),
];

/// Takes Trino's properties out of a `CREATE TABLE`; the clauses with theirs.
///
/// # Errors
/// [`Error::Sql`] for a value of another form, and for what is given twice.
pub fn take(create: &mut CreateTable, clauses: &Clauses) -> Result<Layout> {
    let mut layout = Layout {
        partitions: clauses.partitions.clone(),
        sorted: clauses.sorted.clone(),
    };
    let CreateTableOptions::With(options) = &mut create.table_options else {
        return Ok(layout);
    };
    let mut rest = vec![];
    for option in std::mem::take(options) {
        let SqlOption::KeyValue { key, value } = option else {
            rest.push(option);
            continue;
        };
        match key.value.to_lowercase().as_str() {
            "partitioning" => {
                let fields = parsed(&key.value, &value, |parser| parser.parse_expr())?;
                set(&mut layout.partitions, "partitioning", fields)?;
            }
            "sorted_by" => {
                let fields = parsed(&key.value, &value, |parser| parser.parse_order_by_expr())?;
                set(&mut layout.sorted, "sorted_by", fields)?;
            }
            "location" => match (text(&value), &create.location) {
                (Some(location), None) => create.location = Some(location.to_owned()),
                (None, _) => return Err(wrong("location", "a text")),
                (_, Some(_)) => return Err(twice("location")),
            },
            name => {
                let known = SAME.iter().find(|(trino, _)| *trino == name);
                let mut key = key;
                let mut value = value;
                if let Some((_, iceberg)) = known {
                    (*iceberg).clone_into(&mut key.value);
                    // Trino writes 'PARQUET'.
                    if let Expr::Value(value) = &mut value
                        && let Value::SingleQuotedString(text) = &mut value.value
                    {
                        *text = text.to_lowercase();
                    }
                }
                rest.push(SqlOption::KeyValue { key, value });
            }
        }
    }
    *options = rest;
    Ok(layout)
}

/// How the rows of a new table are laid out.
#[derive(Debug, Default)]
pub struct Layout {
    /// The fields of its partitioning.
    pub partitions: Option<Vec<Expr>>,
    /// The keys of its sort order.
    pub sorted: Option<Vec<OrderByExpr>>,
}

fn set<T>(place: &mut Option<Vec<T>>, name: &str, fields: Vec<T>) -> Result<()> {
    match place.replace(fields) {
        None => Ok(()),
        Some(_) => Err(twice(name)),
    }
}

/// The texts of an array, each read by `parse`.
fn parsed<T>(
    name: &str,
    value: &Expr,
    parse: impl Fn(&mut Parser<'_>) -> std::result::Result<T, ParserError>,
) -> Result<Vec<T>> {
    let Expr::Array(array) = value else {
        return Err(wrong(name, "an array of texts: ARRAY['…']"));
    };
    let dialect = GenericDialect {};
    let fields = array.elem.iter().map(|element| {
        let text = text(element).ok_or_else(|| wrong(name, "an array of texts: ARRAY['…']"))?;
        let read = || {
            let mut parser = Parser::new(&dialect).try_with_sql(text)?;
            let field = parse(&mut parser)?;
            match parser.peek_token_ref().token {
                datafusion::sql::sqlparser::tokenizer::Token::EOF => Ok(field),
                _ => {
                    let found = parser.peek_token();
                    parser.expected("nothing more", found)
                }
            }
        };
        read().map_err(|error: ParserError| {
            Error::Sql(format!("property {name}: {text:?} is no field ({error})"))
        })
    });
    fields.collect()
}

fn text(value: &Expr) -> Option<&str> {
    let Expr::Value(value) = value else {
        return None;
    };
    match &value.value {
        Value::SingleQuotedString(text) => Some(text),
        _ => None,
    }
}

fn wrong(name: &str, what: &str) -> Error {
    Error::Sql(format!("property {name} needs {what}"))
}

fn twice(name: &str) -> Error {
    Error::Sql(format!(
        "property {name} says what another clause says already"
    ))
}
