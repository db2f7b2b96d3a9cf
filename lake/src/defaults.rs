//! Default values of columns (specification, "Default values"): what may be one, how a table's
//! metadata keeps it (Appendix C, "JSON single-value serialization"), and how SQL writes it.

use datafusion::common::ScalarValue;
use iceberg::spec::{Literal, PrimitiveLiteral, PrimitiveType, Type};
use serde_json::Value;
use uuid::Uuid;

use crate::scan::schema::primitive_type;
use crate::{Error, Result};

/// The value of a constant as the default of a column; none for NULL, which is the same as no
/// default.
///
/// # Errors
/// [`Error::Conflict`] names the column, when the constant is no value of its type without a loss,
/// or cannot be kept by metadata.
pub fn literal(column: &str, value: &ScalarValue, ty: &Type) -> Result<Option<Literal>> {
    let wrong = |why: &str| {
        Error::Conflict(format!(
            "{value} cannot be the default of column {column}, which is {ty}: {why}"
        ))
    };
    if value.is_null() {
        return Ok(None);
    }
    let Type::Primitive(primitive) = ty else {
        return Err(wrong("only columns of simple types have defaults"));
    };
    let cast = exactly(value, primitive).map_err(|why| wrong(&why))?;
    let literal = of_scalar(&cast, primitive).ok_or_else(|| wrong("it is no such value"))?;
    match is_kept(&literal, ty) {
        true => Ok(Some(literal)),
        false => Err(wrong("the table's metadata cannot keep it")),
    }
}

/// Whether metadata that has this value gives it back when it is read.
pub(crate) fn is_kept(literal: &Literal, ty: &Type) -> bool {
    let json = literal.clone().try_into_json(ty);
    let again = json.and_then(|json| Literal::try_from_json(json, ty));
    again.is_ok_and(|again| again.as_ref() == Some(literal))
}

/// The constant in the type of a column. Texts are read; anything else has to be the same value
/// afterwards.
fn exactly(value: &ScalarValue, primitive: &PrimitiveType) -> Result<ScalarValue, String> {
    let from = value.data_type();
    let to = primitive_type(primitive, true);
    if from == to {
        return Ok(value.clone());
    }
    if from.is_numeric() && to.is_temporal() {
        return Err("a number is no time".to_owned());
    }
    let cast = value
        .cast_to(&to)
        .map_err(|error| error.strip_backtrace())?;
    let is_text = matches!(
        value,
        ScalarValue::Utf8(_) | ScalarValue::LargeUtf8(_) | ScalarValue::Utf8View(_)
    );
    match is_text || cast.cast_to(&from).is_ok_and(|back| &back == value) {
        true => Ok(cast),
        false => Err(format!("it would become {cast}")),
    }
}

fn of_scalar(value: &ScalarValue, ty: &PrimitiveType) -> Option<Literal> {
    use PrimitiveType as T;
    use ScalarValue as V;
    Some(match (ty, value) {
        (T::Boolean, V::Boolean(Some(v))) => Literal::bool(*v),
        (T::Int, V::Int32(Some(v))) => Literal::int(*v),
        (T::Long, V::Int64(Some(v))) => Literal::long(*v),
        (T::Float, V::Float32(Some(v))) => Literal::float(*v),
        (T::Double, V::Float64(Some(v))) => Literal::double(*v),
        (T::Decimal { .. }, V::Decimal128(Some(v), _, _)) => Literal::decimal(*v),
        (T::Date, V::Date32(Some(v))) => Literal::date(*v),
        (T::Time, V::Time64Microsecond(Some(v))) => Literal::time(*v),
        (T::Timestamp | T::Timestamptz, V::TimestampMicrosecond(Some(v), _))
        | (T::TimestampNs | T::TimestamptzNs, V::TimestampNanosecond(Some(v), _)) => {
            Literal::timestamp(*v)
        }
        (T::String, V::Utf8View(Some(v))) => Literal::string(v),
        (T::Uuid, V::Utf8View(Some(v))) => Literal::uuid(Uuid::try_parse(v).ok()?),
        (
            T::Fixed(_) | T::Binary,
            V::BinaryView(Some(v)) | V::FixedSizeBinary(_, Some(v)) | V::LargeBinary(Some(v)),
        ) => Literal::binary(v.iter().copied()),
        _ => return None,
    })
}

/// A default as SQL writes it: text that becomes the value when it is cast to the column's type.
pub fn sql(literal: &Literal, ty: &Type) -> String {
    let plain = match literal {
        Literal::Primitive(PrimitiveLiteral::Float(v)) => Some(format!("{:?}", v.0)),
        Literal::Primitive(PrimitiveLiteral::Double(v)) => Some(format!("{:?}", v.0)),
        _ => None,
    };
    // Numbers with an exponent may be beyond the decimals that numbers in SQL are.
    if let Some(plain) = plain {
        return match plain.contains('e') {
            true => format!("'{plain}'"),
            false => plain,
        };
    }
    let primitive = ty.as_primitive_type();
    match (literal.clone().try_into_json(ty), primitive) {
        (Ok(Value::String(hex)), Some(PrimitiveType::Binary | PrimitiveType::Fixed(_))) => {
            format!("X'{hex}'")
        }
        (Ok(Value::String(number)), Some(PrimitiveType::Decimal { .. })) => number,
        (Ok(Value::String(text)), _) => format!("'{}'", text.replace('\'', "''")),
        (Ok(other), _) => other.to_string(),
        // Such a literal comes from no metadata.
        (Err(_), _) => "NULL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::evolution::promoted;

    fn ty(text: &str) -> Type {
        serde_json::from_value(json!(text)).unwrap()
    }

    fn text(text: &str) -> ScalarValue {
        ScalarValue::Utf8(Some(text.to_owned()))
    }

    fn decimal(value: i128, precision: u8, scale: i8) -> ScalarValue {
        ScalarValue::Decimal128(Some(value), precision, scale)
    }

    #[test]
    fn metadata_keeps_values_as_the_specification_says() {
        for (value, of, expected, written) in [
            (
                ScalarValue::Boolean(Some(true)),
                "boolean",
                json!(true),
                "true",
            ),
            (ScalarValue::Int64(Some(34)), "int", json!(34), "34"),
            (ScalarValue::Int64(Some(-34)), "long", json!(-34), "-34"),
            (decimal(10, 2, 1), "float", json!(1.0), "1.0"),
            (decimal(11, 2, 1), "double", json!(1.1), "1.1"),
            (
                decimal(1420, 4, 2),
                "decimal(9, 2)",
                json!("14.20"),
                "14.20",
            ),
            (
                ScalarValue::Int64(Some(2)),
                "decimal(9, 3)",
                json!("2.000"),
                "2.000",
            ),
            (
                text("2017-11-16"),
                "date",
                json!("2017-11-16"),
                "'2017-11-16'",
            ),
            (
                text("22:31:08.123456"),
                "time",
                json!("22:31:08.123456"),
                "'22:31:08.123456'",
            ),
            (
                text("2017-11-16 22:31:08.123456"),
                "timestamp",
                json!("2017-11-16T22:31:08.123456"),
                "'2017-11-16T22:31:08.123456'",
            ),
            (
                text("2017-11-16T22:31:08.123456-01:00"),
                "timestamptz",
                json!("2017-11-16T23:31:08.123456+00:00"),
                "'2017-11-16T23:31:08.123456+00:00'",
            ),
            (text("it's"), "string", json!("it's"), "'it''s'"),
            (
                text("F79C3E09-677C-4BBD-A479-3F349CB785E7"),
                "uuid",
                json!("f79c3e09-677c-4bbd-a479-3f349cb785e7"),
                "'f79c3e09-677c-4bbd-a479-3f349cb785e7'",
            ),
            (
                ScalarValue::Binary(Some(vec![0, 1, 2, 255])),
                "fixed[4]",
                json!("000102ff"),
                "X'000102ff'",
            ),
            (
                ScalarValue::Binary(Some(vec![0, 1, 2, 255])),
                "binary",
                json!("000102ff"),
                "X'000102ff'",
            ),
        ] {
            let ty = ty(of);
            let literal = literal("c", &value, &ty).unwrap().unwrap();
            assert_eq!(
                literal.clone().try_into_json(&ty).unwrap(),
                expected,
                "{of}"
            );
            assert_eq!(sql(&literal, &ty), written, "{of}");
        }
    }

    #[test]
    fn what_is_no_value_of_the_type_is_refused() {
        let zone: Arc<str> = Arc::from("+00:00");
        for (value, of) in [
            (ScalarValue::Int64(Some(1 << 40)), "int"),
            (ScalarValue::Int64(Some((1 << 24) + 1)), "float"),
            (ScalarValue::Int64(Some(7)), "date"),
            (ScalarValue::Int64(Some(7)), "timestamp"),
            (decimal(19, 2, 1), "long"),
            (decimal(1239, 4, 3), "decimal(9, 2)"),
            (decimal(12345, 5, 0), "decimal(4, 0)"),
            (text("x"), "int"),
            (text("2017-13-16"), "date"),
            (text("x"), "uuid"),
            (ScalarValue::Float64(Some(f64::NAN)), "double"),
            (ScalarValue::Float64(Some(f64::INFINITY)), "double"),
            (ScalarValue::Binary(Some(vec![1])), "fixed[4]"),
            (ScalarValue::TimestampNanosecond(Some(1), None), "timestamp"),
            (
                ScalarValue::TimestampMicrosecond(Some(1), Some(zone)),
                "date",
            ),
        ] {
            let ty = ty(of);
            let said = literal("c", &value, &ty).unwrap_err().to_string();
            let column = format!("column c, which is {ty}");
            assert!(said.contains(&column), "{said}");
        }
        let none = literal("c", &ScalarValue::Null, &ty("int")).unwrap();
        assert!(none.is_none());
    }

    #[test]
    fn a_wider_type_has_the_same_default() {
        let of = |text: &str, value: Literal| promoted(value, &ty(text));
        assert_eq!(of("long", Literal::int(5)), Literal::long(5));
        assert_eq!(of("double", Literal::float(0.5)), Literal::double(0.5));
        assert_eq!(
            of("decimal(20, 2)", Literal::decimal(5)),
            Literal::decimal(5)
        );
    }
}
