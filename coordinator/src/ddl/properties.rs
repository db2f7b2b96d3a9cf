//! Clauses on properties that the parser does not know: Spark's `UNSET TBLPROPERTIES [IF EXISTS] ('a',
//! 'b')` and Trino's `SET PROPERTIES format_version = 3, "owner" = DEFAULT`.

use std::collections::HashMap;

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use inshore_lake::evolution::Alteration;

use super::clauses::words;
use super::table::text;
use crate::scope::normalized;
use crate::statement::syntax;
use crate::{Error, Result};

/// What of a table Trino calls a property and Iceberg does not, and how it is set here.
const TRINOS: [(&str, &str); 4] = [
    ("partitioning", "use ADD, DROP or REPLACE PARTITION FIELD"),
    ("sorted_by", "use WRITE ORDERED BY"),
    ("location", "a table stays where it is"),
    (
        "extra_properties",
        "use SET TBLPROPERTIES ('key' = 'value')",
    ),
];

/// Reads the clause from its first word on.
///
/// # Errors
/// What does not follow the form.
pub fn clause(parser: &mut Parser<'_>) -> Result<Option<Vec<Alteration>>> {
    if words(parser, &["unset", "tblproperties"]) {
        return unset(parser).map(|alteration| Some(vec![alteration]));
    }
    if words(parser, &["set", "properties"]) {
        return set(parser).map(Some);
    }
    Ok(None)
}

fn unset(parser: &mut Parser<'_>) -> Result<Alteration> {
    let if_exists = words(parser, &["if", "exists"]);
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    let mut keys = vec![];
    loop {
        keys.push(key(parser)?);
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(Alteration::UnsetProperties { keys, if_exists })
}

fn set(parser: &mut Parser<'_>) -> Result<Vec<Alteration>> {
    let (mut properties, mut defaults) = (HashMap::new(), vec![]);
    loop {
        let name = key(parser)?;
        if let Some((_, instead)) = TRINOS.iter().find(|(trinos, _)| *trinos == name) {
            return Err(Error::Unsupported(format!(
                "SET PROPERTIES {name} is not supported: {instead}"
            )));
        }
        let name = match name.as_str() {
            "format_version" => "format-version".to_owned(),
            _ => name,
        };
        parser.expect_token(&Token::Eq).map_err(syntax)?;
        if properties.contains_key(&name) || defaults.contains(&name) {
            return Err(Error::Sql(format!("property {name} is given twice")));
        }
        if words(parser, &["default"]) {
            defaults.push(name);
        } else {
            let value = parser.parse_expr().map_err(syntax)?;
            let value = text(&value)
                .ok_or_else(|| Error::Sql(format!("property {name} needs a text or a number")))?;
            properties.insert(name, value);
        }
        let another = parser.peek_token_ref().token == Token::Comma && is_key_ahead(parser);
        if !another {
            break;
        }
        parser.advance_token();
    }
    let mut alterations = vec![];
    if !properties.is_empty() {
        alterations.push(Alteration::SetProperties(properties));
    }
    if !defaults.is_empty() {
        alterations.push(Alteration::UnsetProperties {
            keys: defaults,
            if_exists: true,
        });
    }
    Ok(alterations)
}

/// Whether a property follows the comma ahead, and no other clause: those begin with two words.
fn is_key_ahead(parser: &Parser<'_>) -> bool {
    let token = |at| &parser.peek_nth_token_ref(at).token;
    !matches!((token(1), token(2)), (Token::Word(_), Token::Word(_)))
}

/// `'a.b'`, `"a.b"` or `a.b`.
fn key(parser: &mut Parser<'_>) -> Result<String> {
    if matches!(
        parser.peek_token_ref().token,
        Token::SingleQuotedString(_) | Token::DoubleQuotedString(_)
    ) {
        return parser.parse_literal_string().map_err(syntax);
    }
    let mut parts = vec![];
    loop {
        let part = parser.parse_identifier().map_err(syntax)?;
        parts.push(normalized(&part));
        if !parser.consume_token(&Token::Period) {
            return Ok(parts.join("."));
        }
    }
}
