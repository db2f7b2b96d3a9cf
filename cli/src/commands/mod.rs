//! One module per subcommand.

pub mod config;
pub mod coordinator;
pub mod sql;
pub mod worker;
