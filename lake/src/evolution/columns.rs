//! Adding, dropping, renaming, moving and changing columns, at any depth.

use std::sync::Arc;

use iceberg::spec::{NestedField, NestedFieldRef, Transform, Type};

use super::promotion::{check_promotion, promoted};
use super::tree::{Spot, children, collect_ids, edited, numbered};
use super::{Draft, FieldPath, Place};
use crate::{Error, Result};

impl Draft<'_> {
    fn find(&self, name: &FieldPath) -> Option<Spot> {
        self.locate(name).ok()
    }

    /// The field of a name.
    ///
    /// # Errors
    /// [`Error::NotFound`] with near names.
    pub(super) fn locate(&self, name: &FieldPath) -> Result<Spot> {
        let mut spot: Option<Spot> = None;
        for part in name.parts() {
            let level: Vec<&NestedFieldRef> = match &spot {
                None => self.fields.iter().collect(),
                Some(spot) => children(&spot.field.field_type),
            };
            let at = level.iter().position(|field| field.name == *part);
            let next = at.and_then(|at| match &spot {
                None => Spot::column(&self.fields, at),
                Some(spot) => spot.inside(at),
            });
            spot = Some(next.ok_or_else(|| missing(spot.as_ref(), part, &level))?);
        }
        spot.ok_or_else(|| Error::NotFound("a column without a name".to_owned()))
    }

    /// As [`Draft::locate`], for changes that a map's key cannot have.
    fn changeable(&self, name: &FieldPath) -> Result<Spot> {
        let spot = self.locate(name)?;
        match spot.in_key {
            true => Err(Error::Conflict(format!(
                "{} cannot be changed: it is the key of a map, or part of one",
                spot.name
            ))),
            false => Ok(spot),
        }
    }

    /// As [`Draft::changeable`], for changes that the parts of lists and maps cannot have.
    fn member(&self, name: &FieldPath, verb: &str) -> Result<Spot> {
        let spot = self.changeable(name)?;
        match spot.is_member {
            true => Ok(spot),
            false => Err(Error::Conflict(format!(
                "{} cannot be {verb}: it is a part of a list or map, whose parts are fixed",
                spot.name
            ))),
        }
    }

    fn siblings(&self, above: &[usize]) -> Vec<NestedFieldRef> {
        let mut found = vec![];
        edited(&self.fields, above, &mut |fields| found.clone_from(fields));
        found
    }

    fn edit(&mut self, above: &[usize], edit: &mut dyn FnMut(&mut Vec<NestedFieldRef>)) {
        self.fields = edited(&self.fields, above, edit);
    }

    pub(super) fn change(&mut self, spot: &Spot, change: impl FnOnce(&mut NestedField)) {
        let mut field = spot.field.as_ref().clone();
        change(&mut field);
        let field = Arc::new(field);
        self.edit(&spot.above, &mut |fields| {
            if let Some(old) = fields.get_mut(spot.at) {
                *old = Arc::clone(&field);
            }
        });
    }

    pub(super) fn add(
        &mut self,
        parent: &FieldPath,
        field: &NestedField,
        if_not_exists: bool,
        place: Option<&Place>,
    ) -> Result<()> {
        let parent = match parent.parts().is_empty() {
            true => None,
            false => Some(self.structure(parent)?),
        };
        let above = parent.as_ref().map(Spot::places).unwrap_or_default();
        let name = match &parent {
            None => field.name.clone(),
            Some(parent) => format!("{}.{}", parent.name, field.name),
        };
        let siblings = self.siblings(&above);
        if siblings.iter().any(|sibling| sibling.name == field.name) {
            return match if_not_exists {
                true => Ok(()),
                false => Err(Error::Exists(format!("column {name} exists already"))),
            };
        }
        if field.required && field.initial_default.is_none() {
            return Err(Error::Conflict(format!(
                "column {name} is new, so rows that are there have no value for it: it has to allow \
                 NULL or have a DEFAULT"
            )));
        }
        self.check_partition_names(&name, None)?;
        let at = match place {
            None => siblings.len(),
            Some(place) => place_among(&siblings, place)?,
        };
        let field = Arc::new(numbered(field, &mut self.last_id));
        self.map_new(parent.map(|parent| parent.field.id), &field)?;
        self.edit(&above, &mut |fields| {
            fields.insert(at.min(fields.len()), Arc::clone(&field));
        });
        Ok(())
    }

    /// The struct that a new field of `name` goes into: the elements of a list, the values of a map.
    fn structure(&self, name: &FieldPath) -> Result<Spot> {
        let mut spot = self.changeable(name)?;
        loop {
            let inner = match spot.field.field_type.as_ref() {
                Type::Struct(_) => return Ok(spot),
                Type::List(_) => spot.inside(0),
                Type::Map(_) => spot.inside(1),
                Type::Primitive(_) => None,
            };
            spot = inner.ok_or_else(|| {
                Error::Conflict(format!(
                    "column {name} has type {}, which has no fields that one could be added to",
                    spot.field.field_type
                ))
            })?;
        }
    }

    pub(super) fn drop(&mut self, name: &FieldPath, if_exists: bool) -> Result<()> {
        if if_exists && self.find(name).is_none() {
            return Ok(());
        }
        let spot = self.member(name, "dropped")?;
        let refused = |why: &str| {
            Err(Error::Conflict(format!(
                "column {} cannot be dropped: {why}",
                spot.name
            )))
        };
        let mut ids = vec![];
        collect_ids(&spot.field, &mut ids);
        if let Some(part) = self.spec.iter().find(|part| ids.contains(&part.source_id)) {
            return match part.transform {
                Transform::Void => refused(&format!(
                    "format version 1 keeps the dropped partition field {}, which it belongs to; \
                     raise the version with SET TBLPROPERTIES ('format-version' = '2') and drop the \
                     field again",
                    part.name
                )),
                _ => refused("the table is partitioned by it"),
            };
        }
        let order = self.order.as_ref();
        let order = order.unwrap_or(self.metadata.default_sort_order());
        if order
            .fields
            .iter()
            .any(|part| ids.contains(&part.source_id))
        {
            return refused("the table is sorted by it");
        }
        if self.identifiers.iter().any(|id| ids.contains(id)) {
            return refused("it identifies rows");
        }
        if self.siblings(&spot.above).len() == 1 {
            return match spot.parent {
                None => refused("it is the only one"),
                Some(_) => refused("it is the only field of its struct; drop that"),
            };
        }
        self.edit(&spot.above, &mut |fields| {
            fields.remove(spot.at);
        });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &FieldPath, to: &str) -> Result<()> {
        let spot = self.member(from, "renamed")?;
        if spot.field.name == to {
            return Ok(());
        }
        let start = spot.name.len() - spot.field.name.len();
        let name = format!("{}{to}", spot.name.get(..start).unwrap_or_default());
        let siblings = self.siblings(&spot.above);
        if siblings.iter().any(|sibling| sibling.name == to) {
            return Err(Error::Exists(format!("column {name} exists already")));
        }
        self.check_partition_names(&name, Some(spot.field.id))?;
        self.map_renamed(spot.parent, spot.field.id, to)?;
        self.change(&spot, |field| field.name = to.to_owned());
        Ok(())
    }

    pub(super) fn move_to(&mut self, name: &FieldPath, place: &Place) -> Result<()> {
        let spot = self.member(name, "moved")?;
        if *place == Place::After(spot.field.name.clone()) {
            return Err(Error::Conflict(format!(
                "column {} cannot be moved behind itself",
                spot.name
            )));
        }
        let mut siblings = self.siblings(&spot.above);
        let field = siblings.remove(spot.at);
        let at = place_among(&siblings, place)?;
        siblings.insert(at, field);
        self.edit(&spot.above, &mut |fields| fields.clone_from(&siblings));
        Ok(())
    }

    pub(super) fn promote(&mut self, name: &FieldPath, ty: &Type) -> Result<()> {
        let spot = self.changeable(name)?;
        check_promotion(&spot.name, &spot.field.field_type, ty)?;
        self.change(&spot, |field| {
            *field.field_type = ty.clone();
            for default in [&mut field.initial_default, &mut field.write_default] {
                *default = default.take().map(|value| promoted(value, ty));
            }
        });
        Ok(())
    }

    /// Java's API refuses this altogether unless incompatible changes are allowed: other writers'
    /// rows may have NULL. What no snapshot ever had rows of has none.
    pub(super) fn set_not_null(&mut self, name: &FieldPath) -> Result<()> {
        let spot = self.changeable(name)?;
        if spot.field.required {
            return Ok(());
        }
        if self.metadata.snapshots().next().is_some() {
            return Err(Error::Conflict(format!(
                "column {} cannot be NOT NULL: rows that the table has, or had in an earlier \
                 snapshot, may be NULL in it, and stay as they are; make a table anew with CREATE \
                 TABLE and INSERT INTO it what is not NULL",
                spot.name
            )));
        }
        self.change(&spot, |field| field.required = true);
        Ok(())
    }

    pub(super) fn drop_not_null(&mut self, name: &FieldPath) -> Result<()> {
        let spot = self.changeable(name)?;
        let mut ids = vec![];
        collect_ids(&spot.field, &mut ids);
        if self.identifiers.iter().any(|id| ids.contains(id)) {
            return Err(Error::Conflict(format!(
                "column {} identifies rows, so it cannot be NULL",
                spot.name
            )));
        }
        self.change(&spot, |field| field.required = false);
        Ok(())
    }
}

fn missing(parent: Option<&Spot>, part: &str, level: &[&NestedFieldRef]) -> Error {
    let full = |name: &str| match parent {
        None => name.to_owned(),
        Some(parent) => format!("{}.{name}", parent.name),
    };
    let names = level.iter().map(|field| field.name.as_str());
    let near = crate::catalog::suggest(part, names);
    let near: Vec<String> = near.iter().map(|name| full(name)).collect();
    let wanted = full(part);
    let hint = crate::catalog::hint_of(&near);
    Error::NotFound(format!("there is no column {wanted}{hint}"))
}

/// The place of a new field among its siblings.
fn place_among(siblings: &[NestedFieldRef], place: &Place) -> Result<usize> {
    match place {
        Place::First => Ok(0),
        Place::After(name) => {
            let found = siblings.iter().position(|field| field.name == *name);
            let level: Vec<&NestedFieldRef> = siblings.iter().collect();
            found
                .map(|at| at + 1)
                .ok_or_else(|| missing(None, name, &level))
        }
    }
}
