//! The statements that make the lake's tables of the generated files, run and measured.

use std::time::{Duration, Instant};

use anyhow::Context;
use arrow::array::RecordBatch;
use futures::TryStreamExt;
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressStyle};

use super::lake::{Making, NAMESPACE};
use super::report::{look_up, number, print};
use super::tables::{TABLES, Table};
use crate::client::Client;

const TICK: Duration = Duration::from_millis(200);

/// A statement, and how it is told of: in few words, on lines that fit a terminal.
struct Statement {
    sql: String,
    shown: Vec<String>,
    adds_rows: bool,
}

/// What one statement took.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    elapsed: Duration,
    /// Rows and tasks, of a statement that adds rows.
    written: Option<(u64, u64)>,
}

/// Makes the tables.
///
/// # Errors
/// When a statement fails, and when stdout is closed.
pub async fn run(client: &Client, making: &Making) -> anyhow::Result<()> {
    print("\n    time        rows  tasks  statement")?;
    let mut elapsed = Duration::ZERO;
    let mut rows = 0;
    for statement in statements(making) {
        let spinner = spinner(&statement)?;
        let measured = measure(client, &statement).await;
        spinner.finish_and_clear();
        let figures = measured.with_context(|| format!("{} failed", statement.shown.join(" ")))?;
        print(&row(&figures, &statement.shown))?;
        elapsed += figures.elapsed;
        rows += figures.written.map_or(0, |(rows, _)| rows);
    }
    let total = format!(
        "{:>6.3} s  {:>10}         total: {}",
        elapsed.as_secs_f64(),
        HumanCount(rows).to_string(),
        files(client).await?
    );
    print(&total)
}

fn statements(making: &Making) -> Vec<Statement> {
    let schema = format!("CREATE SCHEMA IF NOT EXISTS {NAMESPACE}");
    let mut statements = vec![Statement {
        shown: vec![schema.clone()],
        sql: schema,
        adds_rows: false,
    }];
    for table in TABLES {
        statements.push(create(table));
        statements.push(insert(making, table));
    }
    statements
}

fn create(table: &Table) -> Statement {
    let columns = table.definitions();
    let partitioning = table.partitioning();
    let create = format!("CREATE TABLE {NAMESPACE}.{}", table.name);
    let first = columns.first().map_or("", String::as_str);
    let more = columns.len().saturating_sub(1);
    let shown = format!("{create} ({first}, … {more} more)");
    let continued = partitioning.iter().map(|clause| format!("  {clause}"));
    Statement {
        shown: std::iter::once(shown).chain(continued).collect(),
        sql: std::iter::once(format!("{create} ({})", columns.join(", ")))
            .chain(partitioning)
            .collect::<Vec<_>>()
            .join(" "),
        adds_rows: false,
    }
}

fn insert(making: &Making, table: &Table) -> Statement {
    let insert = format!("INSERT INTO {NAMESPACE}.{} SELECT * FROM", table.name);
    let folder = making.generated();
    let whole = folder.display().to_string().replace('\'', "''");
    let last = folder.file_name().unwrap_or_default().to_string_lossy();
    let files = format!("{}/*.parquet'", table.name);
    Statement {
        sql: format!("{insert} '{whole}/{files}"),
        shown: vec![format!("{insert} '…/{last}/{files}")],
        adds_rows: true,
    }
}

async fn measure(client: &Client, statement: &Statement) -> anyhow::Result<Figures> {
    let began = Instant::now();
    let execution = client.execute(&statement.sql).await?;
    let batches: Vec<RecordBatch> = execution.stream.try_collect().await?;
    let elapsed = began.elapsed();
    if !statement.adds_rows {
        let written = None;
        return Ok(Figures { elapsed, written });
    }
    let counted = batches.first().context("the result is empty")?;
    let rows = number(counted, 0)?;
    let id = execution
        .query_id
        .context("the coordinator gave the statement no id")?;
    let tasks = look_up(client, &id).await?.figures.tasks;
    Ok(Figures {
        elapsed,
        written: Some((rows, tasks)),
    })
}

/// What has been written, from the tables' own metadata.
async fn files(client: &Client) -> anyhow::Result<String> {
    let tables = TABLES.iter().map(|table| {
        let name = table.name;
        format!("SELECT file_size_in_bytes AS bytes FROM {NAMESPACE}.\"{name}$files\"")
    });
    let tables = tables.collect::<Vec<_>>().join(" UNION ALL ");
    let sql = format!("SELECT count(*), sum(bytes) FROM ({tables})");
    let batches: Vec<RecordBatch> = client.execute(&sql).await?.stream.try_collect().await?;
    let counted = batches.first().context("the result is empty")?;
    Ok(format!(
        "{} tables, {} files, {}",
        TABLES.len(),
        HumanCount(number(counted, 0)?),
        DecimalBytes(number(counted, 1)?),
    ))
}

fn row(figures: &Figures, shown: &[String]) -> String {
    let (rows, tasks) = match figures.written {
        Some((rows, tasks)) => (HumanCount(rows).to_string(), tasks.to_string()),
        None => (String::new(), String::new()),
    };
    let seconds = figures.elapsed.as_secs_f64();
    let before = format!("{seconds:>6.3} s  {rows:>10}  {tasks:>5}  ");
    let next = format!("\n{:width$}", "", width = before.len());
    format!("{before}{}", shown.join(&next))
}

/// On a terminal: what is running now.
fn spinner(statement: &Statement) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed:>4}")?;
    let spinner = ProgressBar::new_spinner().with_style(style);
    spinner.set_message(statement.shown.join(" "));
    spinner.enable_steady_tick(TICK);
    Ok(spinner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::client::Embedded;
    use crate::demo::lake::Lake;
    use crate::demo::{cluster, generate};

    const SCALE: f64 = 0.001;

    async fn numbers(client: &Client, sql: &str) -> (u64, u64) {
        let stream = client.execute(sql).await.unwrap().stream;
        let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
        let batch = batches.first().unwrap();
        (number(batch, 0).unwrap(), number(batch, 1).unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_tiny_lake_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let (lake, making) = Lake::open(folder.path(), SCALE).unwrap();
        let making = making.unwrap();
        generate::run(&making, &CancellationToken::new())
            .await
            .unwrap();
        let path = cluster::write_config(&lake).unwrap();
        let config = crate::config::load(Some(&path), vec![]).unwrap();
        let client = || Client::Embedded(Embedded::over_config(&config, "test").unwrap());
        run(&client(), &making).await.unwrap();
        making.finish().unwrap();
        let client = client();
        for table in TABLES {
            let name = table.name;
            let expected = match name {
                "lineitem" => 6005,
                _ => table.expected_rows(SCALE),
            };
            let first = table.definitions().concat();
            let first = first.split(' ').next().unwrap();
            // Of the metadata, and of the rows.
            let counted = format!("SELECT count(*), count(DISTINCT {first} + 0) FROM {name}");
            let (rows, keys) = numbers(&client, &counted).await;
            assert_eq!(rows, expected, "{name}");
            let files = format!("SELECT count(*), sum(record_count) FROM \"{name}$files\"");
            let (files, recorded) = numbers(&client, &files).await;
            assert_eq!(recorded, expected, "{name}");
            match table.partitioning() {
                Some(_) => assert!((70..=84).contains(&files), "{name}: {files}"),
                None => assert_eq!(files, 1, "{name}"),
            }
            match name {
                "lineitem" => assert_eq!(keys, 1500),
                "partsupp" => assert_eq!(keys, 200),
                _ => assert_eq!(keys, rows, "{name}"),
            }
        }
    }

    #[test]
    fn statements_are_shown_in_few_words() {
        let orders = TABLES.iter().find(|table| table.name == "orders").unwrap();
        let create = create(orders);
        assert_eq!(
            create.shown,
            [
                "CREATE TABLE tpch.orders (o_orderkey bigint NOT NULL, … 8 more)",
                "  PARTITIONED BY (month(o_orderdate))"
            ]
        );
        assert_eq!(
            create.sql,
            "CREATE TABLE tpch.orders (o_orderkey bigint NOT NULL, o_custkey bigint NOT NULL, \
             o_orderstatus varchar NOT NULL, o_totalprice decimal(15, 2) NOT NULL, \
             o_orderdate date NOT NULL, o_orderpriority varchar NOT NULL, \
             o_clerk varchar NOT NULL, o_shippriority int NOT NULL, o_comment varchar NOT NULL) \
             PARTITIONED BY (month(o_orderdate))"
        );
        let folder = tempfile::tempdir().unwrap();
        let (_, making) = Lake::open(&folder.path().join("it's"), SCALE).unwrap();
        let insert = insert(&making.unwrap(), orders);
        assert_eq!(
            insert.shown,
            ["INSERT INTO tpch.orders SELECT * FROM '…/generate/orders/*.parquet'"]
        );
        assert!(
            insert.sql.contains("it''s/generate/orders/"),
            "{}",
            insert.sql
        );
        let figures = Figures {
            elapsed: Duration::from_millis(1234),
            written: Some((15_000, 4)),
        };
        assert_eq!(
            row(&figures, &["a".to_owned(), "b".to_owned()]),
            " 1.234 s      15,000      4  a\n                             b"
        );
    }
}
