//! `INSHORE_*` variables as a layer of the configuration.
//!
//! `INSHORE_COORDINATOR_LISTEN` names a fixed key, its parts joined by `_`;
//! `INSHORE_CATALOGS__LAKE__URI` names any key, its parts joined by `__`.

use super::keys;
use super::layers::Layers;
use super::value::Source;

const PREFIX: &str = "INSHORE_";

/// Variables with a meaning of their own, outside the configuration.
const RESERVED: &[&str] = &[
    "INSHORE_CONFIG",
    "INSHORE_CONNECT",
    "INSHORE_LOG",
    "INSHORE_HISTORY",
];

/// Lays the variables on top, in the order of their names.
pub fn add(layers: &mut Layers, variables: impl IntoIterator<Item = (String, String)>) {
    let mut variables: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !RESERVED.contains(&name.as_str()))
        .collect();
    variables.sort();
    for (name, text) in variables {
        let source = Source::Environment(name.clone());
        match path_of(layers, &name) {
            Some(path) => layers.set_text(path, &text, source),
            None if is_service_link(&name) => {}
            None => layers.problem(unknown(&name)),
        }
    }
}

/// The key a variable names.
fn path_of(layers: &Layers, variable: &str) -> Option<Vec<String>> {
    let rest = variable.strip_prefix(PREFIX)?;
    let fixed = keys::fixed_values()
        .into_iter()
        .map(|(path, _)| path)
        .find(|path| path.join("_").eq_ignore_ascii_case(rest));
    if fixed.is_some() {
        return fixed;
    }
    let mut path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
    if path.len() < 2 {
        return None;
    }
    // Variables cannot carry the case of a name that the file has spelled already.
    if let [section, name, ..] = path.as_mut_slice()
        && let Some(written) = layers
            .names(section)
            .into_iter()
            .find(|written| written.replace('-', "_").eq_ignore_ascii_case(name))
    {
        *name = written;
    }
    keys::kind_at(&path).is_some().then_some(path)
}

/// Kubernetes puts the addresses of services into the environment of every container; a service
/// called `inshore-coordinator` gives `INSHORE_COORDINATOR_PORT=tcp://…` and more.
fn is_service_link(variable: &str) -> bool {
    let links = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"];
    links.iter().any(|link| variable.ends_with(link))
        || variable.contains("_SERVICE_PORT_")
        || variable.contains("_TCP")
        || variable.contains("_UDP")
}

fn unknown(variable: &str) -> String {
    let known: Vec<String> = keys::fixed_values()
        .into_iter()
        .map(|(path, _)| format!("{PREFIX}{}", path.join("_").to_uppercase()))
        .chain(RESERVED.iter().map(|name| (*name).to_owned()))
        .collect();
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(variable, name), name))
        .min()
        .filter(|(distance, _)| *distance <= variable.len() / 3);
    let hint = near.map_or_else(
        || "sections with names of yours are written INSHORE_CATALOGS__<NAME>__<KEY>".to_owned(),
        |(_, name)| format!("did you mean `{name}`?"),
    );
    format!("unknown environment variable `{variable}`; {hint}")
}
