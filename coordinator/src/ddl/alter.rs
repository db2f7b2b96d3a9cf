//! `ALTER TABLE` and `COMMENT ON` as changes of a definition.

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTableOperation, CommentObject, MySQLColumnPosition, ObjectName,
};
use inshore_lake::evolution::{Alteration, FieldPath, Place};

use super::table::{field, text_properties};
use super::types::{Columns, iceberg_type};
use super::{Definition, folded, unsupported};
use crate::scope::normalized;
use crate::{Error, Result};

/// Property with the comment on a table, as Trino and Spark have it.
const COMMENT: &str = "comment";

/// What an operation changes.
pub fn alterations(operation: &AlterTableOperation) -> Result<Vec<Alteration>> {
    Ok(match operation {
        AlterTableOperation::AddColumn {
            if_not_exists,
            column_def,
            column_position,
            ..
        } => {
            let added = field(column_def, &mut Columns::default())?;
            vec![Alteration::AddColumn {
                parent: FieldPath::default(),
                field: added.as_ref().clone(),
                if_not_exists: *if_not_exists,
                place: column_position.as_ref().map(place),
            }]
        }
        AlterTableOperation::DropColumn {
            column_names,
            if_exists,
            drop_behavior: None,
            ..
        } => column_names
            .iter()
            .map(|name| Alteration::DropColumn {
                name: normalized(name).into(),
                if_exists: *if_exists,
            })
            .collect(),
        AlterTableOperation::RenameColumn {
            old_column_name,
            new_column_name,
        } => vec![Alteration::RenameColumn {
            from: normalized(old_column_name).into(),
            to: normalized(new_column_name),
        }],
        AlterTableOperation::AlterColumn { column_name, op } => {
            vec![column_alteration(normalized(column_name).into(), op)?]
        }
        AlterTableOperation::SetTblProperties { table_properties } => {
            vec![Alteration::SetProperties(text_properties(
                table_properties,
            )?)]
        }
        other => return unsupported(&format!("ALTER TABLE ... {other}")),
    })
}

fn column_alteration(name: FieldPath, op: &AlterColumnOperation) -> Result<Alteration> {
    Ok(match op {
        AlterColumnOperation::SetNotNull => Alteration::SetNotNull { name },
        AlterColumnOperation::DropNotNull => Alteration::DropNotNull { name },
        AlterColumnOperation::SetDataType {
            data_type,
            using: None,
            ..
        } => Alteration::Promote {
            ty: iceberg_type(data_type, &mut Columns::default())?,
            name,
        },
        other => return unsupported(&format!("ALTER COLUMN {name} {other}")),
    })
}

fn place(position: &MySQLColumnPosition) -> Place {
    match position {
        MySQLColumnPosition::First => Place::First,
        MySQLColumnPosition::After(name) => Place::After(normalized(name)),
    }
}

/// `COMMENT ON TABLE t IS '…'`, `COMMENT ON COLUMN t.c IS NULL`.
pub fn comment(
    object: CommentObject,
    name: &ObjectName,
    text: Option<String>,
    if_exists: bool,
) -> Result<Definition> {
    let mut name = folded(name)?;
    let alteration = match object {
        CommentObject::Table => {
            let text = text.unwrap_or_default();
            Alteration::SetProperties(HashMap::from([(COMMENT.to_owned(), text)]))
        }
        CommentObject::Column => match name.pop() {
            Some(column) if !name.is_empty() => Alteration::Comment {
                name: column.into(),
                text,
            },
            _ => {
                return Err(Error::Sql(
                    "COMMENT ON COLUMN wants table.column".to_owned(),
                ));
            }
        },
        other => return unsupported(&format!("COMMENT ON {other}")),
    };
    Ok(Definition::AlterTable {
        name,
        if_exists,
        alterations: vec![alteration],
    })
}
