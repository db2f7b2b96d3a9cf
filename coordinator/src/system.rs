//! The `system` schema: what the coordinator knows about itself, as tables. A statement sees it as
//! it was when the statement was planned.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{
    ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::Result;

use crate::membership::WorkerInfo;
use crate::query::{Figures, Query};
use crate::session::Session;

/// Name of the schema, in every catalog.
pub const SCHEMA: &str = "system";

/// Names of its tables.
pub const TABLES: [&str; 3] = ["queries", "sessions", "workers"];

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
            "state",
            strings(figures.iter().map(|f| Some(f.state.name()))),
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
