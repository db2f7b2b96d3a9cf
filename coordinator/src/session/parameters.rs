//! Statements with parameters: what they are, and with values in their places.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::{Body, Planned, Session};
use crate::names::Mention;
use crate::node::Coordinator;
use crate::parameters::{self, Bound, Inferred, ManyRows, Mode, Parameters};
use crate::result::ResultShape;
use crate::statement::Kind;
use crate::{Error, Result};

/// Types that parameters get of which nothing is known: the first one that the statement can be
/// planned with.
const GUESSES: [DataType; 3] = [
    DataType::Utf8,
    DataType::Int64,
    DataType::Timestamp(TimeUnit::Microsecond, None),
];

/// What is known of a statement before it is run.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// The schema of its result, as [`Session::describe`] has it.
    pub schema: SchemaRef,
    /// Its parameters.
    pub parameters: Parameters,
}

/// What stands in the places of parameters.
#[derive(Clone, Copy)]
pub(super) enum Values<'a> {
    /// Nothing: a statement with parameters is refused.
    Missing,
    /// Nothing yet.
    Open,
    /// These.
    Given(&'a Bound),
}

impl<'a> Values<'a> {
    pub(super) fn of(bound: Option<&'a Bound>) -> Self {
        bound.map_or(Self::Missing, Self::Given)
    }

    /// How parameters are read.
    pub(super) fn mode(self) -> Mode {
        match self {
            Self::Missing | Self::Open => Mode::Keep,
            Self::Given(_) => Mode::Call,
        }
    }

    /// Refuses parameters where there are no values for them, and where they have no meaning.
    pub(super) fn check(self, count: usize, kind: &Kind) -> Result<()> {
        let given = match (self, count) {
            (_, 0) => return Ok(()),
            (Self::Missing, _) => return Err(parameters::missing(count)),
            (Self::Open, _) => count,
            (Self::Given(bound), _) => bound.types().0.len(),
        };
        match kind {
            Kind::Plan(_) | Kind::CreateTableAs(_) | Kind::Copy(_) if count <= given => Ok(()),
            Kind::Plan(_) | Kind::CreateTableAs(_) | Kind::Copy(_) => {
                Err(parameters::missing(count))
            }
            _ => Err(Error::Unsupported(
                "parameters are supported in queries, INSERT, CREATE TABLE ... AS and COPY only"
                    .to_owned(),
            )),
        }
    }
}

impl Session {
    /// The parameters of a statement, and the schema of its result. Nothing is carried out.
    ///
    /// # Errors
    /// Those of planning it.
    pub async fn prepare(&self, sql: &str) -> Result<Preparation> {
        let (kind, mentions, count) = self.read(sql, Values::Open)?;
        if count == 0 {
            return Ok(Preparation {
                schema: self.describe(sql).await?,
                parameters: Parameters::none(),
            });
        }
        let (statement, many) = match kind {
            Kind::Plan(statement) => {
                let many = ManyRows::of(&statement);
                (statement, many)
            }
            Kind::CreateTableAs(table) => (query(SqlStatement::Query(table.query)), ManyRows::Each),
            Kind::Copy(copy) => match copy.source {
                CopyToSource::Query(source) => (query(SqlStatement::Query(source)), ManyRows::Each),
                CopyToSource::Relation(_) => return Err(parameters::missing(count)),
            },
            _ => return Err(parameters::missing(count)),
        };
        let config = self.settings.lock().clone();
        let plan = self
            .logical_plan(statement, &mentions, config)
            .boxed()
            .await;
        let known = match &plan {
            Ok(plan) => parameters::infer(plan, count)?,
            // It may be that the planner has to know all types.
            Err(_) => vec![None; count],
        };
        let inferred = known.iter().map(|known| match known {
            Some((_, inferred)) => *inferred,
            None => Inferred::Guessed,
        });
        let inferred: Vec<_> = inferred.collect();
        for guess in GUESSES {
            let types = known.iter().map(|known| match known {
                Some((ty, _)) => ty.clone(),
                None => guess.clone(),
            });
            let parameters = Parameters::new(types.collect(), inferred.clone(), many);
            let bound = Bound::types_only(Arc::clone(&parameters.schema));
            if let Ok(schema) = self.describe_with(sql, Some(&bound)).boxed().await {
                return Ok(Preparation { schema, parameters });
            }
        }
        // No type fits all of them; values may.
        let plan = plan?;
        let types = known.into_iter().map(|known| match known {
            Some((ty, _)) => ty,
            None => DataType::Utf8,
        });
        let schema = match plan {
            LogicalPlan::Statement(_) | LogicalPlan::Dml(_) => Arc::new(Schema::empty()),
            plan => Arc::clone(ResultShape::of(plan.schema()).schema()),
        };
        Ok(Preparation {
            schema,
            parameters: Parameters::new(types.collect(), inferred, many),
        })
    }

    /// As [`Session::describe`], of a statement with parameters.
    ///
    /// # Errors
    /// Those of planning it.
    pub async fn describe_bound(&self, sql: &str, bound: &Bound) -> Result<SchemaRef> {
        self.describe_with(sql, Some(bound)).boxed().await
    }

    /// As [`Session::plan`], of a statement with parameters.
    ///
    /// # Errors
    /// Those of planning it, and [`Bound::put`]'s.
    pub async fn plan_bound(&self, sql: &str, bound: &Bound) -> Result<Planned> {
        self.plan_as(sql, self.plan_body(sql, Some(bound)).boxed())
            .await
    }

    /// The settings of a statement, the types of its parameters among them.
    pub(super) fn config(&self, bound: Option<&Bound>) -> SessionConfig {
        let config = self.settings.lock().clone();
        match bound {
            Some(bound) => config.with_extension(Arc::new(bound.types())),
            None => config,
        }
    }

    /// The plan of a query within a statement, with its values.
    pub(super) async fn bound_plan(
        &self,
        statement: Statement,
        mentions: &[Mention],
        bound: Option<&Bound>,
    ) -> Result<LogicalPlan> {
        let config = self.config(bound);
        let plan = self.logical_plan(statement, mentions, config).await?;
        match bound {
            Some(bound) => bound.put_one(plan),
            None => Ok(plan),
        }
    }

    /// The body of a statement that is planned as a whole.
    pub(super) async fn bound_body(
        &self,
        statement: Statement,
        mentions: &[Mention],
        bound: Option<&Bound>,
    ) -> Result<(ResultShape, Body)> {
        let config = self.config(bound);
        let plan = self.logical_plan(statement, mentions, config.clone());
        let plan = plan.await?;
        let Some(bound) = bound else {
            return self.body_of(plan, config);
        };
        let shape = ResultShape::of(plan.schema());
        let mut plans = bound.put(plan)?;
        match (plans.pop(), plans.is_empty()) {
            (Some(plan), true) => self.body_of(plan, config),
            (Some(last), false) => {
                plans.push(last);
                Ok((shape, Body::Plans { plans, config }))
            }
            (None, _) => Err(Error::Sql("there is nothing to plan".to_owned())),
        }
    }
}

fn query(query: SqlStatement) -> Statement {
    Statement::Statement(Box::new(query))
}

/// Runs queries one after the other, each planned when its turn comes. The figures of the whole are
/// those of the first.
pub(super) async fn run_in_turn(
    node: &Arc<Coordinator>,
    plans: Vec<LogicalPlan>,
    config: SessionConfig,
    shape: &ResultShape,
) -> Result<(Arc<dyn ExecutionPlan>, SendableRecordBatchStream)> {
    let mut plans = plans.into_iter();
    let Some(first) = plans.next() else {
        return Err(Error::Sql("there is nothing to run".to_owned()));
    };
    let (plan, state) = super::physical_plan(node, &first, config.clone()).await?;
    let rows = execute_stream(Arc::clone(&plan), state.task_ctx())?;
    let node = Arc::clone(node);
    let others = futures::stream::iter(plans).then(move |next| {
        let (node, config) = (Arc::clone(&node), config.clone());
        async move {
            let planned = super::physical_plan(&node, &next, config).await;
            let (plan, state) = planned.map_err(|error| match error {
                Error::Execution(error) => error,
                other => datafusion::error::DataFusionError::External(Box::new(other)),
            })?;
            execute_stream(plan, state.task_ctx())
        }
    });
    let names = shape.clone();
    let rows = rows.chain(others.try_flatten());
    let rows = rows.map(move |batch| batch.and_then(|batch| names.apply(batch)));
    let schema = Arc::clone(shape.schema());
    let stream = RecordBatchStreamAdapter::new(schema, rows);
    Ok((plan, Box::pin(stream)))
}
