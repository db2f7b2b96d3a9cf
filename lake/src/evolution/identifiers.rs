//! The columns that identify rows (specification, "Identifier Field IDs").

use std::collections::BTreeSet;

use iceberg::spec::{NestedField, PrimitiveType, Type};

use super::tree::Spot;
use super::{Draft, FieldPath};
use crate::{Error, Result};

impl Draft<'_> {
    pub(super) fn set_identifiers(&mut self, names: &[FieldPath]) -> Result<()> {
        let mut ids = BTreeSet::new();
        for name in names {
            let spot = self.locate(name)?;
            self.check_identifier(name, &spot)?;
            ids.insert(spot.field.id);
        }
        self.identifiers = ids;
        Ok(())
    }

    pub(super) fn drop_identifiers(&mut self, names: &[FieldPath]) -> Result<()> {
        for name in names {
            let spot = self.locate(name)?;
            if !self.identifiers.remove(&spot.field.id) {
                return Err(Error::NotFound(format!(
                    "column {} is not one of those that identify rows",
                    spot.name
                )));
            }
        }
        Ok(())
    }

    fn check_identifier(&self, name: &FieldPath, spot: &Spot) -> Result<()> {
        let refused = |why: &str| {
            Err(Error::Conflict(format!(
                "column {} cannot identify rows: {why}",
                spot.name
            )))
        };
        match spot.field.field_type.as_ref() {
            Type::Primitive(PrimitiveType::Float | PrimitiveType::Double) => {
                return refused("floating-point numbers do not");
            }
            Type::Primitive(_) => {}
            other => return refused(&format!("its type is {other}")),
        }
        if !spot.field.required {
            return refused("it may be NULL");
        }
        let depth = name.parts().len();
        let ancestors = (1..depth).filter_map(|depth| name.parts().get(..depth));
        for ancestor in ancestors {
            let ancestor = self.locate(&FieldPath::new(ancestor.to_vec()))?;
            let NestedField {
                field_type,
                required,
                ..
            } = ancestor.field.as_ref();
            match field_type.is_struct() {
                true if *required => {}
                true => return refused(&format!("{} may be NULL", ancestor.name)),
                false => return refused(&format!("{} is no struct", ancestor.name)),
            }
        }
        Ok(())
    }
}
