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
use super::target::WriteTarget;

/// Plans an insertion as writing files: what comes out of the plan are the files.
#[derive(Debug)]
pub struct WriteProvider {
    target: Arc<WriteTarget>,
    schema: SchemaRef,
}

impl WriteProvider {
    /// For rows with the columns of `schema`.
    pub fn new(target: Arc<WriteTarget>, schema: SchemaRef) -> Self {
        Self { target, schema }
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
        let write = WriteExec::try_new(Arc::clone(&self.target), input)?;
        Ok(Arc::new(CoalescePartitionsExec::new(Arc::new(write))))
    }
}
