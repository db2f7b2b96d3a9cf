//! A table's properties, and the format version that is set like one.

use std::collections::HashMap;

use iceberg::TableUpdate;
use iceberg::spec::FormatVersion;

use super::Draft;
use crate::{Error, Result};

/// Property that raises the format version and is none afterwards.
const FORMAT_VERSION: &str = "format-version";

impl Draft<'_> {
    /// The value that a property will have.
    pub(super) fn property(&self, key: &str) -> Option<&str> {
        match self.properties.get(key) {
            Some(changed) => changed.as_deref(),
            None => self.metadata.properties().get(key).map(String::as_str),
        }
    }

    pub(super) fn set_property(&mut self, key: &str, value: String) {
        self.properties.insert(key.to_owned(), Some(value));
    }

    pub(super) fn set_properties(&mut self, properties: &HashMap<String, String>) -> Result<()> {
        for (key, value) in properties {
            if key == FORMAT_VERSION {
                let version = match value.as_str() {
                    "1" => FormatVersion::V1,
                    "2" => FormatVersion::V2,
                    "3" => FormatVersion::V3,
                    other => {
                        return Err(Error::Conflict(format!(
                            "format version {other} is not known; 1, 2 and 3 are"
                        )));
                    }
                };
                self.version = Some(version);
            } else {
                self.set_property(key, value.clone());
            }
        }
        Ok(())
    }

    pub(super) fn unset_properties(&mut self, keys: &[String], if_exists: bool) -> Result<()> {
        for key in keys {
            if key == FORMAT_VERSION {
                return Err(Error::Conflict(format!(
                    "{FORMAT_VERSION} is no property that could be removed; every table has one"
                )));
            }
            if self.property(key).is_none() && !if_exists {
                let hint = crate::catalog::hint(key, self.metadata.properties().keys());
                return Err(Error::NotFound(format!(
                    "the table has no property {key}{hint}"
                )));
            }
            self.properties.insert(key.clone(), None);
        }
        Ok(())
    }

    /// What of all that changes the properties.
    pub(super) fn property_updates(self) -> Vec<TableUpdate> {
        let known = self.metadata.properties();
        let (mut set, mut removed) = (HashMap::new(), vec![]);
        for (key, value) in self.properties {
            match value {
                Some(value) if known.get(&key) != Some(&value) => {
                    set.insert(key, value);
                }
                None if known.contains_key(&key) => removed.push(key),
                _ => {}
            }
        }
        removed.sort();
        let mut updates = vec![];
        if !set.is_empty() {
            updates.push(TableUpdate::SetProperties { updates: set });
        }
        if !removed.is_empty() {
            updates.push(TableUpdate::RemoveProperties { removals: removed });
        }
        updates
    }
}
