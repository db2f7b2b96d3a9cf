//! The interactive shell: lines edited with history and completion, statements that may span
//! lines, and backslash commands in the spirit of psql.

mod helper;
mod meta;

use std::path::PathBuf;
use std::sync::Arc;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::runtime::Handle;

use self::helper::ShellHelper;
use crate::args::Format;
use crate::client::Client;
use crate::failure::{Failure, describe, say};
use crate::output::Output;
use crate::runner::{Manner, Runner, Stop};
use crate::statements::{self, Statement};

const HISTORY_LINES: usize = 10_000;

/// The shell's state.
struct Shell {
    client: Arc<Client>,
    runner: Runner,
    output: Output,
    manner: Manner,
}

/// What the shell does after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Go,
    Quit,
}

impl Shell {
    /// Runs one statement; `false` when it failed.
    fn statement(&mut self, statement: &Statement) -> Result<bool, Failure> {
        let run = self
            .runner
            .run(&self.client, statement, &mut self.output, &self.manner);
        match run {
            Ok(()) => Ok(true),
            Err(Stop::Failed | Stop::Cancelled) => Ok(false),
            Err(Stop::OutputClosed) => Err(Failure::OutputClosed),
        }
    }

    /// Runs what was typed: statements, or a backslash command.
    fn entered(&mut self, text: &str) -> Result<Next, Failure> {
        if let Some(command) = text.trim_start().strip_prefix('\\') {
            return self.meta(command);
        }
        for statement in statements::split(text).all() {
            if matches!(
                statement.text.to_ascii_lowercase().as_str(),
                "quit" | "exit"
            ) {
                return Ok(Next::Quit);
            }
            self.statement(&statement)?;
        }
        Ok(Next::Go)
    }
}

/// Reads and runs until the end.
///
/// # Errors
/// When the terminal cannot be used.
pub fn run(client: Arc<Client>, output: Output, engine: Handle) -> Result<(), Failure> {
    let mut editor = editor().map_err(|error| Failure::Run(error.into()))?;
    editor.set_helper(Some(ShellHelper::new(Arc::clone(&client), engine.clone())));
    // After the editor, which replaces the handler of Ctrl-C: the runner's chains to it.
    let runner = Runner::new(engine).map_err(Failure::Run)?;
    let manner = Manner {
        interactive: true,
        timing: true,
        origin: None,
    };
    let mut shell = Shell {
        client,
        runner,
        output,
        manner,
    };
    let history = history_file();
    if let Some(path) = &history {
        let _ = editor.load_history(path);
    }
    say(&format!(
        "inshore {} on {}\nStatements end with `;`. \\? helps, \\q quits.",
        env!("CARGO_PKG_VERSION"),
        shell.client.description()
    ));
    loop {
        match editor.readline("inshore> ") {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => {
                let _ = editor.add_history_entry(text.trim());
                // Written at once: a shell that is killed keeps its history.
                if let Some(path) = &history {
                    let _ = editor.append_history(path);
                }
                if shell.entered(&text)? == Next::Quit {
                    break;
                }
                if let Some(helper) = editor.helper_mut().filter(|_| may_change_names(&text)) {
                    helper.forget_names();
                }
            }
            // Ctrl-C drops the line, as everywhere.
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Failure::Run(error.into())),
        }
    }
    shell.output.commit().map_err(Failure::Run)
}

/// Whether tables may have come, gone or got another name.
fn may_change_names(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("\\i")
        || statements::split(text).all().iter().any(|statement| {
            let first = statement.text.split_whitespace().next().unwrap_or("");
            ["create", "drop", "alter"]
                .iter()
                .any(|word| first.eq_ignore_ascii_case(word))
        })
}

fn editor() -> rustyline::Result<Editor<ShellHelper, DefaultHistory>> {
    let config = Config::builder()
        .max_history_size(HISTORY_LINES)?
        .history_ignore_dups(true)?
        .completion_type(CompletionType::List)
        .build();
    Editor::with_config(config)
}

/// The history's file in the user's state folder, which is made when absent; `INSHORE_HISTORY`
/// names another one, and an empty one turns the history off.
fn history_file() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("INSHORE_HISTORY") {
        return (!path.is_empty()).then(|| path.into());
    }
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local").join("state")))?;
    let dir = state.join("inshore");
    std::fs::create_dir_all(&dir).ok()?;
    Some(dir.join("history"))
}

/// The format of that name.
fn format_named(name: &str) -> Option<Format> {
    <Format as clap::ValueEnum>::from_str(name, true).ok()
}

/// Tells an error without ending the shell.
fn complain(error: &anyhow::Error) {
    say(&format!("error: {}", describe(error)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_change_names() {
        for text in [
            "create table t (a int);",
            "select 1; DROP VIEW v;",
            " alter table t rename to u;",
            "\\i file.sql",
        ] {
            assert!(may_change_names(text), "{text}");
        }
        for text in ["select 'create';", "insert into t values (1);", "\\dt"] {
            assert!(!may_change_names(text), "{text}");
        }
    }
}
