//! Rewrites expressions over the table's columns into expressions over one file's columns.
//!
//! DataFusion asks for this once per file, after the footer is known, for the projection and for
//! the predicate. Row-group, page and bloom-filter pruning then work on the rewritten predicate, so
//! they see the file's own columns whatever the table calls them today.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::functions::core::getfield::GetFieldFunc;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};

use super::convert::ConvertExpr;
use super::mapping::{Conversion, NameRules, Source, file_fields, resolve};
use super::schema::TableColumns;

/// Makes adapters for the files of one scan.
#[derive(Clone, Debug)]
pub struct FieldIdAdapterFactory {
    columns: Arc<TableColumns>,
    rules: NameRules,
    constants: Arc<HashMap<i32, ScalarValue>>,
    without_nan: Arc<[i32]>,
}

impl FieldIdAdapterFactory {
    /// `constants` are the values of columns that a file leaves out because its partition fixes
    /// them, by field id; `without_nan` the field ids of floating-point columns known to hold none.
    pub fn new(
        columns: Arc<TableColumns>,
        rules: NameRules,
        constants: Arc<HashMap<i32, ScalarValue>>,
        without_nan: Arc<[i32]>,
    ) -> Self {
        Self {
            columns,
            rules,
            constants,
            without_nan,
        }
    }
}

impl PhysicalExprAdapterFactory for FieldIdAdapterFactory {
    fn create(&self, _table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let ids = file_fields(&file, &self.rules);
        let file_columns: Vec<FieldRef> = file.fields().iter().cloned().collect();
        let sources = self
            .columns
            .arrow
            .fields()
            .iter()
            .zip(&self.columns.fields)
            .map(|(field, table_field)| {
                resolve(field, table_field, &file_columns, &ids, &self.constants)
            })
            .collect();
        let may_hold_nan = self
            .columns
            .arrow
            .fields()
            .iter()
            .zip(&self.columns.fields)
            .map(|(field, ids)| {
                field.data_type().is_floating() && !self.without_nan.contains(&ids.id)
            })
            .collect();
        Ok(Arc::new(FieldIdAdapter {
            table: Arc::clone(&self.columns.arrow),
            file,
            sources,
            may_hold_nan,
        }))
    }
}

/// The columns of one file. A column that does not fit is an error only when it is used.
#[derive(Debug)]
struct FieldIdAdapter {
    table: SchemaRef,
    file: SchemaRef,
    sources: Vec<Result<Source, String>>,
    /// For each table column, whether it is a floating-point one that may hold NaN.
    may_hold_nan: Vec<bool>,
}

impl PhysicalExprAdapter for FieldIdAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        expr.transform_down(|node| {
            if let Some(narrowed) = self.struct_access(&node)? {
                return Ok(Transformed::new(narrowed, true, TreeNodeRecursion::Jump));
            }
            let Some(column) = node.downcast_ref::<Column>() else {
                return Ok(Transformed::no(node));
            };
            let rewritten = self.hide_nan(column, self.column(column)?);
            Ok(Transformed::new(rewritten, true, TreeNodeRecursion::Jump))
        })
        .data()
    }
}

impl FieldIdAdapter {
    /// Keeps the statistics of a column that may hold NaN away from the reader's pruning.
    ///
    /// Parquet leaves NaN out of the bounds, and DataFusion compares it as the greatest value: from
    /// the bounds alone, rows with NaN would be pruned that match `x > 5`, and a row group would
    /// count as matching `x < 5` completely although its NaNs do not.
    fn hide_nan(&self, column: &Column, expr: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        let Ok(index) = self.table.index_of(column.name()) else {
            return expr;
        };
        let constant = expr.downcast_ref::<Literal>().is_some();
        if constant || !self.may_hold_nan.get(index).is_some_and(|may| *may) {
            return expr;
        }
        let target = Arc::clone(&self.table.fields()[index]);
        Arc::new(ConvertExpr::new(expr, Conversion::None, target))
    }

    fn source(&self, column: &Column) -> Result<(&FieldRef, &Source)> {
        // By name: the index may be that of a projected schema.
        let index = self.table.index_of(column.name())?;
        match (self.table.fields().get(index), self.sources.get(index)) {
            (Some(field), Some(Ok(source))) => Ok((field, source)),
            (_, Some(Err(why))) => exec_err!("{why}"),
            _ => exec_err!("column {} is not part of the table", column.name()),
        }
    }

    fn column(&self, column: &Column) -> Result<Arc<dyn PhysicalExpr>> {
        let (target, source) = self.source(column)?;
        match source {
            Source::Constant(value) => Ok(Arc::new(Literal::new(value.clone()))),
            Source::File(place, conversion) => {
                let input = Arc::new(Column::new(self.file.field(*place).name(), *place));
                Ok(converted(
                    input,
                    conversion,
                    self.file.field(*place).data_type(),
                    target,
                ))
            }
        }
    }

    /// `s.x` as an access to that child alone, so that its siblings are not read. `None` leaves the
    /// expression to the general way: convert the whole struct, then access it.
    fn struct_access(&self, node: &Arc<dyn PhysicalExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let Some(call) = ScalarFunctionExpr::try_downcast_func::<GetFieldFunc>(node.as_ref())
        else {
            return Ok(None);
        };
        let Some((Some(column), path)) = call
            .args()
            .split_first()
            .map(|(first, path)| (first.downcast_ref::<Column>(), path))
        else {
            return Ok(None);
        };
        let (target, Source::File(place, conversion)) = self.source(column)? else {
            return Ok(None);
        };
        let mut step = Step {
            target,
            file: self.file.field(*place),
            conversion,
        };
        let mut names: Vec<Arc<dyn PhysicalExpr>> =
            vec![Arc::new(Column::new(step.file.name(), *place))];
        for part in path {
            let name = part
                .downcast_ref::<Literal>()
                .and_then(|literal| literal.value().try_as_str().flatten());
            let Some(next) = name.and_then(|name| step.child(name)) else {
                return Ok(None);
            };
            step = next;
            let name = ScalarValue::Utf8(Some(step.file.name().clone()));
            names.push(Arc::new(Literal::new(name)));
        }
        let result = Field::new(step.file.name(), step.file.data_type().clone(), true);
        let access = ScalarFunctionExpr::new(
            call.name(),
            Arc::new(ScalarUDF::clone(call.fun())),
            names,
            Arc::new(result),
            Arc::new(call.config_options().clone()),
        );
        let target = Arc::new(step.target.as_ref().clone().with_nullable(true));
        let file_type = step.file.data_type();
        Ok(Some(converted(
            Arc::new(access),
            step.conversion,
            file_type,
            &target,
        )))
    }
}

/// A place in a nested column: the table's view, the file's view, and how one becomes the other.
struct Step<'a> {
    target: &'a FieldRef,
    file: &'a Field,
    conversion: &'a Conversion,
}

impl<'a> Step<'a> {
    fn child(&self, name: &str) -> Option<Step<'a>> {
        let (DataType::Struct(targets), DataType::Struct(files), Conversion::Struct(sources)) = (
            self.target.data_type(),
            self.file.data_type(),
            self.conversion,
        ) else {
            return None;
        };
        let index = targets.iter().position(|field| field.name() == name)?;
        match sources.get(index)? {
            Source::File(place, conversion) => Some(Step {
                target: targets.get(index)?,
                file: files.get(*place)?,
                conversion,
            }),
            Source::Constant(_) => None,
        }
    }
}

fn converted(
    input: Arc<dyn PhysicalExpr>,
    conversion: &Conversion,
    file_type: &DataType,
    target: &FieldRef,
) -> Arc<dyn PhysicalExpr> {
    match conversion {
        Conversion::None if file_type == target.data_type() => input,
        // DataFusion's own cast, because it knows how to prune and simplify through it.
        Conversion::None | Conversion::Cast => {
            Arc::new(CastExpr::new(input, target.data_type().clone(), None))
        }
        _ => Arc::new(ConvertExpr::new(
            input,
            conversion.clone(),
            Arc::clone(target),
        )),
    }
}
