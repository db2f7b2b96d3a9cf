//! Generated rows as Parquet files, for the statements that read them into the lake's tables:
//! `DIR/generate/lineitem/03.parquet` and so on, several at a time, in bounded memory.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokio_util::sync::CancellationToken;

use super::lake::Making;
use super::tables::{Share, TABLES, Table};
use crate::failure::say;

/// About how many rows a file has.
const FILE_ROWS: u64 = 250_000;

/// Most files of a table.
const FILES_MAX: u64 = 64;

/// Rows of a row group: what a file that is being written holds in memory, and what one task of a
/// statement reads at a time.
const ROW_GROUP_ROWS_MAX: usize = 128 * 1024;

const TICK: Duration = Duration::from_millis(200);

/// One file to be written.
struct Job {
    table: &'static Table,
    share: Share,
    path: PathBuf,
}

/// What the threads that generate have in common.
struct Work {
    scale: f64,
    jobs: Mutex<VecDeque<Job>>,
    bar: ProgressBar,
    /// Cancelled by the user, or by a thread that failed.
    stop: CancellationToken,
}

/// Generates all tables. Nothing runs any more when this returns.
///
/// # Errors
/// When a file cannot be written, or the user wants to stop.
pub async fn run(making: &Making, stop: &CancellationToken) -> anyhow::Result<()> {
    let began = Instant::now();
    let scale = making.scale();
    let work = Arc::new(Work {
        scale,
        jobs: Mutex::new(jobs(making)?),
        bar: bar(scale)?,
        stop: stop.child_token(),
    });
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (0..threads).map(|_| {
        let work = Arc::clone(&work);
        tokio::task::spawn_blocking(move || work.run())
    });
    // The last of them to end: what it writes must not outlive the folder.
    let ended = futures::future::join_all(threads.collect::<Vec<_>>()).await;
    work.bar.finish_and_clear();
    let mut rows = 0;
    for ended in ended {
        rows += ended??;
    }
    if stop.is_cancelled() {
        bail!("interrupted");
    }
    say(&format!(
        "generated {} rows as Parquet files in {:.1} s",
        HumanCount(rows),
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// The files of all tables, those of the largest first.
fn jobs(making: &Making) -> anyhow::Result<VecDeque<Job>> {
    let mut jobs = VecDeque::new();
    for table in TABLES.iter().rev() {
        let folder = making.generated().join(table.name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for share in table.shares(making.scale(), FILE_ROWS, FILES_MAX) {
            // The files are read in the order of their names.
            let path = folder.join(format!("{:02}.parquet", share.number));
            jobs.push_back(Job { table, share, path });
        }
    }
    Ok(jobs)
}

impl Work {
    /// Writes one file after the other until there is none left; gives the number of rows.
    fn run(&self) -> anyhow::Result<u64> {
        let mut rows = 0;
        while let Some(job) = self.next() {
            let written = self.write(&job);
            let written = written.with_context(|| format!("cannot write {}", job.path.display()));
            if written.is_err() {
                self.stop.cancel();
            }
            rows += written?;
        }
        Ok(rows)
    }

    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.pop_front().filter(|_| !self.stop.is_cancelled())
    }

    fn write(&self, job: &Job) -> anyhow::Result<u64> {
        let file = File::create(&job.path)?;
        let mut writer = ArrowWriter::try_new(file, job.table.schema(), Some(properties()))?;
        let mut rows = 0;
        for batch in job.table.batches(self.scale, job.share) {
            if self.stop.is_cancelled() {
                return Ok(rows);
            }
            let batch = batch?;
            writer.write(&batch)?;
            rows += batch.num_rows() as u64;
            self.bar.inc(batch.num_rows() as u64);
        }
        writer.close()?;
        Ok(rows)
    }
}

/// The files are read once, and soon: what costs time to write and saves none then is left out.
fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .build()
}

fn bar(scale: f64) -> anyhow::Result<ProgressBar> {
    let rows = TABLES.iter().map(|table| table.expected_rows(scale)).sum();
    let style = ProgressStyle::with_template(
        "generating [{bar:32}] {human_pos:>11} of about {human_len} rows {elapsed:>4}",
    )?;
    let bar = ProgressBar::new(rows).with_style(style);
    bar.enable_steady_tick(TICK);
    Ok(bar)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::super::lake::Lake;
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn files_have_the_rows_of_their_tables() {
        let folder = tempfile::tempdir().unwrap();
        let (_, making) = Lake::open(folder.path(), 0.001).unwrap();
        let making = making.unwrap();
        run(&making, &CancellationToken::new()).await.unwrap();
        for table in TABLES {
            let path = making.generated().join(table.name).join("01.parquet");
            let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
            let rows = reader.metadata().file_metadata().num_rows();
            let expected = match table.name {
                "lineitem" => 6005,
                _ => table.expected_rows(0.001),
            };
            assert_eq!(u64::try_from(rows).unwrap(), expected, "{}", table.name);
        }
    }

    #[test]
    fn shares_are_the_whole() {
        for table in TABLES {
            let rows = |share| -> Vec<String> {
                let batches = table.batches(0.001, share).map(Result::unwrap);
                let rows = batches.flat_map(|batch| {
                    let columns = batch.columns().to_vec();
                    (0..batch.num_rows()).map(move |row| {
                        let values = columns.iter().map(|column| {
                            arrow::util::display::array_value_to_string(column, row).unwrap()
                        });
                        values.collect::<Vec<_>>().join("|")
                    })
                });
                rows.collect()
            };
            let whole: Vec<String> = table.shares(0.001, u64::MAX, 9).flat_map(rows).collect();
            let shares: Vec<Share> = table.shares(0.001, 7, 3).collect();
            assert!((1..=3).contains(&shares.len()), "{}", table.name);
            let parts: Vec<String> = shares.into_iter().flat_map(rows).collect();
            assert_eq!(whole, parts, "{}", table.name);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_interrupt_ends_it_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (_, making) = Lake::open(folder.path(), 100.0).unwrap();
        let making = making.unwrap();
        let stop = CancellationToken::new();
        let stopper = stop.clone();
        let generated = making.generated();
        let watched = generated.clone();
        let watch = tokio::task::spawn_blocking(move || {
            while !watched.join("lineitem/01.parquet").exists() {
                std::thread::yield_now();
            }
            stopper.cancel();
        });
        let error = run(&making, &stop).await.unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
        watch.await.unwrap();
        drop(making);
        assert!(!generated.exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (_, making) = Lake::open(folder.path(), 100.0).unwrap();
        let making = making.unwrap();
        std::fs::create_dir_all(making.generated().join("lineitem/02.parquet")).unwrap();
        let error = run(&making, &CancellationToken::new()).await.unwrap_err();
        assert!(
            error.to_string().contains("lineitem/02.parquet"),
            "{error:?}"
        );
    }
}
