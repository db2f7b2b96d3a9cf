//! The `system` schema: what the coordinator knows about itself, as tables. A statement sees it as
//! it was when the statement was planned.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array,
};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use inshore_engine::metrics::{TaskFigures, TaskTotals};
use url::Url;

use crate::membership::WorkerInfo;
use crate::query::{Figures, Query};
use crate::session::Session;

/// Name of the schema, in every catalog.
pub const SCHEMA: &str = "system";

/// Names of its tables.
pub const TABLES: [&str; 4] = ["queries", "sessions", "tasks", "workers"];

/// `system.queries`: running and recent statements, oldest first.
pub fn queries(queries: &[Arc<Query>]) -> Result<Arc<dyn TableProvider>> {
    let figures: Vec<_> = queries.iter().map(|query| query.figures()).collect();
    let sessions: Vec<_> = queries
        .iter()
        .map(|query| query.session.to_string())
        .collect();
    let count = |value: fn(&Figures) -> u64| -> ArrayRef {
        Arc::new(figures.iter().map(value).map(Some).collect::<UInt64Array>())
    };
    // NULL until it is known.
    let measured = |value: fn(&Figures) -> u64| -> ArrayRef {
        let values = figures.iter().map(|f| f.measured.then(|| value(f)));
        Arc::new(values.collect::<UInt64Array>())
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "query_id",
            strings(queries.iter().map(|q| Some(q.id.as_str()))),
        ),
        (
            "session_id",
            strings(sessions.iter().map(|id| Some(id.as_str()))),
        ),
        (
            "user_name",
            strings(queries.iter().map(|q| q.user.as_deref())),
        ),
        (
            "state",
            strings(figures.iter().map(|f| Some(f.state.name()))),
        ),
        (
            "progress",
            Arc::new(
                figures
                    .iter()
                    .map(Figures::progress)
                    .collect::<Float64Array>(),
            ),
        ),
        ("sql", strings(queries.iter().map(|q| Some(q.sql.as_str())))),
        (
            "submitted",
            times(queries.iter().map(|query| query.submitted)),
        ),
        (
            "elapsed_ms",
            count(|f| u64::try_from(f.elapsed.as_millis()).unwrap_or(u64::MAX)),
        ),
        ("rows", count(|f| f.rows)),
        ("stages", count(|f| f.totals.stages)),
        ("tasks", count(|f| f.totals.tasks)),
        ("bytes_read", measured(|f| f.totals.bytes_read)),
        ("bytes_exchanged", measured(|f| f.totals.bytes_exchanged)),
        ("error", strings(figures.iter().map(|f| f.error.as_deref()))),
    ];
    table(columns)
}

/// `system.sessions`: the open sessions of clients, oldest first.
pub fn sessions(sessions: &[Arc<Session>]) -> Result<Arc<dyn TableProvider>> {
    let defaults: Vec<_> = sessions.iter().map(|session| session.defaults()).collect();
    let ids: Vec<_> = sessions
        .iter()
        .map(|session| session.id.to_string())
        .collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "session_id",
            strings(ids.iter().map(|id| Some(id.as_str()))),
        ),
        (
            "user_name",
            strings(sessions.iter().map(|s| s.client.user.as_deref())),
        ),
        (
            "client_address",
            strings(sessions.iter().map(|s| s.client.address.as_deref())),
        ),
        (
            "client_name",
            strings(sessions.iter().map(|s| s.client.name.as_deref())),
        ),
        (
            "opened",
            times(sessions.iter().map(|session| session.opened)),
        ),
        (
            "catalog",
            strings(defaults.iter().map(|(catalog, _)| Some(catalog.as_str()))),
        ),
        (
            "schema",
            strings(defaults.iter().map(|(_, schema)| Some(schema.as_str()))),
        ),
        (
            "statements",
            Arc::new(
                sessions
                    .iter()
                    .map(|session| Some(session.statements()))
                    .collect::<UInt64Array>(),
            ),
        ),
    ];
    table(columns)
}

/// `system.tasks`: the tasks of those queries, the coordinator's own with stage 0.
pub fn tasks(queries: &[Arc<Query>]) -> Result<Arc<dyn TableProvider>> {
    let rows: Vec<_> = queries
        .iter()
        .flat_map(|query| {
            let state = query.figures().state;
            let tasks = query.tasks().into_iter();
            tasks.map(move |task| (query.id.as_str(), state, task))
        })
        .collect();
    let number = |value: fn(&TaskFigures) -> usize| -> ArrayRef {
        let values = rows.iter().map(|row| u32::try_from(value(&row.2)).ok());
        Arc::new(values.collect::<UInt32Array>())
    };
    // NULL until the query has ended.
    let measured = |value: fn(TaskTotals) -> u64| -> ArrayRef {
        let values = rows.iter().map(|row| row.2.measured.map(value));
        Arc::new(values.collect::<UInt64Array>())
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("query_id", strings(rows.iter().map(|row| Some(row.0)))),
        ("stage", number(|task| task.stage)),
        ("task", number(|task| task.task)),
        (
            "worker",
            strings(
                rows.iter()
                    .map(|row| row.2.worker.as_ref().map(Url::as_str)),
            ),
        ),
        ("state", strings(rows.iter().map(|row| Some(row.1.name())))),
        ("rows", measured(|task| task.rows)),
        ("bytes_read", measured(|task| task.bytes_read)),
        ("bytes_received", measured(|task| task.bytes_received)),
    ];
    table(columns)
}

/// `system.workers`: the members of the cluster.
pub fn workers(workers: &[WorkerInfo]) -> Result<Arc<dyn TableProvider>> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("url", strings(workers.iter().map(|w| Some(w.url.as_str())))),
        (
            "node_id",
            strings(workers.iter().map(|w| Some(w.node_id.as_str()))),
        ),
        ("site", strings(workers.iter().map(|w| w.site.as_deref()))),
        (
            "state",
            strings(workers.iter().map(|w| Some(w.state.name()))),
        ),
        (
            "version",
            strings(workers.iter().map(|w| Some(w.build_version.as_str()))),
        ),
        (
            "cores",
            Arc::new(
                workers
                    .iter()
                    .map(|w| Some(w.cores))
                    .collect::<UInt32Array>(),
            ),
        ),
        (
            "running_tasks",
            Arc::new(
                workers
                    .iter()
                    .map(|w| Some(w.load.running_tasks))
                    .collect::<UInt32Array>(),
            ),
        ),
        (
            "memory_reserved_bytes",
            Arc::new(
                workers
                    .iter()
                    .map(|w| Some(w.load.memory_reserved_bytes))
                    .collect::<UInt64Array>(),
            ),
        ),
    ];
    table(columns)
}

fn table(columns: Vec<(&str, ArrayRef)>) -> Result<Arc<dyn TableProvider>> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )?;
    Ok(Arc::new(MemTable::try_new(
        batch.schema(),
        vec![vec![batch]],
    )?))
}

fn strings<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn times(times: impl Iterator<Item = SystemTime>) -> ArrayRef {
    let times = times.map(|time| Some(micros(time)));
    let times: TimestampMicrosecondArray = times.collect();
    Arc::new(times.with_timezone("UTC"))
}

fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
