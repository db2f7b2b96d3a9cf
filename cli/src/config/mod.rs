//! The configuration: defaults, a TOML file, `INSHORE_*` variables and flags, merged in this
//! order and validated as a whole before anything starts.

mod environment;
mod keys;
mod layers;
mod value;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use indexmap::IndexMap;
use inshore_engine::EngineOptions;
use inshore_lake::config::{CatalogConfig, CatalogKind, LakeConfig, Secret};
use url::Url;

pub use self::layers::Layers;
use self::layers::{Entry, dotted};
use self::value::{Source, Value};
pub use self::value::{check_endpoint, quoted};

/// The configuration, typed and valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// The schema of unqualified table names.
    pub default_schema: Option<String>,
    /// `[coordinator]`.
    pub coordinator: CoordinatorConfig,
    /// `[worker]`.
    pub worker: WorkerConfig,
    /// `[engine]`.
    pub engine: EngineOptions,
    /// `[catalogs.*]`, the default one first.
    pub catalogs: IndexMap<String, CatalogConfig>,
    /// `[lakes.*]`.
    pub lakes: BTreeMap<String, LakeConfig>,
}

/// `[coordinator]`.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How long a query waits for a first worker.
    pub worker_wait: Duration,
    /// A worker silent for this long is out.
    pub heartbeat_timeout: Duration,
    /// How long a statement may take; no bound when absent.
    pub statement_timeout: Option<Duration>,
    /// A session that is not used for so long is closed.
    pub session_idle: Duration,
    /// How long queries may run on after the signal to stop.
    pub drain_timeout: Duration,
}

/// `[worker]`.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The coordinator's address.
    pub coordinator: Url,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How others reach this worker; what it bound when absent.
    pub advertise: Option<Url>,
    /// The site it stands in.
    pub site: Option<String>,
    /// How long tasks may run on after the signal to stop.
    pub drain_timeout: Duration,
}

/// A flag that overrides a key.
pub struct Override {
    /// The flag as the user types it.
    pub flag: &'static str,
    /// The key's path.
    pub key: &'static str,
    /// The flag's value, if it was given.
    pub text: Option<String>,
}

/// The file to read: the one named, else `INSHORE_CONFIG`, else `./inshore.toml` or
/// `/etc/inshore/inshore.toml` if present.
pub fn find_file(named: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = named {
        return Some(path.to_owned());
    }
    if let Some(path) = std::env::var_os("INSHORE_CONFIG").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    ["inshore.toml", "/etc/inshore/inshore.toml"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

/// Merges the layers.
///
/// # Errors
/// When the file cannot be read. What is wrong inside is among the layers' problems.
pub fn layers(file: Option<&Path>, overrides: Vec<Override>) -> anyhow::Result<Layers> {
    let mut layers = Layers::defaults();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
        layers.add_file(&path.display().to_string(), &text);
    }
    let variables = std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    environment::add(&mut layers, variables);
    for Override { flag, key, text } in overrides {
        if let Some(text) = text {
            let path = key.split('.').map(str::to_owned).collect();
            layers.set_text(path, &text, Source::Flag(flag));
        }
    }
    validate(&mut layers);
    Ok(layers)
}

/// The merged and valid configuration.
///
/// # Errors
/// When the file cannot be read, or with every problem in it, a line each.
pub fn load(file: Option<&Path>, overrides: Vec<Override>) -> anyhow::Result<Config> {
    let layers = layers(find_file(file).as_deref(), overrides)?;
    Config::from_layers(&layers)
}

/// Checks what no single value shows.
fn validate(layers: &mut Layers) {
    let mut problems = Vec::new();
    for name in layers.names("catalogs") {
        let text = |key: &str| text_of(layers, &["catalogs", &name, key]);
        let mut need = |key: &str, why: &str| {
            if text(key).is_none() {
                let path = dotted(&["catalogs".to_owned(), name.clone(), key.to_owned()]);
                problems.push(format!("`{path}` is missing: {why}"));
            }
        };
        match text("type").as_deref() {
            None => need("type", "one of sql, rest, memory"),
            Some("sql") => {
                need("uri", "such as sqlite:///var/lib/inshore/catalog.db");
                need(
                    "warehouse",
                    "where new tables go, such as file:///var/lib/inshore/warehouse",
                );
            }
            Some("rest") => need("uri", "the address of the REST catalog"),
            Some(_) => {}
        }
    }
    for name in layers.names("lakes") {
        let path = dotted(&["lakes".to_owned(), name.clone(), "root".to_owned()]);
        match text_of(layers, &["lakes", &name, "root"]).map(|root| Url::parse(&root)) {
            None => problems.push(format!("`{path}` is missing: a URL such as file:///data")),
            Some(Err(_)) => problems.push(format!(
                "`{path}` is not a URL such as file:///data, s3://bucket/prefix or gs://bucket"
            )),
            Some(Ok(_)) => {}
        }
    }
    if let Some(name) = text_of(layers, &["default_catalog"]) {
        let names = layers.names("catalogs");
        if !names.contains(&name) {
            problems.push(format!(
                "`default_catalog` names `{name}`, which is not configured; there is: {}",
                if names.is_empty() {
                    "no catalog".to_owned()
                } else {
                    names.join(", ")
                }
            ));
        }
    }
    for problem in problems {
        layers.problem(problem);
    }
}

fn text_of(layers: &Layers, path: &[&str]) -> Option<String> {
    let entry = layers.entries().find(|entry| entry.path == path)?;
    match &entry.value {
        Value::Text(text) => Some(text.clone()),
        Value::Count(_) | Value::Seconds(_) => None,
    }
}

impl Config {
    /// Reads typed values out of valid layers.
    ///
    /// # Errors
    /// With every problem of the layers, a line each.
    pub fn from_layers(layers: &Layers) -> anyhow::Result<Self> {
        if let [first, rest @ ..] = layers.problems() {
            let more: String = rest
                .iter()
                .map(|problem| format!("\n       {problem}"))
                .collect();
            bail!("{first}{more}");
        }
        let mut catalogs = IndexMap::new();
        for name in layers.names("catalogs") {
            let config = catalog(layers, &name)?;
            catalogs.insert(name, config);
        }
        if let Some(default) = text_of(layers, &["default_catalog"])
            && let Some(index) = catalogs.get_index_of(&default)
        {
            catalogs.move_index(index, 0);
        }
        let mut lakes = BTreeMap::new();
        for name in layers.names("lakes") {
            let config = LakeConfig {
                root: text_of(layers, &["lakes", &name, "root"]).unwrap_or_default(),
                properties: secrets(layers, "lakes", &name),
                map: table(layers, "lakes", &name, "map").collect(),
                base: text_of(layers, &["lakes", &name, "base"]),
            };
            lakes.insert(name, config);
        }
        Ok(Self {
            default_schema: text_of(layers, &["default_schema"]),
            coordinator: CoordinatorConfig {
                listen: listen(layers, "coordinator.listen")?,
                worker_wait: seconds(layers, "coordinator.worker_wait_seconds")?,
                heartbeat_timeout: seconds(layers, "coordinator.heartbeat_timeout_seconds")?,
                statement_timeout: match layers.get("coordinator.statement_timeout_seconds") {
                    Some(_) => Some(seconds(layers, "coordinator.statement_timeout_seconds")?),
                    None => None,
                },
                session_idle: seconds(layers, "coordinator.session_idle_seconds")?,
                drain_timeout: seconds(layers, "coordinator.drain_timeout_seconds")?,
            },
            worker: WorkerConfig {
                coordinator: Url::parse(&required(layers, "worker.coordinator")?)?,
                listen: listen(layers, "worker.listen")?,
                advertise: text_of(layers, &["worker", "advertise"])
                    .map(|text| Url::parse(&text))
                    .transpose()?,
                site: text_of(layers, &["worker", "site"]),
                drain_timeout: seconds(layers, "worker.drain_timeout_seconds")?,
            },
            engine: engine(layers),
            catalogs,
            lakes,
        })
    }
}

fn required(layers: &Layers, key: &str) -> anyhow::Result<String> {
    match layers.get(key) {
        Some(Entry {
            value: Value::Text(text),
            ..
        }) => Ok(text.clone()),
        _ => bail!("`{key}` is missing"),
    }
}

fn listen(layers: &Layers, key: &str) -> anyhow::Result<SocketAddr> {
    value::listen_address(&required(layers, key)?)
        .with_context(|| format!("`{key}` is not an address"))
}

fn seconds(layers: &Layers, key: &str) -> anyhow::Result<Duration> {
    match layers.get(key) {
        Some(Entry {
            value: Value::Seconds(seconds),
            ..
        }) => Ok(Duration::try_from_secs_f64(*seconds)?),
        _ => bail!("`{key}` is missing"),
    }
}

fn count(layers: &Layers, key: &str) -> Option<u64> {
    match layers.get(key)?.value {
        Value::Count(count) => Some(count),
        Value::Text(_) | Value::Seconds(_) => None,
    }
}

/// The engine's own choice, where the owner made none.
fn engine(layers: &Layers) -> EngineOptions {
    let mut options = EngineOptions::default();
    if let Some(partitions) = count(layers, "engine.target_partitions") {
        options.target_partitions = to_usize(partitions);
    }
    if let Some(rows) = count(layers, "engine.batch_size") {
        options.batch_size = to_usize(rows);
    }
    for (key, bytes) in [
        ("engine.memory_limit_bytes", &mut options.memory_limit_bytes),
        (
            "engine.manifest_cache_bytes",
            &mut options.manifest_cache_bytes,
        ),
        ("engine.footer_cache_bytes", &mut options.footer_cache_bytes),
        ("engine.delete_cache_bytes", &mut options.delete_cache_bytes),
        ("engine.bytes_per_task", &mut options.bytes_per_task),
    ] {
        *bytes = count(layers, key).unwrap_or(*bytes);
    }
    options
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn catalog(layers: &Layers, name: &str) -> anyhow::Result<CatalogConfig> {
    let text = |key: &str| text_of(layers, &["catalogs", name, key]);
    let secret = |key: &str| text(key).map(Secret::new);
    let kind = match text("type").as_deref() {
        Some("sql") => CatalogKind::Sql,
        Some("rest") => CatalogKind::Rest,
        Some("memory") => CatalogKind::Memory,
        _ => bail!("`catalogs.{name}.type` is missing"),
    };
    Ok(CatalogConfig {
        kind,
        uri: secret("uri"),
        warehouse: text("warehouse"),
        name: text("name"),
        token: secret("token"),
        credential: secret("credential"),
        oauth2_server_uri: text("oauth2_server_uri"),
        scope: text("scope"),
        properties: secrets(layers, "catalogs", name),
    })
}

fn secrets(layers: &Layers, section: &str, name: &str) -> BTreeMap<String, Secret> {
    table(layers, section, name, "properties")
        .map(|(property, text)| (property, Secret::new(text)))
        .collect()
}

/// The texts under a key of a named section whose own keys the owner chose.
fn table(
    layers: &Layers,
    section: &str,
    name: &str,
    key: &'static str,
) -> impl Iterator<Item = (String, String)> {
    layers.section(section, name).filter_map(move |entry| {
        match (entry.path.get(2..), &entry.value) {
            (Some([found, property]), Value::Text(text)) if found == key => {
                Some((property.clone(), text.clone()))
            }
            _ => None,
        }
    })
}

/// Every value with its source, a line each, without secrets.
pub fn effective(layers: &Layers) -> String {
    let lines: Vec<(String, String)> = layers
        .entries()
        .map(|entry| {
            let shown = value::shown(entry.kind, &entry.value);
            (
                format!("{} = {shown}", dotted(&entry.path)),
                entry.source.to_string(),
            )
        })
        .collect();
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .max()
        .unwrap_or(0)
        .min(72);
    lines
        .into_iter()
        .map(|(line, source)| format!("{line:<width$}  # {source}\n"))
        .collect()
}

#[cfg(test)]
mod tests;
