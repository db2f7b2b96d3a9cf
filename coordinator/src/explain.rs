//! `EXPLAIN` and `EXPLAIN ANALYZE`, which show the distributed plan: DataFusion's own would show
//! what the plan was before it was cut into stages.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::format::ExplainFormat;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Explain, LogicalPlan};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion_distributed::{DistributedMetricsFormat, display_plan_ascii, explain_analyze};
use futures::StreamExt;

/// How long the figures of the tasks are waited for. A planned task that never ran, as below a
/// limit, reports none (datafusion-distributed #739).
const FIGURES_PATIENCE: Duration = Duration::from_secs(5);

/// Columns of the answer.
pub fn schema() -> Schema {
    Schema::new(vec![
        Field::new("plan_type", DataType::Utf8, true),
        Field::new("plan", DataType::Utf8, true),
    ])
}

/// Whether we answer this `EXPLAIN`; the other formats are DataFusion's, before distribution.
pub fn is_ours(explain: &Explain) -> bool {
    !explain.verbose && explain.explain_format == ExplainFormat::Indent
}

/// Shows both plans.
pub fn describe(
    logical: &LogicalPlan,
    physical: &Arc<dyn ExecutionPlan>,
) -> Result<SendableRecordBatchStream> {
    let batch = rows(&[
        ("logical_plan", logical.display_indent().to_string()),
        (
            "physical_plan",
            display_plan_ascii(physical.as_ref(), false),
        ),
    ]);
    Ok(once(async move { batch }))
}

/// `EXPLAIN ANALYZE`.
pub struct Analyze {
    /// Figures per task too.
    pub verbose: bool,
}

impl Analyze {
    /// Runs the plan, drops its rows, and shows what each stage did.
    pub fn run(
        self,
        plan: Arc<dyn ExecutionPlan>,
        state: &SessionState,
    ) -> Result<SendableRecordBatchStream> {
        let mut stream = execute_stream(Arc::clone(&plan), state.task_ctx())?;
        Ok(once(async move {
            while let Some(batch) = stream.next().await {
                batch?;
            }
            drop(stream);
            let mut shown = vec![(
                "Plan with Metrics",
                with_figures(&plan, DistributedMetricsFormat::Aggregated).await?,
            )];
            if self.verbose {
                shown.push((
                    "Plan with Full Metrics",
                    with_figures(&plan, DistributedMetricsFormat::PerTask).await?,
                ));
            }
            rows(&shown)
        }))
    }
}

async fn with_figures(
    plan: &Arc<dyn ExecutionPlan>,
    format: DistributedMetricsFormat,
) -> Result<String> {
    let shown = explain_analyze(Arc::clone(plan), format);
    match tokio::time::timeout(FIGURES_PATIENCE, shown).await {
        Ok(shown) => shown,
        Err(_) => Ok(format!(
            "(some tasks reported no figures within {} s)\n{}",
            FIGURES_PATIENCE.as_secs(),
            display_plan_ascii(plan.as_ref(), false)
        )),
    }
}

fn rows(rows: &[(&str, String)]) -> Result<RecordBatch> {
    let column = |values: Vec<&str>| Arc::new(StringArray::from(values));
    let types = column(rows.iter().map(|row| row.0).collect());
    let plans = column(rows.iter().map(|row| row.1.as_str()).collect());
    Ok(RecordBatch::try_new(
        Arc::new(schema()),
        vec![types, plans],
    )?)
}

fn once(
    batch: impl Future<Output = Result<RecordBatch>> + Send + 'static,
) -> SendableRecordBatchStream {
    let schema: SchemaRef = Arc::new(schema());
    Box::pin(RecordBatchStreamAdapter::new(
        schema,
        futures::stream::once(batch),
    ))
}
