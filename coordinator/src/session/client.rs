//! Who opened a session, as far as it said so.

use std::sync::Arc;

/// Longest name that is remembered, in bytes.
const NAME_MAX_BYTES: usize = 200;

/// The client of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The user's name, as the client gave it.
    pub user: Option<Arc<str>>,
    /// Where its first request came from.
    pub address: Option<String>,
    /// What its program calls itself.
    pub name: Option<String>,
}

impl Client {
    /// A client whose names came over the wire: they are cut, and hold no control characters.
    pub fn new(user: Option<&str>, address: Option<String>, name: Option<&str>) -> Self {
        Self {
            user: user.map(|user| clean(user).into()),
            address,
            name: name.map(clean),
        }
    }
}

fn clean(text: &str) -> String {
    let mut cleaned = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if cleaned.len() + c.len_utf8() > NAME_MAX_BYTES {
            break;
        }
        cleaned.push(c);
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_clean() {
        let long = "ä\n".repeat(1_000);
        let client = Client::new(Some("me"), None, Some(&long));
        assert_eq!(client.user.as_deref(), Some("me"));
        let name = client.name.unwrap_or_default();
        assert!(
            name.starts_with("ä ä ") && name.len() <= NAME_MAX_BYTES,
            "{name}"
        );
    }
}
