//! What rows get that are added without a value for a column (specification, "Default values").

use datafusion::common::ScalarValue;
use iceberg::spec::{FormatVersion, NestedFieldRef};

use super::tree::children;
use super::{Draft, FieldPath};
use crate::defaults;
use crate::{Error, Result};

impl Draft<'_> {
    pub(super) fn set_default(&mut self, name: &FieldPath, value: &ScalarValue) -> Result<()> {
        let spot = self.locate(name)?;
        let default = defaults::literal(&spot.name, value, &spot.field.field_type)?;
        self.change(&spot, |field| field.write_default = default);
        Ok(())
    }

    /// # Errors
    /// [`Error::Conflict`] for a column with a default, which format version 3 has only.
    pub(super) fn check_defaults(&self) -> Result<()> {
        let found = match self.version() < FormatVersion::V3 {
            true => self.fields.iter().find_map(with_default),
            false => None,
        };
        match found {
            None => Ok(()),
            Some(name) => Err(Error::Conflict(format!(
                "column {name} cannot have a default: the table needs format version 3; raise it \
                 with ALTER TABLE ... SET TBLPROPERTIES ('format-version' = '3')"
            ))),
        }
    }
}

/// The name of a field with a default, this one or one inside it.
fn with_default(field: &NestedFieldRef) -> Option<&str> {
    match field.initial_default.is_some() || field.write_default.is_some() {
        true => Some(&field.name),
        false => children(&field.field_type)
            .into_iter()
            .find_map(with_default),
    }
}
