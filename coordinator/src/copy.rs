//! `COPY … TO 'file'`: the rows of a query or a table into files.
//!
//! psql, DuckDB, Spark and DataFusion write the clauses after the target each in their own way, so
//! the statement is parsed here: `STORED AS csv`, `FORMAT csv`, `PARTITIONED BY (a)`, and options in
//! parentheses after `OPTIONS`, `WITH` or nothing, with or without `=` and values.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::parser::{CopyToSource, CopyToStatement, Statement};
use datafusion::sql::sqlparser::ast::{Query, Value};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use futures::TryStreamExt;
use inshore_lake::files::{Export, ExportOptions, FileAccess};

use crate::insert;
use crate::{Error, Result};

/// Parses a statement that begins with `COPY`; none for others.
///
/// # Errors
/// What does not belong there.
pub fn parse(
    tokens: &[TokenWithSpan],
    dialect: &dyn Dialect,
    recursion_limit: usize,
) -> Result<Option<Statement>, ParserError> {
    let parser = |tokens: Vec<TokenWithSpan>| {
        Parser::new(dialect)
            .with_recursion_limit(recursion_limit)
            .with_tokens_with_locations(tokens)
    };
    let mut copy = parser(tokens.to_vec());
    if !copy.parse_keyword(Keyword::COPY) {
        return Ok(None);
    }
    let query = match copy.consume_token(&Token::LParen) {
        true => {
            let query = copy.parse_query()?;
            copy.expect_token(&Token::RParen)?;
            query
        }
        false => whole_table(&mut copy, tokens, parser)?,
    };
    if copy.parse_keyword(Keyword::FROM) {
        return Err(ParserError::ParserError(
            "COPY ... FROM is not supported: use INSERT INTO table SELECT * FROM 'file'".to_owned(),
        ));
    }
    copy.expect_keyword(Keyword::TO)?;
    let token = copy.next_token();
    let target = match token.token {
        Token::SingleQuotedString(target) => target,
        _ => return copy.expected("the name of a file in single quotes", token),
    };
    let mut statement = CopyToStatement {
        source: CopyToSource::Query(query),
        target,
        partitioned_by: Vec::new(),
        stored_as: None,
        options: Vec::new(),
    };
    clauses(&mut copy, &mut statement)?;
    while copy.consume_token(&Token::SemiColon) {}
    copy.expect_token(&Token::EOF)?;
    Ok(Some(Statement::CopyTo(statement)))
}

/// `t` or `t (a, b)` as the query that reads it, with its names where they stand in the text.
fn whole_table<'a>(
    copy: &mut Parser<'a>,
    tokens: &[TokenWithSpan],
    parser: impl Fn(Vec<TokenWithSpan>) -> Parser<'a>,
) -> Result<Box<Query>, ParserError> {
    let word = |text: &str, keyword: Keyword| {
        TokenWithSpan::wrap(Token::Word(Word {
            value: text.to_owned(),
            quote_style: None,
            keyword,
        }))
    };
    let begin = copy.get_current_index() + 1;
    copy.parse_object_name(false)?;
    let end = copy.get_current_index() + 1;
    let name = tokens.get(begin..end).unwrap_or_default();
    let mut columns = vec![TokenWithSpan::wrap(Token::Mul)];
    if copy.consume_token(&Token::LParen) {
        let from = copy.get_current_index() + 1;
        copy.parse_comma_separated(Parser::parse_identifier)?;
        let to = copy.get_current_index() + 1;
        columns = tokens.get(from..to).unwrap_or_default().to_vec();
        copy.expect_token(&Token::RParen)?;
    }
    let mut query = vec![word("SELECT", Keyword::SELECT)];
    query.extend(columns);
    query.push(word("FROM", Keyword::FROM));
    query.extend_from_slice(name);
    parser(query).parse_query()
}

fn clauses(copy: &mut Parser<'_>, statement: &mut CopyToStatement) -> Result<(), ParserError> {
    loop {
        let next = match &copy.peek_token_ref().token {
            Token::Word(word) => word.value.to_lowercase(),
            Token::LParen => "(".to_owned(),
            _ => return Ok(()),
        };
        match next.as_str() {
            "stored" => {
                copy.next_token();
                copy.expect_keyword(Keyword::AS)?;
                statement.stored_as = Some(value(copy)?);
            }
            "format" => {
                copy.next_token();
                statement.stored_as = Some(value(copy)?);
            }
            "partitioned" => {
                copy.next_token();
                copy.expect_keyword(Keyword::BY)?;
                statement.partitioned_by = names(copy)?;
            }
            "partition_by" => {
                copy.next_token();
                statement.partitioned_by = names(copy)?;
            }
            "with" | "options" => {
                copy.next_token();
                options(copy, statement)?;
            }
            "(" => options(copy, statement)?,
            _ => return Ok(()),
        }
    }
}

fn names(copy: &mut Parser<'_>) -> Result<Vec<String>, ParserError> {
    if copy.peek_token_ref().token != Token::LParen {
        return Ok(vec![crate::scope::normalized(&copy.parse_identifier()?)]);
    }
    let names = copy.parse_parenthesized_column_list(
        datafusion::sql::sqlparser::parser::IsOptional::Mandatory,
        false,
    )?;
    Ok(names.iter().map(crate::scope::normalized).collect())
}

fn options(copy: &mut Parser<'_>, statement: &mut CopyToStatement) -> Result<(), ParserError> {
    copy.expect_token(&Token::LParen)?;
    loop {
        if copy.consume_token(&Token::RParen) {
            return Ok(());
        }
        let mut key = value(copy)?.to_lowercase();
        while copy.consume_token(&Token::Period) {
            key = format!("{key}.{}", value(copy)?.to_lowercase());
        }
        let _ = copy.consume_token(&Token::Eq) || copy.consume_token(&Token::RArrow);
        if matches!(key.as_str(), "partition_by" | "partitioned_by") {
            statement.partitioned_by = names(copy)?;
        } else {
            // An option without a value is on.
            let given = match copy.peek_token_ref().token {
                Token::Comma | Token::RParen => String::new(),
                _ => value(copy)?,
            };
            match key.as_str() {
                "format" => statement.stored_as = Some(given),
                _ => statement
                    .options
                    .push((key, Value::SingleQuotedString(given))),
            }
        }
        if !copy.consume_token(&Token::Comma) {
            copy.expect_token(&Token::RParen)?;
            return Ok(());
        }
    }
}

/// A word, text or number.
fn value(copy: &mut Parser<'_>) -> Result<String, ParserError> {
    let token = copy.next_token();
    match token.token {
        Token::Word(word) => Ok(word.value),
        Token::SingleQuotedString(text)
        | Token::DoubleQuotedString(text)
        | Token::EscapedStringLiteral(text) => Ok(text),
        Token::Number(number, _) => Ok(number),
        _ => copy.expected("a word, a text or a number", token),
    }
}

/// A `COPY` that is ready to run.
pub struct Copy {
    target: String,
    options: ExportOptions,
}

impl Copy {
    /// What the statement says about its files.
    ///
    /// # Errors
    /// [`Error::Lake`] for a format that there is none of.
    pub fn new(statement: &CopyToStatement) -> Result<Self> {
        let kind = statement.stored_as.as_ref().map(|name| name.parse());
        let options = statement.options.iter().map(|(key, value)| {
            let text = value.clone().into_string().unwrap_or_default();
            (key.clone(), text)
        });
        Ok(Self {
            target: statement.target.clone(),
            options: ExportOptions {
                kind: kind.transpose()?,
                partition_by: statement.partitioned_by.clone(),
                options: options.collect(),
            },
        })
    }

    /// Writes `rows` as the stream is asked for its one batch. Dropped before, it leaves nothing.
    /// `schema` has the names of the columns.
    pub fn run(
        self,
        access: Arc<FileAccess>,
        schema: SchemaRef,
        mut rows: SendableRecordBatchStream,
    ) -> SendableRecordBatchStream {
        let counted = async move {
            let begun = Export::begin(&access, &self.target, &schema, &self.options);
            let mut export = begun.await?;
            while let Some(batch) = rows.try_next().await? {
                export.write(&batch).await?;
            }
            let count = i64::try_from(export.finish().await?).unwrap_or(i64::MAX);
            let count: ArrayRef = Arc::new(Int64Array::from(vec![count]));
            Ok(RecordBatch::try_new(insert::schema(), vec![count])?)
        };
        let stream = futures::stream::once(counted);
        Box::pin(RecordBatchStreamAdapter::new(insert::schema(), stream))
    }
}

/// The query of a `COPY`.
///
/// # Errors
/// [`Error::Sql`] when it has none.
pub fn query(statement: &CopyToStatement) -> Result<Box<Query>> {
    match &statement.source {
        CopyToSource::Query(query) => Ok(query.clone()),
        CopyToSource::Relation(name) => Err(Error::Sql(format!("COPY {name} has no query"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::ddl::defaults::Defaults;
    use crate::statement;

    fn parsed(sql: &str) -> CopyToStatement {
        match statement::parse(sql).unwrap().statement {
            Statement::CopyTo(copy) => copy,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_way_to_write_options_is_read() {
        for clauses in [
            "STORED AS csv OPTIONS (header true, delimiter ';')",
            "OPTIONS ('format' 'csv', 'header' 'true', 'delimiter' ';')",
            "WITH (FORMAT csv, HEADER true, DELIMITER ';')",
            "(format csv, header = true, delimiter = ';')",
            "FORMAT 'csv' (header => true, delimiter ';');",
        ] {
            let copy = parsed(&format!("COPY (SELECT 1) TO 'x' {clauses}"));
            assert_eq!(copy.stored_as.as_deref(), Some("csv"), "{clauses}");
            let options: Vec<_> = copy
                .options
                .iter()
                .map(|(key, value)| (key.as_str(), value.clone().into_string().unwrap()))
                .collect();
            let expected = [("header", "true".to_owned()), ("delimiter", ";".to_owned())];
            assert_eq!(options, expected, "{clauses}");
        }
        let copy = parsed("COPY a.t TO 'x/' (HEADER, FORMAT parquet, PARTITION_BY (\"A\", B))");
        assert_eq!(copy.partitioned_by, ["A", "b"]);
        assert_eq!(copy.options[0].0, "header");
        assert_eq!(query(&copy).unwrap().to_string(), "SELECT * FROM a.t");
        let copy = parsed("COPY a.\"T\" (x, \"Y\") TO 'x.csv'");
        let shown = query(&copy).unwrap().to_string();
        assert_eq!(shown, "SELECT x, \"Y\" FROM a.\"T\"");
    }

    #[test]
    fn what_does_not_belong_there_is_refused() {
        for (sql, part) in [
            ("COPY t FROM 'x.csv'", "INSERT INTO"),
            ("COPY t TO x", "single quotes"),
            ("COPY t TO 'x' nonsense", "nonsense"),
            ("COPY t TO 'x' (format", "found: EOF"),
            ("EXPLAIN COPY (SELECT 1) TO 'x'", "COPY"),
        ] {
            let parsed = statement::parse(sql);
            let error = parsed.and_then(|p| {
                statement::classify(p.statement, &p.definition, &[], Defaults::default())
            });
            let error = error.unwrap_err().to_string();
            assert!(
                error.to_lowercase().contains(&part.to_lowercase()),
                "{sql}: {error}"
            );
        }
    }
}
