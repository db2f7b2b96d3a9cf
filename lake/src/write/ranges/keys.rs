//! The place of rows in a table's order, as bytes.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result as DfResult;
use datafusion::physical_expr::PhysicalSortExpr;

use crate::write::layout;
use crate::write::target::WriteTarget;

/// Bytes of a key that are told apart: enough for the start of a text.
pub const KEY_BYTES_MAX: usize = 64;

/// Encodes keys so that their bytes compare as the rows do.
#[derive(Debug)]
pub struct KeyEncoder {
    exprs: Vec<PhysicalSortExpr>,
    converter: RowConverter,
}

impl KeyEncoder {
    /// For rows with the columns of `input`: all of the table's, in its order.
    ///
    /// # Errors
    /// A spec or sort order whose columns the input does not have.
    pub fn new(target: &WriteTarget, input: &SchemaRef) -> DfResult<Self> {
        let keys = layout::keys(target, input)?;
        let exprs = match keys.sort.is_empty() {
            true => {
                let partition = keys.partition.into_iter();
                partition.map(PhysicalSortExpr::new_default).collect()
            }
            false => keys.sort,
        };
        let fields = exprs.iter().map(|key| {
            let ty = key.expr.data_type(input)?;
            Ok(SortField::new_with_options(ty, key.options))
        });
        let converter = RowConverter::new(fields.collect::<DfResult<_>>()?)?;
        Ok(Self { exprs, converter })
    }

    /// The keys of a batch's rows.
    ///
    /// # Errors
    /// Those of transforms.
    pub fn encode(&self, batch: &RecordBatch) -> DfResult<Rows> {
        let columns = self.exprs.iter().map(|key| {
            let values = key.expr.evaluate(batch)?;
            values.into_array(batch.num_rows())
        });
        let columns = columns.collect::<DfResult<Vec<ArrayRef>>>()?;
        Ok(self.converter.convert_columns(&columns)?)
    }
}
