//! Columns that every table has besides its own: where a row comes from.
//!
//! They are named in a query and are not part of `SELECT *`. Ids and meaning are those of the
//! specification ("Reserved Field IDs", "Row Lineage"); names are those of Spark.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::ScalarValue;
use iceberg::spec::{PrimitiveType, TableMetadata, Transform, Type};

use super::schema::{TableField, primitive_type};

/// Field id of `_file`.
pub const FILE_ID: i32 = 2_147_483_646;
/// Field id of `_pos`.
pub const ROW_POSITION_ID: i32 = 2_147_483_645;
/// Field id of `_spec_id`.
pub const SPEC_ID_ID: i32 = 2_147_483_643;
/// Field id of `_partition`.
pub const PARTITION_ID: i32 = 2_147_483_642;
/// Field id of `_row_id`.
pub const ROW_ID_ID: i32 = 2_147_483_540;
/// Field id of `_last_updated_sequence_number`.
pub const LAST_UPDATED_ID: i32 = 2_147_483_539;

/// The names, and the ids behind them.
pub const METADATA_COLUMNS: [(&str, i32); 6] = [
    ("_file", FILE_ID),
    ("_pos", ROW_POSITION_ID),
    ("_spec_id", SPEC_ID_ID),
    ("_partition", PARTITION_ID),
    ("_row_id", ROW_ID_ID),
    ("_last_updated_sequence_number", LAST_UPDATED_ID),
];

/// Whether reading this column takes the position of each row in its file.
pub fn needs_position(id: i32) -> bool {
    id == ROW_POSITION_ID || id == ROW_ID_ID
}

/// The column of this name as a table column; none when there is no such metadata column.
pub fn metadata_column(name: &str, metadata: &TableMetadata) -> Option<(FieldRef, TableField)> {
    let (_, id) = METADATA_COLUMNS.iter().find(|(known, _)| *known == name)?;
    let data_type = match *id {
        FILE_ID => DataType::Utf8View,
        SPEC_ID_ID => DataType::Int32,
        PARTITION_ID => PartitionStruct::of(metadata).data_type(),
        _ => DataType::Int64,
    };
    // The others follow from more than the file: a reader may not know them.
    let nullable = !matches!(*id, FILE_ID | SPEC_ID_ID);
    let field = TableField {
        id: *id,
        initial_default: None,
        children: vec![],
    };
    Some((Arc::new(Field::new(name, data_type, nullable)), field))
}

/// One partition field of any of a table's specs.
struct PartitionField {
    id: i32,
    name: String,
    value_type: PrimitiveType,
}

/// The struct that holds the partition values of files of any spec: the fields of all specs, by id.
pub struct PartitionStruct {
    fields: Vec<PartitionField>,
}

impl PartitionStruct {
    /// The fields of all specs of a table, the default spec's first. Void fields are left out.
    pub fn of(metadata: &TableMetadata) -> Self {
        let mut specs: Vec<_> = metadata.partition_specs_iter().collect();
        let default = metadata.default_partition_spec_id();
        specs.sort_by_key(|spec| (spec.spec_id() != default, spec.spec_id()));
        let mut fields: Vec<PartitionField> = vec![];
        for field in specs.iter().flat_map(|spec| spec.fields()) {
            if field.transform == Transform::Void
                || fields.iter().any(|known| known.id == field.field_id)
            {
                continue;
            }
            let Some(source) = source_type(metadata, field.source_id) else {
                continue;
            };
            let result = field.transform.result_type(&Type::Primitive(source));
            if let Some(value_type) = result.ok().and_then(|ty| ty.as_primitive_type().cloned()) {
                let taken = fields.iter().any(|known| known.name == field.name);
                fields.push(PartitionField {
                    id: field.field_id,
                    name: match taken {
                        true => format!("{}_{}", field.name, field.field_id),
                        false => field.name.clone(),
                    },
                    value_type,
                });
            }
        }
        Self { fields }
    }

    /// The struct's type; NULL for tables that were never partitioned.
    pub fn data_type(&self) -> DataType {
        match self.fields.is_empty() {
            true => DataType::Null,
            false => DataType::Struct(self.arrow_fields()),
        }
    }

    fn arrow_fields(&self) -> Fields {
        self.fields
            .iter()
            .map(|field| Field::new(&field.name, primitive_type(&field.value_type, false), true))
            .collect()
    }

    /// The struct of one file, from its values by partition field id.
    pub fn value(&self, values: &HashMap<i32, ScalarValue>) -> Option<ScalarValue> {
        if self.fields.is_empty() {
            return Some(ScalarValue::Null);
        }
        let fields = self.arrow_fields();
        let columns: Vec<ArrayRef> = self
            .fields
            .iter()
            .zip(fields.iter())
            .map(|(field, arrow)| {
                let null = ScalarValue::try_new_null(arrow.data_type()).ok()?;
                let value = values.get(&field.id).unwrap_or(&null);
                value.cast_to(arrow.data_type()).ok()?.to_array().ok()
            })
            .collect::<Option<_>>()?;
        let array = StructArray::try_new(fields, columns, None).ok()?;
        Some(ScalarValue::Struct(Arc::new(array)))
    }
}

/// Type of a column in the newest schema that has it: partition fields outlive their sources.
pub fn source_type(metadata: &TableMetadata, id: i32) -> Option<PrimitiveType> {
    let current = metadata.current_schema().field_by_id(id);
    let mut schemas: Vec<_> = metadata.schemas_iter().collect();
    schemas.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    current
        .or_else(|| schemas.iter().find_map(|schema| schema.field_by_id(id)))
        .and_then(|field| field.field_type.as_primitive_type().cloned())
}
