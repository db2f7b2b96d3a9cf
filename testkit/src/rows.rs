//! Answers as text, to be compared as multisets.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Every row as `a|b|c`, in the order of the batches.
///
/// # Errors
/// A value that cannot be shown.
pub fn in_order(batches: &[RecordBatch]) -> anyhow::Result<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cells = columns
                .iter()
                .map(|column| column.value(row).try_to_string())
                .collect::<Result<Vec<_>, _>>()?;
            rows.push(cells.join("|"));
        }
    }
    Ok(rows)
}

/// Every row as `a|b|c`, sorted.
///
/// # Errors
/// A value that cannot be shown.
pub fn sorted(batches: &[RecordBatch]) -> anyhow::Result<Vec<String>> {
    let mut rows = in_order(batches)?;
    rows.sort();
    Ok(rows)
}
