//! Time travel in SQL text: `t FOR VERSION AS OF 1`, `t TIMESTAMP AS OF now() - interval '1 day'`.
//!
//! The parser's dialect does not know these clauses. They are taken out of the tokens before the
//! statement is parsed, and belong to the table name before them. What is left keeps its places in
//! the text, so errors show the right ones.

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::names::Position;

/// A version clause of a statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// Where the table name before it begins.
    pub table: Position,
    /// Where the clause begins.
    pub position: Position,
    /// What it asks for.
    pub at: AsOf,
}

/// What a version clause asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum AsOf {
    /// A snapshot id.
    Snapshot(i64),
    /// The name of a branch or tag, or a snapshot id as text.
    Ref(String),
    /// A time, as a constant expression.
    Timestamp(Box<Expr>),
}

impl std::fmt::Display for AsOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot(id) => write!(f, "FOR VERSION AS OF {id}"),
            Self::Ref(name) => write!(f, "FOR VERSION AS OF '{}'", name.replace('\'', "''")),
            Self::Timestamp(at) => write!(f, "FOR TIMESTAMP AS OF {at}"),
        }
    }
}

/// Takes the version clauses out of a statement's tokens.
///
/// # Errors
/// What stands after `AS OF` is neither a version nor an expression.
pub fn take(
    tokens: Vec<TokenWithSpan>,
    dialect: &dyn Dialect,
    recursion_limit: usize,
) -> Result<(Vec<TokenWithSpan>, Vec<Clause>), ParserError> {
    if !tokens.iter().any(|token| is_word(&token.token, "of")) {
        return Ok((tokens, Vec::new()));
    }
    let mut cursor = Cursor {
        parser: Parser::new(dialect)
            .with_recursion_limit(recursion_limit)
            .with_tokens_with_locations(tokens.clone()),
        at: 0,
    };
    let mut kept = Vec::with_capacity(tokens.len());
    let mut clauses = Vec::new();
    // The tokens so far without white space and without clauses, by their places.
    let mut before: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if let Some((kind, value)) = intro(&tokens, at)
            && let Some(name) = name_before(&tokens, &before)
        {
            cursor.move_to(value);
            let as_of = cursor.value(kind)?;
            clauses.push(Clause {
                table: place(&tokens[name]),
                position: place(token),
                at: as_of,
            });
            at = cursor.at;
            continue;
        }
        if !matches!(token.token, Token::Whitespace(_)) {
            before.push(at);
        }
        kept.push(token.clone());
        at += 1;
    }
    Ok((kept, clauses))
}

#[derive(Clone, Copy)]
enum Kind {
    Version,
    Timestamp,
}

/// `[FOR] VERSION AS OF` and its like at `at`: the kind, and where the value begins.
fn intro(tokens: &[TokenWithSpan], at: usize) -> Option<(Kind, usize)> {
    word(&tokens.get(at)?.token)?;
    let mut rest = tokens
        .iter()
        .enumerate()
        .skip(at)
        .filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)));
    let (_, mut word) = rest.next()?;
    if is_word(&word.token, "for") {
        (_, word) = rest.next()?;
    }
    let is = |text: &str| is_word(&word.token, text);
    let kind = if is("version") || is("system_version") {
        Kind::Version
    } else if is("timestamp") || is("system_time") {
        Kind::Timestamp
    } else {
        return None;
    };
    let as_of = is_word(&rest.next()?.1.token, "as") && is_word(&rest.next()?.1.token, "of");
    let (value, _) = rest.next()?;
    as_of.then_some((kind, value))
}

/// Where the table name begins that ends the tokens so far. None unless it stands where a table
/// may: otherwise `version` and `timestamp` are columns or aliases.
fn name_before(tokens: &[TokenWithSpan], before: &[usize]) -> Option<usize> {
    let token = |back: usize| {
        let index = before.len().checked_sub(back)?;
        tokens.get(*before.get(index)?).map(|token| &token.token)
    };
    let mut first = 1;
    word(token(first)?)?;
    while token(first + 1) == Some(&Token::Period) && token(first + 2).and_then(word).is_some() {
        first += 2;
    }
    if word(token(first)?).is_some_and(begins_something_else) {
        return None;
    }
    let opens = match token(first + 1)? {
        Token::Comma | Token::LParen => true,
        other => ["from", "join", "using"].iter().any(|w| is_word(other, w)),
    };
    let index = before.len().checked_sub(first)?;
    opens.then(|| before.get(index).copied()).flatten()
}

/// Words that are no table names where one could stand: `(SELECT version AS of FROM t)`.
fn begins_something_else(word: &Word) -> bool {
    word.quote_style.is_none()
        && matches!(
            word.keyword,
            Keyword::SELECT
                | Keyword::DISTINCT
                | Keyword::ALL
                | Keyword::NOT
                | Keyword::CASE
                | Keyword::INTERVAL
                | Keyword::EXISTS
                | Keyword::LATERAL
                | Keyword::VALUES
                | Keyword::TABLE
                | Keyword::WITH
                | Keyword::FROM
                | Keyword::JOIN
                | Keyword::WHERE
                | Keyword::PRIOR
        )
}

/// A parser that goes through the tokens once, so that many clauses cost no more than their length.
struct Cursor<'a> {
    parser: Parser<'a>,
    at: usize,
}

impl Cursor<'_> {
    fn move_to(&mut self, place: usize) {
        while self.at < place {
            self.parser.next_token_no_skip();
            self.at += 1;
        }
    }

    /// Parses what stands after `AS OF`.
    fn value(&mut self, kind: Kind) -> Result<AsOf, ParserError> {
        let as_of = match kind {
            Kind::Version => self.version()?,
            Kind::Timestamp => AsOf::Timestamp(Box::new(self.parser.parse_expr()?)),
        };
        self.at = self.parser.get_current_index() + 1;
        Ok(as_of)
    }

    fn version(&mut self) -> Result<AsOf, ParserError> {
        let token = self.parser.next_token();
        let found = match &token.token {
            Token::Number(digits, _) => digits.parse().ok().map(AsOf::Snapshot),
            Token::SingleQuotedString(name) => Some(AsOf::Ref(name.clone())),
            _ => None,
        };
        match found {
            Some(found) => Ok(found),
            None => self.parser.expected(
                "a snapshot id, or the name of a branch or tag in single quotes",
                token,
            ),
        }
    }
}

fn place(token: &TokenWithSpan) -> Position {
    Position {
        line: token.span.start.line,
        column: token.span.start.column,
    }
}

fn word(token: &Token) -> Option<&Word> {
    match token {
        Token::Word(word) => Some(word),
        _ => None,
    }
}

/// Whether a token is this word, unquoted.
fn is_word(token: &Token, text: &str) -> bool {
    word(token)
        .is_some_and(|word| word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    fn taken(sql: &str) -> Result<(String, Vec<Clause>), ParserError> {
        let dialect = GenericDialect {};
        let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location()?;
        let (kept, clauses) = take(tokens, &dialect, 128)?;
        let text: String = kept.iter().map(|token| token.token.to_string()).collect();
        Ok((text, clauses))
    }

    /// The rest of the statement with single spaces, and each clause as `column of the name: text`.
    fn split(sql: &str) -> (String, Vec<String>) {
        let (text, clauses) = taken(sql).unwrap();
        let shown = clauses
            .iter()
            .map(|clause| format!("{}: {}", clause.table.column, clause.at));
        let words: Vec<&str> = text.split_whitespace().collect();
        (words.join(" "), shown.collect())
    }

    #[test]
    fn every_form_is_found() {
        for (form, clause) in [
            ("FOR VERSION AS OF 123", "FOR VERSION AS OF 123"),
            ("for version as of 'v1'", "FOR VERSION AS OF 'v1'"),
            (
                "FOR SYSTEM_VERSION AS OF 'it''s'",
                "FOR VERSION AS OF 'it''s'",
            ),
            ("VERSION AS OF 123", "FOR VERSION AS OF 123"),
            ("SYSTEM_VERSION AS OF 123", "FOR VERSION AS OF 123"),
            ("version\n as /* x */ of '12'", "FOR VERSION AS OF '12'"),
            (
                "FOR TIMESTAMP AS OF '2026-01-01'",
                "FOR TIMESTAMP AS OF '2026-01-01'",
            ),
            (
                "FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01 00:00:00'",
                "FOR TIMESTAMP AS OF TIMESTAMP '2026-01-01 00:00:00'",
            ),
            (
                "TIMESTAMP AS OF now() - interval '1 day'",
                "FOR TIMESTAMP AS OF now() - INTERVAL '1 day'",
            ),
            (
                "TIMESTAMP AS OF CAST('2026-01-01' AS TIMESTAMP)",
                "FOR TIMESTAMP AS OF CAST('2026-01-01' AS TIMESTAMP)",
            ),
            (
                "TIMESTAMP AS OF 1700000000",
                "FOR TIMESTAMP AS OF 1700000000",
            ),
            ("TIMESTAMP AS OF (now())", "FOR TIMESTAMP AS OF (now())"),
        ] {
            for rest in [
                "",
                ";",
                " x",
                " AS x",
                " WHERE a = 1",
                " ORDER BY a",
                " LIMIT 1",
            ] {
                let (text, clauses) = split(&format!("SELECT * FROM t {form}{rest}"));
                let words: Vec<&str> = rest.split_whitespace().collect();
                let joined = words.join(" ");
                let wanted = match joined.as_str() {
                    "" => "SELECT * FROM t".to_owned(),
                    ";" => "SELECT * FROM t ;".to_owned(),
                    rest => format!("SELECT * FROM t {rest}"),
                };
                assert_eq!(text, wanted, "{form}");
                assert_eq!(clauses, [format!("15: {clause}")], "{form}{rest}");
            }
        }
    }

    #[test]
    fn clauses_are_found_wherever_a_table_stands() {
        for (sql, rest, columns) in [
            (
                "select * from a.b.t version as of 1 join \"T\" for version as of 2 on true",
                "select * from a.b.t join \"T\" on true",
                vec![15, 42],
            ),
            (
                "select * from a version as of 1, b version as of 2 x",
                "select * from a , b x",
                vec![15, 34],
            ),
            (
                "select * from (t version as of 1 cross join u version as of 2)",
                "select * from (t cross join u )",
                vec![16, 45],
            ),
            (
                "with c as (select 1 from t timestamp as of now()) select * from c",
                "with c as (select 1 from t ) select * from c",
                vec![26],
            ),
            (
                "explain select (select max(a) from t . u version as of 'x')",
                "explain select (select max(a) from t . u )",
                vec![36],
            ),
            (
                "select * from version version as of 1, timestamp for timestamp as of '2026'",
                "select * from version , timestamp",
                vec![15, 40],
            ),
            (
                "select 1 from t version as of 1 union all select 1 from t version as of 2",
                "select 1 from t union all select 1 from t",
                vec![15, 57],
            ),
        ] {
            let (text, clauses) = taken(sql).unwrap();
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(words.join(" "), rest);
            let found: Vec<u64> = clauses.iter().map(|clause| clause.table.column).collect();
            assert_eq!(found, columns, "{sql}");
        }
    }

    #[test]
    fn columns_and_aliases_keep_their_names() {
        for sql in [
            "select version from t",
            "select version, timestamp from t version",
            "select * from t timestamp",
            "select * from t as version join u timestamp on true",
            "select version as of from t",
            "select timestamp as of, version from t",
            "select a, version as of from t",
            "select distinct version as of from t",
            "select * from (select version as of from t) x",
            "select * from t where not version and (not timestamp)",
            "select a, not version as of from t",
            "select t.version as of from t",
            "select cast(timestamp as date) from version",
            "select timestamp '2026-01-01' as of from t",
            "select extract(year from timestamp) from t for update",
            "select \"version\" as of from t \"version\"",
            "with version as (select 1) select * from version",
            "select * from t for update of t",
            "select 'from t version as of 1' as of from t -- t version as of 1",
        ] {
            let (text, clauses) = taken(sql).unwrap();
            assert!(clauses.is_empty(), "{sql}");
            assert_eq!(text.trim_end(), sql, "{sql}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused_with_its_place() {
        for sql in [
            "select *\nfrom t version as of x",
            "select *\nfrom t version as of -1",
            "select *\nfrom t version as of 99999999999999999999",
            "select *\nfrom t version as of 1.5",
            "select *\nfrom t version as of \"x\"",
            "select *\nfrom t timestamp as of ,",
        ] {
            let error = taken(sql).unwrap_err().to_string();
            assert!(error.contains("Line: 2, Column: 2"), "{error}");
        }
    }

    #[test]
    fn many_clauses_take_no_square_of_time() {
        let began = std::time::Instant::now();
        let tables = vec!["t timestamp as of '2026-01-01'"; 20_000].join(", ");
        let (_, clauses) = taken(&format!("select * from {tables}")).unwrap();
        assert_eq!(clauses.len(), 20_000);
        assert!(began.elapsed().as_secs() < 20);
    }
}
