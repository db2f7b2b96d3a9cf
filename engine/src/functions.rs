//! SQL functions that users of Trino and Spark expect: `year(x)`, `month(x)`, `date(x)` and others.
//!
//! They are names for what DataFusion has. [`Unfold`] replaces them when a statement is analyzed, so
//! that no later step and no worker meets them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::functions::datetime::date_part;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit,
};

/// The functions, each with the part of `date_part` it stands for; none is a cast to a date.
const FUNCTIONS: [(&str, Option<&str>); 9] = [
    ("year", Some("year")),
    ("quarter", Some("quarter")),
    ("month", Some("month")),
    ("week", Some("week")),
    ("day", Some("day")),
    ("hour", Some("hour")),
    ("minute", Some("minute")),
    ("second", Some("second")),
    ("date", None),
];

/// The functions, to be registered in a session that parses SQL.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    FUNCTIONS
        .into_iter()
        .map(|(name, part)| {
            Arc::new(ScalarUDF::new_from_impl(Named {
                name,
                part,
                signature: Signature::any(1, Volatility::Immutable),
            }))
        })
        .collect()
}

/// A name for a part of a date, or for the date of a timestamp.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Named {
    name: &'static str,
    part: Option<&'static str>,
    signature: Signature,
}

impl Named {
    fn result(&self) -> DataType {
        match self.part {
            Some(_) => DataType::Int32,
            None => DataType::Date32,
        }
    }
}

impl ScalarUDFImpl for Named {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, self.result(), nullable)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} is replaced when a statement is analyzed", self.name)
    }
}

/// Replaces the functions by `date_part` and casts.
#[derive(Debug, Default)]
pub struct Unfold;

impl FunctionRewrite for Unfold {
    fn name(&self) -> &str {
        "unfold_named_parts"
    }

    fn rewrite(
        &self,
        mut expr: Expr,
        _: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        if let Expr::ScalarFunction(call) = &mut expr
            && let Some(named) = call.func.inner().downcast_ref::<Named>()
            && let Some(argument) = call.args.pop()
        {
            return Ok(Transformed::yes(match named.part {
                Some(part) => date_part().call(vec![lit(part), argument]),
                None => Expr::Cast(Cast::new(Box::new(argument), DataType::Date32)),
            }));
        }
        Ok(Transformed::no(expr))
    }
}
