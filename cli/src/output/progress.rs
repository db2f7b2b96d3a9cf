//! A line on the terminal that says a long statement is still at work.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long a statement runs before the line appears.
const DELAY: Duration = Duration::from_secs(1);

/// The line of one statement.
pub struct Progress {
    began: Instant,
    bar: Option<ProgressBar>,
    enabled: bool,
}

impl Progress {
    /// Begins to count the time. Nothing is ever shown unless stderr is a terminal.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            bar: None,
            enabled: std::io::stderr().is_terminal(),
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Draws the line, once the statement has run for a second.
    pub fn tick(&mut self, rows: u64) {
        if !self.enabled || self.elapsed() < DELAY {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        let seconds = self.began.elapsed().as_secs();
        bar.set_message(format!("{seconds} s, {rows} rows (Ctrl-C cancels)"));
        bar.tick();
    }

    /// Takes the line away for good: something else is written to the terminal now.
    pub fn hide(&mut self) {
        self.enabled = false;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.hide();
    }
}
