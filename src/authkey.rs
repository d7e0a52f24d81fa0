//! The key of the family: what processes prove to each other that they know, before one decodes a byte of the other.

use crate::Result;
use procession_ipc::authkey as ipc;
use std::fmt;

/// A secret that processes share.
///
/// `Debug` does not show it. It has no serde, so it cannot get into an argument, a message or a log by mistake; children get
/// the key of their parent over the socket by which they are started.
///
/// ```compile_fail
/// # use procession::{Process, authkey};
/// let process = Process::spawn(|key: procession::AuthKey| (), (authkey()?,))?;
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias = "AuthenticationString")]
pub struct AuthKey(ipc::AuthKey);

impl AuthKey {
    /// A key with these bytes.
    ///
    /// # Errors
    ///
    /// No bytes ([`ErrorKind::EmptyKey`](crate::ErrorKind::EmptyKey)): an empty key proves nothing.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self> {
        Ok(Self(ipc::AuthKey::new(bytes.as_ref())?))
    }

    /// A new key that nobody can guess: 32 random bytes.
    ///
    /// # Errors
    ///
    /// The kernel has no random bytes ([`ErrorKind::Os`](crate::ErrorKind::Os)).
    pub fn random() -> Result<Self> {
        Ok(Self(ipc::AuthKey::random()?))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Never shows the bytes.
impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The key of this process: Python's `current_process().authkey`.
///
/// The root of the family makes one when it is first needed; every other process has the one that its parent had when it
/// was started.
///
/// # Errors
///
/// As [`AuthKey::random`].
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
/// use procession::authkey;
///
/// fn same_as(bytes: Vec<u8>) -> bool {
///     authkey().is_ok_and(|key| key.as_bytes() == bytes)
/// }
///
/// let key = authkey()?;
/// assert_eq!(format!("{key:?}"), "AuthKey(..)");
/// assert!(Process::spawn(same_as, (key.as_bytes().to_vec(),))?.result()?);
/// # Ok::<(), Error>(())
/// ```
pub fn authkey() -> Result<AuthKey> {
    Ok(AuthKey(ipc::authkey()?))
}

/// Gives this process another key, and with it the children that it starts from now on.
///
/// An actor takes the key that its process has when it starts; callers use the one that they have when they connect. So a
/// process with another key is refused ([`ErrorKind::NotAuthenticated`](crate::ErrorKind::NotAuthenticated)) by actors that
/// were there before.
///
/// # Examples
///
/// ```
/// use procession::{AuthKey, authkey, set_authkey};
///
/// set_authkey(AuthKey::new("a secret that two programs share")?);
/// assert_eq!(authkey()?.as_bytes(), b"a secret that two programs share");
/// # Ok::<(), procession::Error>(())
/// ```
pub fn set_authkey(key: AuthKey) {
    ipc::set_authkey(key.0);
}
