//! Tables that were moved: their metadata names places where the files no longer are.
//!
//! A lake's `map` replaces the beginning of such a location, its `base` completes a relative one.
//! Both work on the text of the location as the metadata spells it, before it is taken apart, so a
//! prefix may be anything: a scheme that no store serves, a relative path, a malformed URL. The
//! result is not looked up again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::config::LakeConfig;
use crate::{Error, Result};

/// Every lake's `map` and the one `base`.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Longest prefix first; no prefix twice.
    maps: Vec<Move>,
    base: Option<Move>,
}

/// One entry of a `map`, or the `base` with an empty prefix.
#[derive(Debug)]
pub(super) struct Move {
    /// Where the owner wrote it: `lakes.x.map."prefix"` or `lakes.x.base`.
    key: String,
    prefix: String,
    /// The location that stands in the prefix's place.
    pub target: String,
}

impl Moves {
    /// Collects the lakes' maps. Whether the targets can be reached is not checked here.
    ///
    /// # Errors
    /// [`Error::Config`] naming the keys: an empty prefix, a prefix in two lakes, two bases.
    pub fn new(lakes: &BTreeMap<String, LakeConfig>) -> Result<Self> {
        let mut moves = Self::default();
        for (name, lake) in lakes {
            for (prefix, target) in &lake.map {
                moves.add(Move {
                    key: format!("lakes.{name}.map.{prefix:?}"),
                    prefix: prefix.clone(),
                    target: target.clone(),
                })?;
            }
            if let Some(target) = &lake.base {
                let key = format!("lakes.{name}.base");
                if let Some(other) = &moves.base {
                    return Err(Error::Config(format!(
                        "{key} and {}: relative locations can have one base only; remove one of \
                         them, and map prefixes instead",
                        other.key
                    )));
                }
                moves.base = Some(Move {
                    key,
                    prefix: String::new(),
                    target: target.clone(),
                });
            }
        }
        moves
            .maps
            .sort_by_key(|entry| std::cmp::Reverse(entry.prefix.len()));
        Ok(moves)
    }

    fn add(&mut self, entry: Move) -> Result<()> {
        if entry.prefix.is_empty() {
            return Err(Error::Config(format!(
                "{}: the prefix is empty; a base for relative locations is the lake's key `base`",
                entry.key
            )));
        }
        if let Some(other) = self.maps.iter().find(|other| other.prefix == entry.prefix) {
            return Err(Error::Config(format!(
                "{} and {}: a prefix can lead to one place only",
                other.key, entry.key
            )));
        }
        self.maps.push(entry);
        Ok(())
    }

    /// Every map entry and the base.
    pub fn entries(&self) -> impl Iterator<Item = &Move> {
        self.maps.iter().chain(&self.base)
    }

    /// Where a location leads: itself, unless a prefix matches it or it is relative and there is a
    /// base. Of several prefixes that match, the longest counts, whichever lake it belongs to.
    ///
    /// A prefix that ends with `/` matches every location that begins with it. Any other prefix
    /// has to end where a segment of the location's path ends: `s3://old/wh` matches `s3://old/wh`
    /// and `s3://old/wh/t`, but not `s3://old/wh2/t`.
    pub fn apply<'a>(&self, location: &'a str) -> Cow<'a, str> {
        let mapped = self.maps.iter().find_map(|entry| entry.apply(location));
        let base = || self.base.as_ref().filter(|_| is_relative(location));
        mapped
            .or_else(|| base().map(|base| below(&base.target, location)))
            .map_or(Cow::Borrowed(location), Cow::Owned)
    }
}

impl Move {
    fn apply(&self, location: &str) -> Option<String> {
        let rest = location.strip_prefix(self.prefix.as_str())?;
        let rest = match self.prefix.ends_with('/') || rest.is_empty() {
            true => rest,
            false => rest.strip_prefix('/')?,
        };
        Some(below(&self.target, rest))
    }

    /// An error about this entry.
    pub fn wrong(&self, why: &str) -> Error {
        Error::Config(format!("{} = {:?}: {why}", self.key, self.target))
    }
}

/// `rest` below the folder `target`, which may be written with or without a `/` at its end.
fn below(target: &str, rest: &str) -> String {
    match rest {
        "" => target.to_owned(),
        _ => format!("{}/{rest}", target.strip_suffix('/').unwrap_or(target)),
    }
}

/// Whether a location is neither an absolute path nor begins with a scheme (RFC 3986, section 3.1).
fn is_relative(location: &str) -> bool {
    let scheme = location.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    !scheme && !location.is_empty() && !location.starts_with('/')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lake(map: &[(&str, &str)], base: Option<&str>) -> LakeConfig {
        let map = map.iter();
        LakeConfig {
            map: map
                .map(|(prefix, target)| ((*prefix).to_owned(), (*target).to_owned()))
                .collect(),
            base: base.map(str::to_owned),
            ..LakeConfig::new("file:///")
        }
    }

    fn moves(lakes: &[LakeConfig]) -> Result<Moves> {
        let named = lakes.iter().enumerate();
        Moves::new(
            &named
                .map(|(n, lake)| (format!("l{n}"), lake.clone()))
                .collect(),
        )
    }

    fn check(moves: &Moves, cases: &[(&str, &str)]) {
        for (location, expected) in cases {
            assert_eq!(moves.apply(location), *expected, "{location}");
        }
    }

    #[test]
    fn the_longest_prefix_of_all_lakes_wins() {
        let moves = moves(&[
            lake(
                &[("hdfs://h/", "file:///a/"), ("hdfs://h/x/y/", "/c")],
                None,
            ),
            lake(&[("hdfs://h/x/", "s3://b")], None),
        ])
        .unwrap();
        check(
            &moves,
            &[
                ("hdfs://h/t/f", "file:///a/t/f"),
                ("hdfs://h/x/t/f", "s3://b/t/f"),
                ("hdfs://h/x/y/f", "/c/f"),
                ("hdfs://h/x/yy", "s3://b/yy"),
                ("hdfs://h/", "file:///a/"),
                ("hdfs://H/t", "hdfs://H/t"),
                ("x/hdfs://h/t", "x/hdfs://h/t"),
            ],
        );
    }

    #[test]
    fn a_prefix_without_a_slash_ends_at_a_segment() {
        let moves = moves(&[lake(&[("s3://old/wh", "file:///n/"), ("d/p", "/d")], None)]).unwrap();
        check(
            &moves,
            &[
                ("s3://old/wh", "file:///n/"),
                ("s3://old/wh/t", "file:///n/t"),
                ("s3://old/wh2/t", "s3://old/wh2/t"),
                ("s3://old/wh-t", "s3://old/wh-t"),
                ("d/p/t", "/d/t"),
                ("d/part", "d/part"),
            ],
        );
    }

    #[test]
    fn locations_and_prefixes_are_literal() {
        let moves = moves(&[lake(
            &[
                ("file://data/p/", "file:///n/p/"),
                ("a%3Ab/", "file:///n/a%20/"),
                ("/", "/all"),
            ],
            None,
        )])
        .unwrap();
        check(
            &moves,
            &[
                ("file://data/p/c%2F+ ü?#", "file:///n/p/c%2F+ ü?#"),
                ("a%3Ab/x", "file:///n/a%20/x"),
                ("a:b/x", "a:b/x"),
                ("/x", "/all/x"),
            ],
        );
    }

    #[test]
    fn targets_are_not_mapped_again() {
        let chain = [("old/", "file:///a/"), ("file:///a/", "file:///b/")];
        let moves = moves(&[lake(&chain, Some("old/"))]).unwrap();
        check(
            &moves,
            &[
                ("old/x", "file:///a/x"),
                ("file:///a/x", "file:///b/x"),
                ("t/x", "old/t/x"),
            ],
        );
    }

    #[test]
    fn relative_locations_lie_below_the_base_unless_mapped() {
        let moves = moves(&[
            lake(&[("li/", "file:///other/li/")], None),
            lake(&[], Some("file:///n")),
        ])
        .unwrap();
        check(
            &moves,
            &[
                ("data/t/f", "file:///n/data/t/f"),
                ("./t", "file:///n/./t"),
                (
                    "d=2020-01-01T00:00:00/f",
                    "file:///n/d=2020-01-01T00:00:00/f",
                ),
                ("d/s3://b", "file:///n/d/s3://b"),
                ("li/f", "file:///other/li/f"),
                ("/abs", "/abs"),
                ("s3://b/k", "s3://b/k"),
                ("file:x", "file:x"),
                ("", ""),
            ],
        );
    }

    #[test]
    fn what_contradicts_itself_names_its_keys() {
        let said = |lakes: &[LakeConfig]| moves(lakes).unwrap_err().to_string();
        let two = said(&[lake(&[], Some("/a")), lake(&[], Some("/b"))]);
        assert!(two.contains("lakes.l0.base") && two.contains("lakes.l1.base"));
        let same = said(&[lake(&[("x/", "/a")], None), lake(&[("x/", "/b")], None)]);
        assert!(same.contains("lakes.l0.map.\"x/\" and lakes.l1.map.\"x/\""));
        let empty = said(&[lake(&[("", "/a")], None)]);
        assert!(empty.contains("lakes.l0.map.\"\""), "{empty}");
    }
}
