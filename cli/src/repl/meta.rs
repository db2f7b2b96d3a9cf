//! Backslash commands. Those that list things are SQL underneath, so that they work the same on
//! an embedded engine and on a coordinator.

use std::path::Path;

use super::{Next, Shell, complain, format_named};
use crate::commands::sql::read;
use crate::failure::{Failure, say};
use crate::output::Expanded;
use crate::statements::{self, Statement};

const HELP: &str = "\
\\q                quit (also Ctrl-D)
\\?                this help
\\l                list catalogs
\\dn [PATTERN]     list schemas
\\dt [PATTERN]     list tables; PATTERN is a name or schema.name, * stands for anything
\\d [NAME]         describe a table, or list tables
\\d+ NAME          the statement that would create a table
\\x [on|off|auto]  a column per line
\\timing [on|off]  tell how long statements take
\\format [NAME]    table, csv, json, ndjson, arrow or parquet
\\o [FILE]         write results to FILE; without FILE to the terminal again
\\i FILE           run the statements of FILE
\\conninfo         where statements run
Statements end with `;` and may span lines. Ctrl-C cancels a statement or drops a line.";

impl Shell {
    /// Runs the command behind a backslash.
    pub(super) fn meta(&mut self, command: &str) -> Result<Next, Failure> {
        let command = command.trim().trim_end_matches(';').trim_end();
        let (name, rest) = command
            .split_once(char::is_whitespace)
            .unwrap_or((command, ""));
        let argument = Some(rest.trim()).filter(|rest| !rest.is_empty());
        match name {
            "q" | "quit" => return Ok(Next::Quit),
            "?" | "h" | "help" => say(HELP),
            "l" => self.sql(catalogs())?,
            "dn" => self.sql(schemas(argument))?,
            "dt" => self.sql(tables(argument))?,
            "d" => match argument {
                Some(table) => self.sql(format!("DESCRIBE {table}"))?,
                None => self.sql(tables(None))?,
            },
            "d+" => match argument {
                Some(table) => self.sql(format!("SHOW CREATE TABLE {table}"))?,
                None => say("error: \\d+ needs a table"),
            },
            "x" => self.expanded(argument),
            "timing" => {
                let on = switch(argument, self.manner.timing);
                self.manner.timing = on.unwrap_or(self.manner.timing);
                say(if self.manner.timing {
                    "timing is on"
                } else {
                    "timing is off"
                });
            }
            "format" => self.format(argument),
            "o" => {
                if let Err(error) = self.output.redirect(argument.map(Path::new)) {
                    complain(&error);
                }
            }
            "i" => return self.include(argument),
            "conninfo" => say(&format!("statements run on {}", self.client.description())),
            other => say(&format!(
                "error: there is no command \\{other}; \\? lists them"
            )),
        }
        Ok(Next::Go)
    }

    fn sql(&mut self, text: String) -> Result<(), Failure> {
        self.statement(&Statement { text, line: 1 }).map(drop)
    }

    fn expanded(&mut self, argument: Option<&str>) {
        self.output.expanded = match argument {
            Some("auto") => Expanded::Auto,
            other => match switch(other, self.output.expanded == Expanded::On) {
                Some(true) => Expanded::On,
                Some(false) => Expanded::Off,
                None => self.output.expanded,
            },
        };
        say(match self.output.expanded {
            Expanded::On => "a column per line: on",
            Expanded::Off => "a column per line: off",
            Expanded::Auto => "a column per line: when a row is wider than the terminal",
        });
    }

    fn format(&mut self, argument: Option<&str>) {
        match argument.map(|name| (name, format_named(name))) {
            Some((_, Some(format))) => self.output.format = format,
            Some((name, None)) => {
                say(&format!(
                    "error: `{name}` is no format; there is table, csv, json, ndjson, arrow, parquet"
                ));
                return;
            }
            None => {}
        }
        say(&format!("format is {:?}", self.output.format).to_lowercase());
    }

    /// Runs the statements of a file up to the first that fails.
    fn include(&mut self, argument: Option<&str>) -> Result<Next, Failure> {
        let Some(path) = argument.map(Path::new) else {
            say("error: \\i needs a file");
            return Ok(Next::Go);
        };
        let text = match read(path) {
            Ok(text) => text,
            Err(error) => {
                complain(&error);
                return Ok(Next::Go);
            }
        };
        let outer = self.manner.origin.replace(crate::runner::origin_of(path));
        let mut result = Ok(true);
        for statement in statements::split(&text).all() {
            result = self.statement(&statement);
            if !matches!(result, Ok(true)) {
                break;
            }
        }
        self.manner.origin = outer;
        result.map(|_| Next::Go)
    }
}

/// `on`, `off`, or the opposite of what is; `None` for anything else.
fn switch(argument: Option<&str>, now: bool) -> Option<bool> {
    match argument {
        None => Some(!now),
        Some("on") => Some(true),
        Some("off") => Some(false),
        Some(other) => {
            say(&format!("error: `{other}` is neither on nor off"));
            None
        }
    }
}

fn catalogs() -> String {
    "SELECT DISTINCT catalog_name FROM information_schema.schemata ORDER BY 1".to_owned()
}

fn schemas(pattern: Option<&str>) -> String {
    let filter = pattern
        .map(|pattern| format!(" WHERE schema_name LIKE {}", like(pattern)))
        .unwrap_or_default();
    format!(
        "SELECT catalog_name, schema_name FROM information_schema.schemata{filter} ORDER BY 1, 2"
    )
}

fn tables(pattern: Option<&str>) -> String {
    let filter = match pattern.map(|pattern| pattern.rsplit_once('.').unwrap_or(("", pattern))) {
        None => String::new(),
        Some(("", table)) => format!(" AND table_name LIKE {}", like(table)),
        Some((schema, table)) => format!(
            " AND table_schema LIKE {} AND table_name LIKE {}",
            like(schema),
            like(table)
        ),
    };
    format!(
        "SELECT table_catalog, table_schema, table_name, table_type FROM \
         information_schema.tables WHERE table_schema <> 'information_schema'{filter} \
         ORDER BY 1, 2, 3"
    )
}

/// A pattern with `*` and `?` as a LIKE pattern.
fn like(pattern: &str) -> String {
    let mut text = String::from("'");
    for c in pattern.chars() {
        match c {
            '*' => text.push('%'),
            '?' => text.push('_'),
            '%' | '_' | '\\' => text.extend(['\\', c]),
            '\'' => text.push_str("''"),
            other => text.push(other),
        }
    }
    text.push('\'');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_like() {
        assert_eq!(like("line*"), "'line%'");
        assert_eq!(like("o'b_%?"), "'o''b\\_\\%_'");
        assert!(
            tables(Some("tpch.l*")).contains("table_schema LIKE 'tpch' AND table_name LIKE 'l%'")
        );
    }

    #[test]
    fn switches_turn() {
        assert_eq!(switch(None, true), Some(false));
        assert_eq!(switch(Some("on"), true), Some(true));
        assert_eq!(switch(Some("maybe"), true), None);
    }
}
