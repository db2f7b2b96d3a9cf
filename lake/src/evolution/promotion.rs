//! Types that become wider (specification, "Schema Evolution").

use iceberg::spec::{NestedField, PrimitiveType, Type};

use crate::{Error, Result};

/// Whether values of a primitive type may be read as `to` (specification, "Schema Evolution").
pub(crate) fn is_promotion(from: &Type, to: &Type) -> bool {
    use PrimitiveType as P;
    match (from, to) {
        (from, to) if from == to => true,
        (Type::Primitive(P::Int), Type::Primitive(P::Long))
        | (Type::Primitive(P::Float), Type::Primitive(P::Double)) => true,
        (
            Type::Primitive(P::Decimal { precision, scale }),
            Type::Primitive(P::Decimal {
                precision: wider,
                scale: same,
            }),
        ) => wider >= precision && scale == same,
        _ => false,
    }
}

/// # Errors
/// [`Error::Conflict`] names the types that are allowed.
pub(super) fn check_promotion(field: &NestedField, ty: &Type) -> Result<()> {
    let allowed = is_promotion(&field.field_type, ty);
    match allowed {
        true => Ok(()),
        false => Err(Error::Conflict(format!(
            "column {} has type {} and cannot get type {ty}: int becomes bigint, real becomes \
             double, and a decimal one of more digits",
            field.name, field.field_type
        ))),
    }
}
