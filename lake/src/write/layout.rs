//! How rows have to come to a writer, as expressions over them.

use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::datatypes::{Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::core::get_field;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr::expressions::{Column, lit};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr, ScalarFunctionExpr};
use iceberg::spec::{NullOrder, SortDirection, Transform};
use iceberg::transform::create_transform_function;

use super::partitions::{named, path_of, plain};
use super::target::WriteTarget;

/// The name of [`transform_function`].
const NAME: &str = "iceberg_transform";

/// By what rows are dealt out and sorted.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// The values of the partition fields.
    pub partition: Vec<Arc<dyn PhysicalExpr>>,
    /// The partition, then the table's sort order; empty for tables without a sort order.
    pub sort: Vec<PhysicalSortExpr>,
}

/// The keys of rows with the columns of `input`.
pub fn keys(target: &WriteTarget, input: &SchemaRef) -> Result<Keys> {
    let mut keys = Keys::default();
    for field in target.spec.fields() {
        if field.transform != Transform::Void {
            keys.partition
                .push(key(target, input, field.source_id, field.transform)?);
        }
    }
    if target.sort_order.is_unsorted() {
        return Ok(keys);
    }
    let by_partition = keys.partition.iter().map(Arc::clone);
    keys.sort
        .extend(by_partition.map(PhysicalSortExpr::new_default));
    for field in &target.sort_order.fields {
        let options = SortOptions {
            descending: field.direction == SortDirection::Descending,
            nulls_first: field.null_order == NullOrder::First,
        };
        let expr = key(target, input, field.source_id, field.transform)?;
        keys.sort.push(PhysicalSortExpr::new(expr, options));
    }
    Ok(keys)
}

fn key(
    target: &WriteTarget,
    input: &SchemaRef,
    source: i32,
    transform: Transform,
) -> Result<Arc<dyn PhysicalExpr>> {
    let path = path_of(&target.schema, source);
    let Some((place, (names, _))) = path.and_then(|path| {
        let place = *path.first()?;
        Some((place, named(input, &path)?))
    }) else {
        return plan_err!(
            "the rows for table {} lack a column to lay them out by",
            target.table
        );
    };
    let config = Arc::new(ConfigOptions::default());
    let mut expr: Arc<dyn PhysicalExpr> = match names.first() {
        Some(name) => Arc::new(Column::new(name, place)),
        None => return plan_err!("a column of table {} has no name", target.table),
    };
    for name in names.iter().skip(1) {
        let args = vec![expr, lit(name.as_str())];
        expr = Arc::new(ScalarFunctionExpr::try_new(
            get_field(),
            args,
            input,
            Arc::clone(&config),
        )?);
    }
    if transform == Transform::Identity {
        return Ok(expr);
    }
    let args = vec![lit(transform.to_string()), expr];
    let call = ScalarFunctionExpr::try_new(transform_function(), args, input, config)?;
    Ok(Arc::new(call))
}

/// `iceberg_transform('bucket[16]', value)`: a partition transform of the specification. Not meant
/// for statements: workers have to know it.
pub fn transform_function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(TransformFunction {
        signature: Signature::any(2, Volatility::Immutable),
    }))
}

#[derive(PartialEq, Eq, Hash)]
struct TransformFunction {
    signature: Signature,
}

impl fmt::Debug for TransformFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)
    }
}

fn transform_of(text: Option<&ScalarValue>) -> Result<Transform> {
    let text = text.and_then(|value| value.try_as_str()).flatten();
    let text = text.unwrap_or_default();
    text.parse::<Transform>()
        .map_err(|error| DataFusionError::Plan(format!("{NAME}: {}", error.message())))
}

/// The type of a transform's values, for values of type `given`.
fn result_type(transform: Transform, given: &DataType) -> DataType {
    match (transform, given) {
        (Transform::Truncate(_), DataType::Utf8View) => DataType::Utf8,
        (Transform::Truncate(_), DataType::BinaryView) => DataType::LargeBinary,
        (Transform::Truncate(_) | Transform::Identity | Transform::Void, other) => other.clone(),
        (Transform::Day, _) => DataType::Date32,
        _ => DataType::Int32,
    }
}

impl ScalarUDFImpl for TransformFunction {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        plan_err!("the type of {NAME} depends on its first argument")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let transform = transform_of(args.scalar_arguments.first().copied().flatten())?;
        let Some(given) = args.arg_fields.get(1) else {
            return plan_err!("{NAME} needs a value");
        };
        let ty = result_type(transform, given.data_type());
        Ok(Arc::new(Field::new(NAME, ty, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(transform), value] = args.args.as_slice() else {
            return exec_err!("{NAME} needs the name of a transform and a value");
        };
        let transform = transform_of(Some(transform))?;
        let function = create_transform_function(&transform)
            .map_err(|error| DataFusionError::Execution(error.message().to_owned()))?;
        let values = plain(&value.to_array(args.number_rows)?)?;
        let result = function
            .transform(values)
            .map_err(|error| DataFusionError::Execution(error.message().to_owned()))?;
        let result = arrow::compute::cast(&result, args.return_field.data_type())?;
        Ok(ColumnarValue::Array(result))
    }
}
