//! The options of a session: `catalog`, `schema`, and the settings that `SET` takes.

use std::collections::HashMap;

use crate::session::Session;
use crate::{Error, Result};

use super::messages::{
    GetSessionOptionsResult, OptionError, OptionProblem, OptionValue, SessionOptionValue,
    SetSessionOptionsRequest, SetSessionOptionsResult,
};

const CATALOG: &str = "catalog";
const SCHEMA: &str = "schema";

/// Sets options; those that cannot be set are named in the answer, and the others are set.
pub(super) async fn set(
    session: &Session,
    request: SetSessionOptionsRequest,
) -> SetSessionOptionsResult {
    let mut options: Vec<_> = request.session_options.into_iter().collect();
    // A schema is one of the catalog that comes with it.
    options.sort_by(|a, b| (a.0 != CATALOG, &a.0).cmp(&(b.0 != CATALOG, &b.0)));
    let mut errors = HashMap::new();
    for (name, value) in options {
        if let Err(problem) = set_one(session, &name, value.value).await {
            let value = problem as i32;
            errors.insert(name, OptionError { value });
        }
    }
    SetSessionOptionsResult { errors }
}

async fn set_one(
    session: &Session,
    name: &str,
    value: Option<OptionValue>,
) -> Result<(), OptionProblem> {
    let text = match value {
        None => return session.reset_option(name).map_err(|e| problem(&e)),
        Some(OptionValue::Text(text)) => text,
        Some(OptionValue::Bool(value)) => value.to_string(),
        Some(OptionValue::Int(value)) => value.to_string(),
        Some(OptionValue::Double(value)) => value.to_string(),
        Some(OptionValue::List(_)) => return Err(OptionProblem::InvalidValue),
    };
    let set = match name {
        CATALOG => session.use_catalog(&text),
        SCHEMA => session.use_schema(&[session.defaults().0, text]).await,
        _ => session.set_option(name, &text),
    };
    set.map_err(|error| match name {
        CATALOG | SCHEMA => OptionProblem::InvalidValue,
        _ => problem(&error),
    })
}

fn problem(error: &Error) -> OptionProblem {
    match error {
        Error::Execution(_) => OptionProblem::InvalidValue,
        Error::Sql(_) | Error::NotFound(_) => OptionProblem::InvalidName,
        _ => OptionProblem::Error,
    }
}

/// The options that the session has: the defaults, and every setting that was changed.
pub(super) fn get(session: &Session) -> GetSessionOptionsResult {
    let (catalog, schema) = session.defaults();
    let defaults = [(CATALOG.to_owned(), catalog), (SCHEMA.to_owned(), schema)];
    let options = defaults.into_iter().chain(session.changed_options());
    let options = options.map(|(name, value)| {
        let value = Some(OptionValue::Text(value));
        (name, SessionOptionValue { value })
    });
    GetSessionOptionsResult {
        session_options: options.collect(),
    }
}
