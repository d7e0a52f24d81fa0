//! Proving to each other that both know the key, before anything else is said: CPython's challenge, in the form of 3.12.
//!
//! ```text
//! listener                                          dialer
//! #CHALLENGE#{sha256}<40 random bytes>          ->
//!                                               <-  {sha256}<HMAC of everything after #CHALLENGE#>
//! #WELCOME#, or #FAILURE# and the end           ->
//!                                               <-  #CHALLENGE#{sha256}<40 random bytes>
//! {sha256}<HMAC>                                ->
//!                                               <-  #WELCOME#, or #FAILURE# and the end
//! ```
//!
//! Each message is one frame of [`connection`](super), of at most 256 bytes. A [`Handshake`] does no input and
//! output of its own: it is fed with messages and says what to send, so blocking and asynchronous callers share it.
//!
//! The listener proves itself only after the dialer has, so nobody can use it to answer challenges. The MACs are compared
//! in constant time. A handshake says nothing about what follows: no encryption, no integrity (Unix sockets need none).

use super::frame;
use crate::authkey::{AuthKey, random_bytes};
use crate::{Error, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Longest message of a handshake, in bytes: more is not read from a peer that has proved nothing.
pub(super) const MAX_MESSAGE: usize = 256;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";
const DIGEST: &[u8] = b"{sha256}";

/// Random bytes in a challenge.
const RANDOM: usize = 40;

/// Which of the two proofs is under way: first the dialer proves itself, then the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    First,
    Second,
}

/// What is waited for.
#[derive(Debug)]
enum Awaited {
    /// The answer to this, which was sent as a challenge.
    Answer(Vec<u8>),
    /// A challenge.
    Challenge,
    /// Whether the answer was right.
    Verdict,
}

/// Where one side of a handshake is.
#[derive(Debug)]
pub struct Handshake {
    key: AuthKey,
    proof: Proof,
    awaited: Awaited,
}

impl Handshake {
    /// The side that was called. `out` gets the first message.
    ///
    /// # Errors
    ///
    /// The kernel has no random bytes.
    pub fn listener(key: AuthKey, out: &mut Vec<u8>) -> Result<Self> {
        let awaited = Awaited::Answer(challenge(out)?);
        Ok(Self { key, proof: Proof::First, awaited })
    }

    /// The side that calls; the other one speaks first.
    #[must_use]
    pub fn dialer(key: AuthKey) -> Self {
        Self { key, proof: Proof::First, awaited: Awaited::Challenge }
    }

    /// Takes the next message; `out` gets the frames to send, also when this is an error. Says whether all is proved.
    ///
    /// # Errors
    ///
    /// [`Error::NotAuthenticated`]: the other side does not know the key, or says that we do not.
    pub fn receive(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let is_last = self.proof == Proof::Second;
        match &self.awaited {
            Awaited::Answer(challenge) => {
                if !is_answer(&self.key, challenge, message) {
                    frame::put(FAILURE, out);
                    return Err(Error::NotAuthenticated);
                }
                frame::put(WELCOME, out);
                (self.awaited, self.proof) = (Awaited::Challenge, Proof::Second);
                Ok(is_last)
            }
            Awaited::Challenge => {
                let asked = message.strip_prefix(CHALLENGE).filter(|asked| is_challenge(asked));
                frame::put(&answer(&self.key, asked.ok_or(Error::NotAuthenticated)?)?, out);
                self.awaited = Awaited::Verdict;
                Ok(false)
            }
            Awaited::Verdict if message != WELCOME => Err(Error::NotAuthenticated),
            Awaited::Verdict if is_last => Ok(true),
            Awaited::Verdict => {
                (self.awaited, self.proof) = (Awaited::Answer(challenge(out)?), Proof::Second);
                Ok(false)
            }
        }
    }
}

/// The first message of `have` and the bytes that it takes up there, if all of it is there.
///
/// # Errors
///
/// A message that is too long for a handshake; nothing more should be read.
pub fn next_message(have: &[u8]) -> Result<Option<(&[u8], usize)>> {
    frame::whole(have, MAX_MESSAGE)
}

/// Sends a new challenge, and keeps what its answer must be for.
fn challenge(out: &mut Vec<u8>) -> Result<Vec<u8>> {
    let asked = [DIGEST, &random_bytes::<RANDOM>()?].concat();
    frame::put(&[CHALLENGE, &asked].concat(), out);
    Ok(asked)
}

fn is_challenge(asked: &[u8]) -> bool {
    asked.strip_prefix(DIGEST).is_some_and(|random| random.len() >= RANDOM)
}

fn mac(key: &AuthKey, asked: &[u8]) -> Result<Hmac<Sha256>> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|_| Error::Malformed { what: "key" })?;
    mac.update(asked);
    Ok(mac)
}

fn answer(key: &AuthKey, asked: &[u8]) -> Result<Vec<u8>> {
    Ok([DIGEST, &mac(key, asked)?.finalize().into_bytes()].concat())
}

/// Compares in constant time.
fn is_answer(key: &AuthKey, asked: &[u8], message: &[u8]) -> bool {
    let proof = message.strip_prefix(DIGEST);
    proof.zip(mac(key, asked).ok()).is_some_and(|(proof, mac)| mac.verify_slice(proof).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> AuthKey {
        AuthKey::new(text.as_bytes()).unwrap()
    }

    /// Takes the frames out of `bytes`.
    fn messages(bytes: &mut Vec<u8>) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some((message, used)) = next_message(bytes).unwrap() {
            all.push(message.to_vec());
            bytes.drain(..used);
        }
        all
    }

    /// Runs both sides; whether each ended well.
    fn meet(listener_key: &str, dialer_key: &str) -> (Result<bool>, Result<bool>) {
        let mut to_dialer = Vec::new();
        let mut to_listener = Vec::new();
        let mut listener = Handshake::listener(key(listener_key), &mut to_dialer).unwrap();
        let mut dialer = Handshake::dialer(key(dialer_key));
        let (mut heard, mut said) = (Ok(false), Ok(false));
        while !(to_dialer.is_empty() && to_listener.is_empty()) {
            for message in messages(&mut to_dialer) {
                said = dialer.receive(&message, &mut to_listener);
            }
            for message in messages(&mut to_listener) {
                heard = listener.receive(&message, &mut to_dialer);
            }
        }
        (heard, said)
    }

    #[test]
    fn both_sides_are_sure_when_the_keys_agree() {
        assert!(matches!(meet("same", "same"), (Ok(true), Ok(true))));
    }

    #[test]
    fn both_sides_refuse_when_they_do_not() {
        let (heard, said) = meet("one", "other");
        assert!(matches!(heard, Err(Error::NotAuthenticated)), "{heard:?}");
        assert!(matches!(said, Err(Error::NotAuthenticated)), "{said:?}");
    }

    #[test]
    fn nothing_but_the_next_message_is_accepted() {
        let garbage: [&[u8]; 7] = [
            b"",
            b"#WELCOME#",
            b"#FAILURE#",
            b"#CHALLENGE#",
            b"#CHALLENGE#{md5}01234567890123456789",
            DIGEST,
            &[0xff; MAX_MESSAGE],
        ];
        for message in garbage {
            let mut out = Vec::new();
            assert!(Handshake::dialer(key("k")).receive(message, &mut out).is_err(), "{message:?}");
            let mut listener = Handshake::listener(key("k"), &mut out).unwrap();
            assert!(listener.receive(message, &mut out).is_err(), "{message:?}");
        }
    }

    /// What CPython 3.12 computes for this key and challenge:
    /// `hmac.new(b"key", b"{sha256}" + b"x" * 40, "sha256").hexdigest()`.
    #[test]
    fn an_answer_is_the_one_that_cpython_gives() {
        let asked = [DIGEST, &[b'x'; RANDOM]].concat();
        let hex: String = answer(&key("key"), &asked).unwrap()[DIGEST.len()..]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "fc6e095716948559f532f6b59bd051557239f32978aa33681f9fb3c610cb3af3");
    }
}
