//! Steps that change the schema or the partition spec.

use crate::switches;
use crate::table::{Spec, SpecField};
use crate::transforms::Transform;
use crate::types::{Field, PRIMS, Prim, Schema, Ty};
use crate::values::{Value, random};
use crate::world::{World, new_field, new_list, new_map, new_name, new_struct, shown_field};

type Rng = fastrand::Rng;

impl World {
    /// The columns, or a struct column's children.
    fn some_parent(&self, rng: &mut Rng) -> Option<i32> {
        let structs: Vec<i32> = self
            .model
            .schema
            .fields
            .iter()
            .filter(|field| matches!(field.ty, Ty::Struct(_)))
            .map(|field| field.id)
            .collect();
        if structs.is_empty() || rng.bool() {
            return None;
        }
        Some(structs[rng.usize(0..structs.len())])
    }

    pub fn add_column(&mut self, rng: &mut Rng) -> Option<String> {
        let mut schema = self.model.schema.clone();
        let parent = self.some_parent(rng);
        let field = self.added_field(rng, &mut schema, parent);
        let text = format!("add to {parent:?}: {}", shown_field(&field));
        let siblings = schema.siblings(parent);
        let at = [siblings.len(), rng.usize(0..=siblings.len())][rng.usize(0..2)];
        siblings.insert(at, field);
        self.evolve(rng, schema);
        Some(text)
    }

    fn added_field(&mut self, rng: &mut Rng, schema: &mut Schema, parent: Option<i32>) -> Field {
        let siblings = schema.siblings(parent);
        let ids = &mut self.table.last_column;
        let prim = PRIMS[rng.usize(0..PRIMS.len())];
        let mut field = new_field(rng, ids, siblings, Ty::Prim(prim), false);
        match rng.u8(0..12) {
            0 if parent.is_none() => field.ty = new_struct(rng, ids),
            1 if parent.is_none() => field.ty = new_list(rng, ids),
            2 if parent.is_none() => field.ty = new_map(rng, ids),
            _ => {
                if switches::V3_DEFAULTS && self.table.version >= 3 && rng.u8(0..3) > 0 {
                    let value = random(rng, prim, 2);
                    // JSON has no other numbers.
                    let finite = match value {
                        Value::Float(v) => v.is_finite(),
                        Value::Double(v) => v.is_finite(),
                        _ => true,
                    };
                    field.default = finite.then_some(value);
                    field.required = finite && rng.bool();
                }
            }
        }
        field
    }

    /// Whether the default spec needs a field.
    fn is_source(&self, field: &Field) -> bool {
        let mut ids = vec![field.id];
        ids.extend(field.children().iter().map(|child| child.id));
        let mut sources = self.table.default_spec().fields.iter();
        sources.any(|part| ids.contains(&part.source))
    }

    /// A field that may go: not the last one, and no source of the default spec. Old specs may
    /// lose their sources.
    fn droppable(&self, rng: &mut Rng) -> Option<(Option<i32>, Field)> {
        let mut schema = self.model.schema.clone();
        let parent = self.some_parent(rng);
        let siblings = schema.siblings(parent);
        if siblings.len() < 2 {
            return None;
        }
        let field = siblings[rng.usize(0..siblings.len())].clone();
        (!self.is_source(&field)).then_some((parent, field))
    }

    pub fn drop_column(&mut self, rng: &mut Rng) -> Option<String> {
        let (parent, field) = self.droppable(rng)?;
        let mut schema = self.model.schema.clone();
        schema.siblings(parent).retain(|f| f.id != field.id);
        self.evolve(rng, schema);
        Some(format!("drop {} {:?}", field.id, field.name))
    }

    pub fn replace_column(&mut self, rng: &mut Rng) -> Option<String> {
        let (parent, field) = self.droppable(rng)?;
        let mut schema = self.model.schema.clone();
        let siblings = schema.siblings(parent);
        siblings.retain(|f| f.id != field.id);
        // In one schema, or in two.
        if rng.bool() && !siblings.is_empty() {
            self.evolve(rng, schema.clone());
        }
        let mut new = self.added_field(rng, &mut schema, parent);
        if rng.bool() {
            // The same type again is the easiest to mix up.
            if let Ty::Prim(_) = field.ty {
                new.ty = field.ty.clone();
                new.default = None;
                new.required = false;
            }
        }
        new.name.clone_from(&field.name);
        let text = format!("replace {} by {}", field.id, shown_field(&new));
        let siblings = schema.siblings(parent);
        siblings.insert(rng.usize(0..=siblings.len()), new);
        self.evolve(rng, schema);
        Some(text)
    }

    pub fn rename_column(&mut self, rng: &mut Rng) -> Option<String> {
        let mut schema = self.model.schema.clone();
        let parent = self.some_parent(rng);
        let siblings = schema.siblings(parent);
        let (a, b) = (rng.usize(0..siblings.len()), rng.usize(0..siblings.len()));
        let text = if a != b && rng.u8(0..3) == 0 {
            let (first, second) = (siblings[a].name.clone(), siblings[b].name.clone());
            let text = format!("swap the names {first:?} and {second:?}");
            siblings[a].name = second;
            siblings[b].name = first;
            text
        } else {
            let name = new_name(rng, siblings);
            let text = format!(
                "rename {} {:?} to {name:?}",
                siblings[a].id, siblings[a].name
            );
            siblings[a].name = name;
            text
        };
        self.evolve(rng, schema);
        Some(text)
    }

    pub fn reorder_columns(&mut self, rng: &mut Rng) -> Option<String> {
        let mut schema = self.model.schema.clone();
        let parent = self.some_parent(rng);
        let siblings = schema.siblings(parent);
        rng.shuffle(siblings);
        let order: Vec<i32> = siblings.iter().map(|f| f.id).collect();
        self.evolve(rng, schema);
        Some(format!("reorder to {order:?}"))
    }

    /// Any primitive field but a map's key.
    fn prim_fields(&self) -> Vec<Field> {
        fn walk(field: &Field, found: &mut Vec<Field>) {
            match &field.ty {
                Ty::Prim(_) => found.push(field.clone()),
                Ty::Map(_, value) => walk(value, found),
                _ => field.children().into_iter().for_each(|f| walk(f, found)),
            }
        }
        let mut found = vec![];
        for field in &self.model.schema.fields {
            walk(field, &mut found);
        }
        found
    }

    pub fn promote_column(&mut self, rng: &mut Rng) -> Option<String> {
        let mut fields = self.prim_fields();
        rng.shuffle(&mut fields);
        let (field, to) = fields
            .into_iter()
            .find_map(|field| Some((field.id, field.prim()?.promoted(rng)?)))?;
        let mut schema = self.model.schema.clone();
        schema.change(field, &mut |field| {
            field.ty = Ty::Prim(to);
            field.default = field.default.as_ref().map(|value| value.promoted(to));
        });
        self.evolve(rng, schema);
        Some(format!("promote {field} to {}", to.name()))
    }

    pub fn make_optional(&mut self, rng: &mut Rng) -> Option<String> {
        let mut fields: Vec<Field> = self.prim_fields();
        fields.extend(self.model.schema.fields.iter().cloned());
        fields.retain(|field| field.required);
        rng.shuffle(&mut fields);
        let id = fields.first()?.id;
        let mut schema = self.model.schema.clone();
        schema.change(id, &mut |field| field.required = false);
        self.evolve(rng, schema);
        Some(format!("make {id} optional"))
    }

    pub fn add_partition_field(&mut self, rng: &mut Rng) -> Option<String> {
        let spec = self.table.default_spec().clone();
        if spec.fields.len() >= 3 {
            return None;
        }
        let leaves = self.model.schema.leaves();
        let leaf = leaves.get(rng.usize(0..leaves.len().max(1)))?;
        let transforms = [
            Transform::Identity,
            Transform::Identity,
            Transform::Bucket(rng.u32(1..8)),
            Transform::Bucket(rng.u32(2..8)),
            Transform::Truncate(rng.u32(1..20)),
            Transform::Truncate(rng.u32(1..5)),
            Transform::Year,
            Transform::Month,
            Transform::Day,
            Transform::Hour,
            Transform::Void,
        ];
        let transform = transforms[rng.usize(0..transforms.len())];
        let same = |f: &&SpecField| f.source == leaf.id() && f.transform == transform;
        // A source has one transform of time at most.
        let of_time = |t: Transform| {
            use Transform::{Day, Hour, Month, Year};
            matches!(t, Year | Month | Day | Hour)
        };
        let redundant =
            |f: &SpecField| f.source == leaf.id() && of_time(f.transform) && of_time(transform);
        if spec.fields.iter().any(redundant) {
            return None;
        }
        if !transform.fits(leaf.prim) || spec.fields.iter().any(|f| same(&f)) {
            return None;
        }
        let unwritable = leaf.prim == Prim::Uuid && transform.result(leaf.prim) == Prim::Uuid;
        if unwritable && !switches::UUID_PARTITIONS {
            return None;
        }
        let named = |prim: &Prim| matches!(prim, Prim::Decimal(..) | Prim::Fixed(_));
        let mut types = spec.types(&self.model.schema);
        types.push(transform.result(leaf.prim));
        if !switches::TWO_NAMED_PARTITIONS && types.iter().filter(|p| named(p)).count() > 1 {
            return None;
        }
        let known = self.table.specs.iter().flat_map(|s| &s.fields).find(same);
        // A field that comes back has its old id, but in version 1, where it never went.
        let usable = |f: &&SpecField| {
            self.table.version > 1 && spec.fields.iter().all(|other| other.id != f.id)
        };
        let field = match known.filter(usable).cloned() {
            Some(field) => field,
            None => {
                self.table.last_partition += 1;
                let id = self.table.last_partition;
                SpecField {
                    id,
                    source: leaf.id(),
                    name: format!("p{id}"),
                    transform,
                }
            }
        };
        let text = format!("partition by {}({})", transform.name(), leaf.sql);
        let mut fields = spec.fields;
        fields.push(field);
        self.respec(fields);
        Some(text)
    }

    pub fn drop_partition_field(&mut self, rng: &mut Rng) -> Option<String> {
        let mut fields = self.table.default_spec().fields.clone();
        if fields.is_empty() {
            return None;
        }
        let at = rng.usize(0..fields.len());
        let text = format!("no longer partition by {:?}", fields[at]);
        // Version 1 keeps the field's place.
        if self.table.version == 1 || rng.u8(0..4) == 0 {
            fields[at].transform = Transform::Void;
        } else {
            fields.remove(at);
        }
        self.respec(fields);
        Some(text)
    }

    fn respec(&mut self, fields: Vec<SpecField>) {
        let known = self.table.specs.iter().find(|spec| spec.fields == fields);
        let id = known.map_or(self.table.specs.len() as i32, |spec| spec.id);
        if known.is_none() {
            self.table.specs.push(Spec { id, fields });
        }
        self.table.spec = id;
    }
}
