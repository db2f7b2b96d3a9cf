//! Keeping tables in order: files that nothing refers to, and files that are taken over.

mod adopt;
mod footer;
mod orphans;
mod reachable;

pub use adopt::{Adopted, adopt_files};
pub use orphans::{OrphanSearch, Orphans};
