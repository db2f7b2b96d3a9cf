//! Rewrites expressions over the table's columns into expressions over one file's columns.
//!
//! DataFusion asks for this once per file, after the footer is known, for the projection and for
//! the predicate. Row-group, page and bloom-filter pruning then work on the rewritten predicate, so
//! they see the file's own columns whatever the table calls them today.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::functions::core::getfield::GetFieldFunc;
use datafusion::logical_expr::{Operator, ScalarUDF};
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, IsNotNullExpr, Literal,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};

use super::convert::ConvertExpr;
use super::mapping::{Conversion, NameRules, RowFact, Source, file_fields, resolve};
use super::metadata_columns::{LAST_UPDATED_ID, ROW_ID_ID, ROW_POSITION_ID};
use super::schema::TableColumns;
use super::source::ScanFile;

/// Makes adapters for the files of one scan.
#[derive(Clone, Debug)]
pub struct FieldIdAdapterFactory {
    columns: Arc<TableColumns>,
    rules: NameRules,
    file: Option<Arc<ScanFile>>,
    position: bool,
}

impl FieldIdAdapterFactory {
    /// `file` is what the table knows of the file: values of columns that it leaves out, where its
    /// rows come from. Delete files have none of that.
    pub fn new(columns: Arc<TableColumns>, rules: NameRules, file: Option<Arc<ScanFile>>) -> Self {
        Self {
            columns,
            rules,
            file,
            position: false,
        }
    }

    /// The last column of the file's batches is the position of each row in the file.
    pub fn with_position(mut self) -> Self {
        self.position = true;
        self
    }

    fn adapter(&self, file: &SchemaRef) -> FieldIdAdapter {
        let mut file_columns: Vec<FieldRef> = file.fields().iter().cloned().collect();
        let position = match self.position {
            true => file_columns.pop().map(|_| file_columns.len()),
            false => None,
        };
        let ids = file_fields(&Schema::new(file_columns.clone()), &self.rules);
        let none = HashMap::new();
        let constants = self.file.as_ref().map_or(&none, |file| &file.constants);
        let fields = self.columns.arrow.fields().iter();
        let sources = fields
            .zip(&self.columns.fields)
            .map(|(field, table_field)| {
                let source = resolve(field, table_field, &file_columns, &ids, constants)?;
                Ok(match &self.file {
                    Some(known) => lineage(table_field.id, source, known, position),
                    None => source,
                })
            })
            .collect();
        let without_nan = self.file.as_ref().map_or(&[][..], |file| &file.without_nan);
        let fields = self.columns.arrow.fields().iter();
        let may_hold_nan = fields
            .zip(&self.columns.fields)
            .map(|(field, ids)| field.data_type().is_floating() && !without_nan.contains(&ids.id))
            .collect();
        FieldIdAdapter {
            table: Arc::clone(&self.columns.arrow),
            file: Arc::clone(file),
            sources,
            may_hold_nan,
        }
    }
}

impl PhysicalExprAdapterFactory for FieldIdAdapterFactory {
    fn create(&self, _table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        Ok(Arc::new(self.adapter(&file)))
    }
}

/// Row lineage (specification, "Row Lineage"): what a file does not say of a row follows from the
/// file's first row id and sequence number.
fn lineage(id: i32, source: Source, file: &ScanFile, position: Option<usize>) -> Source {
    let own = match &source {
        Source::File(place, Conversion::None) => Some(*place),
        _ => None,
    };
    match (id, position, file.first_row_id) {
        (ROW_POSITION_ID, Some(position), _) => Source::Row(RowFact::Position(position)),
        (ROW_ID_ID, Some(position), Some(first)) => Source::Row(RowFact::RowId {
            own,
            position,
            first,
        }),
        (LAST_UPDATED_ID, _, Some(_)) => Source::Row(RowFact::LastUpdated {
            own,
            sequence: file.sequence_number,
        }),
        _ => source,
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
            Source::Row(fact) => self.row_fact(fact),
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

    fn row_fact(&self, fact: &RowFact) -> Result<Arc<dyn PhysicalExpr>> {
        let column = |place: usize| -> Arc<dyn PhysicalExpr> {
            Arc::new(Column::new(self.file.field(place).name(), place))
        };
        let number = |value: i64| -> Arc<dyn PhysicalExpr> {
            Arc::new(Literal::new(ScalarValue::Int64(Some(value))))
        };
        let (own, inherited) = match fact {
            RowFact::Position(position) => return Ok(column(*position)),
            RowFact::RowId {
                own,
                position,
                first,
            } => {
                let sum = BinaryExpr::new(column(*position), Operator::Plus, number(*first));
                (own, Arc::new(sum) as Arc<dyn PhysicalExpr>)
            }
            RowFact::LastUpdated { own, sequence } => (own, number(*sequence)),
        };
        let Some(own) = own.map(column) else {
            return Ok(inherited);
        };
        let known: Arc<dyn PhysicalExpr> = Arc::new(IsNotNullExpr::new(Arc::clone(&own)));
        let case = CaseExpr::try_new(None, vec![(known, own)], Some(inherited))?;
        Ok(Arc::new(case))
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
            // The reader leaves a child that is required without the NULLs of its struct.
            if step.file.is_nullable() && !next.file.is_nullable() {
                return Ok(None);
            }
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
            Source::Constant(_) | Source::Row(_) => None,
        }
    }
}

/// Columns of one file as columns of the table, for files that are read batch by batch.
pub struct FileColumns {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
}

impl FileColumns {
    /// The table columns at `wanted`, taken from batches of the schema `file`.
    ///
    /// # Errors
    /// When the file's columns do not fit.
    pub fn new(
        columns: &Arc<TableColumns>,
        rules: &NameRules,
        file: &SchemaRef,
        wanted: &[usize],
    ) -> Result<Self> {
        let factory = FieldIdAdapterFactory::new(Arc::clone(columns), rules.clone(), None);
        let adapter = factory.adapter(file);
        let exprs = wanted
            .iter()
            .map(|place| {
                let name = columns.arrow.field(*place).name();
                adapter.rewrite(Arc::new(Column::new(name, *place)))
            })
            .collect::<Result<_>>()?;
        Ok(Self { exprs })
    }

    /// The columns of one batch.
    ///
    /// # Errors
    /// When a value does not fit the table's type.
    pub fn project(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.exprs
            .iter()
            .map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows()))
            .collect()
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
