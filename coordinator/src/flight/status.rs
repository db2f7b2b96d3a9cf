//! Errors as clients see them: one line, a gRPC code, and the id of the statement.

use tonic::Status;
use tonic::metadata::MetadataValue;

use crate::Error;

/// The header of a failed call that holds the id of its statement, as in `system.queries`.
pub(super) const QUERY_ID: &str = "x-inshore-query-id";

/// What libraries put before a message to say where it came from.
const ORIGINS: [&str; 10] = [
    "External error: ",
    "Execution error: ",
    "Error during planning: ",
    "Arrow error: ",
    "Parquet error: ",
    "Object Store error: ",
    "Invalid argument error: ",
    "Compute error: ",
    "Schema error: ",
    "Invalid or Unsupported Configuration: ",
];

/// The status to answer a call with.
pub(super) fn status(error: Error) -> Status {
    let mut wire = error.to_wire();
    wire.message = one_line(&wire.message);
    let status = Status::from(wire);
    let Some(id) = error.query_id() else {
        return status;
    };
    // Behind the message, which may have been cut.
    let message = format!("{} (query {id})", status.message());
    let details = bytes::Bytes::copy_from_slice(status.details());
    let mut status = Status::with_details(status.code(), message, details);
    if let Ok(id) = MetadataValue::try_from(id) {
        status.metadata_mut().insert(QUERY_ID, id);
    }
    status
}

/// What DataFusion says of the arguments of a function, behind a longer account of why.
const NO_FUNCTION: &str = "No function matches the given name and argument types";

/// Whose defect DataFusion takes an error for, and where to tell: to its own people, and not to ours.
const DEFECT: &str = "This issue was likely caused by a bug in DataFusion's code";

/// A message without its origins and line breaks.
fn one_line(message: &str) -> String {
    let mut rest = message.trim();
    if let Some((_, short)) = rest.split_once(NO_FUNCTION) {
        return one_line(&format!("{}{short}", NO_FUNCTION.to_lowercase()));
    }
    if let Some((short, _)) = rest.split_once(DEFECT) {
        rest = short.trim_end();
    }
    while let Some(shorter) = ORIGINS.iter().find_map(|origin| rest.strip_prefix(origin)) {
        rest = shorter.trim_start();
    }
    let lines = rest.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn a_message_is_one_line_and_ends_with_the_query() {
        let error = Error::Request("External error: Execution error: no\n  such  \n\nthing".into());
        let status = status(error.of_query("019a"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "no such thing (query 019a)");
        let id = status.metadata().get(QUERY_ID);
        assert_eq!(id.and_then(|id| id.to_str().ok()), Some("019a"));
    }

    #[test]
    fn what_only_datafusion_wants_to_know_is_left_out() {
        let message = format!(
            "Error during planning: Internal error: no.. {DEFECT}. Please help.\n\
             {NO_FUNCTION} 'sum(Utf8)'."
        );
        assert_eq!(
            one_line(&message),
            "no function matches the given name and argument types 'sum(Utf8)'."
        );
        let message = format!("Internal error: a defect.\n{DEFECT}. Please help.");
        assert_eq!(one_line(&message), "Internal error: a defect.");
    }

    #[test]
    fn a_long_message_keeps_its_query() {
        let error = Error::Sql("x".repeat(100_000));
        let status = status(error.of_query("019a"));
        assert!(status.message().ends_with(" (query 019a)"));
        assert!(status.message().len() < 2_000);
    }
}
