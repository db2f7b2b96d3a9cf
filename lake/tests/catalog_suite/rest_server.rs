//! A small REST catalog over real metadata files: it checks requirements, applies updates, and has
//! faults on demand.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use iceberg::spec::{
    FormatVersion, Schema, SortOrder, TableMetadata, TableMetadataBuilder, UnboundPartitionSpec,
};
use iceberg::{TableCreation, TableRequirement, TableUpdate};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::http::{Request, Response, Server, serve};

/// What happens to a commit instead of what should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The answer is 409, and nothing is applied.
    Conflict,
    /// It is applied, and the answer is 409: something sent it twice.
    ConflictAfter,
    /// It is applied, and the answer is this status.
    StatusAfter(u16),
    /// Nothing is applied, and the answer is this status.
    StatusBefore(u16),
    /// It is applied, and the connection closed.
    DropAfter,
    /// Nothing is applied, and the connection closed.
    DropBefore,
    /// Nothing is applied, another writer rolls back to the snapshot before, and the connection is
    /// closed.
    DropBeforeOther,
}

/// A table or a view by its namespace and name.
type Name = (String, String);

#[derive(Default)]
pub struct Catalog {
    folder: PathBuf,
    namespaces: Vec<String>,
    /// With the locations of the metadata files.
    pub tables: BTreeMap<Name, (String, TableMetadata)>,
    pub views: BTreeMap<Name, Value>,
    /// Whether views are among the endpoints.
    pub has_views: bool,
    /// Locations of tables whose files were to be deleted.
    pub purged: Vec<String>,
    /// For the next commits of tables, and for the next that are dropped.
    pub faults: VecDeque<Fault>,
    /// Method and path of every request.
    pub seen: Vec<String>,
    /// Bodies of all commits of tables.
    pub commits: Vec<Value>,
}

pub type Shared = Arc<Mutex<Catalog>>;

/// Serves a catalog with its files in `folder`.
pub async fn start(folder: &Path) -> (Server, Shared) {
    let catalog = Catalog {
        folder: folder.to_owned(),
        has_views: true,
        ..Catalog::default()
    };
    let shared = Arc::new(Mutex::new(catalog));
    let state = Arc::clone(&shared);
    let server = serve(move |request| state.lock().unwrap().answer(&request)).await;
    (server, shared)
}

type Answer = Result<Value, Refusal>;

struct Refusal(u16, &'static str, String);

fn refuse<T>(status: u16, kind: &'static str, message: impl ToString) -> Result<T, Refusal> {
    Err(Refusal(status, kind, message.to_string()))
}

impl Catalog {
    fn answer(&mut self, request: &Request) -> Response {
        self.seen
            .push(format!("{} {}", request.method, request.path));
        let path = request.path.strip_prefix("/v1/").unwrap_or_default();
        let parts: Vec<String> = path.split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match self.route(request, &parts, &body) {
            Ok(Value::Null) => Response {
                status: 204,
                body: vec![],
            },
            Ok(value) => Response::json(200, &value),
            Err(Refusal(status, kind, message)) => {
                let error = json!({"message": message, "type": kind, "code": status});
                Response::json(status, &json!({"error": error}))
            }
        }
    }

    fn route(&mut self, request: &Request, parts: &[&str], body: &Value) -> Answer {
        match (request.method.as_str(), parts) {
            ("GET", ["config"]) => Ok(self.config()),
            ("GET", ["namespaces"]) => Ok(self.list_namespaces(request)),
            ("POST", ["namespaces"]) => self.create_namespace(body),
            ("DELETE", ["namespaces", namespace]) => self.drop_namespace(namespace),
            ("POST", ["tables", "rename"]) => self.rename(body),
            ("GET", ["namespaces", namespace, "tables"]) => {
                self.check_namespace(namespace)?;
                Ok(identifiers(self.tables.keys(), namespace))
            }
            ("POST", ["namespaces", namespace, "tables"]) => self.create(namespace, body),
            (method, ["namespaces", namespace, "tables", table]) => {
                let name = ((*namespace).to_owned(), (*table).to_owned());
                match method {
                    "GET" => self.load(&name),
                    "POST" => self.commit_or_fail(&name, body),
                    "DELETE" => self.drop_table(&name, request),
                    _ => refuse(405, "Method", "no such method"),
                }
            }
            (method, ["namespaces", namespace, "views", rest @ ..]) if self.has_views => {
                self.view(method, namespace, rest, body)
            }
            _ => refuse(404, "NoSuchRoute", "no such route"),
        }
    }

    fn config(&self) -> Value {
        let mut endpoints = vec![
            "GET /v1/{prefix}/namespaces",
            "POST /v1/{prefix}/namespaces/{namespace}/tables",
            "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
        ];
        if self.has_views {
            endpoints.extend([
                "GET /v1/{prefix}/namespaces/{namespace}/views",
                "GET /v1/{prefix}/namespaces/{namespace}/views/{view}",
                "POST /v1/{prefix}/namespaces/{namespace}/views",
                "POST /v1/{prefix}/namespaces/{namespace}/views/{view}",
                "DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}",
            ]);
        }
        json!({"defaults": {}, "overrides": {}, "endpoints": endpoints})
    }

    fn check_namespace(&self, namespace: &str) -> Result<(), Refusal> {
        match self.namespaces.iter().any(|known| known == namespace) {
            true => Ok(()),
            false => refuse(404, "NoSuchNamespaceException", namespace),
        }
    }

    fn list_namespaces(&self, request: &Request) -> Value {
        let parent = request.query.get("parent").cloned().unwrap_or_default();
        let parent: Vec<&str> = parent.split('\u{1f}').filter(|p| !p.is_empty()).collect();
        let mut found: Vec<Vec<&str>> = self
            .namespaces
            .iter()
            .map(|namespace| namespace.split('.').collect::<Vec<_>>())
            .filter(|levels| levels.len() == parent.len() + 1 && levels.starts_with(&parent))
            .collect();
        found.sort();
        json!({"namespaces": found})
    }

    fn create_namespace(&mut self, body: &Value) -> Answer {
        let levels: Vec<String> = serde_json::from_value(body["namespace"].clone()).unwrap();
        let namespace = levels.join(".");
        if self.namespaces.contains(&namespace) {
            return refuse(409, "AlreadyExistsException", namespace);
        }
        self.namespaces.push(namespace);
        Ok(json!({"namespace": levels, "properties": {}}))
    }

    fn drop_namespace(&mut self, namespace: &str) -> Answer {
        self.check_namespace(namespace)?;
        let below = format!("{namespace}.");
        let full = self.tables.keys().any(|(n, _)| n == namespace)
            || self.namespaces.iter().any(|n| n.starts_with(&below));
        if full {
            return refuse(409, "NamespaceNotEmptyException", namespace);
        }
        self.namespaces.retain(|known| known != namespace);
        Ok(Value::Null)
    }

    /// Closes the connection for a fault, done before that or not.
    fn drop_table(&mut self, name: &Name, request: &Request) -> Answer {
        let fault = self.faults.pop_front();
        if fault == Some(Fault::DropBefore) {
            return refuse(0, "Fault", "");
        }
        let Some((_, metadata)) = self.tables.remove(name) else {
            return missing(name);
        };
        if request.query.get("purgeRequested").map(String::as_str) == Some("true") {
            self.purged.push(metadata.location().to_owned());
        }
        match fault {
            Some(Fault::DropAfter) => refuse(0, "Fault", ""),
            _ => Ok(Value::Null),
        }
    }

    fn rename(&mut self, body: &Value) -> Answer {
        let name = |value: &Value| -> Name {
            let levels: Vec<String> = serde_json::from_value(value["namespace"].clone()).unwrap();
            (levels.join("."), value["name"].as_str().unwrap().to_owned())
        };
        let (from, to) = (name(&body["source"]), name(&body["destination"]));
        if !self.tables.contains_key(&from) {
            return missing(&from);
        }
        if self.tables.contains_key(&to) {
            return refuse(409, "AlreadyExistsException", to.1);
        }
        let table = self.tables.remove(&from).unwrap();
        self.tables.insert(to, table);
        Ok(Value::Null)
    }

    fn create(&mut self, namespace: &str, body: &Value) -> Answer {
        self.check_namespace(namespace)?;
        let table = body["name"].as_str().unwrap().to_owned();
        let name = (namespace.to_owned(), table);
        if self.tables.contains_key(&name) {
            return refuse(409, "AlreadyExistsException", name.1);
        }
        let get = |key: &str| body.get(key).cloned();
        let mut properties: HashMap<String, String> =
            serde_json::from_value(get("properties").unwrap_or(json!({}))).unwrap();
        let version = properties.remove("format-version");
        let location = get("location").and_then(|v| v.as_str().map(str::to_owned));
        let creation = TableCreation::builder()
            .name(name.1.clone())
            .schema(serde_json::from_value(body["schema"].clone()).unwrap())
            .partition_spec_opt(get("partition-spec").map(|v| serde_json::from_value(v).unwrap()))
            .sort_order_opt(get("write-order").map(|v| serde_json::from_value(v).unwrap()))
            .location(location.unwrap_or_else(|| self.location(&name)))
            .properties(properties)
            .format_version(version_of(version.as_deref()))
            .build();
        let built = TableMetadataBuilder::from_table_creation(creation).unwrap();
        let metadata = built.build().unwrap().metadata;
        if body["stage-create"] == json!(true) {
            return Ok(json!({"metadata": metadata, "config": {"s3.secret": "vended"}}));
        }
        self.store(&name, metadata);
        self.load(&name)
    }

    fn location(&self, (namespace, table): &Name) -> String {
        let namespace = namespace.replace('.', "/");
        format!("file://{}/{namespace}/{table}", self.folder.display())
    }

    fn store(&mut self, name: &Name, metadata: TableMetadata) {
        let folder = format!("{}/metadata", metadata.location());
        let number = metadata.metadata_log().len();
        let location = format!(
            "{folder}/{number:05}-{}.metadata.json",
            uuid::Uuid::new_v4()
        );
        let path = location.strip_prefix("file://").unwrap();
        std::fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        std::fs::write(path, serde_json::to_vec(&metadata).unwrap()).unwrap();
        self.tables.insert(name.clone(), (location, metadata));
    }

    fn load(&self, name: &Name) -> Answer {
        let Some((location, metadata)) = self.tables.get(name) else {
            return missing(name);
        };
        Ok(json!({"metadata-location": location, "metadata": metadata}))
    }

    fn commit_or_fail(&mut self, name: &Name, body: &Value) -> Answer {
        self.commits.push(body.clone());
        let conflict = || refuse(409, "CommitFailedException", "a fault");
        // Status 0 closes the connection.
        match self.faults.pop_front() {
            None => self.commit(name, body),
            Some(Fault::Conflict) => conflict(),
            Some(Fault::ConflictAfter) => self.commit(name, body).and_then(|_| conflict()),
            Some(Fault::StatusAfter(status)) => {
                self.commit(name, body)?;
                refuse(status, "Fault", "a fault afterwards")
            }
            Some(Fault::StatusBefore(status)) => refuse(status, "Fault", "a fault before"),
            Some(Fault::DropAfter) => {
                self.commit(name, body)?;
                refuse(0, "Fault", "")
            }
            Some(Fault::DropBefore) => refuse(0, "Fault", ""),
            Some(Fault::DropBeforeOther) => {
                let (_, metadata) = &self.tables[name];
                let parent = metadata.current_snapshot().unwrap().parent_snapshot_id();
                let back = json!({"action": "set-snapshot-ref", "ref-name": "main",
                    "type": "branch", "snapshot-id": parent});
                self.commit(name, &json!({"requirements": [], "updates": [back]}))?;
                refuse(0, "Fault", "")
            }
        }
    }

    fn commit(&mut self, name: &Name, body: &Value) -> Answer {
        let requirements: Vec<TableRequirement> =
            serde_json::from_value(body["requirements"].clone()).unwrap();
        let updates: Vec<TableUpdate> = serde_json::from_value(body["updates"].clone()).unwrap();
        let found = self.tables.get(name).cloned();
        let before = found.as_ref().map(|(_, metadata)| metadata);
        if before.is_none() && !requirements.contains(&TableRequirement::NotExist) {
            return missing(name);
        }
        for requirement in &requirements {
            if let Err(error) = requirement.check(before) {
                return refuse(409, "CommitFailedException", error);
            }
        }
        let (mut builder, updates) = match found {
            Some((location, metadata)) => (metadata.into_builder(Some(location)), updates),
            None => made(updates),
        };
        for update in updates {
            builder = match update.apply(builder) {
                Ok(builder) => builder,
                Err(error) => return refuse(400, "ValidationException", error),
            };
        }
        match builder.build() {
            Ok(built) => self.store(name, built.metadata),
            Err(error) => return refuse(400, "ValidationException", error),
        }
        self.load(name)
    }

    fn view(&mut self, method: &str, namespace: &str, rest: &[&str], body: &Value) -> Answer {
        self.check_namespace(namespace)?;
        let name = |view: &str| (namespace.to_owned(), view.to_owned());
        match (method, rest) {
            ("GET", []) => Ok(identifiers(self.views.keys(), namespace)),
            ("POST", []) => {
                let name = name(body["name"].as_str().unwrap());
                if self.views.contains_key(&name) || self.tables.contains_key(&name) {
                    return refuse(409, "AlreadyExistsException", name.1);
                }
                let metadata = json!({
                    "view-uuid": uuid::Uuid::new_v4(),
                    "format-version": 1,
                    "location": self.location(&name),
                    "schemas": [body["schema"]],
                    "current-version-id": body["view-version"]["version-id"],
                    "versions": [body["view-version"]],
                    "version-log": [],
                    "properties": body["properties"],
                });
                self.views.insert(name.clone(), metadata);
                self.load_view(&name)
            }
            ("GET", [view]) => self.load_view(&name(view)),
            ("POST", [view]) => self.replace_view(&name(view), body),
            ("DELETE", [view]) => match self.views.remove(&name(view)) {
                Some(_) => Ok(Value::Null),
                None => refuse(404, "NoSuchViewException", view),
            },
            _ => refuse(405, "Method", "no such method"),
        }
    }

    fn load_view(&self, name: &Name) -> Answer {
        match self.views.get(name) {
            Some(metadata) => {
                Ok(json!({"metadata-location": "file:///view.json", "metadata": metadata}))
            }
            None => refuse(404, "NoSuchViewException", &name.1),
        }
    }

    fn replace_view(&mut self, name: &Name, body: &Value) -> Answer {
        let Some(view) = self.views.get_mut(name) else {
            return refuse(404, "NoSuchViewException", &name.1);
        };
        for requirement in body["requirements"].as_array().unwrap() {
            if requirement["type"] != "assert-view-uuid" || requirement["uuid"] != view["view-uuid"]
            {
                return refuse(409, "CommitFailedException", "another view");
            }
        }
        for update in body["updates"].as_array().unwrap() {
            match update["action"].as_str().unwrap() {
                "add-schema" => {
                    let mut schema = update["schema"].clone();
                    schema["schema-id"] = json!(view["schemas"].as_array().unwrap().len());
                    view["schemas"].as_array_mut().unwrap().push(schema);
                }
                "add-view-version" => {
                    let mut version = update["view-version"].clone();
                    if version["schema-id"] == json!(-1) {
                        version["schema-id"] = json!(view["schemas"].as_array().unwrap().len() - 1);
                    }
                    view["versions"].as_array_mut().unwrap().push(version);
                }
                "set-current-view-version" => {
                    let versions = view["versions"].as_array().unwrap();
                    assert_eq!(update["view-version-id"], json!(-1));
                    view["current-version-id"] = versions.last().unwrap()["version-id"].clone();
                }
                "set-properties" => {
                    for (key, value) in update["updates"].as_object().unwrap() {
                        view["properties"][key] = value.clone();
                    }
                }
                other => return refuse(400, "BadRequestException", other),
            }
        }
        self.load_view(name)
    }
}

/// A new table, and the updates that are left.
fn made(updates: Vec<TableUpdate>) -> (TableMetadataBuilder, Vec<TableUpdate>) {
    let (mut schema, mut spec, mut order) = (None::<Schema>, None, None::<SortOrder>);
    let (mut uuid, mut location) = (None, None);
    let mut version = FormatVersion::V1;
    let mut rest = vec![];
    for update in updates {
        match update {
            TableUpdate::AssignUuid { uuid: given } => uuid = Some(given),
            TableUpdate::UpgradeFormatVersion { format_version } => version = format_version,
            TableUpdate::AddSchema { schema: given } => schema = Some(given),
            TableUpdate::AddSpec { spec: given } => spec = Some(given),
            TableUpdate::AddSortOrder { sort_order } => order = Some(sort_order),
            TableUpdate::SetLocation { location: given } => location = Some(given),
            TableUpdate::SetCurrentSchema { .. }
            | TableUpdate::SetDefaultSpec { .. }
            | TableUpdate::SetDefaultSortOrder { .. } => {}
            other => rest.push(other),
        }
    }
    let spec: UnboundPartitionSpec = spec.unwrap();
    let builder = TableMetadataBuilder::new(
        schema.unwrap(),
        spec,
        order.unwrap(),
        location.unwrap(),
        version,
        HashMap::new(),
    );
    (builder.unwrap().assign_uuid(uuid.unwrap()), rest)
}

fn version_of(text: Option<&str>) -> FormatVersion {
    match text {
        Some("1") => FormatVersion::V1,
        Some("3") => FormatVersion::V3,
        _ => FormatVersion::V2,
    }
}

fn identifiers<'a>(names: impl Iterator<Item = &'a Name>, namespace: &str) -> Value {
    let levels: Vec<&str> = namespace.split('.').collect();
    let found: Vec<Value> = names
        .filter(|(known, _)| known == namespace)
        .map(|(_, name)| json!({"namespace": levels, "name": name}))
        .collect();
    json!({"identifiers": found})
}

fn missing<T>(name: &Name) -> Result<T, Refusal> {
    refuse(404, "NoSuchTableException", &name.1)
}

fn decode(segment: &str) -> String {
    let decoded = percent_decode_str(segment).decode_utf8().unwrap();
    decoded.replace('\u{1f}', ".")
}
