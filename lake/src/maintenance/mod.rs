//! Keeping tables in order: files that nothing refers to, and files that are taken over.

mod orphans;
mod reachable;

pub use orphans::{OrphanSearch, Orphans};
