//! What the table holds, row by row. Every change is carried out value by value, at once.

use std::collections::BTreeMap;

use crate::types::{Field, Leaf, Prim, Schema, Ty};
use crate::values::Value;

/// One live row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Index into [`Model::files`].
    pub file: usize,
    /// Place in the file, from 0.
    pub position: i64,
    /// By field id, exactly the columns of the current schema.
    pub values: BTreeMap<i32, Value>,
}

impl Row {
    pub fn leaf(&self, leaf: &Leaf) -> Value {
        leaf_of(&self.values, leaf.column, leaf.child)
    }
}

/// A column's value, or that of a struct column's child; NULL where the struct is.
pub fn leaf_of(values: &BTreeMap<i32, Value>, column: i32, child: Option<i32>) -> Value {
    match (&values[&column], child) {
        (Value::Struct(children), Some(child)) => children[&child].clone(),
        (value, _) => value.clone(),
    }
}

/// A data file, live or not.
#[derive(Clone, Debug)]
pub struct DataFile {
    pub path: String,
    pub spec: i32,
    pub partition: Vec<Value>,
    /// Data sequence number.
    pub sequence: i64,
    /// Rows when written.
    pub records: i64,
    pub live: bool,
}

/// The table as one snapshot left it.
#[derive(Clone, Debug)]
pub struct State {
    pub snapshot_id: i64,
    pub timestamp_ms: i64,
    /// The current schema when the snapshot was made.
    pub schema: Schema,
    pub rows: Vec<Row>,
}

impl State {
    /// A model of that state alone, for queries on its rows.
    pub fn model(&self) -> Model {
        Model {
            rows: self.rows.clone(),
            ..Model::new(self.schema.clone())
        }
    }
}

/// The table now, and as every snapshot left it.
#[derive(Clone, Debug)]
pub struct Model {
    pub schema: Schema,
    pub rows: Vec<Row>,
    pub files: Vec<DataFile>,
    pub states: Vec<State>,
}

impl Model {
    pub fn new(schema: Schema) -> Self {
        Self {
            schema,
            rows: vec![],
            files: vec![],
            states: vec![],
        }
    }

    pub fn snapshot(&mut self, snapshot_id: i64, timestamp_ms: i64) {
        self.states.push(State {
            snapshot_id,
            timestamp_ms,
            schema: self.schema.clone(),
            rows: self.rows.clone(),
        });
    }

    /// Adds a file with its rows; gives its index.
    pub fn add_file(&mut self, file: DataFile, rows: Vec<BTreeMap<i32, Value>>) -> usize {
        let index = self.files.len();
        self.files.push(file);
        let rows = rows.into_iter().enumerate().map(|(position, values)| Row {
            file: index,
            position: position as i64,
            values,
        });
        self.rows.extend(rows);
        index
    }

    /// Takes a file away, with the rows that were left in it.
    pub fn remove_file(&mut self, index: usize) {
        self.files[index].live = false;
        self.rows.retain(|row| row.file != index);
    }

    pub fn live_files(&self) -> Vec<usize> {
        (0..self.files.len())
            .filter(|index| self.files[*index].live)
            .collect()
    }

    pub fn rows_of(&self, file: usize) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.file == file).collect()
    }

    /// Takes single rows away, by file and position. Places without a row do not matter.
    pub fn delete_positions(&mut self, places: &[(usize, i64)]) {
        self.rows
            .retain(|row| !places.contains(&(row.file, row.position)));
    }

    /// Takes away the rows of older files whose key is one of `keys`. `scope` is the partition that
    /// the delete is restricted to; `None` means the whole table.
    pub fn delete_keys(
        &mut self,
        sequence: i64,
        scope: Option<&(i32, Vec<Value>)>,
        columns: &[Leaf],
        keys: &[Vec<Value>],
    ) {
        let files = &self.files;
        self.rows.retain(|row| {
            let file = &files[row.file];
            let in_scope = scope.is_none_or(|(spec, partition)| {
                file.spec == *spec && same_partition(&file.partition, partition)
            });
            let key: Vec<Value> = columns.iter().map(|leaf| row.leaf(leaf)).collect();
            !(in_scope && file.sequence < sequence && keys.contains(&key))
        });
    }

    /// The schema becomes `schema`; rows follow by field id.
    pub fn evolve(&mut self, schema: Schema) {
        for row in &mut self.rows {
            row.values = evolve_fields(&schema.fields, &row.values);
        }
        self.schema = schema;
    }
}

/// Whether two partition values of one spec are the same, though a source may have been promoted
/// between them.
pub fn same_partition(a: &[Value], b: &[Value]) -> bool {
    let widest = |value: &Value| match value {
        Value::Int(_) => value.promoted(Prim::Long),
        Value::Float(_) => value.promoted(Prim::Double),
        other => other.clone(),
    };
    a.iter().zip(b).all(|(a, b)| widest(a) == widest(b))
}

fn evolve_fields(fields: &[Field], old: &BTreeMap<i32, Value>) -> BTreeMap<i32, Value> {
    fields
        .iter()
        .map(|field| {
            let value = old
                .get(&field.id)
                .map_or_else(|| field.missing(), |value| evolve_value(&field.ty, value));
            (field.id, value)
        })
        .collect()
}

fn evolve_value(ty: &Ty, value: &Value) -> Value {
    match (ty, value) {
        (_, Value::Null) => Value::Null,
        (Ty::Prim(prim), value) => value.promoted(*prim),
        (Ty::Struct(fields), Value::Struct(old)) => Value::Struct(evolve_fields(fields, old)),
        (Ty::List(element), Value::List(values)) => Value::List(
            values
                .iter()
                .map(|v| evolve_value(&element.ty, v))
                .collect(),
        ),
        (Ty::Map(key, value), Value::Map(pairs)) => Value::Map(
            pairs
                .iter()
                .map(|(k, v)| (evolve_value(&key.ty, k), evolve_value(&value.ty, v)))
                .collect(),
        ),
        (ty, value) => panic!("{value:?} is no {ty:?}"),
    }
}
