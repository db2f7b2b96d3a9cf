//! Partition values of the files of a manifest, in the types their columns have today.
//!
//! Source: Iceberg specification, "Partitioning" and appendix A, "Data Type Mappings". Manifests
//! keep the types of the day they were written: a value is converted to today's as it is read, so
//! that values of different manifests can be compared.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use iceberg::spec::{
    PartitionSpec, PrimitiveLiteral, PrimitiveType, TableMetadata, Transform, Type,
};
use uuid::Uuid;

use super::avro::{Cursor, Fault, Read};
use super::bounds::decimal;
use super::list::ManifestFile;
use super::schema::{Field, Logical, Node, NodeId, Schema};
use crate::plan::bounds::{scalars_to_array, source_range};
use crate::scan::schema::primitive_type;
use crate::{Error, Result};

/// A field of a partition spec, with the types of today.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionField {
    /// The partition field's id.
    pub field_id: i32,
    /// Its name.
    pub name: Arc<str>,
    /// Field id of the column its values are derived from.
    pub source_id: i32,
    /// How they are derived.
    pub transform: Transform,
    /// Type of the values; unknown for transforms that are, and for columns that no schema has.
    pub value_type: Option<PrimitiveType>,
    /// Type of the column.
    pub source_type: Option<PrimitiveType>,
}

/// The fields of a partition spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PartitionFields {
    /// In the order of the spec.
    pub fields: Vec<PartitionField>,
}

impl PartitionFields {
    /// The fields of a spec; `source_type` gives the type of a column by its field id.
    pub fn new(spec: &PartitionSpec, source_type: impl Fn(i32) -> Option<PrimitiveType>) -> Self {
        let fields = spec.fields().iter().map(|field| {
            let source_type = source_type(field.source_id);
            let value_type = source_type
                .as_ref()
                .filter(|_| field.transform != Transform::Unknown)
                .and_then(|ty| {
                    field
                        .transform
                        .result_type(&Type::Primitive(ty.clone()))
                        .ok()
                })
                .and_then(|ty| ty.as_primitive_type().cloned());
            PartitionField {
                field_id: field.field_id,
                name: Arc::from(field.name.as_str()),
                source_id: field.source_id,
                transform: field.transform,
                value_type,
                source_type,
            }
        });
        Self {
            fields: fields.collect(),
        }
    }
}

/// The partition specs of a table, by id.
#[derive(Clone, Debug)]
pub struct PartitionSpecs {
    specs: HashMap<i32, Arc<PartitionFields>>,
}

impl PartitionSpecs {
    /// All specs of a table. A column has the type of the current schema; one that was dropped has
    /// the type it had last.
    pub fn of(metadata: &TableMetadata) -> Self {
        let mut schemas: Vec<_> = metadata.schemas_iter().collect();
        schemas.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
        schemas.insert(0, metadata.current_schema());
        let source_type = |id: i32| {
            let mut fields = schemas.iter().filter_map(|schema| schema.field_by_id(id));
            fields.find_map(|field| field.field_type.as_primitive_type().cloned())
        };
        let specs = metadata.partition_specs_iter().map(|spec| {
            let fields = PartitionFields::new(spec, source_type);
            (spec.spec_id(), Arc::new(fields))
        });
        Self {
            specs: specs.collect(),
        }
    }

    /// The spec of a manifest.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the manifest when `table_name` has no such spec.
    pub fn of_manifest(
        &self,
        table_name: &str,
        manifest: &ManifestFile,
    ) -> Result<&Arc<PartitionFields>> {
        let spec_id = manifest.spec_id;
        self.specs.get(&spec_id).ok_or_else(|| Error::Corrupt {
            path: manifest.path.to_string(),
            why: format!(
                "it names partition spec {spec_id}, which table {table_name} does not have"
            ),
        })
    }
}

/// One partition field over all files of a manifest.
#[derive(Clone, Debug)]
pub struct PartitionColumn {
    /// The partition field's id.
    pub field_id: i32,
    /// Its name.
    pub name: Arc<str>,
    /// Field id of the column the value was derived from.
    pub source_id: i32,
    /// How it was derived.
    pub transform: Transform,
    /// Type of the partition values.
    pub value_type: PrimitiveType,
    /// Arrow type of the source column; [`DataType::Null`] when it is not known.
    pub source_type: DataType,
    /// The values, one for each file.
    pub values: Vec<Option<PrimitiveLiteral>>,
    /// Smallest source value of each file, where the transform says so.
    pub lower: Option<ArrayRef>,
    /// Largest source value of each file, where the transform says so.
    pub upper: Option<ArrayRef>,
}

impl PartitionColumn {
    fn new(
        field: &PartitionField,
        value_type: PrimitiveType,
        values: Vec<Option<PrimitiveLiteral>>,
    ) -> Self {
        let source_type = field
            .source_type
            .as_ref()
            .map_or(DataType::Null, |ty| primitive_type(ty, true));
        let (lower, upper) = source_ranges(field.transform, &values, &value_type, &source_type);
        Self {
            field_id: field.field_id,
            name: Arc::clone(&field.name),
            source_id: field.source_id,
            transform: field.transform,
            value_type,
            source_type,
            values,
            lower,
            upper,
        }
    }

    /// Bytes this takes in memory, for a cache's weight.
    pub fn memory_bytes(&self) -> usize {
        let texts: usize = self
            .values
            .iter()
            .map(|value| match value {
                Some(PrimitiveLiteral::String(v)) => v.len(),
                Some(PrimitiveLiteral::Binary(v)) => v.len(),
                _ => 0,
            })
            .sum();
        let bounds = [&self.lower, &self.upper].into_iter().flatten();
        texts
            + size_of::<Self>()
            + self.values.len() * size_of::<Option<PrimitiveLiteral>>()
            + bounds.map(|a| a.get_array_memory_size()).sum::<usize>()
    }
}

/// Ranges of source values. Files of one partition stand together as a rule, so each run of equal
/// values is looked at once.
fn source_ranges(
    transform: Transform,
    values: &[Option<PrimitiveLiteral>],
    value_type: &PrimitiveType,
    source_type: &DataType,
) -> (Option<ArrayRef>, Option<ArrayRef>) {
    if matches!(
        transform,
        Transform::Bucket(_) | Transform::Void | Transform::Unknown
    ) {
        return (None, None);
    }
    let mut lower = vec![];
    let mut upper = vec![];
    let mut places: Vec<u32> = Vec::with_capacity(values.len());
    for (row, value) in values.iter().enumerate() {
        if row == 0 || values[row - 1] != *value {
            let (low, high) = match value {
                Some(value) => source_range(transform, value, value_type, source_type),
                None => (None, None),
            };
            lower.push(low);
            upper.push(high);
        }
        places.push(u32::try_from(lower.len() - 1).unwrap_or(u32::MAX));
    }
    let places = UInt32Array::from(places);
    let spread = |scalars: Vec<_>| {
        let distinct = scalars_to_array(scalars.into_iter(), source_type)?;
        if distinct.len() == values.len() {
            return Some(distinct);
        }
        take(&distinct, &places, None).ok()
    };
    (spread(lower), spread(upper))
}

/// Reads the `partition` record of entries into columns.
#[derive(Debug)]
pub(super) struct PartitionReader {
    record: Option<Record>,
    columns: Vec<Column>,
}

/// The record that is read.
#[derive(Debug)]
struct Record {
    node: NodeId,
    /// For each of its fields the column it goes to, if any, and its type.
    fields: Vec<(Option<usize>, NodeId)>,
}

#[derive(Debug)]
struct Column {
    field: PartitionField,
    value_type: PrimitiveType,
    values: Vec<Option<PrimitiveLiteral>>,
}

impl PartitionReader {
    /// Prepares to read the type `node` of a manifest's entries. Its fields are found by field id;
    /// one without an id by its position.
    pub fn new(schema: &Schema, node: Option<NodeId>, spec: &PartitionFields) -> Self {
        let mut columns: Vec<Column> = vec![];
        let record = node.and_then(|node| schema.record(node));
        let record = record.map(|(id, fields)| {
            let mut targets = vec![];
            for (position, field) in fields.iter().enumerate() {
                let target = find(field, position, spec).filter(|wanted| {
                    let mut taken = columns.iter();
                    !taken.any(|column| column.field.field_id == wanted.field_id)
                });
                targets.push((target.map(|_| columns.len()), field.node));
                columns.extend(target.map(|wanted| {
                    Column {
                        value_type: wanted
                            .value_type
                            .clone()
                            .unwrap_or_else(|| natural_type(schema, field.node)),
                        field: wanted.clone(),
                        values: vec![],
                    }
                }));
            }
            Record {
                node: id,
                fields: targets,
            }
        });
        Self { record, columns }
    }

    /// Reads the values of one file.
    pub fn read(&mut self, cursor: &mut Cursor<'_>, schema: &Schema, node: NodeId) -> Read<()> {
        let node = cursor.branch(schema, node)?;
        match &self.record {
            Some(record) if record.node == node => {
                for (target, node) in &record.fields {
                    match target.and_then(|target| self.columns.get_mut(target)) {
                        Some(column) => {
                            let value = value(cursor, schema, *node, &column.value_type)?;
                            column.values.push(value);
                        }
                        None => cursor.skip(schema, *node)?,
                    }
                }
                Ok(())
            }
            _ => {
                for column in &mut self.columns {
                    column.values.push(None);
                }
                cursor.skip(schema, node)
            }
        }
    }

    /// The columns, in the order of the spec.
    pub fn finish(self, spec: &PartitionFields) -> Vec<PartitionColumn> {
        let place = |column: &Column| spec.fields.iter().position(|f| *f == column.field);
        let mut columns = self.columns;
        columns.sort_by_key(place);
        let columns = columns.into_iter();
        columns
            .map(|column| PartitionColumn::new(&column.field, column.value_type, column.values))
            .collect()
    }
}

fn find<'a>(
    field: &Field,
    position: usize,
    spec: &'a PartitionFields,
) -> Option<&'a PartitionField> {
    match field.id {
        Some(id) => spec.fields.iter().find(|wanted| wanted.field_id == id),
        None => spec.fields.get(position),
    }
}

/// The Iceberg type of a value of which only the Avro type is known.
fn natural_type(schema: &Schema, node: NodeId) -> PrimitiveType {
    let node = schema
        .find(node, |node| !matches!(node, Node::Null))
        .unwrap_or(node);
    match schema.node(node) {
        Node::Boolean => PrimitiveType::Boolean,
        Node::Int(Logical::Date) => PrimitiveType::Date,
        Node::Int(_) => PrimitiveType::Int,
        Node::Long(_) => PrimitiveType::Long,
        Node::Float => PrimitiveType::Float,
        Node::Double => PrimitiveType::Double,
        Node::Bytes | Node::Fixed(_) => PrimitiveType::Binary,
        _ => PrimitiveType::String,
    }
}

/// Reads one value as one of type `ty`, which may be wider than the type it was written with.
fn value(
    cursor: &mut Cursor<'_>,
    schema: &Schema,
    node: NodeId,
    ty: &PrimitiveType,
) -> Read<Option<PrimitiveLiteral>> {
    use PrimitiveLiteral as L;
    const WRONG: Fault = Fault::new("a partition value has not the type of its column");
    let node = cursor.branch(schema, node)?;
    let literal = match schema.node(node) {
        Node::Null => return Ok(None),
        Node::Boolean if *ty == PrimitiveType::Boolean => L::Boolean(cursor.take(1)? != [0]),
        Node::Int(logical) | Node::Long(logical) => {
            let number = cursor.number()?;
            let short = matches!(schema.node(node), Node::Int(_));
            number_as(number, *logical, short, ty).ok_or(WRONG)?
        }
        Node::Float => {
            let value = cursor.float()?;
            match ty {
                PrimitiveType::Float => L::Float(value.into()),
                PrimitiveType::Double => L::Double(f64::from(value).into()),
                _ => return Err(WRONG),
            }
        }
        Node::Double if *ty == PrimitiveType::Double => L::Double(cursor.double()?.into()),
        Node::Bytes | Node::Fixed(_) | Node::String => {
            let is_text = *schema.node(node) == Node::String;
            let bytes = cursor.binary(schema, node)?.unwrap_or_default();
            bytes_as(bytes, is_text, ty).ok_or(WRONG)?
        }
        _ => return Err(WRONG),
    };
    Ok(Some(literal))
}

/// A number as a value of type `ty`; `short` when it was written as an Avro int.
fn number_as(
    number: i64,
    logical: Logical,
    short: bool,
    ty: &PrimitiveType,
) -> Option<PrimitiveLiteral> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    const DAY_MICROS: i64 = 86_400_000_000;
    Some(match ty {
        T::Int | T::Date => L::Int(i32::try_from(number).ok()?),
        T::Long => L::Long(number),
        T::Time if logical == Logical::Millis => L::Long(number.checked_mul(1000)?),
        T::Time => L::Long(number),
        T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs => {
            let nanos = matches!(ty, T::TimestampNs | T::TimestamptzNs);
            let micros = match logical {
                Logical::Millis => Some(1000),
                // A date that became a timestamp.
                _ if short => Some(DAY_MICROS),
                _ => None,
            };
            match micros {
                None => L::Long(number),
                Some(micros) => {
                    let factor = if nanos { 1000 } else { 1 };
                    L::Long(number.checked_mul(micros)?.checked_mul(factor)?)
                }
            }
        }
        _ => return None,
    })
}

fn bytes_as(bytes: &[u8], is_text: bool, ty: &PrimitiveType) -> Option<PrimitiveLiteral> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    Some(match ty {
        T::String => L::String(std::str::from_utf8(bytes).ok()?.to_string()),
        T::Uuid if is_text => L::UInt128(
            Uuid::parse_str(std::str::from_utf8(bytes).ok()?)
                .ok()?
                .as_u128(),
        ),
        T::Uuid => L::UInt128(u128::from_be_bytes(bytes.try_into().ok()?)),
        T::Decimal { .. } if !is_text => L::Int128(decimal(bytes)?),
        T::Fixed(length) => (bytes.len() as u64 == *length).then(|| L::Binary(bytes.to_vec()))?,
        T::Binary => L::Binary(bytes.to_vec()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::avro::tests::long;
    use super::*;

    fn field(field_id: i32, transform: Transform, ty: Option<PrimitiveType>) -> PartitionField {
        PartitionField {
            field_id,
            name: "p".into(),
            source_id: field_id - 1000,
            transform,
            value_type: ty.clone(),
            source_type: ty,
        }
    }

    fn read(record: &str, bytes: &[u8], fields: Vec<PartitionField>) -> Read<Vec<PartitionColumn>> {
        let json = format!(r#"{{"type":"record","name":"r102","fields":[{record}]}}"#);
        let schema = Schema::parse(json.as_bytes()).unwrap();
        let spec = PartitionFields { fields };
        let mut reader = PartitionReader::new(&schema, Some(schema.root()), &spec);
        reader.read(&mut Cursor::new(bytes), &schema, schema.root())?;
        Ok(reader.finish(&spec))
    }

    fn one(avro: &str, bytes: &[u8], ty: PrimitiveType) -> Read<Option<PrimitiveLiteral>> {
        let record = format!(r#"{{"name":"x","type":{avro},"field-id":1001}}"#);
        let columns = read(
            &record,
            bytes,
            vec![field(1001, Transform::Identity, Some(ty))],
        )?;
        Ok(columns[0].values[0].clone())
    }

    #[test]
    fn values_have_the_types_of_today() {
        use PrimitiveLiteral as L;
        use PrimitiveType as T;
        let five = long(5);
        let decimal = |precision| T::Decimal {
            precision,
            scale: 2,
        };
        let fixed = |size| format!(r#"{{"type":"fixed","name":"f","size":{size}}}"#);
        let uuid = "00000000-0000-0000-0000-000000000007";
        let text = [long(36), uuid.as_bytes().to_vec()].concat();
        for (avro, bytes, ty, expected) in [
            ("\"int\"".to_string(), five.clone(), T::Long, L::Long(5)),
            ("\"int\"".to_string(), five.clone(), T::Date, L::Int(5)),
            (
                r#"{"type":"int","logicalType":"date"}"#.to_string(),
                five.clone(),
                T::Timestamp,
                L::Long(5 * 86_400_000_000),
            ),
            (
                r#"{"type":"long","logicalType":"timestamp-millis"}"#.to_string(),
                five.clone(),
                T::Timestamptz,
                L::Long(5000),
            ),
            (
                "\"float\"".to_string(),
                1.5_f32.to_le_bytes().to_vec(),
                T::Double,
                L::Double(1.5.into()),
            ),
            (fixed(2), vec![0xff, 0xfe], decimal(9), L::Int128(-2)),
            (
                "\"bytes\"".to_string(),
                vec![2, 7],
                decimal(30),
                L::Int128(7),
            ),
            (
                fixed(16),
                7_u128.to_be_bytes().to_vec(),
                T::Uuid,
                L::UInt128(7),
            ),
            ("\"string\"".to_string(), text, T::Uuid, L::UInt128(7)),
            (fixed(2), vec![1, 2], T::Fixed(2), L::Binary(vec![1, 2])),
            (
                "\"boolean\"".to_string(),
                vec![1],
                T::Boolean,
                L::Boolean(true),
            ),
        ] {
            assert_eq!(one(&avro, &bytes, ty), Ok(Some(expected)), "{avro}");
        }
        assert_eq!(one("\"null\"", &[], T::Int), Ok(None));
        assert!(one("\"string\"", &[2, b'x'], T::Int).is_err());
        assert!(one("\"long\"", &long(i64::MAX), T::Int).is_err());
    }

    #[test]
    fn fields_are_found_by_id_else_by_position() {
        let int = || Some(PrimitiveType::Int);
        let spec = vec![
            field(1001, Transform::Identity, int()),
            field(1002, Transform::Identity, int()),
        ];
        let record = r#"{"name":"b","type":"int","field-id":1002},
            {"name":"x","type":"string","field-id":1009},
            {"name":"a","type":"int","field-id":1001}"#;
        let bytes = [long(2), long(0), long(1)].concat();
        let columns = read(record, &bytes, spec.clone()).unwrap();
        let values: Vec<_> = columns
            .iter()
            .map(|c| (c.field_id, c.values[0].clone()))
            .collect();
        let int = |value| Some(PrimitiveLiteral::Int(value));
        assert_eq!(values, [(1001, int(1)), (1002, int(2))]);

        let record = r#"{"name":"b","type":"int"},{"name":"a","type":"int"}"#;
        let columns = read(record, &[long(2), long(1)].concat(), spec).unwrap();
        assert_eq!(columns[0].values[0], int(2));
    }

    #[test]
    fn values_of_unknown_transforms_are_kept() {
        let record = r#"{"name":"a","type":["null","string"],"field-id":1001}"#;
        let spec = vec![field(1001, Transform::Unknown, None)];
        let columns = read(record, &[2, 2, b'x'], spec).unwrap();
        let x = PrimitiveLiteral::String("x".to_string());
        assert_eq!(columns[0].values, [Some(x)]);
        assert!(columns[0].lower.is_none());
    }

    #[test]
    fn runs_of_one_value_share_their_range() {
        let int = |v| Some(PrimitiveLiteral::Int(v));
        let values = [int(1), int(1), None, int(2), int(1)];
        let ty = PrimitiveType::Int;
        let (lower, upper) = source_ranges(Transform::Identity, &values, &ty, &DataType::Int32);
        let expected: arrow::array::Int32Array = [Some(1), Some(1), None, Some(2), Some(1)]
            .into_iter()
            .collect();
        let expected: ArrayRef = Arc::new(expected);
        assert_eq!((&lower.unwrap(), &upper.unwrap()), (&expected, &expected));
    }
}
