//! Keeping secrets out of what catalogs say.
//!
//! Messages of database drivers and HTTP clients may quote addresses, headers or replies. Every
//! text that leaves this module has the configured secrets taken out, whatever it was.

use url::Url;

use crate::Error;
use crate::config::CatalogConfig;

/// What stands where a secret stood.
const REDACTED: &str = "[redacted]";

/// Shorter property values are settings, not secrets, and would tear texts apart.
const MIN_SECRET_CHARS: usize = 6;

/// A catalog's name in messages, and its secrets.
#[derive(Clone)]
pub(super) struct Service {
    label: String,
    secrets: Vec<String>,
}

impl Service {
    pub fn new(key: &str, config: &CatalogConfig) -> Self {
        let mut secrets = Vec::new();
        let mut address = None;
        if let Some(uri) = &config.uri {
            let (shown, password) = split_password(uri.reveal());
            secrets.extend(password);
            address = Some(shown);
        }
        secrets.extend(config.token.iter().map(|s| s.reveal().to_owned()));
        if let Some(credential) = &config.credential {
            let text = credential.reveal();
            secrets.push(text.to_owned());
            secrets.extend(text.split_once(':').map(|(_, secret)| secret.to_owned()));
        }
        let properties = config.properties.values().map(|s| s.reveal());
        let long = properties.filter(|value| value.chars().count() >= MIN_SECRET_CHARS);
        secrets.extend(long.map(str::to_owned));
        secrets.retain(|secret| !secret.is_empty());
        // The longest first, so that a part does not spoil the whole.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let label = match address {
            Some(address) => format!("catalog {key} ({address})"),
            None => format!("catalog {key}"),
        };
        Self { label, secrets }
    }

    /// `catalog lake (postgresql://host/db)`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// `text` without the secrets.
    pub fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, REDACTED);
            }
        }
        text
    }

    /// The catalog is away or refuses for now.
    pub fn unavailable(&self, why: &str) -> Error {
        Error::Unavailable {
            service: self.label.clone(),
            why: self.scrub(why),
        }
    }

    /// The owner has to change something.
    pub fn misconfigured(&self, why: &str) -> Error {
        Error::Config(format!("{}: {}", self.label, self.scrub(why)))
    }
}

/// An address without user, password and query, and what was taken out of it.
fn split_password(uri: &str) -> (String, Vec<String>) {
    let Ok(mut url) = Url::parse(uri) else {
        return (String::from("address not shown"), vec![uri.to_owned()]);
    };
    let mut secrets: Vec<String> = url.password().map(str::to_owned).into_iter().collect();
    // The driver may quote the decoded form.
    secrets.extend(secrets.first().map(|encoded| {
        percent_encoding::percent_decode_str(encoded)
            .decode_utf8_lossy()
            .into_owned()
    }));
    let in_query = url
        .query_pairs()
        .filter(|(key, _)| key.contains("password") || key.contains("token"))
        .map(|(_, value)| value.into_owned());
    secrets.extend(in_query);
    // These fail for addresses without a host (sqlite), which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    (url.to_string(), secrets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{CatalogKind, Secret};

    #[test]
    fn no_secret_survives() {
        let config = CatalogConfig {
            uri: Some(Secret::new(
                "postgresql://me:p%40ss@host:1/db?sslpassword=hush",
            )),
            token: Some(Secret::new("tok-123456")),
            credential: Some(Secret::new("id:topsecret")),
            properties: BTreeMap::from([("header.X-Key".to_owned(), Secret::new("key-abcdef"))]),
            ..CatalogConfig::new(CatalogKind::Rest)
        };
        let service = Service::new("lake", &config);
        assert_eq!(service.label(), "catalog lake (postgresql://host:1/db)");
        let said = "p%40ss p@ss hush tok-123456 id:topsecret topsecret key-abcdef end";
        let text = service.unavailable(said).to_string();
        for secret in ["p%40ss", "p@ss", "hush", "tok-", "topsecret", "key-"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.ends_with("end"));
    }
}
