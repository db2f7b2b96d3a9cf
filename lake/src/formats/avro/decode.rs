//! Avro's binary encoding into Arrow arrays.
//!
//! Avro specification 1.11, "Binary encoding". Nothing is allocated by a length of the file before
//! as many bytes are known to be there.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int32Array, Int64Array, ListArray, MapArray, NullArray, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use super::super::retyped;
use super::schema::{AvroField, AvroType};

/// A place in encoded bytes.
#[derive(Debug)]
pub struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count);
        let bytes = end
            .and_then(|end| self.data.get(self.at..end))
            .ok_or("it ends in the middle of a value")?;
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.bytes(N)?;
        <[u8; N]>::try_from(bytes).map_err(|error| error.to_string())
    }

    /// A variable-length number in zigzag order.
    pub fn long(&mut self) -> Result<i64, String> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err("a number has too many bytes".to_string())
    }

    fn int(&mut self) -> Result<i32, String> {
        i32::try_from(self.long()?).map_err(|_| "a number is too large for an int".to_string())
    }

    fn boolean(&mut self) -> Result<bool, String> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!("{other} is not a boolean")),
        }
    }

    /// Bytes with their length before them.
    pub fn sized(&mut self) -> Result<&'a [u8], String> {
        let length = usize::try_from(self.long()?).map_err(|_| "a value has a negative length")?;
        self.bytes(length)
    }

    /// The items of an array or a map, which come in blocks.
    fn items(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            // A negative count is followed by the length of the block.
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }
}

/// Reads past a value.
pub fn skip(avro_type: &AvroType, cursor: &mut Cursor<'_>) -> Result<(), String> {
    if avro_type.is_empty() {
        return Ok(());
    }
    match avro_type {
        AvroType::Null => {}
        AvroType::Boolean => {
            cursor.boolean()?;
        }
        AvroType::Int(_) | AvroType::Long(_) | AvroType::Enum(_) => {
            cursor.long()?;
        }
        AvroType::Float => {
            cursor.bytes(4)?;
        }
        AvroType::Double => {
            cursor.bytes(8)?;
        }
        AvroType::Bytes | AvroType::String | AvroType::Decimal { size: None, .. } => {
            cursor.sized()?;
        }
        AvroType::Fixed(size)
        | AvroType::Decimal {
            size: Some(size), ..
        } => {
            cursor.bytes(*size)?;
        }
        AvroType::Record(fields) => {
            for field in fields {
                skip(&field.avro_type, cursor)?;
            }
        }
        // Any number of empty elements fit in no bytes.
        AvroType::Array(element) if element.avro_type.is_empty() => {
            cursor.items_of_nothing()?;
        }
        AvroType::Array(element) => cursor.items(|cursor| skip(&element.avro_type, cursor))?,
        AvroType::Map(key, value) | AvroType::Pairs(key, value) => {
            if key.avro_type.is_empty() && value.avro_type.is_empty() {
                return cursor.items_of_nothing();
            }
            cursor.items(|cursor| {
                skip(&key.avro_type, cursor)?;
                skip(&value.avro_type, cursor)
            })?;
        }
        AvroType::Optional(inner, null) => {
            if branch(cursor, *null)? {
                skip(inner, cursor)?;
            }
        }
        AvroType::Union(branches) => {
            let index = usize::try_from(cursor.long()?).ok();
            let branch = index.and_then(|index| branches.get(index));
            skip(branch.ok_or("a union has no such branch")?, cursor)?;
        }
    }
    Ok(())
}

impl Cursor<'_> {
    fn items_of_nothing(&mut self) -> Result<(), String> {
        loop {
            match self.long()? {
                0 => return Ok(()),
                count if count < 0 => {
                    self.long()?;
                }
                _ => {}
            }
        }
    }
}

/// Whether an optional value is there.
fn branch(cursor: &mut Cursor<'_>, null: i64) -> Result<bool, String> {
    match cursor.long()? {
        found @ (0 | 1) => Ok(found != null),
        _ => Err("a union has no such branch".to_string()),
    }
}

/// Offsets into the values of a variable-length array.
#[derive(Debug)]
struct Offsets(Vec<i32>);

impl Offsets {
    fn new() -> Self {
        Self(vec![0])
    }

    fn push(&mut self, end: usize) -> Result<(), String> {
        let end = i32::try_from(end).map_err(|_| "a batch holds more than 2 GiB".to_string())?;
        self.0.push(end);
        Ok(())
    }

    fn take(&mut self) -> OffsetBuffer<i32> {
        let offsets = std::mem::replace(&mut self.0, vec![0]);
        OffsetBuffer::new(ScalarBuffer::from(offsets))
    }

    fn repeat(&mut self) {
        let end = self.0.last().copied().unwrap_or(0);
        self.0.push(end);
    }
}

/// The values of a column so far.
#[derive(Debug)]
pub enum Column {
    /// Nothing but NULL, so often.
    Null(usize),
    /// `boolean`
    Boolean(Vec<bool>),
    /// `int`, and its Arrow type.
    Int(Vec<i32>, DataType),
    /// `long`, and its Arrow type.
    Long(Vec<i64>, DataType),
    /// `float`
    Float(Vec<f32>),
    /// `double`
    Double(Vec<f64>),
    /// `bytes` or `string`
    Bytes(Bytes),
    /// `enum`, as texts.
    Enum(Arc<[String]>, Bytes),
    /// `fixed`
    Fixed(usize, Vec<u8>, usize),
    /// A decimal in `bytes` or a `fixed`.
    Decimal(Option<usize>, Vec<i128>, DataType),
    /// `record`
    Struct(Fields, Vec<Column>, usize),
    /// `array`
    List(FieldRef, Elements),
    /// `map`, or an array of key-value records.
    Map(FieldRef, Fields, Box<(Elements, Column)>),
    /// A union with null: the branch of null, and which values are there.
    Optional(Box<Column>, i64, Vec<bool>),
}

/// Values of variable length, end to end.
#[derive(Debug)]
pub struct Bytes {
    offsets: Offsets,
    data: Vec<u8>,
    text: bool,
}

impl Bytes {
    fn new(text: bool) -> Self {
        Self {
            offsets: Offsets::new(),
            data: Vec::new(),
            text,
        }
    }

    fn push(&mut self, value: &[u8]) -> Result<(), String> {
        self.data.extend_from_slice(value);
        self.offsets.push(self.data.len())
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, String> {
        let data = Buffer::from_vec(std::mem::take(&mut self.data));
        let offsets = self.offsets.take();
        Ok(if self.text {
            Arc::new(StringArray::try_new(offsets, data, nulls).map_err(text_of)?)
        } else {
            Arc::new(BinaryArray::try_new(offsets, data, nulls).map_err(text_of)?)
        })
    }
}

/// The elements of lists, or the keys of maps.
#[derive(Debug)]
pub struct Elements {
    offsets: Offsets,
    column: Box<Column>,
    count: usize,
}

impl Elements {
    fn new(field: &AvroField) -> Result<Self, String> {
        Ok(Self {
            offsets: Offsets::new(),
            column: Box::new(Column::new(&field.avro_type)?),
            count: 0,
        })
    }
}

fn text_of(error: arrow::error::ArrowError) -> String {
    error.to_string()
}

impl Column {
    /// An empty column.
    ///
    /// # Errors
    /// When the type cannot be read, which [`super::schema::unreadable`] says better.
    pub fn new(avro_type: &AvroType) -> Result<Self, String> {
        let data_type = avro_type.arrow()?;
        Ok(match avro_type {
            AvroType::Null => Self::Null(0),
            AvroType::Boolean => Self::Boolean(vec![]),
            AvroType::Int(_) => Self::Int(vec![], data_type),
            AvroType::Long(_) => Self::Long(vec![], data_type),
            AvroType::Float => Self::Float(vec![]),
            AvroType::Double => Self::Double(vec![]),
            AvroType::Bytes => Self::Bytes(Bytes::new(false)),
            AvroType::String => Self::Bytes(Bytes::new(true)),
            AvroType::Enum(symbols) => Self::Enum(Arc::clone(symbols), Bytes::new(true)),
            AvroType::Fixed(size) => Self::Fixed(*size, vec![], 0),
            AvroType::Decimal { size, .. } => Self::Decimal(*size, vec![], data_type),
            AvroType::Record(fields) => {
                let columns: Result<_, String> = fields
                    .iter()
                    .map(|field| Self::new(&field.avro_type))
                    .collect();
                let fields = fields.iter().map(AvroField::arrow).collect();
                Self::Struct(fields, columns?, 0)
            }
            AvroType::Array(element) => {
                Self::List(Arc::new(element.arrow()), Elements::new(element)?)
            }
            AvroType::Map(key, value) | AvroType::Pairs(key, value) => {
                let fields = Fields::from(vec![key.arrow(), value.arrow()]);
                let entries = Field::new("key_value", DataType::Struct(fields.clone()), false);
                let columns = (Elements::new(key)?, Self::new(&value.avro_type)?);
                Self::Map(Arc::new(entries), fields, Box::new(columns))
            }
            AvroType::Optional(inner, null) => {
                Self::Optional(Box::new(Self::new(inner)?), *null, vec![])
            }
            AvroType::Union(_) => return Err("it is a union of several types".to_string()),
        })
    }

    /// Reads one value.
    ///
    /// # Errors
    /// A sentence saying what is wrong with it.
    pub fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<(), String> {
        match self {
            Self::Null(count) => *count += 1,
            Self::Boolean(values) => values.push(cursor.boolean()?),
            Self::Int(values, _) => values.push(cursor.int()?),
            Self::Long(values, _) => values.push(cursor.long()?),
            Self::Float(values) => values.push(f32::from_le_bytes(cursor.array()?)),
            Self::Double(values) => values.push(f64::from_le_bytes(cursor.array()?)),
            Self::Bytes(values) => values.push(cursor.sized()?)?,
            Self::Enum(symbols, values) => {
                let index = usize::try_from(cursor.long()?).ok();
                let symbol = index.and_then(|index| symbols.get(index));
                values.push(symbol.ok_or("an enum has no such symbol")?.as_bytes())?;
            }
            Self::Fixed(size, values, count) => {
                values.extend_from_slice(cursor.bytes(*size)?);
                *count += 1;
            }
            Self::Decimal(size, values, _) => {
                let bytes = match size {
                    Some(size) => cursor.bytes(*size)?,
                    None => cursor.sized()?,
                };
                values.push(decimal(bytes)?);
            }
            Self::Struct(_, columns, count) => {
                for column in columns {
                    column.read(cursor)?;
                }
                *count += 1;
            }
            Self::List(_, elements) => {
                cursor.items(|cursor| {
                    elements.count += 1;
                    elements.column.read(cursor)
                })?;
                elements.offsets.push(elements.count)?;
            }
            Self::Map(_, _, columns) => {
                let (keys, values) = columns.as_mut();
                cursor.items(|cursor| {
                    keys.count += 1;
                    keys.column.read(cursor)?;
                    values.read(cursor)
                })?;
                keys.offsets.push(keys.count)?;
            }
            Self::Optional(inner, null, valid) => {
                let is_there = branch(cursor, *null)?;
                valid.push(is_there);
                if is_there {
                    inner.read(cursor)?;
                } else {
                    inner.fill()?;
                }
            }
        }
        Ok(())
    }

    /// Adds whatever stands where a value is NULL.
    fn fill(&mut self) -> Result<(), String> {
        match self {
            Self::Null(count) => *count += 1,
            Self::Boolean(values) => values.push(false),
            Self::Int(values, _) => values.push(0),
            Self::Long(values, _) => values.push(0),
            Self::Float(values) => values.push(0.0),
            Self::Double(values) => values.push(0.0),
            Self::Bytes(values) | Self::Enum(_, values) => values.offsets.repeat(),
            Self::Fixed(size, values, count) => {
                let length = values.len() + *size;
                if i32::try_from(length).is_err() {
                    return Err("a batch holds more than 2 GiB".to_string());
                }
                values.resize(length, 0);
                *count += 1;
            }
            Self::Decimal(_, values, _) => values.push(0),
            Self::Struct(_, columns, count) => {
                for column in columns {
                    column.fill()?;
                }
                *count += 1;
            }
            Self::List(_, elements) => elements.offsets.repeat(),
            Self::Map(_, _, columns) => columns.0.offsets.repeat(),
            Self::Optional(inner, _, valid) => {
                valid.push(false);
                inner.fill()?;
            }
        }
        Ok(())
    }

    /// The values read so far as an array; the column is empty again. `nulls` says which of them
    /// are there.
    ///
    /// # Errors
    /// When the values do not make an array: text that is not UTF-8, a NULL where there must be
    /// none.
    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, String> {
        Ok(match self {
            Self::Null(count) => Arc::new(NullArray::new(std::mem::take(count))),
            Self::Boolean(values) => {
                Arc::new(BooleanArray::new(std::mem::take(values).into(), nulls))
            }
            Self::Int(values, data_type) => {
                let array = Int32Array::try_new(std::mem::take(values).into(), nulls);
                retyped(Arc::new(array.map_err(text_of)?), data_type)?
            }
            Self::Long(values, data_type) => {
                let array = Int64Array::try_new(std::mem::take(values).into(), nulls);
                retyped(Arc::new(array.map_err(text_of)?), data_type)?
            }
            Self::Float(values) => {
                let array = Float32Array::try_new(std::mem::take(values).into(), nulls);
                Arc::new(array.map_err(text_of)?)
            }
            Self::Double(values) => {
                let array = Float64Array::try_new(std::mem::take(values).into(), nulls);
                Arc::new(array.map_err(text_of)?)
            }
            Self::Bytes(values) | Self::Enum(_, values) => values.finish(nulls)?,
            Self::Fixed(size, values, count) => {
                *count = 0;
                let size = i32::try_from(*size).map_err(|error| error.to_string())?;
                let data = Buffer::from_vec(std::mem::take(values));
                Arc::new(FixedSizeBinaryArray::try_new(size, data, nulls).map_err(text_of)?)
            }
            Self::Decimal(_, values, data_type) => {
                let array = Decimal128Array::try_new(std::mem::take(values).into(), nulls);
                Arc::new(array.map_err(text_of)?.with_data_type(data_type.clone()))
            }
            Self::Struct(fields, columns, count) => {
                let length = std::mem::take(count);
                let columns: Result<Vec<_>, String> = columns
                    .iter_mut()
                    .map(|column| column.finish(None))
                    .collect();
                let array =
                    StructArray::try_new_with_length(fields.clone(), columns?, nulls, length);
                Arc::new(array.map_err(text_of)?)
            }
            Self::List(field, elements) => {
                elements.count = 0;
                let offsets = elements.offsets.take();
                let values = elements.column.finish(None)?;
                let array = ListArray::try_new(Arc::clone(field), offsets, values, nulls);
                Arc::new(array.map_err(text_of)?)
            }
            Self::Map(entries, fields, columns) => {
                let (keys, values) = columns.as_mut();
                keys.count = 0;
                let columns = vec![keys.column.finish(None)?, values.finish(None)?];
                let pairs = StructArray::try_new(fields.clone(), columns, None);
                let array = MapArray::try_new(
                    Arc::clone(entries),
                    keys.offsets.take(),
                    pairs.map_err(text_of)?,
                    nulls,
                    false,
                );
                Arc::new(array.map_err(text_of)?)
            }
            Self::Optional(inner, _, valid) => {
                inner.finish(Some(NullBuffer::from(std::mem::take(valid))))?
            }
        })
    }
}

/// A big-endian two's complement number of any length.
fn decimal(bytes: &[u8]) -> Result<i128, String> {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let filler = if negative { 0xff } else { 0 };
    let mut number = [filler; 16];
    let extra = bytes.len().saturating_sub(16);
    let (dropped, kept) = bytes.split_at(extra);
    let sign_changes = extra > 0
        && kept
            .first()
            .is_some_and(|byte| (byte & 0x80 != 0) != negative);
    if dropped.iter().any(|byte| *byte != filler) || sign_changes {
        return Err("a decimal has too many digits".to_string());
    }
    for (to, from) in number.iter_mut().rev().zip(kept.iter().rev()) {
        *to = *from;
    }
    Ok(i128::from_be_bytes(number))
}
