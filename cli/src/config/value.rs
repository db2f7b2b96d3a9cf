//! One configured value: its text checked against its kind, and shown without its secrets.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use url::Url;

use super::keys::Kind;

/// A value that has passed the check of its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text, an address, a URI, a word.
    Text(String),
    /// A whole number.
    Count(u64),
    /// Seconds.
    Seconds(f64),
}

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A line of the file.
    File {
        /// The file as it was named.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file} line {line}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Checks a text against a kind, as it comes from the environment, a flag or a quoted TOML value.
///
/// # Errors
/// What is wrong with it, without repeating a secret.
pub fn check(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Text | Kind::Secret | Kind::SecretUri if text.is_empty() => {
            Err("is empty; leave the key out instead".into())
        }
        Kind::Text | Kind::Secret | Kind::SecretUri => Ok(Value::Text(text.to_owned())),
        Kind::Choice(words) => {
            if words.contains(&text) {
                Ok(Value::Text(text.to_owned()))
            } else {
                Err(format!("`{text}` is none of {}", words.join(", ")))
            }
        }
        Kind::Count { min, max } => {
            let count = text.replace('_', "").parse::<u64>().ok();
            match count.filter(|count| (min..=max).contains(count)) {
                Some(count) => Ok(Value::Count(count)),
                None => Err(format!(
                    "`{text}` is not a whole number from {min} to {max}"
                )),
            }
        }
        Kind::Seconds => {
            let seconds = text.replace('_', "").parse::<f64>().ok();
            match seconds.filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0 * 365.0) {
                Some(seconds) => Ok(Value::Seconds(seconds)),
                None => Err(format!("`{text}` is not a number of seconds above 0")),
            }
        }
        Kind::Listen => check_listen(text),
        Kind::Endpoint => {
            check_endpoint(text)?;
            Ok(Value::Text(text.to_owned()))
        }
    }
}

/// `host:port` on loopback: everything else needs TLS, and there is none to configure yet.
fn check_listen(text: &str) -> Result<Value, String> {
    let address = listen_address(text).ok_or_else(|| {
        format!("`{text}` is not an IP address (or localhost) and a port, such as 127.0.0.1:32010")
    })?;
    if address.ip().is_loopback() {
        Ok(Value::Text(text.to_owned()))
    } else {
        Err(format!(
            "`{text}` is reachable from other machines, which is refused without TLS; set it to \
             a loopback address such as 127.0.0.1:{}",
            address.port()
        ))
    }
}

/// The address that a text stands for.
pub fn listen_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into()),
        None => text.parse().ok(),
    }
}

/// A `grpc://host:port` or `grpc+tls://host:port` address.
///
/// # Errors
/// What is wrong with it.
pub fn check_endpoint(text: &str) -> Result<Url, String> {
    let wrong = || format!("`{text}` is not of the form grpc://host:port or grpc+tls://host:port");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let scheme = matches!(url.scheme(), "grpc" | "grpc+tcp" | "grpc+tls");
    let bare = url.path().is_empty() || url.path() == "/";
    if scheme && bare && url.host_str().is_some() && url.port().is_some() {
        Ok(url)
    } else {
        Err(wrong())
    }
}

/// The value as TOML, its secrets left out.
pub fn shown(kind: Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Secret, _) => "\"[redacted]\"".into(),
        (Kind::SecretUri, Value::Text(text)) => quoted(&without_secrets(text)),
        (_, Value::Text(text)) => quoted(text),
        (_, Value::Count(count)) => count.to_string(),
        (_, Value::Seconds(seconds)) => seconds.to_string(),
    }
}

/// A URI without its password and its query's values; `[redacted]` when it cannot be parsed.
fn without_secrets(uri: &str) -> String {
    let Ok(mut url) = Url::parse(uri) else {
        return "[redacted]".into();
    };
    if url.password().is_some() && url.set_password(Some("redacted")).is_err() {
        return "[redacted]".into();
    }
    if url.query().is_some() {
        url.set_query(Some("redacted"));
    }
    url.to_string()
}

/// A TOML basic string.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_bound_without_tls() {
        for good in ["127.0.0.1:0", "[::1]:32010", "localhost:1", "127.9.9.9:80"] {
            assert!(check(Kind::Listen, good).is_ok(), "{good}");
        }
        for bad in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "host:1",
            "127.0.0.1",
            "localhost:x",
        ] {
            assert!(check(Kind::Listen, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoints_are_checked() {
        for good in ["grpc://h:1", "grpc+tls://h:1", "grpc://[::1]:32010"] {
            assert!(check(Kind::Endpoint, good).is_ok(), "{good}");
        }
        for bad in [
            "h:1",
            "http://h:1",
            "grpc://h",
            "grpc://h:1/path",
            "grpc://",
        ] {
            assert!(check(Kind::Endpoint, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_shown_uri_has_no_password() {
        let value = Value::Text("postgresql://me:hunter2@host/db?sslpassword=x".into());
        let text = shown(Kind::SecretUri, &value);
        assert_eq!(text, "\"postgresql://me:redacted@host/db?redacted\"");
        let text = shown(Kind::SecretUri, &Value::Text("password=hunter2".into()));
        assert_eq!(text, "\"[redacted]\"");
        let value = Value::Text("sqlite:///var/lake/catalog.db".into());
        assert_eq!(
            shown(Kind::SecretUri, &value),
            "\"sqlite:///var/lake/catalog.db\""
        );
    }
}
