//! From SQL text to a statement: parsing, what kind it is, and errors that show a position.

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{
    CopyToStatement, CreateExternalTable, DFParserBuilder, ExplainStatement, Statement,
};
use datafusion::sql::sqlparser::ast::{
    Function, ObjectType, ShowCreateObject, ShowStatementOptions, Statement as SqlStatement, Use,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::ddl::defaults::Defaults;
use crate::ddl::view::{self, NewView};
use crate::ddl::{
    self, Definition, NewTableAs, clauses, namespaces, nested, partitions, refs, sorted,
};
use crate::truncate;
use crate::versions::{self, Clause};
use crate::{Error, Result, copy, parameters};

/// Deepest nesting of expressions and queries that is parsed.
const RECURSION_LIMIT: usize = 128;

/// What has to be done with a statement.
#[derive(Debug)]
pub enum Kind {
    /// Plan it: a query, or something that DataFusion answers like one.
    Plan(Statement),
    /// Plan this instead: a statement that is short for a query on the information schema.
    Rewritten(String),
    /// List what there is.
    Show(Box<Show>),
    /// Show the statement that would create this table, by its folded name.
    ShowCreate(Vec<String>),
    /// Have a query end.
    Kill(String),
    /// Change the session's default catalog and schema.
    Use(Vec<String>),
    /// Open a table by its files for this session.
    CreateExternalTable(Box<CreateExternalTable>),
    /// Make a table of a query's rows.
    CreateTableAs(Box<NewTableAs>),
    /// Call a procedure.
    Call(Box<Function>),
    /// Write a query's rows into files.
    Copy(Box<CopyToStatement>),
    /// Define a schema or a table.
    Define(Definition),
    /// Make a view.
    CreateView(Box<NewView>),
    /// Drop views of this session or of a catalog.
    DropViews {
        /// The folded names.
        names: Vec<Vec<String>>,
        /// `IF EXISTS`.
        if_exists: bool,
    },
    /// List views.
    ShowViews(Box<ShowStatementOptions>),
    /// Show the statement that would create this view, by its folded name.
    ShowCreateView(Vec<String>),
    /// Remove all rows of a table.
    Truncate {
        /// The folded name.
        name: Vec<String>,
        /// `IF EXISTS`.
        if_exists: bool,
    },
    /// Drop tables of this session or of a catalog.
    DropTables {
        /// The folded names.
        names: Vec<Vec<String>>,
        /// `IF EXISTS`.
        if_exists: bool,
        /// Whether their files are deleted.
        purge: bool,
    },
}

/// A statement that lists what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// `SHOW CATALOGS`.
    Catalogs(ShowStatementOptions),
    /// `SHOW SCHEMAS`.
    Schemas(ShowStatementOptions),
    /// `SHOW TABLES`.
    Tables(ShowStatementOptions),
    /// `SHOW COLUMNS`; all that is known of them, or the usual.
    Columns {
        /// `FULL` or `EXTENDED`.
        all: bool,
        /// Of which table, and which of them.
        options: ShowStatementOptions,
    },
}

/// A statement, and the clauses of it that the parser does not know.
#[derive(Debug)]
pub struct Parsed {
    /// The rest of the statement.
    pub statement: Statement,
    /// The versions of its tables: see [`versions`].
    pub clauses: Vec<Clause>,
    /// The clauses of a definition.
    pub definition: ddl::Clauses,
}

/// Parses exactly one statement, which has no defaults of columns.
pub fn parse(sql: &str) -> Result<Parsed> {
    parse_with(sql, Defaults::default())
}

/// Parses exactly one statement.
pub fn parse_with(sql: &str, defaults: Defaults<'_>) -> Result<Parsed> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|error| syntax(error.into()))?;
    let tokens = parameters::number(tokens)?;
    let (tokens, clauses) = versions::take(tokens, &dialect, RECURSION_LIMIT).map_err(syntax)?;
    let (tokens, partitions) =
        partitions::take(tokens, &dialect, RECURSION_LIMIT).map_err(syntax)?;
    let (tokens, sorted) = sorted::take(tokens, &dialect, RECURSION_LIMIT).map_err(syntax)?;
    let tokens = nested::take(tokens, &dialect, RECURSION_LIMIT)?;
    let (tokens, namespace) =
        namespaces::take(tokens, &dialect, RECURSION_LIMIT).map_err(syntax)?;
    if let Some(statement) = copy::parse(&tokens, &dialect, RECURSION_LIMIT).map_err(syntax)? {
        return Ok(Parsed {
            statement,
            clauses,
            definition: ddl::Clauses::default(),
        });
    }
    if let Some((statement, change)) =
        refs::parse(&tokens, &dialect, RECURSION_LIMIT).map_err(syntax)?
    {
        return Ok(Parsed {
            statement,
            clauses,
            definition: ddl::Clauses {
                change_ref: Some(change),
                ..ddl::Clauses::default()
            },
        });
    }
    if let Some((statement, alterations)) =
        clauses::parse(&tokens, &dialect, RECURSION_LIMIT, defaults)?
    {
        return Ok(Parsed {
            statement,
            clauses,
            definition: ddl::Clauses {
                partitions,
                alterations: Some(alterations),
                ..ddl::Clauses::default()
            },
        });
    }
    let tokens = view::with_comment_sign(tokens);
    let mut statements = DFParserBuilder::new(tokens)
        .with_dialect(&dialect)
        .with_recursion_limit(RECURSION_LIMIT)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| Error::Sql(describe(&error)))?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(statement), true) => Ok(Parsed {
            statement,
            clauses,
            definition: ddl::Clauses {
                partitions,
                sorted,
                namespace,
                ..ddl::Clauses::default()
            },
        }),
        (None, _) => Err(Error::Sql("the statement is empty".to_owned())),
        (Some(_), false) => Err(Error::Sql(
            "more than one statement; send them one by one".to_owned(),
        )),
    }
}

/// The query that `KILL 'id'` or `KILL QUERY 'id'` names; none for another statement.
///
/// # Errors
/// [`Error::Sql`] for a `KILL` without an id in quotes.
pub fn killed(sql: &str) -> Result<Option<String>> {
    let is = |token: Option<&Token>, text: &str| {
        matches!(token, Some(Token::Word(word))
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
    };
    // What is no SQL at all gets its error from the parser.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else {
        return Ok(None);
    };
    let tokens = tokens.into_iter();
    let mut tokens = tokens
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .peekable();
    if !is(tokens.peek(), "kill") {
        return Ok(None);
    }
    tokens.next();
    if is(tokens.peek(), "query") {
        tokens.next();
    }
    let id = tokens.next();
    let rest = tokens.find(|token| *token != Token::SemiColon);
    match (id, rest) {
        (Some(Token::SingleQuotedString(id)), None) => Ok(Some(id)),
        _ => Err(Error::Sql(
            "KILL wants the id of a query in quotes, as system.queries has it".to_owned(),
        )),
    }
}

/// An error of the parser in ours.
pub fn syntax(error: ParserError) -> Error {
    Error::Sql(describe(&error.into()))
}

/// Sorts a statement by what has to be done with it. `names` are its folded table names.
pub fn classify(
    statement: Statement,
    clauses: &ddl::Clauses,
    names: &[Vec<String>],
    defaults: Defaults<'_>,
) -> Result<Kind> {
    let unsupported = |what: &str| Err(Error::Unsupported(format!("{what} is not supported yet")));
    let sql = match statement {
        Statement::CreateExternalTable(create) => {
            return Ok(Kind::CreateExternalTable(Box::new(create)));
        }
        Statement::CopyTo(copy) => return Ok(Kind::Copy(Box::new(copy))),
        Statement::Explain(ExplainStatement { statement, .. })
            if matches!(statement.as_ref(), Statement::CopyTo(_)) =>
        {
            return Err(Error::Unsupported(
                "EXPLAIN of COPY is not supported; explain its query".to_owned(),
            ));
        }
        Statement::Explain(_) | Statement::Reset(_) => return Ok(Kind::Plan(statement)),
        Statement::Statement(sql) => sql,
    };
    let sql = match *sql {
        SqlStatement::CreateTable(create) if create.query.is_some() => {
            return match NewTableAs::of(create, clauses)? {
                Some(table) => Ok(Kind::CreateTableAs(Box::new(table))),
                None => Err(Error::Sql("the table has no query".to_owned())),
            };
        }
        other => other,
    };
    let sql = match ddl::of(sql, clauses, defaults)? {
        Ok(definition) => return Ok(Kind::Define(definition)),
        Err(sql) => sql,
    };
    Ok(match *sql {
        SqlStatement::Call(call) => Kind::Call(Box::new(call)),
        SqlStatement::Use(target) => Kind::Use(use_target(target)?),
        SqlStatement::Drop {
            object_type: ObjectType::Table,
            if_exists,
            purge,
            ..
        } => Kind::DropTables {
            names: names.to_vec(),
            if_exists,
            purge,
        },
        SqlStatement::CreateView(create) => Kind::CreateView(Box::new(NewView::of(&create)?)),
        SqlStatement::Drop {
            object_type: ObjectType::View | ObjectType::Schema,
            purge: true,
            ..
        } => {
            return Err(Error::Unsupported(
                "PURGE belongs to DROP TABLE: a view or a schema has no files".to_owned(),
            ));
        }
        SqlStatement::Drop {
            object_type: ObjectType::View,
            if_exists,
            ..
        } => Kind::DropViews {
            names: names.to_vec(),
            if_exists,
        },
        SqlStatement::ShowViews {
            materialized: false,
            show_options,
            ..
        } => Kind::ShowViews(Box::new(show_options)),
        SqlStatement::ShowCreate {
            obj_type: ShowCreateObject::View,
            ..
        } => Kind::ShowCreateView(names.first().cloned().unwrap_or_default()),
        SqlStatement::ShowCreate {
            obj_type: ShowCreateObject::Table,
            ..
        } => Kind::ShowCreate(names.first().cloned().unwrap_or_default()),
        SqlStatement::ShowSchemas { show_options, .. }
        | SqlStatement::ShowDatabases { show_options, .. } => {
            Kind::Show(Box::new(Show::Schemas(show_options)))
        }
        SqlStatement::ShowCatalogs { show_options, .. } => {
            Kind::Show(Box::new(Show::Catalogs(show_options)))
        }
        SqlStatement::ShowTables {
            terse: false,
            history: false,
            extended: false,
            full: false,
            external: false,
            show_options,
        } => Kind::Show(Box::new(Show::Tables(show_options))),
        SqlStatement::ShowColumns {
            extended,
            full,
            show_options,
        } => Kind::Show(Box::new(Show::Columns {
            all: extended || full,
            options: show_options,
        })),
        SqlStatement::Query(_)
        | SqlStatement::Insert(_)
        | SqlStatement::Explain { .. }
        | SqlStatement::ExplainTable { .. }
        | SqlStatement::Set(_)
        | SqlStatement::Reset(_)
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowVariable { .. }
        | SqlStatement::ShowFunctions { .. }
        | SqlStatement::ShowCreate { .. } => Kind::Plan(Statement::Statement(sql)),
        SqlStatement::Truncate(truncate) => {
            truncate::check(&truncate)?;
            Kind::Truncate {
                name: names.first().cloned().unwrap_or_default(),
                if_exists: truncate.if_exists,
            }
        }
        SqlStatement::Update { .. } | SqlStatement::Delete(_) | SqlStatement::Merge { .. } => {
            return unsupported("changing rows");
        }
        SqlStatement::StartTransaction { .. }
        | SqlStatement::Commit { .. }
        | SqlStatement::Rollback { .. } => return unsupported("a transaction"),
        other => {
            let text = other.to_string();
            let words: Vec<&str> = text.split_whitespace().take(2).collect();
            return unsupported(&words.join(" "));
        }
    })
}

fn use_target(target: Use) -> Result<Vec<String>> {
    let name = match target {
        Use::Catalog(name) | Use::Schema(name) | Use::Database(name) | Use::Object(name) => name,
        _ => {
            return Err(Error::Sql(
                "USE wants a schema, or catalog.schema".to_owned(),
            ));
        }
    };
    ddl::folded(&name)
}

/// A text as SQL writes it.
pub fn text_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The message of a DataFusion error in one line, with the place in the statement where it is
/// known: "… at line 2, column 7".
pub fn describe(error: &DataFusionError) -> String {
    let root = error.find_root();
    let mut text = match root {
        DataFusionError::SQL(parser, _) => return parser_message(&parser.to_string()),
        DataFusionError::External(inner) => inner.to_string(),
        DataFusionError::Plan(message)
        | DataFusionError::Configuration(message)
        | DataFusionError::NotImplemented(message)
        | DataFusionError::ResourcesExhausted(message)
        | DataFusionError::Execution(message) => message.clone(),
        DataFusionError::SchemaError(schema, _) => schema.to_string(),
        other => other.strip_backtrace(),
    };
    if let Some(cut) = text.find("\n\nbacktrace:") {
        text.truncate(cut);
    }
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    match span {
        Some(span) if span.start.line > 0 => format!(
            "{text} at line {}, column {}",
            span.start.line, span.start.column
        ),
        _ => text,
    }
}

/// `sql parser error: Expected: … at Line: 1, Column: 8` in our form.
fn parser_message(text: &str) -> String {
    let text = text
        .trim_start_matches("sql parser error: ")
        .trim_start_matches("SQL error: ");
    match text.rsplit_once(" at Line: ") {
        Some((message, place)) => {
            format!(
                "{message} at line {}",
                place.replace(", Column: ", ", column ")
            )
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_syntax_error_shows_its_place() {
        let error = parse("select *\nfrm t").unwrap_err().to_string();
        assert!(
            error.ends_with("at line 2, column 1") || error.ends_with("at line 2, column 5"),
            "{error}"
        );
    }

    #[test]
    fn one_statement_at_a_time() {
        assert!(parse("").unwrap_err().to_string().contains("empty"));
        assert!(
            parse("select 1; select 2")
                .unwrap_err()
                .to_string()
                .contains("one by one")
        );
        assert!(parse("select 1;").is_ok());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let kind = |sql: &str| {
            let defaults = Defaults::default();
            classify(
                parse(sql).unwrap().statement,
                &ddl::Clauses::default(),
                &[],
                defaults,
            )
        };
        assert!(
            kind("delete from t where a = 1")
                .unwrap_err()
                .to_string()
                .contains("changing rows")
        );
        assert!(
            kind("begin")
                .unwrap_err()
                .to_string()
                .contains("transaction")
        );
        assert!(matches!(kind("use lake.a").unwrap(), Kind::Use(parts) if parts == ["lake", "a"]));
        assert!(matches!(killed(" kill Query 'x' ;"), Ok(Some(id)) if id == "x"));
        assert!(matches!(killed("select 'kill'"), Ok(None)));
        assert!(
            killed("kill 7")
                .unwrap_err()
                .to_string()
                .contains("system.queries")
        );
        let shown = kind("show schemas").unwrap();
        assert!(matches!(shown, Kind::Show(show) if matches!(*show, Show::Schemas(_))));
    }
}
