//! Full names of tables.

use std::fmt;

use iceberg::{NamespaceIdent, TableIdent};

/// `catalog.namespace.table`, each part exactly as the catalog holds it.
///
/// `Display` writes it as SQL, so a part that is not a plain lower-case identifier is quoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Key of the catalog in the configuration.
    pub catalog: String,
    /// Namespace; the levels of a nested one are joined with `.`.
    pub namespace: String,
    /// Table.
    pub table: String,
}

impl TableName {
    /// Puts a name together.
    pub fn new(
        catalog: impl Into<String>,
        namespace: impl Into<String>,
        table: impl Into<String>,
    ) -> Self {
        Self {
            catalog: catalog.into(),
            namespace: namespace.into(),
            table: table.into(),
        }
    }

    /// The name as Iceberg writes it, without the catalog.
    ///
    /// # Errors
    /// An empty namespace or table name is [`crate::Error::NotFound`]: no catalog holds one.
    pub fn to_ident(&self) -> crate::Result<TableIdent> {
        if self.namespace.is_empty() || self.table.is_empty() {
            return Err(crate::Error::NotFound(format!("table {self} not found")));
        }
        let levels = self.namespace.split('.').map(str::to_owned).collect();
        let namespace = NamespaceIdent::from_vec(levels)
            .map_err(|error| crate::Error::NotFound(error.message().to_owned()))?;
        Ok(TableIdent::new(namespace, self.table.clone()))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}",
            Quoted(&self.catalog),
            Quoted(&self.namespace),
            Quoted(&self.table)
        )
    }
}

/// One identifier as SQL writes it: in double quotes unless it is a plain lower-case name.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        let plain = chars
            .next()
            .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if plain {
            f.write_str(self.0)
        } else {
            write!(f, "\"{}\"", self.0.replace('"', "\"\""))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_are_quoted_when_sql_needs_it() {
        let plain = TableName::new("lake", "tpch", "line_item2");
        assert_eq!(plain.to_string(), "lake.tpch.line_item2");
        let odd = TableName::new("Lake", "a.b", "say \"hi\"");
        assert_eq!(odd.to_string(), "\"Lake\".\"a.b\".\"say \"\"hi\"\"\"");
    }

    #[test]
    fn a_nested_namespace_has_levels_and_a_dotted_table_has_none() {
        let ident = TableName::new("lake", "a.b", "x.y").to_ident().unwrap();
        assert_eq!(ident.namespace().as_ref(), &["a", "b"]);
        assert_eq!(ident.name(), "x.y");
        assert!(TableName::new("lake", "", "t").to_ident().is_err());
    }
}
