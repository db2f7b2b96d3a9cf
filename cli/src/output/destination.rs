//! Stdout or a file. A file appears under its name only when it is whole, so that a failed run
//! leaves no half of a result behind that looks like all of it.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Context;

/// Where results go.
pub struct Destination {
    out: Out,
    /// The name to give the file in the end.
    rename: Option<Rename>,
    terminal: bool,
}

struct Rename {
    from: PathBuf,
    to: PathBuf,
    done: bool,
}

impl Drop for Rename {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.from);
        }
    }
}

impl Destination {
    /// Stdout.
    pub fn stdout() -> Self {
        Self {
            out: Out::new(Box::new(BufWriter::new(io::stdout()))),
            rename: None,
            terminal: io::stdout().is_terminal(),
        }
    }

    /// A file. What is not a plain file (a pipe, a device) is written in place.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn file(path: &Path) -> anyhow::Result<Self> {
        let special = path.metadata().is_ok_and(|found| !found.is_file());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let target = if special { path } else { &partial };
        let file = File::create(target)
            .with_context(|| format!("cannot write the output file {}", path.display()))?;
        let rename = (!special).then(|| Rename {
            from: partial.clone(),
            to: path.to_owned(),
            done: false,
        });
        Ok(Self {
            out: Out::new(Box::new(BufWriter::new(file))),
            rename,
            terminal: false,
        })
    }

    /// A writer; all writers of a destination share its buffer.
    pub fn writer(&self) -> Out {
        self.out.clone()
    }

    /// Whether a person reads it as it appears.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether the reader has gone, as `head` does when it has enough.
    pub fn is_closed(&self) -> bool {
        self.out.closed.load(Ordering::Relaxed)
    }

    /// Writes out what is buffered and gives the file its name.
    ///
    /// # Errors
    /// When one of the two fails.
    pub fn commit(mut self) -> anyhow::Result<()> {
        self.out.flush()?;
        if let Some(rename) = &mut self.rename {
            std::fs::rename(&rename.from, &rename.to)
                .with_context(|| format!("cannot write the output file {}", rename.to.display()))?;
            rename.done = true;
        }
        Ok(())
    }
}

/// A shared writer that remembers whether its reader has gone.
#[derive(Clone)]
pub struct Out {
    inner: Arc<Mutex<Box<dyn Write + Send>>>,
    closed: Arc<AtomicBool>,
}

impl Out {
    /// Shares a writer.
    pub fn new(inner: Box<dyn Write + Send>) -> Self {
        Self {
            inner: Arc::new(Mutex::new(inner)),
            closed: Arc::default(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self
            .inner
            .lock()
            .map_err(|_| io::Error::other("a writer panicked"))?;
        let result = act(inner.as_mut());
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            self.closed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|inner| inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(|inner| inner.flush())
    }
}
