//! Names of columns, and of fields inside them.

use std::fmt;

/// The name of a column, or the names down to a field inside one: `place`, `lat`. The element of a list
/// is called `element`, the parts of a map `key` and `value`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(Vec<String>);

impl FieldPath {
    /// The field at the end of these names.
    pub fn new(parts: Vec<String>) -> Self {
        Self(parts)
    }

    /// The names, from the outside in; none for the table itself.
    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// A field of the one that this names.
    pub fn child(&self, name: &str) -> Self {
        let mut parts = self.0.clone();
        parts.push(name.to_owned());
        Self(parts)
    }
}

impl From<String> for FieldPath {
    fn from(column: String) -> Self {
        Self(vec![column])
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}
