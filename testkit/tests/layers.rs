//! The rules that ARCHITECTURE.md states, held by the build: which crate may use which, how long a
//! file may be, and that each module says what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines a source file may have before its tests.
const LINES_MAX: usize = 800;

/// Members and the members they may use.
const EDGES: [(&str, &[&str]); 8] = [
    ("proto", &[]),
    ("lake", &[]),
    ("engine", &["lake", "proto"]),
    ("coordinator", &["engine", "lake", "proto"]),
    ("worker", &["engine", "lake", "proto"]),
    ("cli", &["coordinator", "worker", "engine", "lake", "proto"]),
    (
        "testkit",
        &["coordinator", "worker", "engine", "lake", "proto"],
    ),
    ("sql-tests", &["testkit", "coordinator"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (member, _) in EDGES {
        sources(&root().join(member).join("src"), &mut found);
    }
    assert!(found.len() > 50, "the sources are not where they should be");
    found
}

#[test]
fn crates_use_only_the_layers_below() {
    let allowed: BTreeMap<_, _> = EDGES.into_iter().collect();
    for (member, below) in &allowed {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        // Tests may go further: membership is tested between a real coordinator and real workers.
        let code = manifest.split("[dev-dependencies]").next().unwrap();
        for line in code.lines() {
            let Some(used) = line
                .strip_prefix("inshore-")
                .and_then(|rest| rest.split(['.', ' ', '=']).next())
            else {
                continue;
            };
            assert!(
                below.contains(&used),
                "{member} uses {used}, which is not below it"
            );
        }
    }
}

#[test]
fn files_stay_short() {
    for path in all_sources() {
        let text = fs::read_to_string(&path).unwrap();
        let code = text
            .lines()
            .take_while(|line| line.trim() != "#[cfg(test)]")
            .count();
        assert!(
            code <= LINES_MAX,
            "{} has {code} lines; give its second job a file of its own",
            path.display()
        );
    }
}

#[test]
fn modules_say_what_they_are_for() {
    for path in all_sources() {
        let text = fs::read_to_string(&path).unwrap();
        let is_test = text.lines().take(3).any(|line| line.contains("cfg(test)"));
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            text.starts_with("//!") || is_test || name == "tests",
            "{} has no module documentation",
            path.display()
        );
        assert!(
            !["common", "utils", "util", "core", "helpers"].contains(&name.as_str()),
            "{}: name the job",
            path.display()
        );
    }
}
