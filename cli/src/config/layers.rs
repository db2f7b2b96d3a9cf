//! The four layers, merged: defaults, file, environment, flags; each value keeps its source, and
//! every problem is kept instead of only the first.

use indexmap::IndexMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key, Kind, Node};
use super::value::{self, Source, Value};

/// A value with where it came from.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path, one element a key.
    pub path: Vec<String>,
    /// Its kind.
    pub kind: Kind,
    /// The value.
    pub value: Value,
    /// Who set it.
    pub source: Source,
}

/// The merged layers.
#[derive(Debug, Default)]
pub struct Layers {
    entries: IndexMap<Vec<String>, Entry>,
    /// The sections the owner named (`catalogs.lake`), in order, also those without a value.
    named: Vec<(Vec<String>, Source)>,
    problems: Vec<String>,
}

impl Layers {
    /// The lowest layer.
    pub fn defaults() -> Self {
        let mut layers = Self::default();
        for (path, default) in keys::fixed_values() {
            if let Some(text) = default {
                layers.set_text(path, text, Source::Default);
            }
        }
        layers
    }

    /// Lays a TOML file on top. `name` is how the file is called in messages.
    pub fn add_file(&mut self, name: &str, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let file = File { name, text };
        for error in errors {
            // Never the error's own rendering: it quotes the line, and with it secrets.
            let place = error.span().map_or(1, |span| file.line(span.start));
            self.problems
                .push(format!("{name} line {place}: {}", error.message()));
        }
        self.add_table(&file, table.get_ref(), keys::ROOT, &mut Vec::new());
    }

    fn add_table(
        &mut self,
        file: &File<'_>,
        table: &DeTable<'_>,
        known: &[Key],
        path: &mut Vec<String>,
    ) {
        for (name, item) in in_order(table) {
            let line = file.line(name.span().start);
            let key = name.get_ref().as_ref();
            path.push(key.to_owned());
            match keys::find(known, key).map(|key| key.node) {
                None => self.unknown(file, line, path, known),
                Some(Node::Value(kind, _)) => self.add_value(file, line, path, kind, item),
                Some(Node::Section(inner)) => match item.get_ref() {
                    DeValue::Table(table) => self.add_table(file, table, inner, path),
                    _ => self.not_a_table(file, line, path),
                },
                Some(Node::Named(inner)) => self.add_named(file, line, item, inner, path),
                Some(Node::Properties(kind)) => match item.get_ref() {
                    DeValue::Table(table) => {
                        for (name, item) in in_order(table) {
                            path.push(name.get_ref().to_string());
                            let line = file.line(name.span().start);
                            self.add_value(file, line, path, kind, item);
                            path.pop();
                        }
                    }
                    _ => self.not_a_table(file, line, path),
                },
            }
            path.pop();
        }
    }

    /// The sections under `[catalogs]` or `[lakes]`.
    fn add_named(
        &mut self,
        file: &File<'_>,
        line: usize,
        item: &Spanned<DeValue<'_>>,
        inner: &[Key],
        path: &mut Vec<String>,
    ) {
        let DeValue::Table(sections) = item.get_ref() else {
            return self.not_a_table(file, line, path);
        };
        for (name, item) in in_order(sections) {
            let line = file.line(name.span().start);
            path.push(name.get_ref().to_string());
            match item.get_ref() {
                DeValue::Table(table) => {
                    let source = Source::File {
                        file: file.name.to_owned(),
                        line,
                    };
                    self.named.push((path.clone(), source));
                    self.add_table(file, table, inner, path);
                }
                _ => self.not_a_table(file, line, path),
            }
            path.pop();
        }
    }

    fn add_value(
        &mut self,
        file: &File<'_>,
        line: usize,
        path: &[String],
        kind: Kind,
        item: &Spanned<DeValue<'_>>,
    ) {
        let source = Source::File {
            file: file.name.to_owned(),
            line,
        };
        let number = matches!(kind, Kind::Count { .. } | Kind::Seconds);
        match item.get_ref() {
            DeValue::String(text) if !number => self.set_text(path.to_vec(), text, source),
            DeValue::Integer(digits) if number && digits.radix() == 10 => {
                self.set_text(path.to_vec(), digits.as_str(), source);
            }
            DeValue::Float(digits) if number => {
                self.set_text(path.to_vec(), digits.as_str(), source);
            }
            // Store and catalog properties are texts; `true` and `443` are accepted for comfort.
            DeValue::Boolean(flag) if kind == Kind::Secret => {
                self.set_text(path.to_vec(), &flag.to_string(), source);
            }
            DeValue::Integer(digits) if kind == Kind::Secret && digits.radix() == 10 => {
                self.set_text(path.to_vec(), digits.as_str(), source);
            }
            other => self.problems.push(format!(
                "`{}` ({source}): a {} is needed, not a {}",
                dotted(path),
                if number { "number" } else { "text in quotes" },
                other.type_str()
            )),
        }
    }

    /// Sets a value from a text, or notes what is wrong with it.
    pub fn set_text(&mut self, path: Vec<String>, text: &str, source: Source) {
        let Some(kind) = keys::kind_at(&path) else {
            self.problems
                .push(format!("unknown key `{}` ({source})", dotted(&path)));
            return;
        };
        match value::check(kind, text) {
            Ok(value) => {
                let entry = Entry {
                    path: path.clone(),
                    kind,
                    value,
                    source,
                };
                self.entries.insert(path, entry);
            }
            Err(why) => {
                self.problems
                    .push(format!("`{}` ({source}): {why}", dotted(&path)));
            }
        }
    }

    fn unknown(&mut self, file: &File<'_>, line: usize, path: &[String], siblings: &[Key]) {
        let name = path.last().map_or("", String::as_str);
        let hint = keys::nearest(name, siblings).map_or_else(
            || known_names(siblings),
            |near| format!("did you mean `{near}`?"),
        );
        self.problems.push(format!(
            "unknown key `{}` in {} line {line}; {hint}",
            dotted(path),
            file.name
        ));
    }

    fn not_a_table(&mut self, file: &File<'_>, line: usize, path: &[String]) {
        self.problems.push(format!(
            "`{}` in {} line {line} must be a section: [{}]",
            dotted(path),
            file.name,
            dotted(path)
        ));
    }

    /// Notes a further problem.
    pub fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// What is wrong, in the order it was found.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Every value, fixed keys first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The value at a path, keys separated by dots.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        self.entries.get(&path)
    }

    /// The names under `catalogs` or `lakes`, in the order the owner wrote them.
    pub fn names(&self, section: &str) -> Vec<String> {
        let of_section = |path: &[String]| {
            (path.first().map(String::as_str) == Some(section))
                .then(|| path.get(1).cloned())
                .flatten()
        };
        let mut names: Vec<String> = Vec::new();
        let written = self.named.iter().map(|(path, _)| path);
        for path in written.chain(self.entries.keys()) {
            if let Some(name) = of_section(path)
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        names
    }

    /// The entries of one named section.
    pub fn section(&self, section: &str, name: &str) -> impl Iterator<Item = &Entry> {
        let prefix = [section.to_owned(), name.to_owned()];
        self.entries
            .values()
            .filter(move |entry| entry.path.starts_with(&prefix))
    }
}

/// A file being read, to turn offsets into lines.
struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        before.filter(|byte| **byte == b'\n').count() + 1
    }
}

/// A table's items as they were written: the map itself sorts them by name.
fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(
    &'a Spanned<std::borrow::Cow<'i, str>>,
    &'a Spanned<DeValue<'i>>,
)> {
    let mut items: Vec<_> = table.iter().collect();
    items.sort_by_key(|(name, _)| name.span().start);
    items
}

fn known_names(keys: &[Key]) -> String {
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    format!("known here: {}", names.join(", "))
}

/// A path as it is written in TOML.
pub fn dotted(path: &[String]) -> String {
    let bare = |part: &String| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    let parts: Vec<String> = path
        .iter()
        .map(|part| {
            if bare(part) {
                part.clone()
            } else {
                value::quoted(part)
            }
        })
        .collect();
    parts.join(".")
}
