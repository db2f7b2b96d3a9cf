//! The order in which rows are written.

use super::{Draft, SortKey};
use crate::Result;
use crate::sort_order::sort_order;

impl Draft<'_> {
    pub(super) fn set_order(&mut self, keys: &[SortKey]) -> Result<()> {
        self.order = Some(sort_order(&self.schema()?, keys)?);
        Ok(())
    }
}
