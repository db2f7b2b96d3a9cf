//! Moves lakes whose locations are relative, or on a file system that is not here, to a directory
//! of this machine: a copy in which every such prefix is replaced by one of the same length.

use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A moved lake; gone when dropped.
pub struct Moved {
    directory: TempDir,
}

impl Moved {
    /// Copies `from`, and replaces `prefix` by the location of the copy. `scheme` begins the new
    /// location, which is made as long as the old one.
    pub fn new(from: &Path, prefix: &str, scheme: &str) -> Self {
        let name = prefix.len() - scheme.len() - "/tmp/".len() - "/".len();
        let random = 5;
        let directory = tempfile::Builder::new()
            .prefix(&"l".repeat(name - random))
            .rand_bytes(random)
            .tempdir_in("/tmp")
            .unwrap();
        let location = format!("{scheme}{}/", directory.path().display());
        assert_eq!(location.len(), prefix.len());
        copy(from, directory.path(), &|bytes| {
            replace(bytes, prefix.as_bytes(), location.as_bytes());
        });
        Self { directory }
    }

    /// A file of the lake, by its path below the original directory.
    pub fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }
}

fn copy(from: &Path, to: &Path, patch: &dyn Fn(&mut [u8])) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&path, &target, patch);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let bytes = match ending {
            "avro" => inflated(&bytes, patch).unwrap_or(bytes),
            "json" => {
                let mut bytes = bytes;
                patch(&mut bytes);
                bytes
            }
            _ => bytes,
        };
        std::fs::write(target, bytes).unwrap();
    }
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let mut at = 0;
    while at + old.len() <= bytes.len() {
        if &bytes[at..at + old.len()] == old {
            bytes[at..at + old.len()].copy_from_slice(new);
            at += old.len();
        } else {
            at += 1;
        }
    }
}

/// An Avro container with its blocks uncompressed and patched
/// (<https://avro.apache.org/docs/1.12.0/specification/#object-container-files>).
fn inflated(bytes: &[u8], patch: &dyn Fn(&mut [u8])) -> Option<Vec<u8>> {
    let mut input = Avro { bytes, at: 4 };
    let mut output = b"Obj\x01".to_vec();
    let mut deflated = false;
    loop {
        let count = input.long()?;
        put_long(&mut output, count);
        if count == 0 {
            break;
        }
        for _ in 0..count {
            let key = input.sized()?.to_vec();
            let value = input.sized()?.to_vec();
            put_sized(&mut output, &key);
            if key == b"avro.codec" {
                deflated = value == b"deflate";
                put_sized(&mut output, b"null");
            } else {
                put_sized(&mut output, &value);
            }
        }
    }
    let sync = input.take(16)?.to_vec();
    output.extend_from_slice(&sync);
    while input.at < bytes.len() {
        let count = input.long()?;
        let block = input.sized()?;
        let mut plain = vec![];
        if deflated {
            flate2::read::DeflateDecoder::new(block)
                .read_to_end(&mut plain)
                .ok()?;
        } else {
            plain.extend_from_slice(block);
        }
        patch(&mut plain);
        put_long(&mut output, count);
        put_sized(&mut output, &plain);
        output.extend_from_slice(input.take(16)?);
    }
    Some(output)
}

struct Avro<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Avro<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at + length)?;
        self.at += length;
        Some(taken)
    }

    /// A zigzag variable-length integer.
    fn long(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.long()?).ok()?;
        self.take(length)
    }
}

fn put_long(output: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        output.push(value as u8 | 0x80);
        value >>= 7;
    }
    output.push(value as u8);
}

fn put_sized(output: &mut Vec<u8>, bytes: &[u8]) {
    put_long(output, bytes.len() as i64);
    output.extend_from_slice(bytes);
}
