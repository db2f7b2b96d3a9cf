//! Deletion vectors: the blob `deletion-vector-v1` of Puffin files.
//!
//! ```text
//! 4 bytes  length of magic and bitmap, big endian
//! 4 bytes  magic D1 D3 39 64
//! n bytes  64-bit Roaring bitmap, portable serialization: number of 32-bit bitmaps (u64), then for
//!          each its high half (u32) and the bitmap, all little endian
//! 4 bytes  CRC-32 of magic and bitmap, big endian
//! ```
//!
//! Source: Puffin specification, "deletion-vector-v1 blob type".

use roaring::RoaringTreemap;

const MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];

/// Bytes around the bitmap: length, magic and checksum.
const FRAME_BYTES: usize = 12;

/// Largest position that the specification allows: the high half is a non-negative 32-bit number.
const MAX_POSITION: u64 = (i32::MAX as u64) << 32 | u32::MAX as u64;

/// Decodes a deletion vector.
///
/// # Errors
/// A sentence saying what about the blob is wrong.
pub fn decode(blob: &[u8]) -> Result<RoaringTreemap, String> {
    let too_short = || format!("a deletion vector of {} bytes is too short", blob.len());
    if blob.len() < FRAME_BYTES {
        return Err(too_short());
    }
    let (length, rest) = blob.split_first_chunk::<4>().ok_or_else(too_short)?;
    let (body, checksum) = rest.split_last_chunk::<4>().ok_or_else(too_short)?;
    let length = u32::from_be_bytes(*length) as usize;
    if length != body.len() {
        return Err(format!(
            "the deletion vector says it has {length} bytes, the manifest leaves {}",
            body.len()
        ));
    }
    if crc32fast::hash(body) != u32::from_be_bytes(*checksum) {
        return Err("the deletion vector's checksum does not match".to_owned());
    }
    let bitmap = body
        .strip_prefix(&MAGIC)
        .ok_or("the deletion vector does not begin with its magic number")?;
    let mut input = bitmap;
    let rows = RoaringTreemap::deserialize_from(&mut input)
        .map_err(|error| format!("the deletion vector's bitmap is broken: {error}"))?;
    if !input.is_empty() {
        return Err(format!(
            "{} bytes follow the deletion vector's bitmap",
            input.len()
        ));
    }
    match rows.max() {
        Some(max) if max > MAX_POSITION => Err(format!("position {max} is out of range")),
        _ => Ok(rows),
    }
}

/// Encodes a deletion vector: the counterpart of [`decode`].
///
/// # Errors
/// When the bitmap is larger than the format's 32-bit length allows.
pub fn encode(rows: &RoaringTreemap) -> Result<Vec<u8>, String> {
    let mut body = MAGIC.to_vec();
    rows.serialize_into(&mut body)
        .map_err(|error| error.to_string())?;
    let length = u32::try_from(body.len()).map_err(|_| "the bitmap is too large".to_owned())?;
    let mut blob = length.to_be_bytes().to_vec();
    blob.extend_from_slice(&body);
    blob.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    Ok(blob)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn vectors_survive_a_round_trip() {
        let rows: RoaringTreemap = [0, 1, 7, 1 << 20, (1 << 33) + 5].into_iter().collect();
        assert_eq!(decode(&encode(&rows).unwrap()).unwrap(), rows);
        let none = RoaringTreemap::new();
        assert_eq!(decode(&encode(&none).unwrap()).unwrap(), none);
    }

    #[test]
    fn what_is_broken_is_named() {
        let good = encode(&[3, 9].into_iter().collect()).unwrap();
        let mut bits = good.clone();
        bits[10] ^= 1;
        assert!(decode(&bits).unwrap_err().contains("checksum"));
        assert!(
            decode(&good[..good.len() - 1])
                .unwrap_err()
                .contains("leaves")
        );
        assert!(decode(&[]).unwrap_err().contains("too short"));
        let far: RoaringTreemap = [1 << 63].into_iter().collect();
        assert!(
            decode(&encode(&far).unwrap())
                .unwrap_err()
                .contains("range")
        );
    }

    #[test]
    fn garbage_does_not_panic() {
        let good = encode(&(0..5000).map(|n| n * 3).collect()).unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..5000 {
            let mut blob = good.clone();
            for _ in 0..random.usize(1..5) {
                let at = random.usize(..blob.len());
                blob[at] = random.u8(..);
            }
            blob.truncate(random.usize(..=blob.len()));
            let _ = decode(&blob);
            // Past the frame, so that the bitmap's decoder sees garbage too.
            let body = &blob[4.min(blob.len())..];
            let mut framed = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
            framed.extend_from_slice(body);
            framed.extend_from_slice(&crc32fast::hash(body).to_be_bytes());
            let _ = decode(&framed);
        }
    }
}
