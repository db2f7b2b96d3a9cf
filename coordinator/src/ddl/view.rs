//! `CREATE VIEW`: what is defined, and the text of its query.

use datafusion::sql::sqlparser::ast::{CreateTableOptions, CreateView};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::{folded, unsupported};
use crate::scope::normalized;
use crate::{Error, Result};

/// Longest query of a view.
const TEXT_MAX_BYTES: usize = 1 << 20;

/// A view to be made.
#[derive(Debug)]
pub struct NewView {
    /// Its folded name.
    pub name: Vec<String>,
    /// Whether one that is there is replaced.
    pub or_replace: bool,
    /// Whether it may be there already.
    pub if_not_exists: bool,
    /// Whether it is to last as long as the session, wherever it could be stored.
    pub temporary: bool,
    /// Names of its columns; those of the query when empty.
    pub columns: Vec<String>,
    /// What it is about.
    pub comment: Option<String>,
}

impl NewView {
    /// Reads a `CREATE VIEW`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for clauses that would be ignored.
    pub fn of(create: &CreateView) -> Result<Self> {
        let refused = [
            (create.materialized, "a materialized view"),
            (create.or_alter, "CREATE OR ALTER VIEW"),
            (create.secure, "a secure view"),
            (
                !matches!(create.options, CreateTableOptions::None),
                "options of a view",
            ),
            (!create.cluster_by.is_empty(), "CLUSTER BY"),
            (create.with_no_schema_binding, "WITH NO SCHEMA BINDING"),
            (create.copy_grants, "COPY GRANTS"),
            (create.to.is_some(), "TO in CREATE VIEW"),
            (create.params.is_some(), "a definer or an algorithm"),
            (
                create
                    .columns
                    .iter()
                    .any(|column| column.data_type.is_some() || column.options.is_some()),
                "a type or an option of a view's column",
            ),
        ];
        if let Some((_, what)) = refused.iter().find(|(found, _)| *found) {
            return unsupported(what);
        }
        if create.or_replace && create.if_not_exists {
            return Err(Error::Sql(
                "OR REPLACE and IF NOT EXISTS exclude each other".to_owned(),
            ));
        }
        let columns = create.columns.iter();
        Ok(Self {
            name: folded(&create.name)?,
            or_replace: create.or_replace,
            if_not_exists: create.if_not_exists,
            temporary: create.temporary,
            columns: columns.map(|column| normalized(&column.name)).collect(),
            comment: create.comment.clone(),
        })
    }
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// Where the query of a `CREATE VIEW` begins: the place of its first token.
fn begin_of_query(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut is_view = false;
    for (place, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            token if depth == 0 && is_word(token, "view") => is_view = true,
            token if depth == 0 && is_word(token, "as") => {
                let rest = tokens.iter().enumerate().skip(place + 1);
                let mut rest = rest.filter(|(_, t)| !matches!(t.token, Token::Whitespace(_)));
                return rest.next().map(|(place, _)| place).filter(|_| is_view);
            }
            _ => {}
        }
    }
    None
}

/// `COMMENT 'text'` as the parser knows it, with `=`.
pub fn with_comment_sign(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let words = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)));
    let words: Vec<(usize, &Token)> = words.map(|(place, token)| (place, &token.token)).collect();
    let creates = words.first().is_some_and(|(_, t)| is_word(t, "create"));
    let Some(end) = begin_of_query(&tokens).filter(|_| creates) else {
        return tokens;
    };
    let found = words.windows(2).find_map(|pair| match pair {
        [(_, comment), (place, Token::SingleQuotedString(_))]
            if *place < end && is_word(comment, "comment") =>
        {
            Some(*place)
        }
        _ => None,
    });
    if let Some(place) = found {
        tokens.insert(place, TokenWithSpan::wrap(Token::Eq));
    }
    tokens
}

/// The query of a `CREATE VIEW`, as it is written.
///
/// # Errors
/// [`Error::Sql`] for one that is too long.
pub fn query_text(sql: &str) -> Result<String> {
    let none = || Error::Sql("a view needs AS and a query".to_owned());
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| Error::Sql(error.to_string()))?;
    let first = begin_of_query(&tokens).and_then(|place| tokens.get(place));
    let begin = first.and_then(|token| offset(sql, token.span.start));
    let text = sql.get(begin.ok_or_else(none)?..).ok_or_else(none)?;
    let text = text.trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    if text.len() > TEXT_MAX_BYTES {
        return Err(Error::Sql(format!(
            "the query of a view may have {TEXT_MAX_BYTES} bytes; this one has {}",
            text.len()
        )));
    }
    Ok(text.to_owned())
}

/// The byte at a place in a text.
fn offset(sql: &str, place: Location) -> Option<usize> {
    let (mut line, mut column) = (1, 1);
    for (offset, character) in sql.char_indices() {
        if (line, column) == (place.line, place.column) {
            return Some(offset);
        }
        match character {
            '\n' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::statement::parse;

    #[test]
    fn the_query_is_kept_as_it_is_written() {
        for (sql, text) in [
            ("create view v as select 1;", "select 1"),
            (
                "CREATE OR REPLACE VIEW \"as\".v (a)\n  COMMENT 'as' AS\n-- ü\nSELECT 'ü' AS a\nFROM t ; ",
                "SELECT 'ü' AS a\nFROM t",
            ),
            (
                "create view v as with x as (select 1) select * from x",
                "with x as (select 1) select * from x",
            ),
        ] {
            assert_eq!(query_text(sql).unwrap(), text);
            assert!(parse(sql).is_ok(), "{sql}");
        }
        assert!(query_text("create view v").is_err());
    }
}
