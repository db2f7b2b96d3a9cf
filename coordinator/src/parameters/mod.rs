//! Parameters of statements: `?`, and `$1`, `$2`, ...
//!
//! ```text
//! text -> [`number`]: `?` becomes `$1`, ... -> parsed -> [`take`]
//!   to be prepared: `$n` stays, is planned as it is, and gets its type from its use   ([`infer`])
//!   with values:    `$n` becomes a call that has the type of its value, so that the planner knows
//!                   all types; in the plan, the value takes the place of the call     ([`bind`])
//! ```

mod bind;
mod infer;
mod text;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{SetExpr, Statement as SqlStatement};
use inshore_lake::sql_types::type_name;

pub use bind::{Bound, Types, register};
pub use infer::{Inferred, infer};
pub use text::{Mode, number, take};

use crate::result::ResultShape;
use crate::{Error, Result};

/// Parameters that a statement may have.
pub const PARAMETERS_MAX: usize = 10_000;

/// Rows of values for which one query may be run.
pub const QUERY_ROWS_MAX: usize = 1_000;

/// The name of a parameter.
pub fn name(number: usize) -> String {
    format!("${number}")
}

/// What is done with several rows of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManyRows {
    /// A query gives the rows of all of them.
    Query,
    /// `INSERT ... VALUES` adds the rows of all of them in one commit. With `rows` in its `VALUES`.
    Insert {
        /// How many rows one row of values makes.
        rows: usize,
    },
    /// The statement is run for each of them.
    Each,
}

impl ManyRows {
    /// What is done in a statement.
    pub fn of(statement: &Statement) -> Self {
        let Statement::Statement(sql) = statement else {
            return Self::Each;
        };
        let source = match sql.as_ref() {
            SqlStatement::Query(_) => return Self::Query,
            SqlStatement::Insert(insert) => insert.source.as_ref(),
            _ => None,
        };
        match source.map(|query| (query.body.as_ref(), query.as_ref())) {
            Some((SetExpr::Values(values), query))
                if query.with.is_none()
                    && query.order_by.is_none()
                    && query.limit_clause.is_none()
                    && query.fetch.is_none() =>
            {
                let rows = values.rows.len();
                Self::Insert { rows }
            }
            _ => Self::Each,
        }
    }
}

/// The parameters of a statement.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// `$1`, `$2`, ... with the types that values should have.
    pub schema: SchemaRef,
    /// What is done with several rows of values.
    pub many: ManyRows,
    inferred: Vec<Inferred>,
}

impl Parameters {
    /// Parameters of these types, in the order of their numbers.
    pub fn new(types: Vec<DataType>, inferred: Vec<Inferred>, many: ManyRows) -> Self {
        let fields = types.into_iter().enumerate();
        let fields = fields.map(|(place, ty)| Field::new(name(place + 1), ty, true));
        let schema = Schema::new(fields.collect::<Vec<_>>());
        Self {
            schema: Arc::clone(ResultShape::of_arrow(&schema).schema()),
            many,
            inferred,
        }
    }

    /// Those of a statement that has none.
    pub fn none() -> Self {
        Self::new(vec![], vec![], ManyRows::Each)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.schema.fields().is_empty()
    }

    /// The error for values that are not there.
    pub fn missing(&self) -> Error {
        missing(self.schema.fields().len())
    }

    /// How values that come with the columns of `given` become values of the parameters: a value
    /// keeps the type that the client gives it, as far as that is known.
    ///
    /// # Errors
    /// [`Error::Sql`] for another number of columns, and for types that do not fit.
    pub fn shape(&self, given: &Schema) -> Result<ValueShape> {
        let (wanted, found) = (self.schema.fields().len(), given.fields().len());
        if wanted != found {
            return Err(Error::Sql(format!(
                "the statement has {wanted} parameters, and there are values for {found}"
            )));
        }
        let plain = ResultShape::plain(given);
        let pairs = self.schema.fields().iter().zip(plain.schema().fields());
        let fields = pairs.zip(&self.inferred).map(|((own, given), inferred)| {
            let (own_type, given_type) = (own.data_type(), given.data_type());
            let ty = match (inferred, given_type) {
                (_, DataType::Null) => own_type,
                (Inferred::Exact, _) => own_type,
                (Inferred::ByUse | Inferred::Guessed, other) => other,
            };
            let fits = *inferred == Inferred::Guessed || can_cast_types(given_type, own_type);
            match fits {
                true => Ok(own.as_ref().clone().with_data_type(ty.clone())),
                false => Err(Error::Sql(format!(
                    "parameter {} is of type {}; a value of type {} cannot be cast to it",
                    own.name(),
                    type_name(own_type),
                    type_name(given_type)
                ))),
            }
        });
        let fields = fields.collect::<Result<Vec<_>>>()?;
        Ok(ValueShape {
            schema: Arc::new(Schema::new(fields)),
        })
    }
}

/// The error for `count` parameters without values.
pub fn missing(count: usize) -> Error {
    let names: Vec<String> = (1..=count.min(5)).map(name).collect();
    let more = match count > names.len() {
        true => ", ...",
        false => "",
    };
    Error::Sql(format!(
        "there are no values for the parameters {}{more}: prepare the statement and bind them",
        names.join(", ")
    ))
}

/// Turns a client's batches into values of parameters.
#[derive(Clone, Debug)]
pub struct ValueShape {
    schema: SchemaRef,
}

impl ValueShape {
    /// The columns `$1`, `$2`, ... with the types of the values.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The values in a batch.
    ///
    /// # Errors
    /// [`Error::Sql`] for a value that cannot be cast.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| {
            cast_with_options(column, field.data_type(), &options)
                .map_err(|error| Error::Sql(format!("parameter {}: {error}", field.name())))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| Error::Sql(format!("values of parameters: {error}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn many(sql: &str) -> ManyRows {
        ManyRows::of(&crate::statement::parse(sql).unwrap().statement)
    }

    #[test]
    fn what_is_done_with_many_rows_depends_on_the_statement() {
        assert_eq!(many("select ?"), ManyRows::Query);
        assert_eq!(
            many("insert into t values (?, 1)"),
            ManyRows::Insert { rows: 1 }
        );
        assert_eq!(
            many("insert into t values (?), (?)"),
            ManyRows::Insert { rows: 2 }
        );
        assert_eq!(many("insert into t values (?) limit 1"), ManyRows::Each);
        assert_eq!(many("insert into t select ?"), ManyRows::Each);
        assert_eq!(many("explain select ?"), ManyRows::Each);
    }

    #[test]
    fn values_keep_their_types_where_they_fit() {
        let types = vec![DataType::Int64, DataType::Utf8, DataType::Int64];
        let inferred = vec![Inferred::ByUse, Inferred::Guessed, Inferred::Exact];
        let parameters = Parameters::new(types, inferred, ManyRows::Query);
        let given = |types: &[DataType]| {
            let fields = types.iter().map(|ty| Field::new("x", ty.clone(), true));
            parameters.shape(&Schema::new(fields.collect::<Vec<_>>()))
        };
        let shape = given(&[DataType::Utf8View, DataType::Date32, DataType::Utf8]).unwrap();
        let types = shape.schema().fields().iter();
        let types: Vec<_> = types.map(|field| field.data_type().clone()).collect();
        assert_eq!(types, [DataType::Utf8, DataType::Date32, DataType::Int64]);
        let shape = given(&[DataType::Null, DataType::Null, DataType::Null]).unwrap();
        assert_eq!(shape.schema().field(1).data_type(), &DataType::Utf8);
        assert_eq!(shape.schema().field(2).name(), "$3");
        let error = given(&[DataType::Utf8]).unwrap_err().to_string();
        assert!(
            error.contains("3 parameters") && error.contains("for 1"),
            "{error}"
        );
        let list = DataType::new_list(DataType::Utf8, true);
        let error = given(&[list, DataType::Null, DataType::Null]).unwrap_err();
        assert!(error.to_string().contains("parameter $1"), "{error}");
    }

    #[test]
    fn missing_values_are_named() {
        assert!(missing(2).to_string().contains("$1, $2:"));
        assert!(missing(9).to_string().contains("$5, ...:"));
    }
}
