//! `PARTITIONED BY (day(ts), bucket(16, id))`.
//!
//! The parser's dialect takes Hive's form, a list of columns with types. The clause is taken out of
//! the tokens before the statement is parsed; what is left keeps its places in the text.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value,
};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use iceberg::spec::{Schema, Transform, Type, UnboundPartitionSpec};

use crate::scope::normalized;
use crate::{Error, Result};

/// Most fields of a spec.
const FIELDS_MAX: usize = 1_000;

/// Takes the `PARTITIONED BY` of a `CREATE TABLE` out of its tokens.
///
/// # Errors
/// What stands in its parentheses is no list of expressions.
pub fn take(
    mut tokens: Vec<TokenWithSpan>,
    dialect: &dyn Dialect,
    recursion_limit: usize,
) -> Result<(Vec<TokenWithSpan>, Option<Vec<Expr>>), ParserError> {
    let Some((begin, open, close)) = clause(&tokens) else {
        return Ok((tokens, None));
    };
    let inner = tokens.get(open + 1..close).unwrap_or_default().to_vec();
    let mut parser = Parser::new(dialect)
        .with_recursion_limit(recursion_limit)
        .with_tokens_with_locations(inner);
    let fields = parser.parse_comma_separated(Parser::parse_expr)?;
    parser.expect_token(&Token::EOF)?;
    tokens.drain(begin..=close);
    Ok((tokens, Some(fields)))
}

/// Where the clause begins, and its parentheses.
fn clause(tokens: &[TokenWithSpan]) -> Option<(usize, usize, usize)> {
    let is = |token: &Token, text: &str| {
        matches!(token, Token::Word(word)
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
    };
    let words: Vec<(usize, &Token)> = tokens
        .iter()
        .enumerate()
        .map(|(place, token)| (place, &token.token))
        .filter(|(_, token)| !matches!(token, Token::Whitespace(_)))
        .collect();
    let (_, first) = words.first()?;
    let (_, second) = words.get(1)?;
    if !is(first, "create") || is(second, "external") {
        return None;
    }
    let mut depth = 0_usize;
    let mut found: Option<(usize, usize)> = None;
    for (at, (place, token)) in words.iter().enumerate() {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth = depth.saturating_sub(1);
                if let Some((begin, open)) = found.filter(|_| depth == 0) {
                    return Some((begin, open, *place));
                }
            }
            token if depth == 0 && found.is_none() && is(token, "partitioned") => {
                let by = words.get(at + 1).is_some_and(|(_, token)| is(token, "by"));
                let open = words.get(at + 2).filter(|(_, t)| **t == Token::LParen);
                found = open.filter(|_| by).map(|(open, _)| (*place, *open));
            }
            _ => {}
        }
    }
    None
}

/// The partition spec that the fields describe; none without fields.
///
/// # Errors
/// [`Error::Sql`] for a field that is no transform of a column, [`Error::NotFound`] for a column
/// that the schema does not have.
pub fn partition_spec(schema: &Schema, fields: &[Expr]) -> Result<Option<UnboundPartitionSpec>> {
    if fields.is_empty() {
        return Ok(None);
    }
    if fields.len() > FIELDS_MAX {
        return Err(Error::Sql(format!(
            "more than {FIELDS_MAX} partition fields"
        )));
    }
    let mut spec = UnboundPartitionSpec::builder();
    for field in fields {
        let (column, transform) = transformed("PARTITIONED BY", field)?;
        let source = schema.field_by_name(&column).ok_or_else(|| {
            Error::NotFound(format!(
                "PARTITIONED BY {field}: there is no column {column}"
            ))
        })?;
        let fits = match source.field_type.as_ref() {
            Type::Primitive(_) => transform.result_type(&source.field_type).is_ok(),
            _ => false,
        };
        if !fits {
            return Err(Error::Sql(format!(
                "PARTITIONED BY {field}: {transform} does not apply to {}",
                source.field_type
            )));
        }
        let name = field_name(&column, transform);
        spec = spec
            .add_partition_field(source.id, name, transform)
            .map_err(|error| Error::Sql(format!("PARTITIONED BY {field}: {}", error.message())))?;
    }
    Ok(Some(spec.build()))
}

/// The names that Spark and PyIceberg give.
fn field_name(column: &str, transform: Transform) -> String {
    match transform {
        Transform::Bucket(_) => format!("{column}_bucket"),
        Transform::Truncate(_) => format!("{column}_trunc"),
        Transform::Year => format!("{column}_year"),
        Transform::Month => format!("{column}_month"),
        Transform::Day => format!("{column}_day"),
        Transform::Hour => format!("{column}_hour"),
        _ => column.to_owned(),
    }
}

/// The column and the transform of a field of a `clause`.
///
/// # Errors
/// [`Error::Sql`] for anything else.
pub fn transformed(clause: &str, field: &Expr) -> Result<(String, Transform)> {
    if let Some(column) = column(field) {
        return Ok((column, Transform::Identity));
    }
    let wrong = || {
        Error::Sql(format!(
            "{clause} {field}: a field is a column, or year, month, day or hour of one, \
             bucket(16, column) or truncate(4, column)"
        ))
    };
    let Expr::Function(function) = field else {
        return Err(wrong());
    };
    let name = function.name.to_string().to_lowercase();
    match (name.as_str(), arguments(function).as_deref()) {
        ("year" | "years", Some([at])) => plain(at, Transform::Year),
        ("month" | "months", Some([at])) => plain(at, Transform::Month),
        ("day" | "days", Some([at])) => plain(at, Transform::Day),
        ("hour" | "hours", Some([at])) => plain(at, Transform::Hour),
        ("bucket", Some([a, b])) => sized(a, b, Transform::Bucket),
        ("truncate", Some([a, b])) => sized(a, b, Transform::Truncate),
        _ => None,
    }
    .ok_or_else(wrong)
}

fn plain(at: &Expr, transform: Transform) -> Option<(String, Transform)> {
    Some((column(at)?, transform))
}

/// The number stands first with Spark, last with Trino.
fn sized(a: &Expr, b: &Expr, transform: fn(u32) -> Transform) -> Option<(String, Transform)> {
    let (size, source) = match (number(a), number(b)) {
        (Some(size), None) => (size, b),
        (None, Some(size)) => (size, a),
        _ => return None,
    };
    Some((column(source)?, transform(size)))
}

fn number(value: &Expr) -> Option<u32> {
    let Expr::Value(value) = value else {
        return None;
    };
    let Value::Number(number, _) = &value.value else {
        return None;
    };
    // Iceberg's numbers are Java's, with a sign.
    let number = number.to_string().parse::<u32>().ok()?;
    (1..=0x7fff_ffff).contains(&number).then_some(number)
}

/// The full name of a column, if the expression is one.
pub fn column(value: &Expr) -> Option<String> {
    match value {
        Expr::Identifier(ident) => Some(normalized(ident)),
        Expr::CompoundIdentifier(parts) => {
            Some(parts.iter().map(normalized).collect::<Vec<_>>().join("."))
        }
        _ => None,
    }
}

fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let arguments = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value.clone()),
        _ => None,
    });
    arguments.collect()
}
