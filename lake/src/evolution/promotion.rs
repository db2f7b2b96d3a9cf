//! Types that become wider (specification, "Schema Evolution").

use iceberg::spec::{Literal, PrimitiveLiteral, PrimitiveType, Type};

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
/// [`Error::Conflict`] says what is allowed.
pub(super) fn check_promotion(name: &str, from: &Type, to: &Type) -> Result<()> {
    match is_promotion(from, to) {
        true => Ok(()),
        false => Err(Error::Conflict(format!(
            "column {name} has type {from} and cannot get type {to}: int becomes bigint, real becomes \
             double, and a decimal one of more digits"
        ))),
    }
}

/// A value of a column that becomes of type `to`.
pub(super) fn promoted(value: Literal, to: &Type) -> Literal {
    use PrimitiveLiteral as L;
    use PrimitiveType as P;
    Literal::Primitive(match (value, to) {
        (Literal::Primitive(L::Int(value)), Type::Primitive(P::Long)) => L::Long(i64::from(value)),
        (Literal::Primitive(L::Float(value)), Type::Primitive(P::Double)) => {
            L::Double(f64::from(value.0).into())
        }
        (Literal::Primitive(value), _) => value,
        (other, _) => return other,
    })
}
