//! A table's properties, and the format version that is set like one.

use std::collections::HashMap;

use iceberg::spec::FormatVersion;

use super::Draft;
use crate::{Error, Result};

/// Property that raises the format version and is none afterwards.
const FORMAT_VERSION: &str = "format-version";

impl Draft<'_> {
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
                self.properties.insert(key.clone(), value.clone());
            }
        }
        Ok(())
    }
}
