//! Carries out a [`Conversion`]: nested columns matched child by child, and UUIDs as text.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, ListArray, MapArray, RecordBatch,
    StringArray, StringViewBuilder, StructArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use uuid::Uuid;

use super::mapping::{Conversion, Source};

/// Evaluates a column of the file and converts it to the table's type.
#[derive(Clone, Debug, Eq)]
pub struct ConvertExpr {
    input: Arc<dyn PhysicalExpr>,
    conversion: Conversion,
    target: FieldRef,
}

impl ConvertExpr {
    /// `target` gives the type and the nullability of the result.
    pub fn new(input: Arc<dyn PhysicalExpr>, conversion: Conversion, target: FieldRef) -> Self {
        Self {
            input,
            conversion,
            target,
        }
    }
}

// By hand, because the derived form would move the trait object out.
impl PartialEq for ConvertExpr {
    fn eq(&self, other: &Self) -> bool {
        self.input.eq(&other.input)
            && self.conversion == other.conversion
            && self.target == other.target
    }
}

impl Hash for ConvertExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.conversion.hash(state);
        self.target.hash(state);
    }
}

impl fmt::Display for ConvertExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} AS {}", self.input, self.target.name())
    }
}

impl PhysicalExpr for ConvertExpr {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.target.data_type().clone())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(self.target.is_nullable())
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.input.evaluate(batch)?.into_array(batch.num_rows())?;
        let converted = convert(&array, self.target.data_type(), &self.conversion)?;
        Ok(ColumnarValue::Array(converted))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(
                input,
                self.conversion.clone(),
                Arc::clone(&self.target),
            ))),
            _ => exec_err!("a conversion has exactly one input"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.input.fmt_sql(f)
    }
}

/// Converts one array.
///
/// # Errors
/// When a value does not fit the target type, or a required child holds NULL.
pub fn convert(array: &ArrayRef, target: &DataType, conversion: &Conversion) -> Result<ArrayRef> {
    match conversion {
        Conversion::None if array.data_type() == target => Ok(Arc::clone(array)),
        Conversion::None | Conversion::Cast => {
            let options = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            Ok(cast_with_options(array, target, &options)?)
        }
        Conversion::UuidText => uuid_text(array, target),
        Conversion::Struct(children) => convert_struct(array, target, children),
        Conversion::List(element) => convert_list(array, target, element),
        Conversion::Map(key, value) => convert_map(array, target, key, value),
    }
}

fn uuid_text(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let bytes = array
        .as_any()
        .downcast_ref::<FixedSizeBinaryArray>()
        .ok_or_else(|| exec_datafusion_err!("a UUID column holds {}", array.data_type()))?;
    let mut buffer = Uuid::encode_buffer();
    let mut text = |bytes: &[u8]| -> Result<String> {
        let uuid = Uuid::from_slice(bytes).map_err(|e| exec_datafusion_err!("UUID: {e}"))?;
        Ok(uuid.hyphenated().encode_lower(&mut buffer).to_string())
    };
    if target == &DataType::Utf8View {
        let mut builder = StringViewBuilder::with_capacity(bytes.len());
        for value in bytes {
            builder.append_option(value.map(&mut text).transpose()?);
        }
        return Ok(Arc::new(builder.finish()));
    }
    let texts: Result<Vec<Option<String>>> = bytes
        .iter()
        .map(|value| value.map(&mut text).transpose())
        .collect();
    Ok(Arc::new(StringArray::from(texts?)))
}

fn convert_struct(array: &ArrayRef, target: &DataType, children: &[Source]) -> Result<ArrayRef> {
    let (Some(input), DataType::Struct(fields)) = (array.as_struct_opt(), target) else {
        return exec_err!("{} cannot be read as {target}", array.data_type());
    };
    let columns: Result<Vec<ArrayRef>> = fields
        .iter()
        .zip(children)
        .map(|(field, source)| {
            let child = convert_child(input, field, source)?;
            under_nulls(child, input.nulls())
        })
        .collect();
    if fields.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(
            input.len(),
            input.nulls().cloned(),
        )));
    }
    Ok(Arc::new(StructArray::try_new(
        fields.clone(),
        columns?,
        input.nulls().cloned(),
    )?))
}

/// A child with the NULLs of its struct: whoever reads the child alone must not see what stands in
/// memory below a NULL, a default for instance.
fn under_nulls(child: ArrayRef, nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => Ok(child),
        Some(nulls) => {
            let is_null = BooleanArray::new(!nulls.inner(), None);
            Ok(nullif(&child, &is_null)?)
        }
    }
}

fn convert_child(input: &StructArray, field: &FieldRef, source: &Source) -> Result<ArrayRef> {
    match source {
        Source::File(place, conversion) => {
            let child = input
                .columns()
                .get(*place)
                .ok_or_else(|| exec_datafusion_err!("struct child {} is missing", field.name()))?;
            convert(child, field.data_type(), conversion)
        }
        Source::Constant(value) if value.is_null() => {
            Ok(new_null_array(field.data_type(), input.len()))
        }
        Source::Constant(value) => value.to_array_of_size(input.len()),
        Source::Row(_) => exec_err!("struct child {} is no column of the table", field.name()),
    }
}

fn convert_list(array: &ArrayRef, target: &DataType, element: &Conversion) -> Result<ArrayRef> {
    let (Some(input), DataType::List(field)) = (array.as_list_opt::<i32>(), target) else {
        return exec_err!("{} cannot be read as {target}", array.data_type());
    };
    let values = convert(input.values(), field.data_type(), element)?;
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(field),
        input.offsets().clone(),
        values,
        input.nulls().cloned(),
    )?))
}

fn convert_map(
    array: &ArrayRef,
    target: &DataType,
    key: &Conversion,
    value: &Conversion,
) -> Result<ArrayRef> {
    let (Some(input), DataType::Map(field, sorted)) = (array.as_map_opt(), target) else {
        return exec_err!("{} cannot be read as {target}", array.data_type());
    };
    let DataType::Struct(parts) = field.data_type() else {
        return exec_err!("map type without entries: {target}");
    };
    let (Some(key_field), Some(value_field)) = (parts.first(), parts.get(1)) else {
        return exec_err!("map type without key and value: {target}");
    };
    let keys = convert(input.keys(), key_field.data_type(), key)?;
    let values = convert(input.values(), value_field.data_type(), value)?;
    let entries = StructArray::try_new(
        parts.clone(),
        vec![keys, values],
        input.entries().nulls().cloned(),
    )?;
    Ok(Arc::new(MapArray::try_new(
        Arc::clone(field),
        input.offsets().clone(),
        entries,
        input.nulls().cloned(),
        *sorted,
    )?))
}
