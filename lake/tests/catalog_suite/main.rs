//! Catalogs and stores over real files, databases and sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod changes;
mod conflicts;
mod garbled;
mod http;
mod interop;
mod postgres;
mod rest;
mod rest_changes;
mod rest_server;
mod sql;
mod statement;
mod store;
mod support;
