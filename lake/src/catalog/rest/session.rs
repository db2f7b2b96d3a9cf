//! Requests of the REST catalog protocol: addresses, tokens, and what came back.
//!
//! iceberg-catalog-rest keeps its HTTP client to itself, and its commits cannot be made from
//! outside, so the requests are our own.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};
use url::Url;

use crate::catalog::scrub::Service;
use crate::config::{CatalogConfig, Secret};
use crate::error::innermost;
use crate::store::MAX_READ_BYTES;
use crate::{Error, Result};

/// How long connecting may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// What a path segment may hold as it is (RFC 3986, section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Between the levels of a namespace in a path, unless the service wants another text (OpenAPI,
/// parameter `namespace`).
const LEVEL_SEPARATOR: &str = "%1F";

/// The OAuth2 scope when none is configured.
const DEFAULT_SCOPE: &str = "catalog";

/// One catalog's service.
pub(super) struct Session {
    service: Service,
    client: Client,
    uri: String,
    warehouse: Option<String>,
    /// What the owner configured: tokens and credentials too.
    properties: HashMap<String, String>,
    settings: OnceCell<Settings>,
    token: Mutex<Option<String>>,
}

/// What holds for all requests after the service has told its configuration.
pub(super) struct Settings {
    /// With the version and the prefix, without a slash at its end.
    root: String,
    separator: String,
    headers: HeaderMap,
    /// The operations that the service has, as it lists them.
    endpoints: Option<Vec<String>>,
    pub properties: HashMap<String, String>,
}

impl Settings {
    /// Whether the service has an operation, such as `GET /v1/{prefix}/...`; none when it does not
    /// list them.
    pub fn has(&self, endpoint: &str) -> Option<bool> {
        let endpoints = self.endpoints.as_ref()?;
        Some(endpoints.iter().any(|listed| listed == endpoint))
    }
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Bytes,
}

/// No answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request did not reach the service.
    NotSent(Error),
    /// It may have.
    Lost(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(error) | Failure::Lost(error) => error,
        }
    }
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// `error.type` and `error.message` of the protocol's error answer, or OAuth2's (RFC 6749,
    /// section 5.2).
    fn error(&self) -> (Option<String>, Option<String>) {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match &body["error"] {
            Value::String(kind) => (Some(kind.clone()), text(&body["error_description"])),
            error => (text(&error["type"]), text(&error["message"])),
        }
    }

    /// `HTTP status 400: BadRequestException: what is wrong`.
    pub fn why(&self) -> String {
        let (kind, message) = self.error();
        let parts = [Some(format!("HTTP status {}", self.status)), kind, message];
        parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
    }
}

#[derive(Deserialize)]
struct ServiceConfig {
    #[serde(default)]
    defaults: HashMap<String, Option<String>>,
    #[serde(default)]
    overrides: HashMap<String, Option<String>>,
    endpoints: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

impl Session {
    pub fn new(config: &CatalogConfig, service: Service, deadline: Duration) -> Result<Self> {
        let properties = properties(config, &service)?;
        let uri = config.uri.as_ref().map(Secret::reveal).unwrap_or_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(deadline)
            .build()
            .map_err(|error| service.misconfigured(&error.to_string()))?;
        Ok(Self {
            service,
            client,
            uri: uri.trim_end_matches('/').to_owned(),
            warehouse: config.warehouse.clone(),
            token: Mutex::new(properties.get("token").cloned()),
            properties,
            settings: OnceCell::new(),
        })
    }

    pub fn service(&self) -> &Service {
        &self.service
    }

    /// What the owner configured, as iceberg-catalog-rest's client wants it.
    pub fn properties(&self) -> &HashMap<String, String> {
        &self.properties
    }

    /// The settings, asked for by the first request.
    pub async fn settings(&self) -> Result<&Settings> {
        self.settings.get_or_try_init(|| self.configure()).await
    }

    /// Sends a request to a path below the catalog's root: its segments, encoded.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let settings = self.settings().await.map_err(Failure::NotSent)?;
        let address = format!("{}/{path}", settings.root);
        let address = self.address(&address, query).map_err(Failure::NotSent)?;
        self.request(method, address, &settings.headers, body).await
    }

    /// A namespace as a path segment; none for a name that no catalog has.
    pub async fn namespace_segment(&self, namespace: &str) -> Result<Option<String>> {
        if namespace.is_empty() {
            return Ok(None);
        }
        let separator = &self.settings().await?.separator;
        let levels: Vec<String> = namespace.split('.').map(encode).collect();
        Ok(Some(levels.join(separator)))
    }

    /// An answer with a status that is no success, as an error.
    pub fn refused(&self, answer: &Answer) -> Error {
        let why = answer.why();
        match answer.status {
            401 | 403 | 419 => {
                let hint = "it refused us; check token, credential and scope";
                self.service.misconfigured(&format!("{hint} ({why})"))
            }
            408 | 425 | 429 | 500.. => self.service.unavailable(&why),
            _ => Error::Refused(
                self.service
                    .scrub(&format!("{}: {why}", self.service.label())),
            ),
        }
    }

    /// The content of an answer.
    pub fn parse<'a, T: Deserialize<'a>>(&self, answer: &'a Answer) -> Result<T> {
        serde_json::from_slice(&answer.body).map_err(|error| {
            let why = format!("its answer is not what the protocol says: {error}");
            self.service.unavailable(&why)
        })
    }

    async fn configure(&self) -> Result<Settings> {
        let headers = self.headers(&self.properties)?;
        let query: Vec<(&str, &str)> = self
            .warehouse
            .as_deref()
            .map(|warehouse| ("warehouse", warehouse))
            .into_iter()
            .collect();
        let address = self.address(&format!("{}/v1/config", self.uri), &query)?;
        let answer = self.request(Method::GET, address, &headers, None).await?;
        if !answer.is_ok() {
            return Err(self.refused(&answer));
        }
        let told: ServiceConfig = self.parse(&answer)?;
        let set = |(key, value): (String, Option<String>)| Some((key, value?));
        let mut properties: HashMap<_, _> = told.defaults.into_iter().filter_map(set).collect();
        properties.extend(self.properties.clone());
        properties.extend(told.overrides.into_iter().filter_map(set));
        if let Some(token) = properties.get("token") {
            self.token.lock().await.get_or_insert_with(|| token.clone());
        }
        let uri = properties.get("uri").unwrap_or(&self.uri);
        let mut root = format!("{}/v1", uri.trim_end_matches('/'));
        if let Some(prefix) = properties.get("prefix").filter(|prefix| !prefix.is_empty()) {
            root = format!("{root}/{prefix}");
        }
        let separator = properties.get("namespace-separator").cloned();
        Ok(Settings {
            root,
            separator: separator.unwrap_or_else(|| LEVEL_SEPARATOR.to_owned()),
            headers: self.headers(&properties)?,
            endpoints: told.endpoints,
            properties,
        })
    }

    fn address(&self, address: &str, query: &[(&str, &str)]) -> Result<Url> {
        let mut address = Url::parse(address).map_err(|error| {
            self.service
                .misconfigured(&format!("its uri is wrong: {error}"))
        })?;
        if !query.is_empty() {
            address.query_pairs_mut().extend_pairs(query);
        }
        Ok(address)
    }

    /// Headers of every request, those that the owner adds among them.
    fn headers(&self, properties: &HashMap<String, String>) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let given = properties.iter();
        for (name, value) in given.filter_map(|(key, v)| Some((key.strip_prefix("header.")?, v))) {
            let header = (HeaderName::try_from(name), HeaderValue::try_from(value));
            let (Ok(name), Ok(value)) = header else {
                let why = format!("property header.{name} is not a valid header");
                return Err(self.service.misconfigured(&why));
            };
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// Sends a request, once more with a new token when the old one is no longer taken: the service
    /// has not done it then.
    async fn request(
        &self,
        method: Method,
        address: Url,
        headers: &HeaderMap,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let body = body.map(Value::to_string);
        let mut renewed = false;
        loop {
            let token = self.token(headers, None).await.map_err(Failure::NotSent)?;
            let mut request = self
                .client
                .request(method.clone(), address.clone())
                .headers(headers.clone());
            if let Some(token) = &token {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            let answer = self.answer(request).await?;
            let expired = matches!(answer.status, 401 | 419);
            if renewed || !expired || !self.properties.contains_key("credential") {
                return Ok(answer);
            }
            renewed = true;
            let renewal = self.token(headers, token.as_deref()).await;
            renewal.map_err(Failure::NotSent)?;
        }
    }

    /// The token to be sent, if there is one; a new one when it is the `expired` one.
    async fn token(&self, headers: &HeaderMap, expired: Option<&str>) -> Result<Option<String>> {
        let mut token = self.token.lock().await;
        if token.is_some() && token.as_deref() != expired {
            return Ok(token.clone());
        }
        let Some(credential) = self.properties.get("credential") else {
            return Ok(token.clone());
        };
        *token = Some(self.exchange(credential, headers).await?);
        Ok(token.clone())
    }

    /// OAuth2's client credentials flow (RFC 6749, section 4.4).
    async fn exchange(&self, credential: &str, headers: &HeaderMap) -> Result<String> {
        let property = |key: &str| self.properties.get(key).map(String::as_str);
        let form = self.token_form(credential);
        let own = format!("{}/v1/oauth/tokens", self.uri);
        let address = self.address(property("oauth2-server-uri").unwrap_or(&own), &[])?;
        let mut headers = headers.clone();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let request = self.client.post(address).headers(headers);
        let answer = self.answer(request.body(form)).await?;
        if (400..500).contains(&answer.status) && answer.status != 429 {
            let why = format!(
                "it gave us no token; check credential and scope ({})",
                answer.why()
            );
            return Err(self.service.misconfigured(&why));
        }
        if !answer.is_ok() {
            return Err(self.refused(&answer));
        }
        let token: Token = self.parse(&answer)?;
        Ok(token.access_token)
    }

    fn token_form(&self, credential: &str) -> String {
        let property = |key: &str| self.properties.get(key).map(String::as_str);
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let secret = match credential.split_once(':') {
            Some((id, secret)) => {
                form.append_pair("client_id", id);
                secret
            }
            None => credential,
        };
        form.append_pair("client_secret", secret);
        form.append_pair("scope", property("scope").unwrap_or(DEFAULT_SCOPE));
        for key in ["audience", "resource"] {
            if let Some(value) = property(key) {
                form.append_pair(key, value);
            }
        }
        form.finish()
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
        let failed = |error: reqwest::Error| {
            let never_sent = error.is_connect() || error.is_builder() || error.is_redirect();
            // The address may hold a password.
            let error = error.without_url();
            let why = match innermost(&error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            };
            match never_sent {
                true => Failure::NotSent(self.service.unavailable(&why)),
                false => Failure::Lost(self.service.unavailable(&why)),
            }
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > MAX_READ_BYTES {
                let why = format!("its answer is longer than {MAX_READ_BYTES} bytes");
                return Err(Failure::Lost(self.service.unavailable(&why)));
            }
        }
        let body = body.freeze();
        Ok(Answer { status, body })
    }
}

/// A name as a path segment.
pub(super) fn encode(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// The separator between levels in a query parameter, which is encoded as a whole.
pub(super) fn plain_separator(settings: &Settings) -> String {
    percent_decode_str(&settings.separator)
        .decode_utf8_lossy()
        .into_owned()
}

/// The client's properties, checked.
fn properties(config: &CatalogConfig, service: &Service) -> Result<HashMap<String, String>> {
    let uri = config.uri.as_ref().map(Secret::reveal).unwrap_or_default();
    if !uri.starts_with("http://") && !uri.starts_with("https://") {
        return Err(service.misconfigured(
            "a catalog of type \"rest\" needs a uri that begins with https:// or http://",
        ));
    }
    for (key, value) in &config.properties {
        let Some(header) = key.strip_prefix("header.") else {
            continue;
        };
        if HeaderName::try_from(header).is_err() || HeaderValue::try_from(value.reveal()).is_err() {
            return Err(service.misconfigured(&format!("property {key} is not a valid header")));
        }
    }
    let given = config.properties.iter();
    let mut properties: HashMap<String, String> = given
        .map(|(key, value)| (key.clone(), value.reveal().to_owned()))
        .collect();
    let secret = |secret: &Option<Secret>| secret.as_ref().map(|s| s.reveal().to_owned());
    let named = [
        ("token", secret(&config.token)),
        ("credential", secret(&config.credential)),
        ("oauth2-server-uri", config.oauth2_server_uri.clone()),
        ("scope", config.scope.clone()),
    ];
    let named = named.into_iter();
    properties.extend(named.filter_map(|(key, value)| Some((key.to_owned(), value?))));
    Ok(properties)
}
