//! Names the file in whatever goes wrong while it is read, panics of the decoder included.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use datafusion::error::{DataFusionError, Result};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parquet::errors::ParquetError;

use crate::Error;

/// A planner of one file whose errors name the file.
pub struct NamedPlanner {
    inner: Box<dyn MorselPlanner>,
    path: Arc<str>,
}

impl NamedPlanner {
    /// `path` is the file's location as the table spells it.
    pub fn new(inner: Box<dyn MorselPlanner>, path: Arc<str>) -> Self {
        Self { inner, path }
    }
}

impl fmt::Debug for NamedPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedPlanner({})", self.path)
    }
}

impl MorselPlanner for NamedPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, path } = *self;
        let planned = catch_unwind(AssertUnwindSafe(|| inner.plan()))
            .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
            .map_err(|error| name_file(&path, error))?;
        let Some(mut plan) = planned else {
            return Ok(None);
        };
        let morsels = plan
            .take_morsels()
            .into_iter()
            .map(|inner| {
                let path = Arc::clone(&path);
                Box::new(NamedMorsel { inner, path }) as Box<dyn Morsel>
            })
            .collect();
        let planners = plan
            .take_ready_planners()
            .into_iter()
            .map(|inner| Box::new(Self::new(inner, Arc::clone(&path))) as Box<dyn MorselPlanner>)
            .collect();
        let mut named = MorselPlan::new()
            .with_morsels(morsels)
            .with_planners(planners);
        if let Some(pending) = plan.take_pending_planner() {
            named.set_pending_planner(async move {
                let next = AssertUnwindSafe(pending.into_future())
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
                    .map_err(|error| name_file(&path, error))?;
                Ok(Box::new(Self::new(next, path)) as Box<dyn MorselPlanner>)
            });
        }
        Ok(Some(named))
    }
}

struct NamedMorsel {
    inner: Box<dyn Morsel>,
    path: Arc<str>,
}

impl fmt::Debug for NamedMorsel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedMorsel({})", self.path)
    }
}

impl Morsel for NamedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, path } = *self;
        AssertUnwindSafe(inner.into_stream())
            .catch_unwind()
            .map(move |batch| {
                batch
                    .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
                    .map_err(|error| name_file(&path, error))
            })
            .boxed()
    }
}

fn panicked(panic: &(dyn Any + Send)) -> DataFusionError {
    let why = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("the decoder gave up");
    DataFusionError::ParquetError(Box::new(ParquetError::General(why.to_string())))
}

/// Turns errors of the file into ours, and says of all others where they arose.
pub fn name_file(path: &str, error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::ParquetError(error) => parquet_error(path, *error),
        DataFusionError::ObjectStore(source) => store_error(path, *source),
        DataFusionError::ArrowError(error, backtrace) => match *error {
            ArrowError::ParquetError(why) => corrupt(path, why),
            other => DataFusionError::ArrowError(Box::new(other), backtrace)
                .context(format!("reading {path}")),
        },
        DataFusionError::External(source) => match source.downcast::<Error>() {
            Ok(ours) => DataFusionError::External(ours),
            Err(other) => DataFusionError::External(other).context(format!("reading {path}")),
        },
        DataFusionError::Execution(why) => DataFusionError::Execution(format!("{why} (in {path})")),
        other => other,
    }
}

fn parquet_error(path: &str, error: ParquetError) -> DataFusionError {
    match error {
        ParquetError::External(source) => match source.downcast::<object_store::Error>() {
            Ok(source) => store_error(path, *source),
            Err(source) => corrupt(path, source.to_string()),
        },
        other => corrupt(path, other.to_string()),
    }
}

fn store_error(path: &str, source: object_store::Error) -> DataFusionError {
    Error::store(path, source).into()
}

fn corrupt(path: &str, why: String) -> DataFusionError {
    Error::Corrupt {
        path: path.to_string(),
        why,
    }
    .into()
}
