//! Steps that delete rows by delete files and deletion vectors.

use crate::files::{Content, Deleted, Place, deletion_vectors, equality_deletes, position_deletes};
use crate::model::DataFile;
use crate::switches;
use crate::table::{Commit, key};
use crate::transforms::Transform;
use crate::types::Leaf;
use crate::values::{Value, near};
use crate::world::{Values, World};

type Rng = fastrand::Rng;

/// A data file's index and path, and a position in it.
type Deletion = (usize, String, i64);

/// Which rows an equality delete takes.
struct Keys {
    columns: Vec<Leaf>,
    keys: Vec<Vec<Value>>,
    /// Spec and partition; `None` for the whole table.
    scope: Option<(i32, Vec<Value>)>,
}

impl World {
    /// Position delete files (version 2): of one data file, or of several of one partition.
    pub async fn position_delete(&mut self, rng: &mut Rng) -> Option<String> {
        if self.table.version != 2 {
            return None;
        }
        let mut commit = Commit::new("delete");
        // Sometimes of a file that comes with the same commit.
        let mut written = vec![];
        if rng.u8(0..4) == 0 {
            commit.operation = "overwrite";
            let count = rng.usize(1..12);
            let rows = self.new_rows(rng, count);
            written = self.write_rows(rng, &mut commit, rows, None);
        }
        let of_one_file = rng.bool();
        let new: Vec<&DataFile> = written.iter().map(|(file, _)| file).collect();
        let (scope, places) = self.some_places(rng, &new, of_one_file)?;
        let mut pieces = vec![places.clone()];
        if places.len() > 1 && rng.u8(0..3) == 0 {
            pieces = places
                .chunks(places.len().div_ceil(2))
                .map(<[_]>::to_vec)
                .collect();
        }
        for piece in pieces {
            let path = self.table.new_path("positions", "parquet");
            let piece: Vec<(String, i64)> = piece.into_iter().map(|(_, p, at)| (p, at)).collect();
            let meta = position_deletes(rng, &path, &piece, scope.clone());
            commit.added.push((meta, None));
        }
        let places: Vec<(usize, i64)> = places.into_iter().map(|(i, _, at)| (i, at)).collect();
        let mut new = vec![];
        self.commit(rng, commit, |world| {
            new = world.take_over(written, None);
            world.model.delete_positions(&places);
        })
        .await;
        for (index, position) in &places {
            if self.model.files[*index].live {
                self.deleted.entry(*index).or_default().insert(*position);
            }
        }
        Some(format!(
            "delete positions {places:?}, one file {of_one_file}, with {}",
            self.shown(&new)
        ))
    }

    /// Places to delete, and the partition that they are in. The model
    /// learns of the files in `new` only after the commit, but their indices are known.
    fn some_places(
        &self,
        rng: &mut Rng,
        new: &[&DataFile],
        of_one_file: bool,
    ) -> Option<(Place, Vec<Deletion>)> {
        let files: Vec<&DataFile> = self.model.files.iter().chain(new.iter().copied()).collect();
        let live: Vec<usize> = (0..files.len()).filter(|at| files[*at].live).collect();
        let target = *live.get(rng.usize(0..live.len().max(1)))?;
        let mut places: Vec<Deletion> = vec![];
        for (index, file) in files.iter().enumerate() {
            // Removed files stay among them: such deletes dangle.
            let wanted = match of_one_file {
                true => index == target,
                false => {
                    file.spec == files[target].spec && file.partition == files[target].partition
                }
            };
            if wanted {
                let most = rng.u8(1..6);
                let positions = (0..file.records).filter(|_| rng.u8(0..6) < most);
                places.extend(positions.map(|position| (index, file.path.clone(), position)));
            }
        }
        if places.is_empty() {
            places.push((target, files[target].path.clone(), 0));
        }
        // The same place twice: in two files, or even in one.
        if rng.u8(0..4) == 0 {
            places.push(places[rng.usize(0..places.len())].clone());
        }
        Some((place(files[target]), places))
    }

    /// Deletion vectors (version 3), each taking the place of what deleted by position before.
    pub async fn deletion_vector(&mut self, rng: &mut Rng) -> Option<String> {
        if self.table.version < 3 {
            return None;
        }
        let mut files = self.model.live_files();
        rng.shuffle(&mut files);
        files.truncate(rng.usize(1..4));
        if files.is_empty() {
            return None;
        }
        let mut commit = Commit::new("delete");
        let mut vectors = vec![];
        for index in &files {
            let file = self.model.files[*index].clone();
            let wanted = rng.u8(1..6);
            let known = self.deleted.entry(*index).or_default();
            known.extend((0..file.records).filter(|_| rng.u8(0..6) < wanted));
            if known.is_empty() {
                known.insert(0);
            }
            vectors.push(Deleted {
                path: file.path.clone(),
                place: place(&file),
                positions: known.iter().copied().collect(),
            });
            // An older vector has to go; position deletes of this file alone may stay.
            let keep_files = rng.bool();
            let superseded = self.table.entries().filter(|entry| {
                entry.meta.content == Content::PositionDeletes
                    && entry.meta.referenced.as_ref() == Some(&file.path)
                    && (entry.meta.puffin || !keep_files)
            });
            let superseded: Vec<_> = superseded.map(|entry| key(&entry.meta)).collect();
            commit.removed.extend(superseded);
        }
        let together = rng.bool();
        let path = self.table.new_path("vectors", "puffin");
        if together {
            let metas = deletion_vectors(&path, &vectors);
            commit
                .added
                .extend(metas.into_iter().map(|meta| (meta, None)));
        } else {
            for vector in vectors.chunks(1) {
                let path = self.table.new_path("vectors", "puffin");
                let metas = deletion_vectors(&path, vector);
                commit
                    .added
                    .extend(metas.into_iter().map(|meta| (meta, None)));
            }
        }
        let mut places: Vec<(usize, i64)> = vec![];
        for index in &files {
            places.extend(
                self.deleted[index]
                    .iter()
                    .map(|position| (*index, *position)),
            );
        }
        self.commit(rng, commit, |world| world.model.delete_positions(&places))
            .await;
        Some(format!(
            "deletion vectors over {places:?}, one file {together}"
        ))
    }

    /// Equality delete files, alone or with rows that have the same keys and stay.
    pub async fn equality_delete(&mut self, rng: &mut Rng) -> Option<String> {
        if self.table.version < 2 || self.model.rows.is_empty() {
            return None;
        }
        let keys = self.some_keys(rng)?;
        let mut commit = Commit::new("delete");
        let place = match &keys.scope {
            Some((spec, partition)) => Place {
                spec: *spec,
                partition: partition.clone(),
            },
            None => Place {
                spec: self.unpartitioned()?,
                partition: vec![],
            },
        };
        let mut written = vec![];
        if rng.bool() {
            commit.operation = "overwrite";
            let count = rng.usize(1..8);
            let mut rows = self.new_rows(rng, count);
            for row in &mut rows {
                if rng.bool() {
                    row.clone_from(&self.keyed_row(rng, &keys)?);
                }
            }
            written = self.write_rows(rng, &mut commit, rows, None);
        }
        let schema = self.model.schema.clone();
        for part in keys
            .keys
            .chunks(keys.keys.len().div_ceil(1 + rng.usize(0..2)))
        {
            let path = self.table.new_path("equality", "parquet");
            let place = place.clone();
            let meta = equality_deletes(rng, &path, &schema, &keys.columns, part, place);
            commit.added.push((meta, None));
        }
        let names: Vec<&str> = keys.columns.iter().map(|leaf| leaf.sql.as_str()).collect();
        let text = format!(
            "delete where {names:?} in {:?}, in {:?}",
            keys.keys, keys.scope
        );
        let mut new = vec![];
        self.commit(rng, commit, |world| {
            let sequence = world.table.sequence;
            let scope = keys.scope.as_ref();
            world
                .model
                .delete_keys(sequence, scope, &keys.columns, &keys.keys);
            new = world.take_over(written, None);
        })
        .await;
        Some(format!("{text}, with {}", self.shown(&new)))
    }

    fn unpartitioned(&self) -> Option<i32> {
        let mut specs = self.table.specs.iter();
        specs.find(|spec| spec.fields.is_empty()).map(|s| s.id)
    }

    /// A row that one of the keys takes, to be added again.
    fn keyed_row(&self, rng: &mut Rng, keys: &Keys) -> Option<Values> {
        let matching: Vec<&Values> = self
            .model
            .rows
            .iter()
            .filter(|row| {
                let key: Vec<Value> = keys.columns.iter().map(|leaf| row.leaf(leaf)).collect();
                keys.keys.contains(&key)
            })
            .map(|row| &row.values)
            .collect();
        let rows = matching.len();
        if rows == 0 {
            let rows = self.model.rows.len();
            return Some(self.model.rows[rng.usize(0..rows)].values.clone());
        }
        Some(matching[rng.usize(0..rows)].clone())
    }

    fn some_keys(&self, rng: &mut Rng) -> Option<Keys> {
        let mut columns: Vec<Leaf> = self.model.schema.leaves();
        columns.retain(|leaf| {
            // The specification forbids floats in keys.
            !leaf.prim.is_float() && (switches::NESTED_KEYS || leaf.child.is_none())
        });
        rng.shuffle(&mut columns);
        columns.truncate(1 + usize::from(rng.u8(0..3) == 0));
        if let [first, second] = columns.as_slice()
            && first.column == second.column
        {
            columns.truncate(1);
        }
        if columns.is_empty() {
            return None;
        }
        let mut keys: Vec<Vec<Value>> = vec![];
        for _ in 0..rng.usize(1..7) {
            let row = &self.model.rows[rng.usize(0..self.model.rows.len())];
            let mut key: Vec<Value> = columns.iter().map(|leaf| row.leaf(leaf)).collect();
            if rng.u8(0..5) == 0 {
                key = key.iter().map(|value| near(rng, value)).collect();
            }
            keys.push(key);
        }
        let file = rng.usize(0..self.model.files.len());
        let file = &self.model.files[file];
        let spec = self.table.spec(file.spec);
        let partitioned = spec.fields.iter().any(|f| f.transform != Transform::Void);
        // A spec of nothing but void fields counts as unpartitioned for some readers only.
        if !partitioned && !spec.fields.is_empty() {
            return None;
        }
        let global = !partitioned || (self.unpartitioned().is_some() && rng.bool());
        let scope = (!global).then(|| (file.spec, file.partition.clone()));
        Some(Keys {
            columns,
            keys,
            scope,
        })
    }
}

fn place(file: &DataFile) -> Place {
    Place {
        spec: file.spec,
        partition: file.partition.clone(),
    }
}
