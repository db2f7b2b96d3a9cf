//! A table on disk and its model, changed together step by step.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::Place;
use crate::model::{DataFile, Model};
use crate::switches;
use crate::table::{Commit, Spec, Table};
use crate::transforms::Transform;
use crate::types::{Field, Leaf, PRIMS, Prim, Schema, Ty};
use crate::values::{Value, random};

/// Values of one row by field id.
pub type Values = BTreeMap<i32, Value>;

/// The table, what it should hold, and how it came to be.
pub struct World {
    pub table: Table,
    pub model: Model,
    /// One line for each step.
    pub log: Vec<String>,
    /// Positions deleted by position, by data file: what a deletion vector of it has to repeat.
    pub deleted: BTreeMap<usize, BTreeSet<i64>>,
}

/// Column names: some that other readers take for something else.
const NAMES: [&str; 16] = [
    "a",
    "b",
    "c",
    "id",
    "Amount",
    "two words",
    "pos",
    "file_path",
    "ключ",
    "x",
    "y",
    "z",
    "name",
    "select",
    "qu\"ote",
    "day",
];

impl World {
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        let version = [1, 2, 2, 3, 3][rng.usize(0..5)];
        let mut ids = 0;
        let mut fields = vec![];
        let mut prims = PRIMS.to_vec();
        rng.shuffle(&mut prims);
        prims.truncate(rng.usize(3..9));
        for prim in prims {
            let required = rng.u8(0..4) == 0;
            fields.push(new_field(rng, &mut ids, &fields, Ty::Prim(prim), required));
        }
        let nested: [fn(&mut fastrand::Rng, &mut i32) -> Ty; 3] = [new_struct, new_list, new_map];
        for make in nested {
            if rng.u8(0..4) == 0 {
                continue;
            }
            let required = rng.u8(0..4) == 0;
            let mut field = new_field(rng, &mut ids, &fields, Ty::Struct(vec![]), required);
            field.ty = make(rng, &mut ids);
            fields.push(field);
        }
        rng.shuffle(&mut fields);
        let schema = Schema { id: 0, fields };
        let mapping = rng.u8(0..10) < 3;
        let log = format!("create v{version}, mapping {mapping}: {}", shown(&schema));
        let mut world = Self {
            table: Table::new(version, schema.clone(), ids, mapping),
            model: Model::new(schema),
            log: vec![log],
            deleted: BTreeMap::new(),
        };
        // Most tables are partitioned from the start. Not every attempt fits.
        for _ in 0..[0, 2, 3, 4][rng.usize(0..4)] {
            let added = world.add_partition_field(rng);
            world.log.extend(added);
        }
        world
    }

    /// Field ids of columns that some spec partitions by.
    pub fn sources(&self) -> Vec<i32> {
        let fields = self.table.specs.iter().flat_map(|spec| &spec.fields);
        fields.map(|field| field.source).collect()
    }

    /// New rows for the current schema, near each other.
    pub fn new_rows(&self, rng: &mut fastrand::Rng, count: usize) -> Vec<Values> {
        let mut habits = BTreeMap::new();
        (0..count)
            .map(|_| {
                let values = self.model.schema.fields.iter();
                values
                    .map(|field| (field.id, new_value(rng, &mut habits, field)))
                    .collect()
            })
            .collect()
    }

    /// Writes rows into data files of the default spec, which `commit` adds. Gives what the model
    /// has to take over once it is committed, but for the sequence number.
    pub fn write_rows(
        &mut self,
        rng: &mut fastrand::Rng,
        commit: &mut Commit,
        rows: Vec<Values>,
        sequence: Option<i64>,
    ) -> Vec<(DataFile, Vec<Values>)> {
        let schema = self.model.schema.clone();
        let mapping = self.table.mapping.clone();
        // Without ids a file lacks the columns that the mapping does not have.
        let bare = mapping
            .filter(|_| rng.u8(0..5) < 3)
            .and_then(|mapping| mapping.in_file(rng, &schema.fields));
        let rows = match &bare {
            None => rows,
            Some(kept) => rows
                .iter()
                .map(|row| without_missing(&schema.fields, kept, row))
                .collect(),
        };
        let fields = bare.as_ref().unwrap_or(&schema.fields);
        let spec = self.table.default_spec().clone();
        let mut groups: BTreeMap<Vec<Value>, Vec<Values>> = BTreeMap::new();
        for row in rows {
            let partition = self.table.partition(&spec, &row);
            groups.entry(partition).or_default().push(row);
        }
        let mut written = vec![];
        for (partition, rows) in groups {
            let pieces = 1 + usize::from(rows.len() > 3 && rng.u8(0..4) == 0);
            for rows in rows.chunks(rows.len().div_ceil(pieces)) {
                let mut fields = fields.clone();
                if switches::IDENTITY_COLUMNS_LEFT_OUT && rng.u8(0..6) == 0 {
                    leave_out_fixed(&mut fields, &spec, &partition);
                }
                let path = self.table.new_path("data", "parquet");
                let place = Place {
                    spec: spec.id,
                    partition: partition.clone(),
                };
                let meta =
                    crate::files::data_file(rng, &path, &fields, bare.is_none(), rows, place);
                let file = DataFile {
                    path: meta.path.clone(),
                    spec: spec.id,
                    partition: partition.clone(),
                    sequence: 0,
                    records: rows.len() as i64,
                    live: true,
                };
                commit.added.push((meta, sequence));
                written.push((file, rows.to_vec()));
            }
        }
        written
    }

    /// Takes written files over into the model, after their commit. Gives their indices.
    pub fn take_over(
        &mut self,
        written: Vec<(DataFile, Vec<Values>)>,
        sequence: Option<i64>,
    ) -> Vec<usize> {
        let sequence = sequence.unwrap_or(self.table.sequence);
        written
            .into_iter()
            .map(|(file, rows)| self.model.add_file(DataFile { sequence, ..file }, rows))
            .collect()
    }

    /// Columns and children that queries on a state of the table may name; those more often that
    /// the table is or was partitioned by.
    pub fn asked_leaves(&self, state: &Model) -> Vec<Leaf> {
        let mut leaves = state.schema.leaves();
        let sources = self.sources();
        let count = leaves.len().div_ceil(2);
        let partitioned: Vec<Leaf> = leaves
            .iter()
            .filter(|leaf| sources.contains(&leaf.id()))
            .cloned()
            .collect();
        leaves.extend(partitioned.iter().cycle().take(count).cloned());
        if switches::CHILDREN_OF_NULL_STRUCTS {
            return leaves;
        }
        leaves.retain(|leaf| {
            let Some(child) = leaf.child else { return true };
            let mut rows = state.rows.iter();
            let mut schemas = self.table.schemas.iter();
            !rows.any(|row| row.values[&leaf.column].is_null())
                || schemas.all(|schema| {
                    let field = schema.field(child);
                    field.is_none_or(|field| !field.required && field.default.is_none())
                })
        });
        leaves
    }

    /// Another schema; its id is given here.
    pub fn evolve(&mut self, rng: &mut fastrand::Rng, mut schema: Schema) {
        schema.id = self.table.schemas.len() as i32;
        if let Some(mapping) = &mut self.table.mapping {
            mapping.follow(&schema.fields, rng.u8(0..4) > 0);
        }
        self.table.schemas.push(schema.clone());
        self.model.evolve(schema);
    }
}

/// Takes away the columns whose values the partition gives, if others are left.
fn leave_out_fixed(fields: &mut Vec<Field>, spec: &Spec, partition: &[Value]) {
    let fixed = |field: &Field| {
        let mut parts = spec.fields.iter().zip(partition);
        parts.any(|(part, value)| {
            part.source == field.id && part.transform == Transform::Identity && !value.is_null()
        })
    };
    if !fields.iter().all(fixed) {
        fields.retain(|field| !fixed(field));
    }
}

/// A row as a file with only the fields of `kept` has it.
fn without_missing(fields: &[Field], kept: &[Field], row: &Values) -> Values {
    fields
        .iter()
        .map(|field| {
            let value = match kept.iter().find(|k| k.id == field.id) {
                None => field.missing(),
                Some(kept) => match (&field.ty, &kept.ty, &row[&field.id]) {
                    (Ty::Struct(fields), Ty::Struct(kept), Value::Struct(children)) => {
                        Value::Struct(without_missing(fields, kept, children))
                    }
                    (_, _, value) => value.clone(),
                },
            };
            (field.id, value)
        })
        .collect()
}

/// A name that none of the siblings has.
pub fn new_name(rng: &mut fastrand::Rng, siblings: &[Field]) -> String {
    loop {
        let mut name = NAMES[rng.usize(0..NAMES.len())].to_string();
        if rng.u8(0..3) == 0 {
            name.push_str(&rng.u8(0..10).to_string());
        }
        if !siblings.iter().any(|field| field.name == name) {
            return name;
        }
    }
}

/// A field with the next id, and a name that none of the siblings has.
pub fn new_field(
    rng: &mut fastrand::Rng,
    ids: &mut i32,
    siblings: &[Field],
    ty: Ty,
    required: bool,
) -> Field {
    *ids += 1;
    Field {
        id: *ids,
        name: new_name(rng, siblings),
        required,
        ty,
        default: None,
    }
}

fn any_prim(rng: &mut fastrand::Rng) -> Ty {
    Ty::Prim(PRIMS[rng.usize(0..PRIMS.len())])
}

pub fn new_struct(rng: &mut fastrand::Rng, ids: &mut i32) -> Ty {
    let mut children = vec![];
    for _ in 0..rng.usize(1..5) {
        let (ty, required) = (any_prim(rng), rng.u8(0..4) == 0);
        children.push(new_field(rng, ids, &children, ty, required));
    }
    Ty::Struct(children)
}

pub fn new_list(rng: &mut fastrand::Rng, ids: &mut i32) -> Ty {
    let (ty, required) = (any_prim(rng), rng.bool());
    let mut element = new_field(rng, ids, &[], ty, required);
    element.name = "element".into();
    Ty::List(Box::new(element))
}

pub fn new_map(rng: &mut fastrand::Rng, ids: &mut i32) -> Ty {
    let keys = [Prim::String, Prim::Int, Prim::Date];
    let key = Ty::Prim(keys[rng.usize(0..3)]);
    let mut key = new_field(rng, ids, &[], key, true);
    key.name = "key".into();
    let (ty, required) = (any_prim(rng), rng.bool());
    let mut value = new_field(rng, ids, &[], ty, required);
    value.name = "value".into();
    Ty::Map(Box::new(key), Box::new(value))
}

/// Of each field of a batch of rows: around what its values lie, and how many of 100 are NULL.
type Habits = BTreeMap<i32, (i64, u8)>;

fn new_value(rng: &mut fastrand::Rng, habits: &mut Habits, field: &Field) -> Value {
    let (base, nulls) = *habits
        .entry(field.id)
        .or_insert_with(|| (rng.i64(-3..9), [0, 0, 10, 10, 50, 100][rng.usize(0..6)]));
    if !field.required && rng.u8(0..100) < nulls {
        return Value::Null;
    }
    match &field.ty {
        Ty::Prim(prim) => random(rng, *prim, base),
        Ty::Struct(children) => {
            let children = children.iter();
            Value::Struct(
                children
                    .map(|c| (c.id, new_value(rng, habits, c)))
                    .collect(),
            )
        }
        Ty::List(element) => {
            let count = rng.usize(0..4);
            Value::List(
                (0..count)
                    .map(|_| new_value(rng, habits, element))
                    .collect(),
            )
        }
        Ty::Map(key, value) => {
            let mut pairs: Vec<(Value, Value)> = vec![];
            for _ in 0..rng.usize(0..4) {
                let key = new_value(rng, habits, key);
                if !pairs.iter().any(|(known, _)| *known == key) {
                    pairs.push((key, new_value(rng, habits, value)));
                }
            }
            Value::Map(pairs)
        }
    }
}

/// A schema in one line.
pub fn shown(schema: &Schema) -> String {
    let fields: Vec<String> = schema.fields.iter().map(shown_field).collect();
    fields.join(", ")
}

pub fn shown_field(field: &Field) -> String {
    let ty = match &field.ty {
        Ty::Prim(prim) => prim.name(),
        _ => {
            let parts: Vec<String> = field.children().into_iter().map(shown_field).collect();
            let kind = match field.ty {
                Ty::Struct(_) => "struct",
                Ty::List(_) => "list",
                _ => "map",
            };
            format!("{kind}<{}>", parts.join(", "))
        }
    };
    let required = if field.required { " required" } else { "" };
    let default = match &field.default {
        Some(default) => format!(" default {default:?}"),
        None => String::new(),
    };
    format!("{}={:?} {ty}{required}{default}", field.id, field.name)
}
