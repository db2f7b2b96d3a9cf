//! Steps that add, rewrite and remove whole data files.

use crate::model::Row;
use crate::table::{Commit, FileKey, key};
use crate::world::{Values, World};

type Rng = fastrand::Rng;

impl World {
    /// Commits, and notes the state that the snapshot has once `change` is done to the model.
    pub async fn commit(
        &mut self,
        rng: &mut Rng,
        commit: Commit,
        change: impl FnOnce(&mut World),
    ) -> i64 {
        let id = self.table.commit(rng, commit).await;
        change(self);
        self.model.snapshot(id, self.table.now);
        id
    }

    pub async fn append(&mut self, rng: &mut Rng) -> Option<String> {
        let count = [rng.usize(1..5), rng.usize(1..30)][rng.usize(0..2)];
        let mut rows = self.new_rows(rng, count);
        // Rows that are there already, or were.
        for row in &mut rows {
            if !self.model.rows.is_empty() && rng.u8(0..6) == 0 {
                let old = rng.usize(0..self.model.rows.len());
                row.clone_from(&self.model.rows[old].values);
            }
        }
        let mut commit = Commit::new("append");
        let written = self.write_rows(rng, &mut commit, rows, None);
        let mut files = vec![];
        self.commit(rng, commit, |world| files = world.take_over(written, None))
            .await;
        Some(format!("append {count} rows: {}", self.shown(&files)))
    }

    /// Files in one line.
    pub fn shown(&self, files: &[usize]) -> String {
        let files = files.iter().map(|index| {
            let file = &self.model.files[*index];
            let name = file.path.rsplit('/').next().unwrap();
            format!(
                "{name} (spec {} {:?}, sequence {}, {} rows)",
                file.spec, file.partition, file.sequence, file.records
            )
        });
        files.collect::<Vec<_>>().join(", ")
    }

    fn some_files(&self, rng: &mut Rng, most: usize) -> Option<Vec<usize>> {
        let mut files = self.model.live_files();
        rng.shuffle(&mut files);
        files.truncate(rng.usize(1..=most));
        (!files.is_empty()).then_some(files)
    }

    /// Takes data files out of the table, in `commit` and in the model. What deletes rows of them
    /// may stay behind.
    fn remove(&mut self, rng: &mut Rng, commit: &mut Commit, files: &[usize]) {
        for file in files {
            let path = self.model.files[*file].path.clone();
            let with_deletes = rng.bool();
            let gone: Vec<FileKey> = self
                .table
                .entries()
                .filter(|entry| {
                    entry.meta.path == path
                        || (with_deletes && entry.meta.referenced.as_ref() == Some(&path))
                })
                .map(|entry| key(&entry.meta))
                .collect();
            commit.removed.extend(gone);
            self.deleted.remove(file);
        }
    }

    pub async fn remove_files(&mut self, rng: &mut Rng) -> Option<String> {
        let files = self.some_files(rng, 2)?;
        let mut commit = Commit::new("delete");
        self.remove(rng, &mut commit, &files);
        let text = format!("remove {}", self.shown(&files));
        self.commit(rng, commit, |world| {
            files.iter().for_each(|file| world.model.remove_file(*file));
        })
        .await;
        Some(text)
    }

    /// Rewrites files: without some of their rows, or only together. The new files may count as
    /// older than their commit.
    pub async fn rewrite_files(&mut self, rng: &mut Rng) -> Option<String> {
        let files = self.some_files(rng, 4)?;
        let drop_rows = rng.bool();
        let operation = if drop_rows { "overwrite" } else { "replace" };
        let mut commit = Commit::new(operation);
        let rows: Vec<Values> = files
            .iter()
            .flat_map(|file| self.model.rows_of(*file))
            .filter(|_| !drop_rows || rng.bool())
            .map(|row: &Row| row.values.clone())
            .collect();
        self.remove(rng, &mut commit, &files);
        let old_sequence = self.table.version > 1 && !drop_rows && rng.bool();
        // No equality delete so far is newer.
        let sequence = old_sequence.then_some(self.table.sequence);
        let written = self.write_rows(rng, &mut commit, rows, sequence);
        let text = format!("{operation} {}", self.shown(&files));
        let mut new = vec![];
        self.commit(rng, commit, |world| {
            files.iter().for_each(|file| world.model.remove_file(*file));
            new = world.take_over(written, sequence);
        })
        .await;
        Some(format!("{text} by {}", self.shown(&new)))
    }

    pub async fn merge_manifests(&mut self, rng: &mut Rng) -> Option<String> {
        let manifests = &self.table.manifests;
        let manifest = manifests.get(rng.usize(0..manifests.len().max(1)))?;
        let (spec, data) = (manifest.file.partition_spec_id, manifest.is_data());
        let id = self.table.merge_manifests(rng, spec, data).await;
        self.model.snapshot(id, self.table.now);
        let kind = if data { "data" } else { "delete" };
        Some(format!("merge the {kind} manifests of spec {spec}"))
    }

    pub fn upgrade(&mut self, _: &mut Rng) -> Option<String> {
        if self.table.version > 2 {
            return None;
        }
        self.table.upgrade(self.table.version + 1);
        Some(format!("upgrade to version {}", self.table.version))
    }
}
