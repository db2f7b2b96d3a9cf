//! What the line editor asks while a person types: is it finished, how could the word go on.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{Array, AsArray};
use futures::TryStreamExt;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};
use tokio::runtime::Handle;

use crate::client::Client;
use crate::statements;

/// How long the first completion may wait for the names of tables.
const NAMES_TIMEOUT: Duration = Duration::from_secs(3);

/// Table names that are learnt at most.
const NAMES_MAX: usize = 5000;

const NAMES_SQL: &str = "SELECT table_schema, table_name FROM information_schema.tables \
                         WHERE table_schema <> 'information_schema' LIMIT 5000";

const KEYWORDS: &[&str] = &[
    "ADD",
    "ALL",
    "ALTER",
    "ANALYZE",
    "AND",
    "ANY",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CALL",
    "CASCADE",
    "CASE",
    "CAST",
    "COLUMN",
    "COMMENT",
    "COPY",
    "CREATE",
    "CROSS",
    "CURRENT_DATE",
    "DATE",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTERNAL",
    "EXTRACT",
    "FALSE",
    "FILTER",
    "FIRST",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IF",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LAST",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCATION",
    "NOT",
    "NULL",
    "NULLS",
    "OF",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "OVERWRITE",
    "PARTITION",
    "PARTITIONED",
    "RENAME",
    "REPLACE",
    "RIGHT",
    "SCHEMA",
    "SCHEMAS",
    "SELECT",
    "SET",
    "SHOW",
    "STORED",
    "SUBSTRING",
    "TABLE",
    "TABLES",
    "TBLPROPERTIES",
    "TEMPORARY",
    "THEN",
    "TIMESTAMP",
    "TO",
    "TRUE",
    "TRUNCATE",
    "TYPE",
    "UNION",
    "USE",
    "USING",
    "VALUES",
    "VERSION",
    "VIEW",
    "VIEWS",
    "WHEN",
    "WHERE",
    "WITH",
];

/// The editor's helper.
pub struct ShellHelper {
    client: Arc<Client>,
    runtime: Handle,
    /// Names of schemas and tables, asked for at the first completion.
    names: OnceLock<BTreeSet<String>>,
}

impl ShellHelper {
    /// A helper that asks this client for names.
    pub fn new(client: Arc<Client>, runtime: Handle) -> Self {
        Self {
            client,
            runtime,
            names: OnceLock::new(),
        }
    }

    /// Asks for the names anew at the next completion: they have changed.
    pub fn forget_names(&mut self) {
        self.names = OnceLock::new();
    }

    fn names(&self) -> &BTreeSet<String> {
        self.names.get_or_init(|| {
            // Without names the keywords still complete.
            let names = async {
                let ask = table_names(&self.client);
                tokio::time::timeout(NAMES_TIMEOUT, ask)
                    .await
                    .ok()
                    .and_then(Result::ok)
            };
            self.runtime.block_on(names).unwrap_or_default()
        })
    }
}

async fn table_names(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let execution = client.execute(NAMES_SQL).await?;
    let batches: Vec<_> = execution.stream.try_collect().await?;
    let mut names = BTreeSet::new();
    for batch in &batches {
        for column in batch.columns() {
            let texts = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            names.extend(
                (0..texts.len())
                    .filter(|row| texts.is_valid(*row))
                    .map(|row| texts.value(row).to_owned()),
            );
        }
        if names.len() > NAMES_MAX {
            break;
        }
    }
    Ok(names)
}

/// Whether what was typed can be run: a backslash command, or statements that are all ended.
fn is_complete(text: &str) -> bool {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.starts_with('\\') {
        return true;
    }
    let words = trimmed.to_ascii_lowercase();
    statements::split(text).open.is_none() || words == "quit" || words == "exit"
}

impl Validator for ShellHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Completer for ShellHelper {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &Context<'_>,
    ) -> Result<(usize, Vec<String>), ReadlineError> {
        let before = line.get(..position).unwrap_or(line);
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |at| {
                at + before
                    .get(at..)
                    .and_then(|s| s.chars().next())
                    .map_or(1, char::len_utf8)
            });
        let word = before.get(start..).unwrap_or("");
        if word.is_empty() {
            return Ok((start, Vec::new()));
        }
        Ok((start, candidates(word, self.names())))
    }
}

/// Names first, then keywords in the case the word was begun in.
fn candidates(word: &str, names: &BTreeSet<String>) -> Vec<String> {
    let lower = word.to_lowercase();
    let names = names
        .iter()
        .filter(|name| name.to_lowercase().starts_with(&lower))
        .cloned();
    let small = word.chars().any(char::is_lowercase);
    let keywords = KEYWORDS
        .iter()
        .filter(|keyword| keyword.to_lowercase().starts_with(&lower))
        .map(|keyword| {
            if small {
                keyword.to_lowercase()
            } else {
                (*keyword).to_owned()
            }
        });
    names.chain(keywords).collect()
}

impl Hinter for ShellHelper {
    type Hint = String;
}

impl Highlighter for ShellHelper {}

impl Helper for ShellHelper {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_complete_at_their_semicolon() {
        for complete in [
            "select 1;",
            "\\dt",
            "",
            "  ",
            "quit",
            "select 1; -- done",
            "select ';';",
        ] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in ["select 1", "select ';", "select 1; select", "select $$;"] {
            assert!(!is_complete(open), "{open}");
        }
    }

    #[test]
    fn completion_keeps_the_case() {
        let names = BTreeSet::from(["selections".to_owned()]);
        assert_eq!(candidates("sel", &names), ["selections", "select"]);
        assert_eq!(candidates("SEL", &BTreeSet::new()), ["SELECT"]);
    }
}
