//! Values in the places of parameters.

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue, internal_err};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::error::Result as DfResult;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, EmptyRelation, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TableSource, Values, Volatility,
};

use super::QUERY_ROWS_MAX;
use crate::{Error, Result};

/// The name of the rows of values in a plan.
const ROWS: &str = "parameters";

/// The name of the function that stands for a parameter until its value does.
pub fn function_name(number: usize) -> String {
    format!("inshore_parameter_{number}")
}

/// The types of parameters, among the settings of the statement that has them.
#[derive(Clone, Debug)]
pub struct Types(pub Vec<DataType>);

/// Makes the functions known that stand for the parameters of this state's statement.
///
/// # Errors
/// In practice none.
pub fn register(state: &mut SessionState) -> Result<()> {
    let Some(types) = state.config().get_extension::<Types>() else {
        return Ok(());
    };
    for (place, ty) in types.0.iter().enumerate() {
        let function = ParameterFunction {
            name: function_name(place + 1),
            place,
            field: Arc::new(Field::new(super::name(place + 1), ty.clone(), true)),
            signature: Signature::exact(vec![], Volatility::Immutable),
        };
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(function)))?;
    }
    Ok(())
}

/// Has a parameter's type and shows as it does.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ParameterFunction {
    name: String,
    /// Counted from 0.
    place: usize,
    field: FieldRef,
    signature: Signature,
}

impl ScalarUDFImpl for ParameterFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn display_name(&self, _: &[Expr]) -> DfResult<String> {
        Ok(self.field.name().clone())
    }

    fn schema_name(&self, _: &[Expr]) -> DfResult<String> {
        Ok(self.field.name().clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        internal_err!("parameter {} has no value", self.field.name())
    }
}

/// The place of the parameter that an expression is.
fn place(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::ScalarFunction(call) => {
            let function = call.func.inner().downcast_ref::<ParameterFunction>()?;
            Some(function.place)
        }
        _ => None,
    }
}

/// Values of a statement's parameters, with the columns `$1`, `$2`, ...
#[derive(Clone, Debug)]
pub struct Bound {
    schema: SchemaRef,
    rows: Rows,
}

#[derive(Clone, Debug)]
enum Rows {
    Batch(RecordBatch),
    Table(Arc<dyn TableProvider>),
}

impl Bound {
    /// Rows that are there.
    pub fn batch(batch: RecordBatch) -> Self {
        Self {
            schema: batch.schema(),
            rows: Rows::Batch(batch),
        }
    }

    /// Rows of a table that may be read once, for an insertion of them.
    pub fn table(table: Arc<dyn TableProvider>) -> Self {
        Self {
            schema: table.schema(),
            rows: Rows::Table(table),
        }
    }

    /// Types without values, for a statement that is not run.
    pub fn types_only(schema: SchemaRef) -> Self {
        Self::batch(RecordBatch::new_empty(schema))
    }

    /// The types, as a setting.
    pub fn types(&self) -> Types {
        let fields = self.schema.fields().iter();
        Types(fields.map(|field| field.data_type().clone()).collect())
    }

    /// The plan of a statement for its one row of values.
    ///
    /// # Errors
    /// [`Error::Sql`] for another number of rows.
    pub fn put_one(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        match &self.rows {
            Rows::Batch(batch) if batch.num_rows() == 1 => Ok(with_values(plan, batch, 0)?),
            _ => Err(Error::Sql(
                "this statement takes one row of values for its parameters at a time".to_owned(),
            )),
        }
    }

    /// The plans of a statement for its rows of values, to be run one after the other.
    ///
    /// # Errors
    /// [`Error::Sql`] for several rows where that has no meaning, [`Error::ResourceExhausted`] for
    /// too many.
    pub fn put(&self, plan: LogicalPlan) -> Result<Vec<LogicalPlan>> {
        let batch = match (&plan, &self.rows) {
            (LogicalPlan::Dml(_), Rows::Table(table)) => {
                return Ok(vec![with_rows(plan, Arc::clone(table))?]);
            }
            (LogicalPlan::Dml(_), Rows::Batch(batch)) if batch.num_rows() != 1 => {
                let rows = vec![vec![batch.clone()]];
                let table = MemTable::try_new(batch.schema(), rows)?;
                return Ok(vec![with_rows(plan, Arc::new(table))?]);
            }
            (
                LogicalPlan::Dml(_)
                | LogicalPlan::Explain(_)
                | LogicalPlan::Analyze(_)
                | LogicalPlan::Statement(_),
                _,
            )
            | (_, Rows::Table(_)) => {
                return Ok(vec![self.put_one(plan)?]);
            }
            (_, Rows::Batch(batch)) => batch,
        };
        match batch.num_rows() {
            0 => Ok(vec![LogicalPlan::EmptyRelation(EmptyRelation {
                produce_one_row: false,
                schema: Arc::clone(plan.schema()),
            })]),
            rows if rows > QUERY_ROWS_MAX => Err(Error::ResourceExhausted(format!(
                "a query is run for {QUERY_ROWS_MAX} rows of values at most, and there are {rows}"
            ))),
            rows => {
                let plans = (0..rows).map(|row| with_values(plan.clone(), batch, row));
                Ok(plans.collect::<DfResult<Vec<_>>>()?)
            }
        }
    }
}

/// The plan with the values of one row.
fn with_values(plan: LogicalPlan, batch: &RecordBatch, row: usize) -> DfResult<LogicalPlan> {
    let columns = batch.columns().iter();
    let values = columns.map(|column| ScalarValue::try_from_array(column, row));
    let values = values.collect::<DfResult<Vec<_>>>()?;
    let plan = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let put = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let put = expr.transform_up(|expr| match place(&expr) {
                Some(place) => match values.get(place) {
                    Some(value) => Ok(Transformed::yes(Expr::Literal(value.clone(), None))),
                    None => internal_err!("parameter {expr} has no value"),
                },
                None => Ok(Transformed::no(expr)),
            })?;
            Ok(match put.transformed {
                true => put.update_data(|expr| name.restore(expr)),
                false => put,
            })
        })?;
        // A value is no longer what may be NULL or not.
        put.map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(plan.data)
}

/// The plan of an `INSERT ... VALUES` with the rows of a table in the place of parameters.
fn with_rows(plan: LogicalPlan, table: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    let source = provider_as_source(table);
    let mut found = false;
    let plan = plan.transform_up(|node| match node {
        LogicalPlan::Values(values) if values.values.iter().flatten().any(has_parameter) => {
            found = true;
            Ok(Transformed::yes(rows_of(values, &source)?))
        }
        // They say of their columns what the rows below them say.
        node if found => Ok(Transformed::yes(node.recompute_schema()?)),
        node => Ok(Transformed::no(node)),
    })?;
    match found && !is_left(&plan.data)? {
        true => Ok(plan.data),
        false => Err(Error::Unsupported(
            "several rows of values are added by INSERT ... VALUES with parameters among its \
             values only"
                .to_owned(),
        )),
    }
}

fn rows_of(values: Values, source: &Arc<dyn TableSource>) -> DfResult<LogicalPlan> {
    let mut all: Option<LogicalPlanBuilder> = None;
    for row in values.values {
        let columns = row.into_iter().zip(values.schema.fields());
        let columns = columns.map(|(expr, field)| {
            let put = expr.transform_up(|expr| match place(&expr) {
                Some(place) => {
                    let column = Column::new(Some(ROWS), super::name(place + 1));
                    Ok(Transformed::yes(Expr::Column(column)))
                }
                None => Ok(Transformed::no(expr)),
            })?;
            Ok(put.data.alias(field.name()))
        });
        let columns = columns.collect::<DfResult<Vec<_>>>()?;
        let rows = LogicalPlanBuilder::scan(ROWS, Arc::clone(source), None)?;
        let rows = rows.project(columns)?;
        all = Some(match all {
            Some(before) => before.union(rows.build()?)?,
            None => rows,
        });
    }
    match all {
        Some(all) => all.build(),
        None => internal_err!("VALUES without rows"),
    }
}

fn has_parameter(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(place(expr).is_some()))
        .unwrap_or(false)
}

/// Whether a parameter is left in a plan.
fn is_left(plan: &LogicalPlan) -> DfResult<bool> {
    let mut left = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            left |= has_parameter(expr);
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(left)
}
