//! Types with others inside, as Spark and Trino write them: `ARRAY<int>`, `MAP<varchar, int>`,
//! `MAP(varchar, int)`, `STRUCT<a: int NOT NULL COMMENT '…'>`, `ROW(a int)`.
//!
//! The parser's dialect knows some of these forms and no word about the fields. They are taken out of
//! the tokens of `CREATE TABLE` and `ALTER TABLE` before the statement is parsed; a type of our own
//! stands in their place, with the Iceberg type as a text.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::DataType;
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use iceberg::spec::{ListType, MapType, NestedField, PrimitiveType, StructType, Type};

use super::types::{Columns, iceberg_type};
use super::words::{is_any, is_word, quoted_text, without_space, word};
use crate::scope::normalized;
use crate::statement::describe;
use crate::{Error, Result};

/// The name of the type that stands for others. Users have no reason to write it.
pub const STAND_IN: &str = "inshore nested type";

/// Deepest nesting.
const DEPTH_MAX: usize = 40;

/// Puts a stand-in in the place of each nested type of a definition.
///
/// # Errors
/// [`Error::Sql`] with the place of what does not follow the form, or as [`iceberg_type`].
pub fn take(
    tokens: Vec<TokenWithSpan>,
    dialect: &dyn Dialect,
    recursion_limit: usize,
) -> Result<Vec<TokenWithSpan>> {
    if !is_definition(&tokens) {
        return Ok(tokens);
    }
    let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if let Some(end) = type_at(&tokens, at, &kept) {
            let inner = split_brackets(tokens.get(at..end).unwrap_or_default());
            let mut parser = Parser::new(dialect)
                .with_recursion_limit(recursion_limit)
                .with_tokens_with_locations(inner);
            let ty = nested(&mut parser, 0)?;
            kept.extend(stand_in(&ty, token)?);
            at = end;
            continue;
        }
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            // What follows is a query.
            word if depth == 0 && is_word(word, "as") => break,
            _ => {}
        }
        kept.push(token.clone());
        at += 1;
    }
    kept.extend_from_slice(tokens.get(at..).unwrap_or_default());
    Ok(kept)
}

/// Whether it is a `CREATE [OR REPLACE] TABLE` or an `ALTER TABLE`.
fn is_definition(tokens: &[TokenWithSpan]) -> bool {
    let words = without_space(tokens).map(|(_, token)| token).take(4);
    let words: Vec<&Token> = words.collect();
    let begins = |with: &[&str]| {
        words.len() >= with.len()
            && words
                .iter()
                .zip(with)
                .all(|(token, text)| is_word(token, text))
    };
    begins(&["alter", "table"])
        || begins(&["create", "table"])
        || begins(&["create", "or", "replace", "table"])
}

/// Where the nested type ends that begins at `at`; none when there is none.
fn type_at(tokens: &[TokenWithSpan], at: usize, before: &[TokenWithSpan]) -> Option<usize> {
    if !is_any(&tokens.get(at)?.token, &["array", "map", "struct", "row"]) {
        return None;
    }
    // A type stands behind a name or a word such as TYPE.
    let mut behind = before.iter().rev().map(|token| &token.token);
    let behind = behind.find(|token| !matches!(token, Token::Whitespace(_)))?;
    let is_name = matches!(behind, Token::Word(_)) && !is_word(behind, "default");
    if !is_name {
        return None;
    }
    let mut depth = 0_i32;
    for (place, token) in tokens.iter().enumerate().skip(at + 1) {
        depth += match &token.token {
            Token::Whitespace(_) => continue,
            Token::Lt | Token::LParen => 1,
            Token::Gt | Token::RParen => -1,
            Token::ShiftRight => -2,
            _ => 0,
        };
        if depth <= 0 {
            return (depth == 0 && is_closing(&token.token)).then_some(place + 1);
        }
    }
    None
}

fn is_closing(token: &Token) -> bool {
    matches!(token, Token::Gt | Token::RParen | Token::ShiftRight)
}

/// `>>` ends two types.
fn split_brackets(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let split = tokens.iter().flat_map(|token| {
        let (count, as_token) = match token.token {
            Token::ShiftRight => (2, Token::Gt),
            ref other => (1, other.clone()),
        };
        vec![TokenWithSpan::new(as_token, token.span); count]
    });
    split.collect()
}

fn syntax(error: ParserError) -> Error {
    Error::Sql(describe(&error.into()))
}

/// A type, nested or not.
fn nested(parser: &mut Parser<'_>, depth: usize) -> Result<Type> {
    if depth > DEPTH_MAX {
        return Err(Error::Sql(format!(
            "types may have {DEPTH_MAX} levels, and this one has more"
        )));
    }
    let opens = matches!(
        parser.peek_nth_token_ref(1).token,
        Token::Lt | Token::LParen
    );
    if opens && word(parser, "array") {
        let close = open(parser)?;
        let (ty, required) = element(parser, depth)?;
        parser.expect_token(&close).map_err(syntax)?;
        let element = NestedField::list_element(0, ty, required);
        return Ok(Type::List(ListType::new(Arc::new(element))));
    }
    if opens && word(parser, "map") {
        let close = open(parser)?;
        let key = nested(parser, depth + 1)?;
        parser.expect_token(&Token::Comma).map_err(syntax)?;
        let (ty, required) = element(parser, depth)?;
        parser.expect_token(&close).map_err(syntax)?;
        let key = NestedField::map_key_element(0, key);
        let value = NestedField::map_value_element(0, ty, required);
        return Ok(Type::Map(MapType::new(Arc::new(key), Arc::new(value))));
    }
    if opens && (word(parser, "struct") || word(parser, "row")) {
        let close = open(parser)?;
        let mut fields = vec![field(parser, depth)?];
        while parser.consume_token(&Token::Comma) {
            fields.push(field(parser, depth)?);
        }
        parser.expect_token(&close).map_err(syntax)?;
        return Ok(Type::Struct(StructType::new(fields)));
    }
    let ty: DataType = parser.parse_data_type().map_err(syntax)?;
    iceberg_type(&ty, &mut Columns::default())
}

/// The bracket that closes the one that opens here.
fn open(parser: &mut Parser<'_>) -> Result<Token> {
    match parser.consume_token(&Token::Lt) {
        true => Ok(Token::Gt),
        false => {
            parser.expect_token(&Token::LParen).map_err(syntax)?;
            Ok(Token::RParen)
        }
    }
}

fn element(parser: &mut Parser<'_>, depth: usize) -> Result<(Type, bool)> {
    let ty = nested(parser, depth + 1)?;
    let required = parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]);
    Ok((ty, required))
}

fn field(parser: &mut Parser<'_>, depth: usize) -> Result<Arc<NestedField>> {
    let name = normalized(&parser.parse_identifier().map_err(syntax)?);
    let _ = parser.consume_token(&Token::Colon);
    if matches!(
        parser.peek_token_ref().token,
        Token::Comma | Token::Gt | Token::RParen
    ) {
        return Err(Error::Sql(format!(
            "every field of a STRUCT needs a name and a type: STRUCT<a int, b varchar>; {name} is \
             only one of them"
        )));
    }
    let (ty, required) = element(parser, depth)?;
    let mut field = NestedField::new(0, name, ty, required);
    if word(parser, "comment") {
        field = field.with_doc(quoted_text(parser).map_err(syntax)?);
    }
    Ok(Arc::new(field))
}

/// The tokens of the stand-in.
fn stand_in(ty: &Type, at: &TokenWithSpan) -> Result<[TokenWithSpan; 4]> {
    let text = serde_json::to_string(ty).map_err(|error| Error::Sql(error.to_string()))?;
    let tokens = [
        Token::make_word(STAND_IN, Some('"')),
        Token::LParen,
        Token::SingleQuotedString(text),
        Token::RParen,
    ];
    Ok(tokens.map(|token| TokenWithSpan::new(token, at.span)))
}

/// The type that a stand-in stands for, with field ids.
pub fn stood_for(text: &str, columns: &mut Columns) -> Result<Type> {
    let ty: Type = serde_json::from_str(text)
        .map_err(|error| Error::Sql(format!("{STAND_IN:?} is no type: {error}")))?;
    Ok(numbered(&ty, columns))
}

fn numbered(ty: &Type, columns: &mut Columns) -> Type {
    let mut next = |field: &NestedField| {
        let id = columns.next_id();
        Arc::new(NestedField {
            id,
            field_type: Box::new(numbered(&field.field_type, columns)),
            ..field.clone()
        })
    };
    match ty {
        Type::Primitive(primitive) => {
            if matches!(
                primitive,
                PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs
            ) {
                columns.of_version_3 = Some("timestamp(9)".to_owned());
            }
            Type::Primitive(primitive.clone())
        }
        Type::Struct(row) => Type::Struct(StructType::new(
            row.fields().iter().map(|f| next(f)).collect(),
        )),
        Type::List(list) => Type::List(ListType::new(next(&list.element_field))),
        Type::Map(map) => {
            let (key, value) = (next(&map.key_field), next(&map.value_field));
            Type::Map(MapType::new(key, value))
        }
    }
}
