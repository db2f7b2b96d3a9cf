//! Avro schemas, compiled once into a flat tree that values are walked by.
//!
//! Source: Avro 1.12 specification, "Schema Declaration". Iceberg adds the attribute `field-id` to
//! record fields (Iceberg specification, appendix A).

use std::collections::HashMap;

use serde_json::Value;

/// Nesting that a schema may have; Iceberg's own schemas have at most eight levels.
pub const DEPTH_MAX: usize = 64;

/// A type of a [`Schema`], by its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u32);

/// What a logical type changes about the numbers of a primitive one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    /// Nothing.
    Plain,
    /// The number counts days from 1970-01-01.
    Date,
    /// The number counts milliseconds, of a day or from 1970-01-01.
    Millis,
}

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// No value, in no bytes.
    Null,
    /// One byte.
    Boolean,
    /// A variable-length number of 32 bits.
    Int(Logical),
    /// A variable-length number of 64 bits.
    Long(Logical),
    /// Four bytes, little-endian.
    Float,
    /// Eight bytes, little-endian.
    Double,
    /// Bytes after their length.
    Bytes,
    /// UTF-8 after its length.
    String,
    /// So many bytes.
    Fixed(usize),
    /// The place of a symbol, as a number.
    Enum,
    /// Blocks of items.
    Array(NodeId),
    /// Blocks of pairs of a string and a value.
    Map(NodeId),
    /// One of several types, after its place.
    Union(Box<[NodeId]>),
    /// Fields one after another.
    Record(Box<[Field]>),
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The field's name.
    pub name: Box<str>,
    /// Iceberg's field id, where the writer gave one.
    pub id: Option<i32>,
    /// The field's type.
    pub node: NodeId,
}

/// A compiled schema.
#[derive(Clone, Debug)]
pub struct Schema {
    nodes: Vec<Node>,
    /// For each node, whether its values take no bytes at all.
    empty: Vec<bool>,
    root: NodeId,
}

impl Schema {
    /// Compiles a schema in JSON.
    ///
    /// # Errors
    /// What about the schema is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let mut compiler = Compiler::default();
        let root = compiler.compile(&value, "", 0)?;
        let nodes = compiler.nodes;
        let mut sizes = vec![None; nodes.len()];
        for node in 0..nodes.len() {
            takes_nothing(&nodes, &mut sizes, node, 0);
        }
        Ok(Self {
            empty: sizes.into_iter().map(|size| size == Some(true)).collect(),
            nodes,
            root,
        })
    }

    /// The type of the values.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// A type of this schema.
    pub fn node(&self, id: NodeId) -> &Node {
        // Ids come from this schema alone; another one's would be read as no value.
        self.nodes.get(id.0 as usize).unwrap_or(&Node::Null)
    }

    /// Whether values of a type take no bytes, so that any number of them could be claimed.
    pub fn is_empty(&self, id: NodeId) -> bool {
        self.empty.get(id.0 as usize).copied().unwrap_or(true)
    }

    /// The first type of a union that `is` wants, or the type itself.
    pub fn find(&self, id: NodeId, is: impl Fn(&Node) -> bool) -> Option<NodeId> {
        match self.node(id) {
            Node::Union(branches) => branches
                .iter()
                .copied()
                .find(|branch| is(self.node(*branch))),
            node => is(node).then_some(id),
        }
    }

    /// The fields of a record, or of the record in a union; none for any other type.
    pub fn record(&self, id: NodeId) -> Option<(NodeId, &[Field])> {
        let id = self.find(id, |node| matches!(node, Node::Record(_)))?;
        match self.node(id) {
            Node::Record(fields) => Some((id, fields)),
            _ => None,
        }
    }

    /// The item type of an array, or of the array in a union.
    pub fn items(&self, id: NodeId) -> Option<NodeId> {
        let id = self.find(id, |node| matches!(node, Node::Array(_)))?;
        match self.node(id) {
            Node::Array(items) => Some(*items),
            _ => None,
        }
    }
}

/// Whether values of a type take no bytes. A type inside itself takes some, or has no values.
fn takes_nothing(nodes: &[Node], known: &mut [Option<bool>], node: usize, depth: usize) -> bool {
    let Some(slot) = known.get_mut(node) else {
        return true;
    };
    if let Some(known) = *slot {
        return known;
    }
    *slot = Some(false);
    let result = depth <= DEPTH_MAX
        && match &nodes[node] {
            Node::Null | Node::Fixed(0) => true,
            Node::Record(fields) => fields
                .iter()
                .all(|field| takes_nothing(nodes, known, field.node.0 as usize, depth + 1)),
            _ => false,
        };
    known[node] = Some(result);
    result
}

#[derive(Default)]
struct Compiler {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
}

impl Compiler {
    fn push(&mut self, node: Node) -> Result<NodeId, String> {
        let id = u32::try_from(self.nodes.len()).map_err(|_| "it has too many types")?;
        self.nodes.push(node);
        Ok(NodeId(id))
    }

    fn compile(&mut self, value: &Value, space: &str, depth: usize) -> Result<NodeId, String> {
        if depth > DEPTH_MAX {
            return Err("it is nested too deeply".to_string());
        }
        match value {
            Value::String(name) => self.by_name(name, space, Logical::Plain),
            Value::Array(branches) => {
                let branches = branches
                    .iter()
                    .map(|branch| self.compile(branch, space, depth + 1))
                    .collect::<Result<_, _>>()?;
                self.push(Node::Union(branches))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.declared(kind, value, space, depth),
                Some(inner) => self.compile(inner, space, depth + 1),
                None => Err("a type has no \"type\"".to_string()),
            },
            other => Err(format!("{other} is no type")),
        }
    }

    /// A type given by name: a primitive one, or one declared before.
    fn by_name(&mut self, name: &str, space: &str, logical: Logical) -> Result<NodeId, String> {
        let node = match name {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" => Node::Int(logical),
            "long" => Node::Long(logical),
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes,
            "string" => Node::String,
            _ => {
                let known = self.names.get(&full_name(name, space));
                return known
                    .or_else(|| self.names.get(name))
                    .copied()
                    .ok_or_else(|| format!("type {name} is not declared"));
            }
        };
        self.push(node)
    }

    fn declared(
        &mut self,
        kind: &str,
        value: &Value,
        space: &str,
        depth: usize,
    ) -> Result<NodeId, String> {
        let part = |key: &str| {
            value
                .get(key)
                .ok_or_else(|| format!("a type {kind} has no \"{key}\""))
        };
        match kind {
            "array" => {
                let items = self.compile(part("items")?, space, depth + 1)?;
                self.push(Node::Array(items))
            }
            "map" => {
                let values = self.compile(part("values")?, space, depth + 1)?;
                self.push(Node::Map(values))
            }
            "fixed" => {
                let size = part("size")?
                    .as_u64()
                    .and_then(|size| usize::try_from(size).ok())
                    .ok_or("a type fixed has no size")?;
                let id = self.push(Node::Fixed(size))?;
                self.declare(value, space, id);
                Ok(id)
            }
            "enum" => {
                let id = self.push(Node::Enum)?;
                self.declare(value, space, id);
                Ok(id)
            }
            "record" | "error" => self.declared_record(value, space, depth),
            name => {
                let logical = match value.get("logicalType").and_then(Value::as_str) {
                    Some("date") => Logical::Date,
                    Some("time-millis" | "timestamp-millis" | "local-timestamp-millis") => {
                        Logical::Millis
                    }
                    _ => Logical::Plain,
                };
                self.by_name(name, space, logical)
            }
        }
    }

    fn declared_record(
        &mut self,
        value: &Value,
        space: &str,
        depth: usize,
    ) -> Result<NodeId, String> {
        // Known before its fields are, since they may name it.
        let id = self.push(Node::Record(Box::default()))?;
        let space = self.declare(value, space, id);
        let fields = value
            .get("fields")
            .and_then(Value::as_array)
            .ok_or("a record has no fields")?;
        let mut compiled = Vec::with_capacity(fields.len());
        for field in fields {
            let name = field.get("name").and_then(Value::as_str);
            let name = name.ok_or("a field has no name")?;
            let ty = field
                .get("type")
                .ok_or_else(|| format!("field {name} has no type"))?;
            compiled.push(Field {
                name: Box::from(name),
                id: field
                    .get("field-id")
                    .and_then(Value::as_i64)
                    .and_then(|id| i32::try_from(id).ok()),
                node: self.compile(ty, &space, depth + 1)?,
            });
        }
        if let Some(node) = self.nodes.get_mut(id.0 as usize) {
            *node = Node::Record(compiled.into());
        }
        Ok(id)
    }

    /// Notes the name of a type; gives the namespace of what is inside it.
    fn declare(&mut self, value: &Value, space: &str, id: NodeId) -> String {
        let text = |key| value.get(key).and_then(Value::as_str);
        let space = text("namespace").unwrap_or(space);
        let Some(name) = text("name") else {
            return space.to_string();
        };
        let full = full_name(name, space);
        let inner = full
            .rsplit_once('.')
            .map_or("", |(space, _)| space)
            .to_string();
        self.names.insert(full, id);
        inner
    }
}

fn full_name(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() {
        name.to_string()
    } else {
        format!("{space}.{name}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(json: &str) -> Result<Schema, String> {
        Schema::parse(json.as_bytes())
    }

    #[test]
    fn names_are_found_in_their_namespace() {
        let schema = parse(
            r#"{"type":"record","name":"a.r","fields":[
                {"name":"x","type":{"type":"fixed","name":"f","size":3},"field-id":7},
                {"name":"y","type":"f"},
                {"name":"z","type":["null","a.r"]},
                {"name":"d","type":{"type":"int","logicalType":"date"}}]}"#,
        )
        .unwrap();
        let (root, fields) = schema.record(schema.root()).unwrap();
        assert_eq!(schema.node(fields[1].node), &Node::Fixed(3));
        assert_eq!((fields[0].id, fields[1].id), (Some(7), None));
        assert_eq!(schema.record(fields[2].node).unwrap().0, root);
        assert_eq!(schema.node(fields[3].node), &Node::Int(Logical::Date));
    }

    #[test]
    fn what_takes_no_bytes_is_known() {
        let schema = parse(
            r#"{"type":"record","name":"r","fields":[
                {"name":"x","type":{"type":"fixed","name":"f","size":0}},
                {"name":"n","type":"null"}]}"#,
        )
        .unwrap();
        assert!(schema.is_empty(schema.root()));
        let schema = parse(r#"{"type":"record","name":"r","fields":[{"name":"x","type":"r"}]}"#);
        let schema = schema.unwrap();
        assert!(!schema.is_empty(schema.root()));
    }

    #[test]
    fn broken_schemas_are_refused() {
        for json in [
            "",
            "7",
            "{}",
            r#""nobody""#,
            r#"{"type":"record","name":"r"}"#,
            r#"{"type":"array"}"#,
            r#"{"type":"fixed","name":"f","size":-1}"#,
        ] {
            assert!(parse(json).is_err(), "{json}");
        }
        let deep = format!(
            "{}\"int\"{}",
            r#"{"type":"array","items":"#.repeat(100),
            "}".repeat(100)
        );
        assert!(parse(&deep).is_err());
    }
}
