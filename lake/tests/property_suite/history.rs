//! Random histories: which step comes when, and the shortest history that still goes wrong.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::check::Reader;
use crate::switches;
use crate::world::World;

/// Steps of a history; what each does follows from the seed and its number, and from the table that
/// it meets.
#[derive(Clone, Debug)]
pub struct History {
    pub seed: u64,
    pub steps: Vec<u32>,
}

/// A history that went wrong.
pub struct Failure {
    pub history: History,
    pub log: Vec<String>,
    pub why: String,
    /// The table's directory.
    pub kept: std::path::PathBuf,
}

/// Random queries after the last step, and while a shorter history is looked for: the same queries
/// do not come again there.
pub const QUERIES: usize = 12;
const MANY: usize = 60;

impl History {
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.u32(4..24);
        Self {
            seed,
            steps: (0..count).collect(),
        }
    }

    /// Goes through the steps and checks the table now and then; after the last one more closely.
    pub async fn run(&self, reader: &Reader, queries: usize) -> Result<(), Failure> {
        let mut world = World::new(&mut fastrand::Rng::with_seed(self.seed));
        let steps = AssertUnwindSafe(self.go(&mut world, reader, queries));
        let why = match steps.catch_unwind().await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(panic) => panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                .unwrap_or_else(|| "a panic".into()),
        };
        Err(Failure {
            history: self.clone(),
            log: world.log,
            why,
            kept: world.table.directory.keep(),
        })
    }

    async fn go(&self, world: &mut World, reader: &Reader, queries: usize) -> Result<(), String> {
        for step in &self.steps {
            // The seeds of neighbours must not be alike.
            let seed = (self.seed << 32 | u64::from(*step)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut rng = fastrand::Rng::with_seed(seed);
            take_step(world, &mut rng, *step).await;
            let last = Some(step) == self.steps.last();
            // Shorter histories have been checked already where a shorter one is looked for.
            if last || (queries == QUERIES && rng.u8(0..4) == 0) {
                let queries = if last { queries } else { queries / 2 };
                reader.check(world, &mut rng, queries).await?;
            }
        }
        Ok(())
    }

    /// A shorter history that goes wrong too: first without its end, then without single steps.
    pub async fn shrink(&self, reader: &Reader, mut failure: Failure) -> Failure {
        // The log has a line for each step that was done, and some for the creation.
        for length in 1..=self.steps.len().min(failure.log.len()) {
            let shorter = Self {
                seed: self.seed,
                steps: self.steps[..length].to_vec(),
            };
            if let Err(found) = shorter.run(reader, MANY).await {
                replace(&mut failure, found);
                break;
            }
        }
        let mut at = failure.history.steps.len();
        while at > 0 {
            at -= 1;
            let mut shorter = failure.history.clone();
            shorter.steps.remove(at);
            if let Err(found) = shorter.run(reader, MANY).await {
                replace(&mut failure, found);
            }
        }
        failure
    }
}

fn replace(failure: &mut Failure, found: Failure) {
    let old = std::mem::replace(failure, found);
    let _ = std::fs::remove_dir_all(old.kept);
}

async fn take_step(world: &mut World, rng: &mut fastrand::Rng, number: u32) {
    loop {
        let done = any_step(world, rng).await;
        if let Some(text) = done {
            world.log.push(format!("step {number}: {text}"));
            return;
        }
    }
}

async fn any_step(world: &mut World, rng: &mut fastrand::Rng) -> Option<String> {
    if switches::DELETES && rng.u8(0..3) == 0 {
        return match rng.u8(0..5) {
            0 | 1 => world.position_delete(rng).await,
            2 | 3 => world.equality_delete(rng).await,
            _ => world.deletion_vector(rng).await,
        };
    }
    match rng.u8(0..40) {
        0..12 => world.append(rng).await,
        12..14 => world.remove_files(rng).await,
        14..17 => world.rewrite_files(rng).await,
        17..19 => world.merge_manifests(rng).await,
        19 => world.upgrade(rng),
        20..24 => world.add_column(rng),
        24..26 => world.drop_column(rng),
        26..28 => world.replace_column(rng),
        28..30 => world.rename_column(rng),
        30 => world.reorder_columns(rng),
        31..34 => world.promote_column(rng),
        34 => world.make_optional(rng),
        35..39 => world.add_partition_field(rng),
        _ => world.drop_partition_field(rng),
    }
}
