//! The key of the family: what processes prove to each other before one decodes a byte of the other.
//!
//! The root makes it when it is first needed; every child gets it over its start socket (see `start::key`), never by the
//! environment or the command line, and it is not shown by `Debug`.

use crate::gate;
use crate::{Error, Result};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Length of a key that is made here, in bytes.
const LENGTH: usize = 32;

/// A secret that processes share.
#[derive(Clone)]
pub struct AuthKey(Arc<[u8]>);

impl AuthKey {
    /// A key with these bytes.
    ///
    /// # Errors
    ///
    /// No bytes: an empty key proves nothing.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() { Err(Error::EmptyKey) } else { Ok(Self(bytes.into())) }
    }

    /// A new key that nobody can guess.
    ///
    /// # Errors
    ///
    /// The kernel has no random bytes.
    pub fn random() -> Result<Self> {
        Self::new(&random_bytes::<LENGTH>()?)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Never shows the bytes.
impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(..)")
    }
}

static KEY: Mutex<Option<AuthKey>> = Mutex::new(None);

/// What the use of the key is to a fork that waits for it.
const KEY_IN_USE: &str = "the key of the family";

/// The caller is inside the gate.
fn slot() -> MutexGuard<'static, Option<AuthKey>> {
    KEY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key of this process: the one it was given, or, in the root, one that is made now.
///
/// # Errors
///
/// The kernel has no random bytes.
pub fn authkey() -> Result<AuthKey> {
    let _passage = gate::enter(KEY_IN_USE);
    let mut slot = slot();
    if let Some(key) = &*slot {
        return Ok(key.clone());
    }
    Ok(slot.insert(AuthKey::random()?).clone())
}

/// Gives this process, and the children that it starts from now on, another key.
pub fn set_authkey(key: AuthKey) {
    let _passage = gate::enter(KEY_IN_USE);
    *slot() = Some(key);
}

/// Bytes that nobody can guess.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::os("get random bytes", std::io::Error::other(error)))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_not_shown() {
        let key = authkey().unwrap();
        assert_eq!(key.as_bytes(), authkey().unwrap().as_bytes());
        assert_eq!(key.as_bytes().len(), LENGTH);
        assert_eq!(format!("{:?}", AuthKey::new(b"secret").unwrap()), "AuthKey(..)");
        assert!(matches!(AuthKey::new(b""), Err(Error::EmptyKey)));
    }
}
