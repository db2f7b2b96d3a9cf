//! Every key the configuration knows, with its kind and default: the one list that file,
//! environment, `config check` and error messages are read against.

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A text that is never shown.
    Secret,
    /// A URI that may hold a password: shown without it.
    SecretUri,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A whole number within bounds, both inclusive.
    Count {
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// Seconds, fractions allowed, above zero.
    Seconds,
    /// `host:port` to bind.
    Listen,
    /// `grpc://host:port` or `grpc+tls://host:port`.
    Endpoint,
}

/// What may stand at a place of the configuration.
#[derive(Clone, Copy, Debug)]
pub enum Node {
    /// A table with fixed keys.
    Section(&'static [Key]),
    /// A table whose keys the owner names, each holding a table with these keys.
    Named(&'static [Key]),
    /// A table whose keys the owner names, each holding such a value.
    Properties(Kind),
    /// A value, and its default as it would be written in an environment variable.
    Value(Kind, Option<&'static str>),
}

/// A key and what stands under it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub node: Node,
}

const fn value(name: &'static str, kind: Kind, default: Option<&'static str>) -> Key {
    Key {
        name,
        node: Node::Value(kind, default),
    }
}

const fn optional(name: &'static str, kind: Kind) -> Key {
    value(name, kind, None)
}

const ANY_BYTES: Kind = Kind::Count {
    min: 1 << 20,
    max: 1 << 50,
};

/// The whole configuration.
pub const ROOT: &[Key] = &[
    optional("default_catalog", Kind::Text),
    optional("default_schema", Kind::Text),
    Key {
        name: "coordinator",
        node: Node::Section(COORDINATOR),
    },
    Key {
        name: "worker",
        node: Node::Section(WORKER),
    },
    Key {
        name: "engine",
        node: Node::Section(ENGINE),
    },
    Key {
        name: "catalogs",
        node: Node::Named(CATALOG),
    },
    Key {
        name: "lakes",
        node: Node::Named(LAKE),
    },
];

const COORDINATOR: &[Key] = &[
    value("listen", Kind::Listen, Some("127.0.0.1:32010")),
    value("worker_wait_seconds", Kind::Seconds, Some("30")),
    value("heartbeat_timeout_seconds", Kind::Seconds, Some("5")),
    optional("statement_timeout_seconds", Kind::Seconds),
    value("session_idle_seconds", Kind::Seconds, Some("1800")),
    value("drain_timeout_seconds", Kind::Seconds, Some("30")),
];

const WORKER: &[Key] = &[
    value(
        "coordinator",
        Kind::Endpoint,
        Some("grpc://127.0.0.1:32010"),
    ),
    value("listen", Kind::Listen, Some("127.0.0.1:0")),
    optional("advertise", Kind::Endpoint),
    optional("site", Kind::Text),
    value("drain_timeout_seconds", Kind::Seconds, Some("30")),
];

const ENGINE: &[Key] = &[
    optional("target_partitions", Kind::Count { min: 1, max: 1024 }),
    optional(
        "batch_size",
        Kind::Count {
            min: 1,
            max: 1 << 20,
        },
    ),
    optional("memory_limit_bytes", ANY_BYTES),
    optional("manifest_cache_bytes", ANY_BYTES),
    optional("footer_cache_bytes", ANY_BYTES),
    optional("delete_cache_bytes", ANY_BYTES),
    optional("bytes_per_task", ANY_BYTES),
];

const CATALOG: &[Key] = &[
    optional("type", Kind::Choice(&["sql", "rest", "memory"])),
    optional("uri", Kind::SecretUri),
    optional("warehouse", Kind::Text),
    optional("name", Kind::Text),
    optional("token", Kind::Secret),
    optional("credential", Kind::Secret),
    optional("oauth2_server_uri", Kind::Text),
    optional("scope", Kind::Text),
    Key {
        name: "properties",
        node: Node::Properties(Kind::Secret),
    },
];

const LAKE: &[Key] = &[
    optional("root", Kind::Text),
    Key {
        name: "properties",
        node: Node::Properties(Kind::Secret),
    },
    Key {
        name: "map",
        node: Node::Properties(Kind::Text),
    },
    optional("base", Kind::Text),
];

/// The key of that name in a list.
pub fn find<'a>(keys: &'a [Key], name: &str) -> Option<&'a Key> {
    keys.iter().find(|key| key.name == name)
}

/// The kind of the value at a path; `None` when no value may stand there.
pub fn kind_at(path: &[String]) -> Option<Kind> {
    let mut keys = ROOT;
    let mut rest = path;
    loop {
        let (name, after) = rest.split_first()?;
        match find(keys, name)?.node {
            Node::Value(kind, _) => return after.is_empty().then_some(kind),
            Node::Properties(kind) => return (after.len() == 1).then_some(kind),
            Node::Section(inner) => (keys, rest) = (inner, after),
            Node::Named(inner) => (keys, rest) = (inner, after.split_first()?.1),
        }
    }
}

/// Every fixed value's path and default, in order.
pub fn fixed_values() -> Vec<(Vec<String>, Option<&'static str>)> {
    let mut out = Vec::new();
    collect(ROOT, &mut Vec::new(), &mut out);
    out
}

fn collect(
    keys: &[Key],
    path: &mut Vec<String>,
    out: &mut Vec<(Vec<String>, Option<&'static str>)>,
) {
    for key in keys {
        path.push(key.name.to_owned());
        match key.node {
            Node::Value(_, default) => out.push((path.clone(), default)),
            Node::Section(inner) => collect(inner, path, out),
            Node::Named(_) | Node::Properties(_) => {}
        }
        path.pop();
    }
}

/// The known key most like `name`: one of `siblings`, else a full path ending in such a name.
pub fn nearest(name: &str, siblings: &[Key]) -> Option<String> {
    let near = |candidate: &str| {
        let distance = strsim::damerau_levenshtein(name, candidate);
        let longest = name.chars().count().max(candidate.chars().count());
        (distance <= (longest / 3).max(1)).then_some(distance)
    };
    let sibling = siblings
        .iter()
        .filter_map(|key| Some((near(key.name)?, key.name.to_owned())))
        .min();
    if let Some((_, name)) = sibling {
        return Some(name);
    }
    fixed_values()
        .into_iter()
        .filter_map(|(path, _)| Some((near(path.last()?)?, path.join("."))))
        .min()
        .map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_a_sibling_or_a_path() {
        assert_eq!(nearest("lsten", COORDINATOR).as_deref(), Some("listen"));
        assert_eq!(
            nearest("batchsize", ROOT).as_deref(),
            Some("engine.batch_size")
        );
        assert_eq!(nearest("zzz", ROOT), None);
    }

    #[test]
    fn kinds_are_found_by_path() {
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(kind_at(&path("coordinator.listen")), Some(Kind::Listen));
        assert_eq!(kind_at(&path("catalogs.lake.uri")), Some(Kind::SecretUri));
        assert_eq!(
            kind_at(&path("lakes.main.properties.aws_region")),
            Some(Kind::Secret)
        );
        assert_eq!(kind_at(&path("catalogs.lake")), None);
        assert_eq!(kind_at(&path("coordinator.listen.more")), None);
    }
}
