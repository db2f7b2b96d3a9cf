//! REST catalogs: the protocol over a real socket, backed by real metadata files.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::http::{Request, Response, Server, form, serve};
use crate::support::{append, catalog, count, create, open, refused_column, sqlite};
use inshore_lake::config::{CatalogConfig, CatalogKind, Secret};
use inshore_lake::{Error, TableName};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

const PREFIX: &str = "/v1/ware%20house/";
const SECRET: &str = "hush-hush";

/// What the catalog service knows.
#[derive(Default)]
struct Service {
    /// Metadata location by namespace and table.
    tables: BTreeMap<(String, String), String>,
    /// The only token that is taken now; counts the tokens handed out.
    tokens: u32,
    seen: Vec<String>,
}

impl Service {
    fn answer(&mut self, request: &Request) -> Response {
        self.seen
            .push(format!("{} {}", request.method, request.path));
        if request.path == "/v1/oauth/tokens" {
            let form = form(&request.body);
            if form["client_secret"] != SECRET {
                // Services do quote what they were sent.
                let said = format!("client {} gave {SECRET}x", form["client_id"]);
                return refuse(401, &said);
            }
            assert_eq!(form["grant_type"], "client_credentials");
            assert_eq!(form["client_id"], "me");
            assert_eq!(form["scope"], "lake:read");
            self.tokens += 1;
            let token = format!("token-{}", self.tokens);
            return Response::json(200, &json!({"access_token": token, "token_type": "bearer"}));
        }
        let authorization = request.headers.get("authorization").map(String::as_str);
        if authorization != Some(&format!("Bearer token-{}", self.tokens)) {
            return refuse(401, "token expired");
        }
        assert_eq!(request.headers["x-department"], "blue");
        if request.path == "/v1/config" {
            assert_eq!(request.query["warehouse"], "ware house");
            return Response::json(
                200,
                &json!({"defaults": {}, "overrides": {"prefix": "ware%20house"}}),
            );
        }
        let Some(path) = request.path.strip_prefix(PREFIX) else {
            return refuse(404, "no such route");
        };
        match *path.split('/').collect::<Vec<_>>() {
            ["namespaces"] => self.namespaces(request),
            ["namespaces", namespace, "tables"] => self.tables(&decode(namespace)),
            ["namespaces", namespace, "tables", table] => {
                self.table(&decode(namespace), &decode(table))
            }
            _ => refuse(404, "no such route"),
        }
    }

    /// One level at a time, one namespace a page.
    fn namespaces(&self, request: &Request) -> Response {
        let parent = request.query.get("parent").cloned();
        let parent: Vec<&str> = parent.iter().flat_map(|p| p.split('\u{1f}')).collect();
        let mut found: Vec<Vec<&str>> = self
            .tables
            .keys()
            .map(|(namespace, _)| namespace.split('.').collect::<Vec<_>>())
            .filter(|levels| levels.len() > parent.len() && levels.starts_with(&parent))
            .map(|levels| levels[..=parent.len()].to_vec())
            .collect();
        found.dedup();
        let page: usize = request
            .query
            .get("pageToken")
            .map_or(0, |t| t.parse().unwrap());
        let next = (page + 1 < found.len()).then(|| (page + 1).to_string());
        let here: Vec<_> = found.get(page).into_iter().collect();
        Response::json(200, &json!({"namespaces": here, "next-page-token": next}))
    }

    fn tables(&self, namespace: &str) -> Response {
        let named = self.tables.keys().filter(|(n, _)| n == namespace);
        let levels: Vec<&str> = namespace.split('.').collect();
        let found: Vec<Value> = named
            .map(|(_, table)| json!({"namespace": levels, "name": table}))
            .collect();
        match found.is_empty() {
            true => refuse(404, "no such namespace"),
            false => Response::json(200, &json!({"identifiers": found})),
        }
    }

    fn table(&self, namespace: &str, table: &str) -> Response {
        let key = (namespace.to_owned(), table.to_owned());
        let Some(location) = self.tables.get(&key) else {
            return refuse(404, "no such table");
        };
        let file = std::fs::read(location.strip_prefix("file://").unwrap()).unwrap();
        let metadata: Value = serde_json::from_slice(&file).unwrap();
        let vended = json!({"s3.secret-access-key": "vended-secret"});
        Response::json(
            200,
            &json!({"metadata-location": location, "metadata": metadata, "config": vended}),
        )
    }
}

fn decode(segment: &str) -> String {
    let decoded = percent_decode_str(segment).decode_utf8().unwrap();
    decoded.replace('\u{1f}', ".")
}

fn refuse(status: u16, message: &str) -> Response {
    let error = json!({"message": message, "type": "Refused", "code": status});
    Response::json(status, &json!({"error": error}))
}

async fn start() -> (Server, Arc<Mutex<Service>>) {
    let service = Arc::new(Mutex::new(Service::default()));
    let state = Arc::clone(&service);
    let server = serve(move |request| state.lock().unwrap().answer(&request)).await;
    (server, service)
}

fn config(server: &Server) -> CatalogConfig {
    let mut config = catalog(CatalogKind::Rest, Some(&server.uri), Some("ware house"));
    config.credential = Some(Secret::new(format!("me:{SECRET}")));
    config.scope = Some("lake:read".to_owned());
    let header = ("header.X-Department".to_owned(), Secret::new("blue"));
    config.properties = BTreeMap::from([header]);
    config
}

#[tokio::test]
async fn tables_of_a_rest_catalog_are_listed_loaded_and_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let files = open(sqlite(dir.path()), dir.path());
    let writer = files.writer("lake").await.unwrap();
    let (server, service) = start().await;
    for (namespace, table) in [("a", "t"), ("a.b x", "50% + ü/?#"), ("c", "t")] {
        create(&writer, namespace, "real", &[]).await;
        let written = append(&writer, namespace, "real", 4).await;
        let location = written.metadata_location().unwrap().to_owned();
        let key = (namespace.to_owned(), table.to_owned());
        service.lock().unwrap().tables.insert(key, location);
    }

    let catalogs = open(config(&server), dir.path());
    let namespaces = catalogs.namespaces("lake").await.unwrap();
    assert_eq!(namespaces, ["a", "a.b x", "c"]);
    assert_eq!(
        catalogs.tables("lake", "a.b x").await.unwrap(),
        ["50% + ü/?#"]
    );
    assert_eq!(catalogs.all_tables("lake").await.unwrap().len(), 3);
    let odd = TableName::new("lake", "a.b x", "50% + ü/?#");
    let table = catalogs.load(&odd).await.unwrap().unwrap();
    assert_eq!(count(&table).await, 4);
    assert_eq!(table.identifier(), &odd.to_ident().unwrap());
    // Neither our secrets nor vended ones travel with a table.
    assert!(table.file_io().config().props().is_empty());

    let newer = append(&writer, "a.b x", "real", 1).await;
    let location = newer.metadata_location().unwrap().to_owned();
    let key = (odd.namespace.clone(), odd.table.clone());
    service.lock().unwrap().tables.insert(key, location);
    // The token expires as well: a new one is fetched without anybody noticing.
    service.lock().unwrap().tokens += 1;
    let table = catalogs.load(&odd).await.unwrap().unwrap();
    assert_eq!(count(&table).await, 5);

    let missing = TableName::new("lake", "c", "tt");
    assert!(catalogs.load(&missing).await.unwrap().is_none());
    let said = catalogs.not_found(&missing).await.to_string();
    assert_eq!(said, "table lake.c.tt not found; did you mean t?");
    let said = catalogs.tables("lake", "cc").await.unwrap_err().to_string();
    assert_eq!(said, "namespace lake.cc not found; did you mean c?");
}

#[tokio::test]
async fn a_fixed_token_is_sent_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (server, service) = start().await;
    service.lock().unwrap().tokens = 77;
    let mut config = config(&server);
    config.credential = None;
    config.token = Some(Secret::new("token-77"));
    let catalogs = open(config.clone(), dir.path());
    assert!(catalogs.namespaces("lake").await.unwrap().is_empty());

    config.token = Some(Secret::new("token-old"));
    let error = open(config, dir.path())
        .namespaces("lake")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    let said = error.to_string();
    assert!(
        said.contains("token expired") && said.contains("401"),
        "{said}"
    );
    assert!(!said.contains("token-old"), "{said}");
    let seen = service.lock().unwrap().seen.clone();
    assert!(
        !seen.iter().any(|request| request.contains("oauth")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn refusals_and_failures_name_the_catalog_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let (server, service) = start().await;
    let mut wrong = config(&server);
    wrong.credential = Some(Secret::new(format!("me:{SECRET}x")));
    let error = open(wrong, dir.path())
        .namespaces("lake")
        .await
        .unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, Error::Config(_)), "{said}");
    assert!(said.contains("catalog lake (http://127.0.0.1:"), "{said}");
    assert!(!said.contains(SECRET), "{said}");

    let broken = serve(|_| Response {
        status: 503,
        body: b"busy".to_vec(),
    })
    .await;
    let error = open(config(&broken), dir.path())
        .namespaces("lake")
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");

    let mut header = config(&server);
    let value = Secret::new("line\nbreak-secret");
    header.properties.insert("header.X-Key".to_owned(), value);
    let said = open(header, dir.path())
        .namespaces("lake")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("header.X-Key") && !said.contains("break"),
        "{said}"
    );

    let uri = server.uri.clone();
    drop(server);
    drop(service);
    tokio::task::yield_now().await;
    let gone = catalog(CatalogKind::Rest, Some(&uri), None);
    let error = open(gone, dir.path()).namespaces("lake").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let nowhere = catalog(CatalogKind::Rest, None, None);
    let error = open(nowhere, dir.path())
        .namespaces("lake")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
}

#[tokio::test]
async fn a_table_iceberg_rust_cannot_represent_names_the_column() {
    let dir = tempfile::tempdir().unwrap();
    let files = open(sqlite(dir.path()), dir.path());
    let writer = files.writer("lake").await.unwrap();
    let table = create(&writer, "a", "t", &[]).await;
    let location = table.metadata_location().unwrap().to_owned();
    let path = location.strip_prefix("file://").unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(
        path,
        text.replace("\"type\":\"string\"", "\"type\":\"variant\""),
    )
    .unwrap();

    let (server, service) = start().await;
    let key = ("a".to_owned(), "t".to_owned());
    service.lock().unwrap().tables.insert(key, location.clone());
    let catalogs = open(config(&server), dir.path());
    let name = TableName::new("lake", "a", "t");
    let table = catalogs.load(&name).await.unwrap().unwrap();
    let said = refused_column(&catalogs, table).await;
    assert!(
        said.contains("column name") && said.contains("variant"),
        "{said}"
    );
}
