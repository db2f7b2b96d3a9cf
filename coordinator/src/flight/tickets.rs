//! Names that clients carry between two requests: of a result that waits to be fetched, and of a
//! statement that is being polled.
//!
//! A name holds a random handle, its session and a time, and is signed with a key that this process
//! alone has. So whatever arrives was given out here, to that session, and is not too old; what it
//! stands for stays on this side.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use ring::hmac;
use ring::rand::SystemRandom;
use uuid::Uuid;

use crate::{Error, Result};

/// What a name stands for: one of these is never taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Purpose {
    Unspecified = 0,
    /// The result of a statement, to be fetched.
    Result = 1,
    /// A statement that runs, to be asked after.
    Poll = 2,
    /// The result of a statement that gives no rows: nothing is kept for whoever fetches it.
    Nothing = 3,
}

/// What a name says.
#[derive(Clone, PartialEq, prost::Message)]
struct Claims {
    #[prost(enumeration = "Purpose", tag = "1")]
    purpose: i32,
    #[prost(string, tag = "2")]
    handle: String,
    #[prost(bytes = "vec", tag = "3")]
    session: Vec<u8>,
    /// Seconds since 1970.
    #[prost(uint64, tag = "4")]
    expires: u64,
}

/// The form in which a name travels.
#[derive(Clone, PartialEq, prost::Message)]
struct Signed {
    /// Encoded [`Claims`]: what is signed are these bytes, as they are.
    #[prost(bytes = "vec", tag = "1")]
    claims: Vec<u8>,
    /// Their HMAC-SHA256.
    #[prost(bytes = "vec", tag = "2")]
    tag: Vec<u8>,
}

/// A name that was found to be ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) handle: String,
    /// The session that it was given to.
    pub(super) session: Uuid,
}

/// Makes names and reads them.
pub(super) struct Signer {
    key: hmac::Key,
}

impl Signer {
    /// With a key of its own.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn new() -> Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| Error::Serve {
            address: "Flight SQL".to_owned(),
            why: "the system gave no random numbers for the key of tickets".to_owned(),
        })?;
        Ok(Self { key })
    }

    /// A name that is good until `expires`.
    pub(super) fn sign(&self, purpose: Purpose, name: &Name, expires: SystemTime) -> Bytes {
        let claims = Claims {
            purpose: purpose as i32,
            handle: name.handle.clone(),
            session: name.session.as_bytes().to_vec(),
            expires: seconds(expires),
        };
        let claims = claims.encode_to_vec();
        let tag = hmac::sign(&self.key, &claims).as_ref().to_vec();
        Bytes::from(Signed { claims, tag }.encode_to_vec())
    }

    /// Reads the name of a statement that is polled.
    ///
    /// # Errors
    /// [`Error::Request`] for one that was not made here, [`Error::NotFound`] for one that is too
    /// old.
    pub(super) fn read_poll(&self, bytes: &[u8]) -> Result<Name> {
        let (_, name) = self.read("descriptor", &[Purpose::Poll], bytes)?;
        Ok(name)
    }

    /// Reads a ticket: [`Purpose::Result`] or [`Purpose::Nothing`].
    ///
    /// # Errors
    /// As [`Self::read_poll`].
    pub(super) fn read_ticket(&self, bytes: &[u8]) -> Result<(Purpose, Name)> {
        self.read("ticket", &[Purpose::Result, Purpose::Nothing], bytes)
    }

    fn read(&self, what: &str, purposes: &[Purpose], bytes: &[u8]) -> Result<(Purpose, Name)> {
        let foreign = || {
            Error::Request(format!(
                "the {what} is not one of this coordinator, or it was restarted since; run the \
                 statement again"
            ))
        };
        let signed = Signed::decode(bytes).map_err(|_| foreign())?;
        // In constant time.
        hmac::verify(&self.key, &signed.claims, &signed.tag).map_err(|_| foreign())?;
        let claims = Claims::decode(&*signed.claims).map_err(|_| foreign())?;
        let purpose = claims.purpose();
        if !purposes.contains(&purpose) {
            return Err(foreign());
        }
        let session = Uuid::from_slice(&claims.session).map_err(|_| foreign())?;
        if claims.expires < seconds(SystemTime::now()) {
            return Err(expired());
        }
        let handle = claims.handle;
        Ok((purpose, Name { handle, session }))
    }
}

/// The error of a name whose time is over.
pub(super) fn expired() -> Error {
    Error::NotFound(
        "this result was fetched already, or waited too long; run the statement again".to_owned(),
    )
}

/// A time as Flight's messages have it.
pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    prost_types::Timestamp::from(time)
}

/// The time so much later.
pub(super) fn in_future(time: Duration) -> SystemTime {
    let now = SystemTime::now();
    now.checked_add(time).unwrap_or(now)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name() -> Name {
        Name {
            handle: "handle".to_owned(),
            session: Uuid::new_v4(),
        }
    }

    #[test]
    fn only_what_was_signed_here_is_read() {
        let signer = Signer::new().unwrap();
        let name = name();
        let bytes = signer.sign(Purpose::Result, &name, in_future(Duration::from_secs(60)));
        assert_eq!(signer.read_ticket(&bytes).unwrap(), (Purpose::Result, name));
        let is_foreign = |error: Error| matches!(error, Error::Request(_));
        assert!(is_foreign(signer.read_poll(&bytes).unwrap_err()));
        let other = Signer::new().unwrap();
        assert!(is_foreign(other.read_ticket(&bytes).unwrap_err()));
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            let read = signer.read_ticket(&changed);
            assert!(is_foreign(read.unwrap_err()), "byte {at}");
            let cut = signer.read_ticket(&bytes[..at]);
            assert!(is_foreign(cut.unwrap_err()), "cut at {at}");
        }
    }

    #[test]
    fn a_name_does_not_live_for_ever() {
        let signer = Signer::new().unwrap();
        let past = SystemTime::now() - Duration::from_secs(5);
        let bytes = signer.sign(Purpose::Result, &name(), past);
        let error = signer.read_ticket(&bytes).unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error}");
    }
}
