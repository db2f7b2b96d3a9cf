//! A table as the target of `INSERT`.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::not_impl_err;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;

use super::exec::WriteExec;
use super::ranges::{RangeExec, Ranges};
use super::target::WriteTarget;

/// Plans an insertion as writing files: what comes out of the plan are the files.
#[derive(Debug)]
pub struct WriteProvider {
    target: Arc<WriteTarget>,
    schema: SchemaRef,
    ranges: Option<Arc<Ranges>>,
}

impl WriteProvider {
    /// For rows with the columns of `schema`, dealt out by ranges where they are given.
    pub fn new(target: Arc<WriteTarget>, schema: SchemaRef, ranges: Option<Arc<Ranges>>) -> Self {
        Self {
            target,
            schema,
            ranges,
        }
    }
}

#[async_trait]
impl TableProvider for WriteProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        not_impl_err!("the target of an insertion is not read")
    }

    /// The files of all writers come to the one who commits.
    async fn insert_into(
        &self,
        _: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let target = Arc::clone(&self.target);
        let write = match &self.ranges {
            None => WriteExec::try_new(target, input)?,
            Some(ranges) => {
                let ranged = Arc::new(target.ranged());
                let rows = RangeExec::new(target, Arc::clone(ranges), input);
                WriteExec::try_new(ranged, Arc::new(rows))?
            }
        };
        Ok(Arc::new(CoalescePartitionsExec::new(Arc::new(write))))
    }
}
