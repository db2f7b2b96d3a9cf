//! The 22 TPC-H queries through Flight SQL, with what the coordinator says each took.

use std::borrow::Cow;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt64Type};
use futures::TryStreamExt;
use indicatif::{DecimalBytes, HumanCount};

use super::cluster::Cluster;
use super::lake::Lake;
use crate::client::Client;
use crate::failure::{describe, say};

/// The queries with the specification's validation parameters.
pub const QUERIES: [&str; 22] = [
    include_str!("queries/q01.sql"),
    include_str!("queries/q02.sql"),
    include_str!("queries/q03.sql"),
    include_str!("queries/q04.sql"),
    include_str!("queries/q05.sql"),
    include_str!("queries/q06.sql"),
    include_str!("queries/q07.sql"),
    include_str!("queries/q08.sql"),
    include_str!("queries/q09.sql"),
    include_str!("queries/q10.sql"),
    include_str!("queries/q11.sql"),
    include_str!("queries/q12.sql"),
    include_str!("queries/q13.sql"),
    include_str!("queries/q14.sql"),
    include_str!("queries/q15.sql"),
    include_str!("queries/q16.sql"),
    include_str!("queries/q17.sql"),
    include_str!("queries/q18.sql"),
    include_str!("queries/q19.sql"),
    include_str!("queries/q20.sql"),
    include_str!("queries/q21.sql"),
    include_str!("queries/q22.sql"),
];

/// The query that is shown with its stages.
const EXPLAINED: usize = 3;

/// A query that takes longer than this has failed.
const QUERY_TIMEOUT: Duration = Duration::from_secs(600);

/// How long the last figures of a query may take to reach the coordinator.
const FIGURES_TIMEOUT: Duration = Duration::from_secs(2);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What one query took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    elapsed: Duration,
    rows: u64,
    stages: u64,
    /// How many tasks its stages had.
    pub tasks: u64,
    bytes_read: u64,
    bytes_exchanged: u64,
}

/// Runs all queries, then explains one of them.
///
/// # Errors
/// When a query fails; the others are run nevertheless.
pub async fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let client = cluster.client();
    print("\nquery      time       rows  stages  tasks  read from lake   exchanged")?;
    let mut total = Figures::default();
    let mut failed = Vec::new();
    for (number, sql) in (1..).zip(QUERIES) {
        let measured = tokio::time::timeout(QUERY_TIMEOUT, measure(client, sql))
            .await
            .unwrap_or_else(|_| Err(anyhow!("no result within {} s", QUERY_TIMEOUT.as_secs())));
        match measured {
            Ok(figures) => {
                print(&row(&format!("Q{number}"), &figures))?;
                total.add(&figures);
            }
            Err(error) => {
                print(&format!("{:<6}  failed", format!("Q{number}")))?;
                say(&format!("error: Q{number}: {}", describe(&error)));
                failed.push(format!("Q{number}"));
            }
        }
    }
    print(&row("total", &total))?;
    explain(client).await?;
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("failed: {}", failed.join(", "))
    }
}

async fn measure(client: &Client, sql: &str) -> anyhow::Result<Figures> {
    let began = Instant::now();
    let execution = client.execute(sql).await?;
    let mut stream = execution.stream;
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await? {
        rows += batch.num_rows() as u64;
    }
    drop(stream);
    let elapsed = began.elapsed();
    let id = execution
        .query_id
        .context("the coordinator gave the query no id")?;
    Ok(Figures {
        elapsed,
        rows,
        ..figures(client, &id).await?
    })
}

/// Asks the coordinator, until the query's last figures are there.
async fn figures(client: &Client, id: &str) -> anyhow::Result<Figures> {
    let deadline = Instant::now() + FIGURES_TIMEOUT;
    loop {
        let Known { running, figures } = look_up(client, id).await?;
        // The workers' figures may arrive after the query has ended; every query reads something.
        let complete = !running && figures.bytes_read > 0;
        if complete || Instant::now() > deadline {
            return Ok(figures);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// What the coordinator knows of a query.
pub struct Known {
    running: bool,
    /// Without time and rows, which its client knows best.
    pub figures: Figures,
}

/// Asks the coordinator about a query.
///
/// # Errors
/// When it does not answer, or does not know the query.
pub async fn look_up(client: &Client, id: &str) -> anyhow::Result<Known> {
    let sql = format!(
        "SELECT state, stages, tasks, bytes_read, bytes_exchanged FROM system.queries \
         WHERE query_id = '{id}'"
    );
    let batches: Vec<RecordBatch> = client.execute(&sql).await?.stream.try_collect().await?;
    let batch = batches.iter().find(|batch| batch.num_rows() > 0);
    let batch = batch.with_context(|| format!("system.queries does not know {id}"))?;
    Ok(Known {
        running: matches!(text(batch, 0)?.as_str(), "PLANNED" | "RUNNING"),
        figures: Figures {
            stages: number(batch, 1)?,
            tasks: number(batch, 2)?,
            bytes_read: number(batch, 3)?,
            bytes_exchanged: number(batch, 4)?,
            ..Figures::default()
        },
    })
}

fn text(batch: &RecordBatch, column: usize) -> anyhow::Result<String> {
    let texts = cast(batch.column(column), &DataType::Utf8)?;
    let texts = texts.as_string_opt::<i32>().context("a text is expected")?;
    Ok(texts.iter().next().flatten().unwrap_or_default().to_owned())
}

/// A number of the first row; 0 for NULL.
///
/// # Errors
/// When the column has no numbers.
pub fn number(batch: &RecordBatch, column: usize) -> anyhow::Result<u64> {
    let numbers = cast(batch.column(column), &DataType::UInt64)?;
    let numbers = numbers
        .as_primitive_opt::<UInt64Type>()
        .context("a number is expected")?;
    Ok(numbers.iter().next().flatten().unwrap_or_default())
}

/// Prints the plan of one query with the stages it ran in.
async fn explain(client: &Client) -> anyhow::Result<()> {
    let query = QUERIES
        .get(EXPLAINED - 1)
        .context("there is such a query")?;
    let execution = client.execute(&format!("EXPLAIN ANALYZE {query}")).await?;
    let batches: Vec<RecordBatch> = execution.stream.try_collect().await?;
    let screen = console::Term::stdout();
    let width = screen.size_checked().map(|(_, columns)| columns.into());
    print(&format!("\nEXPLAIN ANALYZE of Q{EXPLAINED}:"))?;
    for batch in &batches {
        let Some(column) = batch.columns().last() else {
            continue;
        };
        let plans = cast(column, &DataType::Utf8)?;
        let plans = plans.as_string_opt::<i32>().context("a plan is a text")?;
        for plan in (0..plans.len()).filter(|row| plans.is_valid(*row)) {
            for line in plans.value(plan).trim_end().lines() {
                print(&fitting(line, width))?;
            }
        }
    }
    Ok(())
}

/// The line, cut to the width of a terminal: a wrapped plan is no tree any more.
fn fitting(line: &str, width: Option<usize>) -> Cow<'_, str> {
    match width {
        Some(width) => console::truncate_str(line, width, "…"),
        None => Cow::Borrowed(line),
    }
}

/// Tells how to connect, and what runs.
///
/// # Errors
/// When stdout is closed.
pub fn connecting(cluster: &Cluster, lake: &Lake, keep: bool) -> anyhow::Result<()> {
    let uri = cluster.uri();
    if !keep {
        return print(&format!(
            "\nTo ask questions of your own, embedded or with a cluster that stays:\n  \
             inshore sql --config {}\n  \
             inshore demo --dir {} --keep",
            cluster.config().display(),
            lake.dir().display(),
        ));
    }
    print(&format!(
        "\nThe cluster runs until Ctrl-C. To ask questions of your own:\n  \
         inshore sql --connect {uri}\n\n\
         From Python (pip install adbc-driver-flightsql pyarrow):\n  \
         import adbc_driver_flightsql.dbapi as flight_sql\n  \
         with flight_sql.connect(\"{uri}\") as connection, connection.cursor() as cursor:\n      \
         cursor.execute(\"SELECT count(*) FROM lineitem\")\n      \
         print(cursor.fetch_arrow_table())\n"
    ))?;
    for (name, pid, log) in cluster.processes() {
        let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        print(&format!("{name:<12} pid {pid:<8} log {}", log.display()))?;
    }
    Ok(())
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.elapsed += other.elapsed;
        self.rows += other.rows;
        self.stages += other.stages;
        self.tasks += other.tasks;
        self.bytes_read += other.bytes_read;
        self.bytes_exchanged += other.bytes_exchanged;
    }
}

fn row(name: &str, figures: &Figures) -> String {
    format!(
        "{name:<6} {:>6.3} s  {:>9}  {:>6}  {:>5}  {:>14}  {:>10}",
        figures.elapsed.as_secs_f64(),
        HumanCount(figures.rows).to_string(),
        figures.stages,
        figures.tasks,
        DecimalBytes(figures.bytes_read).to_string(),
        DecimalBytes(figures.bytes_exchanged).to_string(),
    )
}

/// Writes a line to stdout as soon as it is known.
///
/// # Errors
/// When stdout is closed.
pub fn print(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("cannot write to stdout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_fits_a_terminal() {
        assert_eq!(fitting("│ SortExec: TopK", Some(10)), "│ SortExe…");
        assert_eq!(fitting("│ SortExec", Some(10)), "│ SortExec");
        assert_eq!(fitting("│ SortExec: TopK", None), "│ SortExec: TopK");
    }
}
