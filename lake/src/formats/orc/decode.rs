//! The streams of a stripe into Arrow arrays.
//!
//! ORC specification v1, section "Column Encodings". A value that is NULL, or whose parent is, has
//! nothing in the streams.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, ListArray, MapArray, StringArray,
    StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};
use bytes::Bytes;

use super::super::{MAX_PREALLOCATED, retyped};
use super::proto::{ColumnEncoding, encoding, kind, stream};
use super::rle::{BitRuns, ByteRuns, IntRuns};
use super::schema::OrcField;
use super::stream::{ByteStream, Compression};
use super::timestamp::{Zone, timestamp};

/// The streams of a stripe that are read.
#[derive(Debug)]
pub struct Streams {
    /// By index of the type and kind of stream.
    pub bytes: HashMap<(usize, i32), Bytes>,
    /// How they are compressed.
    pub compression: Option<Compression>,
    /// By index of the type.
    pub encodings: Vec<ColumnEncoding>,
    /// The writer's zone, or why it is not known.
    pub zone: Result<Zone, String>,
}

impl Streams {
    fn take_if_there(&mut self, index: usize, kind: i32) -> Option<ByteStream> {
        let bytes = self.bytes.remove(&(index, kind))?;
        Some(ByteStream::new(bytes, self.compression))
    }

    /// A stream without bytes may be left out.
    fn take(&mut self, index: usize, kind: i32) -> ByteStream {
        self.take_if_there(index, kind)
            .unwrap_or_else(|| ByteStream::new(Bytes::new(), None))
    }

    /// The bits that say which values are there; `None` when all are.
    pub fn present(&mut self, index: usize) -> Option<BitRuns> {
        self.take_if_there(index, stream::PRESENT).map(BitRuns::new)
    }

    fn encoding(&self, index: usize) -> Result<ColumnEncoding, String> {
        let found = self.encodings.get(index).copied();
        found.ok_or_else(|| format!("type {index} has no encoding"))
    }

    fn ints(&mut self, index: usize, kind: i32, signed: bool) -> Result<IntRuns, String> {
        let second_version = match self.encoding(index)?.kind {
            encoding::DIRECT | encoding::DICTIONARY => false,
            encoding::DIRECT_V2 | encoding::DICTIONARY_V2 => true,
            other => return Err(format!("encoding {other} is not known")),
        };
        Ok(IntRuns::new(self.take(index, kind), second_version, signed))
    }
}

/// A column of a stripe, or a part of one.
#[derive(Debug)]
pub struct Column {
    present: Option<BitRuns>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Boolean(BitRuns),
    Byte(ByteRuns),
    /// All other integers, and what they stand for.
    Int(IntRuns, DataType),
    Float(ByteStream),
    Double(ByteStream),
    /// Texts and bytes.
    Direct {
        lengths: IntRuns,
        data: ByteStream,
        data_type: DataType,
    },
    /// Texts and bytes, each written once.
    Dictionary {
        indices: IntRuns,
        dictionary: Dictionary,
        data_type: DataType,
    },
    Decimal {
        digits: ByteStream,
        scales: IntRuns,
        precision: u8,
        scale: i8,
    },
    Timestamp {
        seconds: IntRuns,
        nanos: IntRuns,
        zone: Zone,
        unit: TimeUnit,
        data_type: DataType,
    },
    Struct(Fields, Vec<Column>),
    List(FieldRef, IntRuns, Box<Column>),
    Map(FieldRef, Fields, IntRuns, Box<(Column, Column)>),
}

#[derive(Debug)]
struct Dictionary {
    /// Where each value ends.
    ends: Vec<usize>,
    data: Vec<u8>,
}

impl Dictionary {
    fn read(mut lengths: IntRuns, data: &mut ByteStream, size: usize) -> Result<Self, String> {
        let lengths = lengths.read(size)?;
        let total = total(&lengths)?;
        let mut bytes = Vec::with_capacity(total.min(MAX_PREALLOCATED));
        data.read(total, &mut bytes)?;
        let mut end = 0;
        let ends = lengths.iter().map(|length| {
            end += *length as usize;
            end
        });
        Ok(Self {
            ends: ends.collect(),
            data: bytes,
        })
    }

    fn get(&self, index: i64) -> Result<&[u8], String> {
        let index = usize::try_from(index).ok();
        let end = index.and_then(|index| self.ends.get(index));
        let start = match index {
            Some(index @ 1..) => self.ends.get(index - 1),
            _ => Some(&0),
        };
        match (start, end) {
            (Some(start), Some(end)) => self.data.get(*start..*end),
            _ => None,
        }
        .ok_or_else(|| "a value is not in the dictionary".to_string())
    }
}

/// The sum of lengths, none of which is negative, if one array can hold as much.
fn total(lengths: &[i64]) -> Result<usize, String> {
    let mut total = 0_i64;
    for length in lengths {
        if *length < 0 {
            return Err("a value has a negative length".to_string());
        }
        total = total.saturating_add(*length);
    }
    match i32::try_from(total) {
        Ok(_) => Ok(total as usize),
        Err(_) => Err("a batch holds more than 2 GiB".to_string()),
    }
}

impl Column {
    /// The column of a stripe; takes its streams.
    ///
    /// # Errors
    /// A sentence saying what is wrong with the column, or not supported.
    pub fn new(field: &OrcField, streams: &mut Streams) -> Result<Self, String> {
        Ok(Self {
            present: streams.present(field.index),
            values: Values::new(field, streams)?,
        })
    }

    /// The next `count` values. `parent` says which of them have a parent.
    ///
    /// # Errors
    /// A sentence saying what is wrong with the values.
    pub fn read(&mut self, count: usize, parent: Option<&NullBuffer>) -> Result<ArrayRef, String> {
        let nulls = match &mut self.present {
            None => parent.cloned(),
            Some(present) => {
                let bits = present.read(there(count, parent))?;
                Some(NullBuffer::from(spread(bits, count, parent)))
            }
        };
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        self.values.read(count, nulls)
    }
}

/// How many of `count` values are there.
fn there(count: usize, nulls: Option<&NullBuffer>) -> usize {
    count - nulls.map_or(0, NullBuffer::null_count)
}

/// Puts values to where they are not NULL.
fn spread<T: Copy + Default>(values: Vec<T>, count: usize, nulls: Option<&NullBuffer>) -> Vec<T> {
    let Some(nulls) = nulls else {
        return values;
    };
    let mut places = vec![T::default(); count];
    for (place, value) in nulls.valid_indices().zip(values) {
        places[place] = value;
    }
    places
}

impl Values {
    fn new(field: &OrcField, streams: &mut Streams) -> Result<Self, String> {
        let index = field.index;
        let data_type = field.data_type.clone()?;
        Ok(match (field.kind, data_type) {
            (kind::BOOLEAN, _) => Self::Boolean(BitRuns::new(streams.take(index, stream::DATA))),
            (kind::BYTE, _) => Self::Byte(ByteRuns::new(streams.take(index, stream::DATA))),
            (kind::SHORT | kind::INT | kind::LONG | kind::DATE, data_type) => {
                Self::Int(streams.ints(index, stream::DATA, true)?, data_type)
            }
            (kind::FLOAT, _) => Self::Float(streams.take(index, stream::DATA)),
            (kind::DOUBLE, _) => Self::Double(streams.take(index, stream::DATA)),
            (kind::STRING | kind::VARCHAR | kind::CHAR | kind::BINARY, data_type) => {
                Self::bytes(index, data_type, streams)?
            }
            (kind::DECIMAL, DataType::Decimal128(precision, scale)) => Self::Decimal {
                digits: streams.take(index, stream::DATA),
                scales: streams.ints(index, stream::SECONDARY, true)?,
                precision,
                scale,
            },
            (kind::TIMESTAMP | kind::TIMESTAMP_INSTANT, DataType::Timestamp(unit, zone)) => {
                Self::Timestamp {
                    seconds: streams.ints(index, stream::DATA, true)?,
                    nanos: streams.ints(index, stream::SECONDARY, false)?,
                    zone: match &zone {
                        Some(_) => Zone::Utc,
                        None => streams.zone.clone()?,
                    },
                    unit,
                    data_type: DataType::Timestamp(unit, zone),
                }
            }
            (kind::STRUCT, DataType::Struct(fields)) => {
                let columns: Result<_, String> = field
                    .children
                    .iter()
                    .map(|child| Column::new(child, streams))
                    .collect();
                Self::Struct(fields, columns?)
            }
            (kind::LIST, DataType::List(element)) => {
                let lengths = streams.ints(index, stream::LENGTH, false)?;
                let child = field.children.first().ok_or("a list has no elements")?;
                Self::List(element, lengths, Box::new(Column::new(child, streams)?))
            }
            (kind::MAP, DataType::Map(entries, _)) => Self::map(field, entries, streams)?,
            (other, _) => return Err(format!("its ORC type (number {other}) is not supported")),
        })
    }

    fn bytes(index: usize, data_type: DataType, streams: &mut Streams) -> Result<Self, String> {
        let found = streams.encoding(index)?;
        let lengths = streams.ints(index, stream::LENGTH, false)?;
        if matches!(found.kind, encoding::DIRECT | encoding::DIRECT_V2) {
            return Ok(Self::Direct {
                lengths,
                data: streams.take(index, stream::DATA),
                data_type,
            });
        }
        let mut data = streams.take(index, stream::DICTIONARY_DATA);
        let size = found.dictionary_size as usize;
        Ok(Self::Dictionary {
            dictionary: Dictionary::read(lengths, &mut data, size)?,
            indices: streams.ints(index, stream::DATA, false)?,
            data_type,
        })
    }

    fn map(field: &OrcField, entries: FieldRef, streams: &mut Streams) -> Result<Self, String> {
        let lengths = streams.ints(field.index, stream::LENGTH, false)?;
        let (DataType::Struct(fields), [key, value]) =
            (entries.data_type().clone(), field.children.as_slice())
        else {
            return Err("a map has no keys and values".to_string());
        };
        let columns = (Column::new(key, streams)?, Column::new(value, streams)?);
        Ok(Self::Map(entries, fields, lengths, Box::new(columns)))
    }

    fn read(&mut self, count: usize, nulls: Option<NullBuffer>) -> Result<ArrayRef, String> {
        let there = there(count, nulls.as_ref());
        Ok(match self {
            Self::Boolean(bits) => {
                let values = spread(bits.read(there)?, count, nulls.as_ref());
                Arc::new(BooleanArray::new(values.into(), nulls))
            }
            Self::Byte(bytes) => {
                let values = bytes.read(there)?.into_iter().map(u8::cast_signed);
                let values = spread(values.collect(), count, nulls.as_ref());
                Arc::new(Int8Array::new(values.into(), nulls))
            }
            Self::Int(ints, data_type) => {
                let values = spread(ints.read(there)?, count, nulls.as_ref());
                integers(values, nulls, data_type)?
            }
            Self::Float(data) => {
                let values = floats(there, || Ok(f32::from_le_bytes(data.array()?)))?;
                let values = spread(values, count, nulls.as_ref());
                Arc::new(Float32Array::new(values.into(), nulls))
            }
            Self::Double(data) => {
                let values = floats(there, || Ok(f64::from_le_bytes(data.array()?)))?;
                let values = spread(values, count, nulls.as_ref());
                Arc::new(Float64Array::new(values.into(), nulls))
            }
            Self::Direct {
                lengths,
                data,
                data_type,
            } => {
                let lengths = lengths.read(there)?;
                let total = total(&lengths)?;
                let mut bytes = Vec::with_capacity(total.min(MAX_PREALLOCATED));
                data.read(total, &mut bytes)?;
                byte_array(bytes, lengths, count, nulls, data_type)?
            }
            Self::Dictionary {
                indices,
                dictionary,
                data_type,
            } => {
                let mut bytes = Vec::new();
                let mut lengths = Vec::with_capacity(there.min(MAX_PREALLOCATED));
                for index in indices.read(there)? {
                    let value = dictionary.get(index)?;
                    if bytes.len() + value.len() > i32::MAX as usize {
                        return Err("a batch holds more than 2 GiB".to_string());
                    }
                    bytes.extend_from_slice(value);
                    lengths.push(value.len() as i64);
                }
                byte_array(bytes, lengths, count, nulls, data_type)?
            }
            Self::Decimal {
                digits,
                scales,
                precision,
                scale,
            } => {
                let scales = scales.read(there)?;
                let values: Result<Vec<i128>, String> = scales
                    .into_iter()
                    .map(|found| rescaled(unbounded(digits)?, found, i64::from(*scale)))
                    .collect();
                let values = spread(values?, count, nulls.as_ref());
                let array = Decimal128Array::new(values.into(), nulls)
                    .with_precision_and_scale(*precision, *scale);
                Arc::new(array.map_err(|error| error.to_string())?)
            }
            Self::Timestamp {
                seconds,
                nanos,
                zone,
                unit,
                data_type,
            } => {
                let values: Result<Vec<i64>, String> = seconds
                    .read(there)?
                    .into_iter()
                    .zip(nanos.read(there)?)
                    .map(|(seconds, nanos)| timestamp(*zone, seconds, nanos, *unit))
                    .collect();
                let values = spread(values?, count, nulls.as_ref());
                integers(values, nulls, data_type)?
            }
            Self::Struct(fields, columns) => {
                let columns: Result<Vec<ArrayRef>, String> = columns
                    .iter_mut()
                    .map(|column| column.read(count, nulls.as_ref()))
                    .collect();
                let array = StructArray::try_new(fields.clone(), columns?, nulls);
                Arc::new(array.map_err(|error| error.to_string())?)
            }
            Self::List(field, lengths, element) => {
                let (offsets, total) = offsets(lengths.read(there)?, count, nulls.as_ref())?;
                let values = element.read(total, None)?;
                let array = ListArray::try_new(Arc::clone(field), offsets, values, nulls);
                Arc::new(array.map_err(|error| error.to_string())?)
            }
            Self::Map(entries, fields, lengths, columns) => {
                let (offsets, total) = offsets(lengths.read(there)?, count, nulls.as_ref())?;
                let (keys, values) = columns.as_mut();
                let columns = vec![keys.read(total, None)?, values.read(total, None)?];
                let pairs = StructArray::try_new(fields.clone(), columns, None)
                    .map_err(|error| error.to_string())?;
                let array = MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, false);
                Arc::new(array.map_err(|error| error.to_string())?)
            }
        })
    }
}

fn floats<T>(count: usize, mut next: impl FnMut() -> Result<T, String>) -> Result<Vec<T>, String> {
    let mut values = Vec::with_capacity(count.min(MAX_PREALLOCATED));
    for _ in 0..count {
        values.push(next()?);
    }
    Ok(values)
}

fn integers(
    values: Vec<i64>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, String> {
    Ok(match data_type {
        DataType::Int16 => Arc::new(Int16Array::new(narrowed(values)?.into(), nulls)),
        DataType::Int32 | DataType::Date32 => {
            let array = Int32Array::new(narrowed(values)?.into(), nulls);
            retyped(Arc::new(array), data_type)?
        }
        _ => retyped(Arc::new(Int64Array::new(values.into(), nulls)), data_type)?,
    })
}

fn narrowed<T: TryFrom<i64>>(values: Vec<i64>) -> Result<Vec<T>, String> {
    let narrow = |value| T::try_from(value).map_err(|_| "a number is too large".to_string());
    values.into_iter().map(narrow).collect()
}

/// Where each value begins and ends, and where the last one does.
fn offsets(
    lengths: Vec<i64>,
    count: usize,
    nulls: Option<&NullBuffer>,
) -> Result<(OffsetBuffer<i32>, usize), String> {
    let total = total(&lengths)?;
    let mut end = 0_i32;
    let mut ends = Vec::with_capacity(count + 1);
    ends.push(end);
    for length in spread(lengths, count, nulls) {
        end += length as i32;
        ends.push(end);
    }
    Ok((OffsetBuffer::new(ScalarBuffer::from(ends)), total))
}

fn byte_array(
    bytes: Vec<u8>,
    lengths: Vec<i64>,
    count: usize,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, String> {
    if let DataType::FixedSizeBinary(size) = data_type {
        return fixed_array(&bytes, &lengths, count, nulls, *size);
    }
    let (offsets, _) = offsets(lengths, count, nulls.as_ref())?;
    let bytes = Buffer::from_vec(bytes);
    let array: Result<ArrayRef, _> = match data_type {
        DataType::Utf8 => {
            StringArray::try_new(offsets, bytes, nulls).map(|array| Arc::new(array) as _)
        }
        _ => BinaryArray::try_new(offsets, bytes, nulls).map(|array| Arc::new(array) as _),
    };
    array.map_err(|error| error.to_string())
}

fn fixed_array(
    bytes: &[u8],
    lengths: &[i64],
    count: usize,
    nulls: Option<NullBuffer>,
    size: i32,
) -> Result<ArrayRef, String> {
    if lengths.iter().any(|length| *length != i64::from(size)) {
        return Err(format!("a value has not {size} bytes"));
    }
    let width = usize::try_from(size).map_err(|error| error.to_string())?;
    let whole = count.checked_mul(width);
    let whole = whole.filter(|whole| i32::try_from(*whole).is_ok());
    let mut places = vec![0_u8; whole.ok_or("a batch holds more than 2 GiB")?];
    let mut values = bytes.chunks_exact(width.max(1));
    for (row, place) in places.chunks_exact_mut(width.max(1)).enumerate() {
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
            && let Some(value) = values.next()
        {
            place.copy_from_slice(value);
        }
    }
    let array = FixedSizeBinaryArray::try_new(size, Buffer::from_vec(places), nulls);
    Ok(Arc::new(array.map_err(|error| error.to_string())?))
}

/// A variable-length number in zigzag order.
fn unbounded(bytes: &mut ByteStream) -> Result<i128, String> {
    let mut number = 0_u128;
    for shift in (0..128).step_by(7) {
        let byte = bytes.byte()?;
        number |= u128::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
    Err("a decimal has too many digits".to_string())
}

/// Each value may have another scale than its column.
fn rescaled(value: i128, from: i64, to: i64) -> Result<i128, String> {
    if from == to {
        return Ok(value);
    }
    let factor = u32::try_from(from.abs_diff(to)).ok();
    let factor = factor.and_then(|digits| 10_i128.checked_pow(digits));
    let rescaled = if from < to {
        factor.and_then(|factor| value.checked_mul(factor))
    } else {
        // Digits that are not zero would be lost.
        factor
            .filter(|factor| value % factor == 0)
            .map(|factor| value / factor)
    };
    rescaled.ok_or_else(|| "a decimal does not fit its column".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_take_the_scale_of_their_column() {
        assert_eq!(rescaled(15, 1, 3), Ok(1500));
        assert_eq!(rescaled(-1500, 3, 1), Ok(-15));
        assert!(rescaled(1501, 3, 1).is_err());
        assert!(rescaled(1, i64::MIN, i64::MAX).is_err());
        assert!(rescaled(i128::MAX, 0, 1).is_err());
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(total(&[1, 2, 3]), Ok(6));
        assert!(total(&[1, -2]).is_err());
        assert!(total(&[i64::MAX, i64::MAX]).is_err());
        assert!(total(&[i64::from(i32::MAX), 1]).is_err());
    }
}
