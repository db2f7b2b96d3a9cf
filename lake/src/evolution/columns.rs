//! Adding, dropping and renaming columns.

use std::sync::Arc;

use iceberg::spec::NestedField;
use serde_json::{Value, json};

use super::mapping::mapped;
use super::tree::{collect_ids, numbered};
use super::{Draft, Place};
use crate::{Error, Result};

impl Draft<'_> {
    fn find(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    pub(super) fn place_of(&self, name: &str) -> Result<usize> {
        self.find(name).ok_or_else(|| {
            let names: Vec<String> = self.fields.iter().map(|field| field.name.clone()).collect();
            let near = crate::catalog::suggest(name, &names);
            Error::NotFound(match near.is_empty() {
                true => format!("there is no column {name}"),
                false => format!(
                    "there is no column {name}; did you mean {}?",
                    near.join(" or ")
                ),
            })
        })
    }

    pub(super) fn change(&mut self, at: usize, change: impl FnOnce(&mut NestedField)) {
        let mut field = self.fields[at].as_ref().clone();
        change(&mut field);
        if self.fields[at].as_ref() != &field {
            self.fields[at] = Arc::new(field);
            self.changed = true;
        }
    }

    pub(super) fn add(
        &mut self,
        field: &NestedField,
        if_not_exists: bool,
        place: Option<&Place>,
    ) -> Result<()> {
        if self.find(&field.name).is_some() {
            return match if_not_exists {
                true => Ok(()),
                false => Err(Error::Exists(format!(
                    "column {} exists already",
                    field.name
                ))),
            };
        }
        if field.required {
            return Err(Error::Conflict(format!(
                "column {} is new, so rows that are there have no value for it: it has to allow \
                 NULL",
                field.name
            )));
        }
        let at = match place {
            None => self.fields.len(),
            Some(Place::First) => 0,
            Some(Place::After(name)) => self.place_of(name)? + 1,
        };
        let field = numbered(field, &mut self.last_id);
        self.map_names(|mapping| mapping.push(mapped(&field)));
        self.fields.insert(at, Arc::new(field));
        self.changed = true;
        Ok(())
    }

    pub(super) fn drop(&mut self, name: &str, if_exists: bool) -> Result<()> {
        let at = match self.find(name) {
            None if if_exists => return Ok(()),
            _ => self.place_of(name)?,
        };
        let mut ids = vec![];
        collect_ids(&self.fields[at], &mut ids);
        let spec = self.metadata.default_partition_spec();
        if spec
            .fields()
            .iter()
            .any(|part| ids.contains(&part.source_id))
        {
            return Err(Error::Conflict(format!(
                "column {name} cannot be dropped: the table is partitioned by it"
            )));
        }
        let order = self.metadata.default_sort_order();
        if order
            .fields
            .iter()
            .any(|part| ids.contains(&part.source_id))
        {
            return Err(Error::Conflict(format!(
                "column {name} cannot be dropped: the table is sorted by it"
            )));
        }
        let mut identifiers = self.metadata.current_schema().identifier_field_ids();
        if identifiers.any(|id| ids.contains(&id)) {
            return Err(Error::Conflict(format!(
                "column {name} cannot be dropped: it identifies rows"
            )));
        }
        if self.fields.len() == 1 {
            return Err(Error::Conflict(format!(
                "column {name} cannot be dropped: it is the only one"
            )));
        }
        self.fields.remove(at);
        self.changed = true;
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let at = self.place_of(from)?;
        if from == to {
            return Ok(());
        }
        if self.find(to).is_some() {
            return Err(Error::Exists(format!("column {to} exists already")));
        }
        let id = self.fields[at].id;
        self.change(at, |field| field.name = to.to_owned());
        self.map_names(|mapping| {
            for field in mapping.iter_mut().filter(|f| f["field-id"] == json!(id)) {
                let names = field.get_mut("names").and_then(Value::as_array_mut);
                if let Some(names) = names.filter(|names| !names.contains(&json!(to))) {
                    names.push(json!(to));
                }
            }
        });
        Ok(())
    }
}
