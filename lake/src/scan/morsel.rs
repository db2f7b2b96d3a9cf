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

use super::ScanInfo;
use crate::Error;
use crate::deletes::{KeyFilter, LiveMask};

/// What a message says about a file of a scan.
#[derive(Clone)]
pub struct FileName {
    /// The file's location as the table spells it.
    pub path: Arc<str>,
    /// The scan it belongs to.
    pub info: Arc<ScanInfo>,
}

impl FileName {
    /// Names the file in an error, see [`name_file`], and the snapshot when the file is away.
    pub fn name(&self, error: DataFusionError) -> DataFusionError {
        let error = name_file(&self.path, error);
        match (self.info.snapshot_id, Error::in_chain(&error)) {
            (Some(snapshot), Some(ours)) => ours.of_snapshot(&self.info.table, snapshot).into(),
            _ => error,
        }
    }
}

/// Deletes that are applied to the rows behind the reader.
#[derive(Clone, Default)]
pub struct RowDeletes {
    /// What is left of the only row group that is read.
    pub mask: Option<LiveMask>,
    /// Equality deletes.
    pub keys: Option<Arc<KeyFilter>>,
}

impl RowDeletes {
    /// What is left of the next batch of the file.
    fn apply(&mut self, mut batch: RecordBatch) -> Result<RecordBatch> {
        if let Some(mask) = &mut self.mask {
            batch = mask.apply(&batch)?;
        }
        match &self.keys {
            Some(keys) => keys.apply(&batch),
            None => Ok(batch),
        }
    }
}

/// A planner of one file whose errors name the file, and of whose rows deletes are taken away.
pub struct NamedPlanner {
    inner: Box<dyn MorselPlanner>,
    file: FileName,
    deletes: RowDeletes,
}

impl NamedPlanner {
    /// Names `file` in the errors of `inner`.
    pub fn new(inner: Box<dyn MorselPlanner>, file: FileName, deletes: RowDeletes) -> Self {
        Self {
            inner,
            file,
            deletes,
        }
    }
}

/// Planners that go on one after another.
#[derive(Debug)]
pub struct Several(pub Vec<Box<dyn MorselPlanner>>);

impl MorselPlanner for Several {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_planners(self.0)))
    }
}

impl fmt::Debug for NamedPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedPlanner({})", self.file.path)
    }
}

impl MorselPlanner for NamedPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self {
            inner,
            file,
            deletes,
        } = *self;
        let planned = catch_unwind(AssertUnwindSafe(|| inner.plan()))
            .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
            .map_err(|error| file.name(error))?;
        let Some(mut plan) = planned else {
            return Ok(None);
        };
        let morsels = plan
            .take_morsels()
            .into_iter()
            .map(|inner| {
                let (file, deletes) = (file.clone(), deletes.clone());
                Box::new(NamedMorsel {
                    inner,
                    file,
                    deletes,
                }) as Box<dyn Morsel>
            })
            .collect();
        let planners = plan
            .take_ready_planners()
            .into_iter()
            .map(|inner| {
                let named = Self::new(inner, file.clone(), deletes.clone());
                Box::new(named) as Box<dyn MorselPlanner>
            })
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
                    .map_err(|error| file.name(error))?;
                Ok(Box::new(Self::new(next, file, deletes)) as Box<dyn MorselPlanner>)
            });
        }
        Ok(Some(named))
    }
}

struct NamedMorsel {
    inner: Box<dyn Morsel>,
    file: FileName,
    deletes: RowDeletes,
}

impl fmt::Debug for NamedMorsel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedMorsel({})", self.file.path)
    }
}

impl Morsel for NamedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self {
            inner,
            file,
            mut deletes,
        } = *self;
        AssertUnwindSafe(inner.into_stream())
            .catch_unwind()
            .map(move |batch| {
                batch
                    .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
                    .and_then(|batch| deletes.apply(batch))
                    .map_err(|error| file.name(error))
            })
            .boxed()
    }
}

/// The error that a panic of a decoder stands for.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> DataFusionError {
    let why = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("the decoder gave up");
    DataFusionError::ParquetError(Box::new(ParquetError::General(why.to_string())))
}

/// Turns errors of the file into ours, and says of all others where they arose.
pub(crate) fn name_file(path: &str, error: DataFusionError) -> DataFusionError {
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
