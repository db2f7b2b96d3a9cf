//! Runs one statement and writes its result, with progress, cancellation and error places.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arrow::record_batch::RecordBatch;
use futures::{FutureExt, StreamExt};
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::args::Format;
use crate::caret;
use crate::client::{Client, Execution};
use crate::failure::{describe, say};
use crate::output::{Output, Progress, ResultWriter};
use crate::statements::Statement;

const TICK: Duration = Duration::from_millis(100);

/// Batches that may wait between the engine and a slow reader of the output.
const BATCHES_AHEAD: usize = 4;

/// How statements are run and reported.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Whether a person types the statements.
    pub interactive: bool,
    /// Whether the time is told.
    pub timing: bool,
    /// The file the statements come from, for error messages.
    pub origin: Option<String>,
}

/// Why a statement did not end well. Its error has been shown, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It failed.
    Failed,
    /// The user cancelled it.
    Cancelled,
    /// The reader of the output has gone.
    OutputClosed,
}

/// Runs statements, one at a time.
///
/// The engine has a runtime of its own: an embedded query may keep all of its threads busy, and
/// Ctrl-C and the progress line must work nevertheless.
pub struct Runner {
    shell: Runtime,
    engine: Handle,
    interrupts: Signal,
}

impl Runner {
    /// Takes over Ctrl-C: from now on it cancels statements, which run on `engine`.
    ///
    /// # Errors
    /// When the signal cannot be taken over.
    pub fn new(engine: Handle) -> anyhow::Result<Self> {
        let shell = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let interrupts = shell.block_on(async { signal(SignalKind::interrupt()) })?;
        Ok(Self {
            shell,
            engine,
            interrupts,
        })
    }

    /// Runs a statement and writes its result.
    ///
    /// # Errors
    /// How it stopped; the user has been told.
    pub fn run(
        &mut self,
        client: &Arc<Client>,
        statement: &Statement,
        output: &mut Output,
        manner: &Manner,
    ) -> Result<(), Stop> {
        let mut run = Run {
            output,
            manner,
            progress: Progress::new(),
            rows: 0,
        };
        let interrupts = &mut self.interrupts;
        let ended = self.shell.block_on(async {
            // A Ctrl-C from before this statement is not meant for it.
            while interrupts.recv().now_or_never().is_some() {}
            // The statement is dropped, and with it cancelled, when Ctrl-C wins.
            tokio::select! {
                ended = run.run(client, &self.engine, &statement.text) => ended.map_err(Some),
                _ = interrupts.recv() => Err(None),
            }
        });
        run.progress.hide();
        match ended {
            Ok(()) => Ok(()),
            Err(None) => {
                say("cancelled");
                Err(Stop::Cancelled)
            }
            Err(Some(_)) if output.destination().is_closed() => Err(Stop::OutputClosed),
            Err(Some(error)) => {
                say(&error_text(&error, statement, manner.origin.as_deref()));
                Err(Stop::Failed)
            }
        }
    }
}

/// One statement under way.
struct Run<'a> {
    output: &'a mut Output,
    manner: &'a Manner,
    progress: Progress,
    rows: u64,
}

impl Run<'_> {
    async fn run(
        &mut self,
        client: &Arc<Client>,
        engine: &Handle,
        sql: &str,
    ) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(TICK);
        let (client, sql) = (Arc::clone(client), sql.to_owned());
        let mut planning = AbortOnDrop(engine.spawn(async move { client.execute(&sql).await }));
        let execution = loop {
            tokio::select! {
                execution = &mut planning.0 => break execution.context("planning panicked")??,
                _ = tick.tick() => self.progress.tick(0),
            }
        };
        let Execution {
            schema,
            mut stream,
            query_id,
        } = execution;
        tracing::debug!(query_id, "the statement runs");
        let (sender, mut batches) = tokio::sync::mpsc::channel(BATCHES_AHEAD);
        let mut driver = AbortOnDrop(engine.spawn(async move {
            while let Some(batch) = stream.next().await {
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
        }));
        let has_result = !schema.fields().is_empty();
        let mut writer: Option<Box<dyn ResultWriter>> = None;
        loop {
            let batch = tokio::select! {
                batch = batches.recv() => batch,
                _ = tick.tick() => { self.progress.tick(self.rows); continue },
            };
            let Some(batch) = batch else { break };
            let batch = batch?;
            if has_result {
                self.write(&mut writer, &batch)?;
            }
        }
        // A panic ends the channel too, and must not pass for the end of the result.
        (&mut driver.0)
            .await
            .context("reading the result panicked")?;
        if has_result {
            self.make_room();
            let writer = match writer {
                Some(writer) => writer,
                None => self.output.begin(&schema)?,
            };
            writer.finish()?;
        }
        self.foot(has_result);
        Ok(())
    }

    fn write(
        &mut self,
        writer: &mut Option<Box<dyn ResultWriter>>,
        batch: &RecordBatch,
    ) -> anyhow::Result<()> {
        self.make_room();
        let writer = match writer {
            Some(writer) => writer,
            None => writer.insert(self.output.begin(&batch.schema())?),
        };
        self.rows += batch.num_rows() as u64;
        writer.write(batch)
    }

    /// The progress line gives way to rows that appear on the same terminal.
    fn make_room(&mut self) {
        if self.output.destination().is_terminal() {
            self.progress.hide();
        }
    }

    /// The line under a result.
    fn foot(&mut self, has_result: bool) {
        self.progress.hide();
        if !self.manner.interactive && self.output.format != Format::Table {
            return;
        }
        let rows = match (has_result, self.rows) {
            (false, _) => "OK".to_owned(),
            (true, 1) => "1 row".to_owned(),
            (true, rows) => format!("{rows} rows"),
        };
        if self.manner.timing {
            say(&format!(
                "({rows}, {:.3} s)",
                self.progress.elapsed().as_secs_f64()
            ));
        } else {
            say(&format!("({rows})"));
        }
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The error, and the place in the statement when the error tells one.
fn error_text(error: &anyhow::Error, statement: &Statement, origin: Option<&str>) -> String {
    let message = describe(error);
    let place = caret::position(&message);
    let line = statement.line + place.map_or(0, |place| place.line - 1);
    let origin = origin.map_or_else(String::new, |origin| format!("{origin}:{line}: "));
    let excerpt = place
        .and_then(|place| caret::excerpt(&statement.text, place, statement.line))
        .map_or_else(String::new, |excerpt| format!("\n{excerpt}"));
    format!("error: {origin}{message}{excerpt}")
}

/// How a file of statements is called in messages.
pub fn origin_of(path: &Path) -> String {
    if path.as_os_str() == "-" {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_place() {
        let statement = Statement {
            text: "select\n  a from t".into(),
            line: 4,
        };
        let error = anyhow::anyhow!("no field named a at line 2, column 3");
        assert_eq!(
            error_text(&error, &statement, Some("q.sql")),
            "error: q.sql:5: no field named a at line 2, column 3\n5 |   a from t\n  |   ^"
        );
        let error = anyhow::anyhow!("the cluster is full");
        assert_eq!(
            error_text(&error, &statement, None),
            "error: the cluster is full"
        );
    }
}
