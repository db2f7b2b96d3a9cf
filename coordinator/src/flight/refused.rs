//! Parts of Flight SQL that there are not: transactions and Substrait.

use arrow_flight::sql::{Any, CommandStatementSubstraitPlan, ProstMessageExt};
use bytes::Bytes;
use prost::Message;
use tonic::Status;

/// Actions that would begin or end a transaction.
const TRANSACTION_ACTIONS: [&str; 4] = [
    "BeginTransaction",
    "EndTransaction",
    "BeginSavepoint",
    "EndSavepoint",
];

/// Why a Substrait plan is refused.
pub(super) const SUBSTRAIT: &str = "Substrait plans are not supported; send the statement as SQL";

const TRANSACTIONS: &str = "transactions are not supported: each statement is a commit of its own";

/// # Errors
/// A request that belongs to a transaction.
pub(super) fn transaction(id: Option<&Bytes>) -> Result<(), Status> {
    match id.is_some_and(|id| !id.is_empty()) {
        true => Err(Status::invalid_argument(TRANSACTIONS)),
        false => Ok(()),
    }
}

/// # Errors
/// An action that would need what there is not.
pub(super) fn action(kind: &str) -> Result<(), Status> {
    if TRANSACTION_ACTIONS.contains(&kind) {
        return Err(Status::unimplemented(TRANSACTIONS));
    }
    match kind {
        "CreatePreparedSubstraitPlan" => Err(Status::unimplemented(SUBSTRAIT)),
        _ => Ok(()),
    }
}

/// # Errors
/// A command that would need what there is not.
pub(super) fn command(command: &[u8]) -> Result<(), Status> {
    match Any::decode(command) {
        Ok(any) if any.type_url == CommandStatementSubstraitPlan::type_url() => {
            Err(Status::unimplemented(SUBSTRAIT))
        }
        // What is no command at all is told where it is read.
        _ => Ok(()),
    }
}
