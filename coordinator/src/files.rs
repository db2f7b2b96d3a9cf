//! Files in the place of tables: `FROM 'data/*.parquet'`, `FROM read_csv('x', delimiter => ';')`.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, Spanned,
    TableFunctionArgs, UnaryOperator, Value,
};
use inshore_lake::files::{FileKind, FileRequest, kind_of_name};

use crate::scope::normalized;
use crate::{Error, Result};

/// Functions that read files.
const FUNCTIONS: [(&str, FileKind); 3] = [
    ("read_parquet", FileKind::Parquet),
    ("read_csv", FileKind::Csv),
    ("read_json", FileKind::Json),
];

/// The file that a table name in single quotes stands for.
pub fn of_name(name: &ObjectName) -> Option<FileRequest> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] if ident.quote_style == Some('\'') => {
            Some(FileRequest::of_path(ident.value.clone()))
        }
        _ => None,
    }
}

/// The file that a table name stands for when there is no table of that name: in double quotes,
/// with the ending of a file.
pub fn of_missing(parts: &[String]) -> Option<FileRequest> {
    match parts {
        [name] if kind_of_name(name).is_some() => Some(FileRequest::of_path(name.clone())),
        _ => None,
    }
}

/// The files that a table function reads, and a name for its rows; none for other functions.
///
/// # Errors
/// [`Error::Sql`] for arguments that are no paths and options.
pub fn of_function(
    name: &ObjectName,
    arguments: &TableFunctionArgs,
) -> Result<Option<(FileRequest, ObjectName)>> {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else {
        return Ok(None);
    };
    let called = normalized(ident);
    let Some((function, kind)) = FUNCTIONS.iter().find(|(name, _)| *name == called) else {
        return Ok(None);
    };
    let wrong = |what: &dyn std::fmt::Display| {
        Error::Sql(format!(
            "{function}: {what} is wrong; call it as {function}('path', option => value, …), with \
             constants"
        ))
    };
    let mut paths = Vec::new();
    let mut options = BTreeMap::new();
    for argument in &arguments.args {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => match option(value) {
                Some((key, value)) => {
                    options.insert(key, constant(value).ok_or_else(|| wrong(argument))?);
                }
                None => paths.extend(texts(value).ok_or_else(|| wrong(argument))?),
            },
            FunctionArg::Named {
                name,
                arg: FunctionArgExpr::Expr(value),
                ..
            } => {
                let value = constant(value).ok_or_else(|| wrong(argument))?;
                options.insert(name.value.to_lowercase(), value);
            }
            other => return Err(wrong(other)),
        }
    }
    if paths.is_empty() {
        return Err(wrong(&"a call without a path"));
    }
    let listed: Vec<String> = arguments.args.iter().map(ToString::to_string).collect();
    let shown = format!("{function}({})", listed.join(", "));
    let ident = Ident::with_quote_and_span('"', name.span(), shown);
    let request = FileRequest {
        paths,
        kind: Some(*kind),
        options,
    };
    Ok(Some((
        request,
        ObjectName(vec![ObjectNamePart::Identifier(ident)]),
    )))
}

/// `key = value`, which stands for `key => value`.
fn option(value: &Expr) -> Option<(String, &Expr)> {
    match value {
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Eq,
            right,
        } => match left.as_ref() {
            Expr::Identifier(name) => Some((name.value.to_lowercase(), right)),
            _ => None,
        },
        _ => None,
    }
}

/// One path, or a list of them.
fn texts(value: &Expr) -> Option<Vec<String>> {
    match value {
        Expr::Array(array) => array.elem.iter().map(text).collect(),
        value => text(value).map(|path| vec![path]),
    }
}

fn text(value: &Expr) -> Option<String> {
    match value {
        Expr::Value(value) => value.value.clone().into_string(),
        _ => None,
    }
}

/// A constant as text.
pub fn constant(value: &Expr) -> Option<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => Some(number.to_string()),
            Value::Boolean(flag) => Some(flag.to_string()),
            text => text.clone().into_string(),
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => constant(expr).map(|text| format!("-{text}")),
        Expr::Identifier(word) => Some(word.value.clone()),
        _ => None,
    }
}
