//! Clauses on columns that the parser does not know: those on fields inside structs, and Spark's forms.
//!
//! ```text
//! ADD COLUMN place.lat double FIRST      ADD COLUMNS (a int COMMENT 'x' AFTER b, place.lon double)
//! DROP COLUMN place.lat                  DROP COLUMNS a, place.lon
//! RENAME COLUMN place.lat TO latitude    ALTER COLUMN place.lat TYPE double
//! ALTER COLUMN a FIRST                   ALTER COLUMN a COMMENT 'x'
//! SET IDENTIFIER FIELDS a, place.lat     DROP IDENTIFIER FIELDS a
//! ```

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use inshore_lake::evolution::{Alteration, FieldPath, Place};

use super::clauses::{ahead, unexpected, words};
use super::table::field;
use super::types::{Columns, iceberg_type};
use crate::scope::normalized;
use crate::statement::syntax;
use crate::{Error, Result};

/// Reads the clause from its first word on.
///
/// # Errors
/// What does not follow the form.
pub fn clause(parser: &mut Parser<'_>) -> Result<Option<Vec<Alteration>>> {
    if words(parser, &["set", "identifier", "fields"]) {
        return Ok(Some(vec![Alteration::SetIdentifierFields(paths(parser)?)]));
    }
    if words(parser, &["drop", "identifier", "fields"]) {
        return Ok(Some(vec![Alteration::DropIdentifierFields(paths(parser)?)]));
    }
    let is_addition = words(parser, &["add", "columns"])
        || (is_ours_to_add(parser) && words(parser, &["add", "column"]));
    if is_addition {
        return added(parser).map(Some);
    }
    if words(parser, &["drop", "columns"]) || words(parser, &["drop", "column"]) {
        return dropped(parser).map(Some);
    }
    if ahead(parser, 0, &["rename", "column"]) && parts_ahead(parser, 2) > 1 {
        words(parser, &["rename", "column"]);
        let from = path(parser)?;
        if !words(parser, &["to"]) {
            return unexpected(parser, "TO after the name of a column");
        }
        let to = parser.parse_identifier().map_err(syntax)?;
        let to = normalized(&to);
        return Ok(Some(vec![Alteration::RenameColumn { from, to }]));
    }
    altered(parser)
}

/// Whether the parser does not know the `ADD COLUMN` ahead.
fn is_ours_to_add(parser: &Parser<'_>) -> bool {
    let name = match ahead(parser, 2, &["if", "not", "exists"]) {
        true => 5,
        false => 2,
    };
    parser.peek_nth_token_ref(name).token == Token::LParen || parts_ahead(parser, name) > 1
}

/// How many parts the name `at` tokens ahead has.
fn parts_ahead(parser: &Parser<'_>, at: usize) -> usize {
    let is_word = |at| matches!(parser.peek_nth_token_ref(at).token, Token::Word(_));
    let mut parts = usize::from(is_word(at));
    while parts > 0
        && parser.peek_nth_token_ref(at + 2 * parts - 1).token == Token::Period
        && is_word(at + 2 * parts)
    {
        parts += 1;
    }
    parts
}

fn added(parser: &mut Parser<'_>) -> Result<Vec<Alteration>> {
    let if_not_exists = words(parser, &["if", "not", "exists"]);
    listed(parser, |parser| {
        let mut parent = vec![];
        while parts_ahead(parser, 0) > 1 {
            let part = parser.parse_identifier().map_err(syntax)?;
            parent.push(normalized(&part));
            parser.expect_token(&Token::Period).map_err(syntax)?;
        }
        let column = parser.parse_column_def().map_err(syntax)?;
        let field = field(&column, &mut Columns::default())?;
        let place = place(parser, &parent)?;
        Ok(Alteration::AddColumn {
            parent: FieldPath::new(parent),
            field: field.as_ref().clone(),
            if_not_exists,
            place,
        })
    })
}

fn dropped(parser: &mut Parser<'_>) -> Result<Vec<Alteration>> {
    let if_exists = words(parser, &["if", "exists"]);
    let names = paths(parser)?.into_iter();
    let dropped = names.map(|name| Alteration::DropColumn { name, if_exists });
    Ok(dropped.collect())
}

/// `ALTER [COLUMN] a.b ...`, and what of `ALTER [COLUMN] a ...` the parser does not know.
fn altered(parser: &mut Parser<'_>) -> Result<Option<Vec<Alteration>>> {
    if !ahead(parser, 0, &["alter"]) {
        return Ok(None);
    }
    let at = match ahead(parser, 1, &["column"]) {
        true => 2,
        false => 1,
    };
    let parts = parts_ahead(parser, at);
    let known = ["first", "after", "comment"];
    let behind = at + (2 * parts).saturating_sub(1);
    let is_ours = parts > 1 || known.iter().any(|word| ahead(parser, behind, &[word]));
    if parts == 0 || !is_ours {
        return Ok(None);
    }
    words(parser, &["alter"]);
    words(parser, &["column"]);
    let name = path(parser)?;
    let parent = name
        .parts()
        .split_last()
        .map_or(&[][..], |(_, parent)| parent);
    if let Some(place) = place(parser, parent)? {
        return Ok(Some(vec![Alteration::MoveColumn { name, place }]));
    }
    let alteration = if words(parser, &["comment"]) {
        let text = parser.parse_literal_string().map_err(syntax)?;
        let text = Some(text);
        Alteration::Comment { name, text }
    } else if words(parser, &["set", "data", "type"]) || words(parser, &["type"]) {
        let ty = parser.parse_data_type().map_err(syntax)?;
        let ty = iceberg_type(&ty, &mut Columns::default())?;
        Alteration::Promote { name, ty }
    } else if words(parser, &["set", "not", "null"]) {
        Alteration::SetNotNull { name }
    } else if words(parser, &["drop", "not", "null"]) {
        Alteration::DropNotNull { name }
    } else {
        return unexpected(
            parser,
            "TYPE, COMMENT, FIRST, AFTER, SET NOT NULL or DROP NOT NULL after ALTER COLUMN and a name",
        );
    };
    Ok(Some(vec![alteration]))
}

/// `FIRST` or `AFTER c`; the sibling may have its full name.
fn place(parser: &mut Parser<'_>, parent: &[String]) -> Result<Option<Place>> {
    if words(parser, &["first"]) {
        return Ok(Some(Place::First));
    }
    if !words(parser, &["after"]) {
        return Ok(None);
    }
    let sibling = path(parser)?;
    match sibling.parts() {
        [name] => Ok(Some(Place::After(name.clone()))),
        [above @ .., name] if above == parent => Ok(Some(Place::After(name.clone()))),
        _ => Err(Error::Sql(format!(
            "AFTER {sibling}: a column is moved among its siblings only{}",
            match parent.is_empty() {
                true => String::new(),
                false => format!(", the fields of {}", parent.join(".")),
            }
        ))),
    }
}

fn path(parser: &mut Parser<'_>) -> Result<FieldPath> {
    let mut parts = vec![];
    loop {
        let part = parser.parse_identifier().map_err(syntax)?;
        parts.push(normalized(&part));
        if !parser.consume_token(&Token::Period) {
            return Ok(FieldPath::new(parts));
        }
    }
}

/// Names, with or without parentheses.
fn paths(parser: &mut Parser<'_>) -> Result<Vec<FieldPath>> {
    listed(parser, path)
}

/// One or more, with or without parentheses. Without them the list ends where another clause begins: no
/// name is followed by a word.
fn listed<T>(
    parser: &mut Parser<'_>,
    one: impl Fn(&mut Parser<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    const CLAUSES: [&str; 8] = [
        "add", "drop", "alter", "rename", "replace", "set", "unset", "write",
    ];
    let in_parentheses = parser.consume_token(&Token::LParen);
    let mut found = vec![];
    loop {
        found.push(one(parser)?);
        let is_clause = CLAUSES.iter().any(|word| ahead(parser, 1, &[word]))
            && matches!(parser.peek_nth_token_ref(2).token, Token::Word(_));
        if !in_parentheses && is_clause {
            break;
        }
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    if in_parentheses {
        parser.expect_token(&Token::RParen).map_err(syntax)?;
    }
    Ok(found)
}
