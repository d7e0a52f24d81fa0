//! What a started function came to: a value on its way back, or why there is none, as data.

use super::parcel::{Kind, Parcel};
use crate::codec::show::error_text;
use crate::codec::{self, CodecError, Wire};
use crate::gate::PrivateFd;
use crate::travel::{self, Kept};
use crate::unwind::{PanicReport, catch};
use crate::{Error, Result};
use nix::sys::socket::{Shutdown, shutdown};
use serde::{Deserialize, Serialize};
use std::any::TypeId;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why a function in another process gave no value. It travels as data, so it never fails to arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The function panicked.
    #[error("panicked: {}{}", .0.message, at(&.0.location))]
    Panicked(PanicReport),
    /// Its arguments arrived, but could not be turned into values.
    #[error("its arguments could not be read: {0}")]
    BadArguments(String),
    /// It returned, but its result cannot travel.
    #[error("its result cannot be sent: {0}")]
    BadResult(String),
    /// It was not called at all.
    #[error("it could not be called: {0}")]
    NotCalled(String),
}

fn at(location: &Option<String>) -> String {
    location.as_ref().map(|place| format!(", at {place}")).unwrap_or_default()
}

/// What the child sends before it leaves.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An encoded result; if it is an `Err`, with a text of it for people.
    Value { bytes: Vec<u8>, handles: Vec<OwnedFd>, kept: Kept, error: Option<String> },
    /// No result.
    Failed(Failure),
}

/// Calls `body`, which runs the user's function, and encodes what it gives.
#[inline]
pub(crate) fn of_call<R: Wire>(body: impl FnOnce() -> R) -> Outcome {
    // Serialize, Deserialize and Drop of the result are the user's code too.
    let called = catch(|| {
        let value = body();
        if TypeId::of::<R>() == TypeId::of::<()>() {
            return Ok(Outcome::nothing());
        }
        let ((bytes, handles), kept) = travel::often(|| codec::encode_checked_with_handles::<R, R>(&value))?;
        Ok::<_, CodecError>(Outcome::Value { bytes, handles, kept, error: error_text(&value) })
    });
    match called {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => Outcome::Failed(Failure::BadResult(error.to_string())),
        Err(report) => Outcome::Failed(Failure::Panicked(report)),
    }
}

impl Outcome {
    /// The result of a function without one. There is nothing to encode, which spares a copy by fork all the code that would.
    fn nothing() -> Self {
        Self::Value { bytes: Vec::new(), handles: Vec::new(), kept: Kept::default(), error: None }
    }

    #[inline]
    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Value { error: None, .. })
    }

    /// What went wrong, unless it has been printed: a panic prints itself.
    #[inline]
    pub(super) fn complaint(&self) -> Option<String> {
        match self {
            Self::Value { error, .. } => error.as_ref().map(|error| format!("returned an error: {error}")),
            Self::Failed(Failure::Panicked(_)) => None,
            Self::Failed(failure) => Some(failure.to_string()),
        }
    }

    /// Sends it to the parent, before this process leaves. So what holds nothing but memory is not dropped: in a copy by fork, the
    /// code for that would have to be mapped.
    ///
    /// The handles of shared objects in it go ahead of it, since whoever gives a result up knows nothing of its bytes, but can take
    /// those up.
    #[inline]
    pub(super) fn send(self, socket: &PrivateFd) -> Result<()> {
        let (parcel, kept) = self.into_parcel();
        let (parcel, kept) = (ManuallyDrop::new(parcel), ManuallyDrop::new(kept));
        if !kept.is_empty() {
            send_ahead(&kept, socket)?;
        }
        let sent = parcel.send(socket);
        if !parcel.handles.is_empty() {
            drop(ManuallyDrop::into_inner(parcel));
        }
        if !kept.is_empty() {
            drop(ManuallyDrop::into_inner(kept));
        }
        sent
    }

    #[inline]
    fn into_parcel(self) -> (Parcel, Kept) {
        match self {
            Self::Value { bytes, handles, kept, .. } => (Parcel { kind: Kind::Value, bytes, handles }, kept),
            Self::Failed(failure) => {
                // A failure is strings and unit variants: it encodes. If memory ran out, an empty one still says "failed".
                let bytes = codec::encode(&failure).unwrap_or_default();
                (Parcel { kind: Kind::Failure, bytes, handles: Vec::new() }, Kept::default())
            }
        }
    }
}

fn send_ahead(kept: &Kept, socket: &PrivateFd) -> Result<()> {
    let (bytes, pins) = travel::once(|| codec::encode(kept))?;
    Parcel { kind: Kind::Luggage, bytes, handles: Vec::new() }.send(socket)?;
    pins.leave();
    Ok(())
}

/// The parent's end of a start socket: where the result of one child arrives. Copies share it.
#[derive(Debug, Clone)]
pub struct Reply(Arc<Mutex<Arrival>>);

/// Where the result is. It arrives at most once.
#[derive(Debug)]
enum Arrival {
    /// In the socket, if it is there yet.
    Awaited(Incoming),
    /// Here, since somebody looked at it, with the handles in it.
    Here(Parcel, Kept),
    /// With whoever took it.
    Taken,
}

/// A start socket from which nobody has taken a result yet. Dropped, it gives up what is there.
#[derive(Debug)]
struct Incoming {
    socket: PrivateFd,
    /// The process that made it: for a copy of it, nothing comes here.
    owner: u32,
    /// Handles in the result that follows.
    kept: Kept,
    is_empty: bool,
}

impl Incoming {
    /// The result, if it is there.
    fn try_receive(&mut self) -> Result<Option<(Parcel, Kept)>> {
        while let Some(parcel) = Parcel::try_receive(&self.socket)? {
            if parcel.kind == Kind::Luggage {
                self.kept = codec::decode(&parcel.bytes)?;
            } else {
                self.is_empty = true;
                return Ok(Some((parcel, std::mem::take(&mut self.kept))));
            }
        }
        Ok(None)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_empty && self.owner == std::process::id() {
            // What is sent from now on stays with who sends it.
            let _ = shutdown(self.socket.as_fd().as_raw_fd(), Shutdown::Read);
            let _ = self.try_receive();
        }
    }
}

impl Reply {
    pub(super) fn new(socket: PrivateFd) -> Self {
        let (owner, kept) = (std::process::id(), Kept::default());
        Self(Arc::new(Mutex::new(Arrival::Awaited(Incoming { socket, owner, kept, is_empty: false }))))
    }

    /// Gives up the result, and the descriptor with it.
    pub fn close(&self) {
        *self.arrival() = Arrival::Taken;
    }

    /// Takes the result that a child which has ended left behind.
    ///
    /// `Ok(None)` when it left none: it was ended by a signal or called `exit`; also when the result was taken before.
    ///
    /// # Errors
    ///
    /// The outer error: bytes that are not a result of type `R`. The inner one: why the function gave no value.
    pub fn take<R: Wire>(&self) -> Result<Option<Result<R, Failure>>> {
        let arrival = std::mem::replace(&mut *self.arrival(), Arrival::Taken);
        let arrived = match arrival {
            Arrival::Awaited(mut incoming) => incoming.try_receive()?,
            Arrival::Here(parcel, kept) => Some((parcel, kept)),
            Arrival::Taken => None,
        };
        // What is decoded has handles of its own.
        let Some((parcel, _kept)) = arrived else { return Ok(None) };
        match parcel.kind {
            Kind::Value => Ok(Some(Ok(read_value(&parcel.bytes, parcel.handles)?))),
            Kind::Failure => Ok(Some(Err(codec::decode(&parcel.bytes)?))),
            _ => Err(Error::Malformed { what: "result of a process" }),
        }
    }

    /// Why a child that has ended gave no value, as far as it could say; takes nothing.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let mut arrival = self.arrival();
        if let Arrival::Awaited(incoming) = &mut *arrival
            && let Ok(Some((parcel, kept))) = incoming.try_receive()
        {
            *arrival = Arrival::Here(parcel, kept);
        }
        match &*arrival {
            Arrival::Here(parcel, _) if parcel.kind == Kind::Failure => codec::decode(&parcel.bytes).ok(),
            _ => None,
        }
    }

    fn arrival(&self) -> MutexGuard<'_, Arrival> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decodes with the user's `Deserialize`, whose panic must not cost this process its life.
fn read_value<R: Wire>(bytes: &[u8], handles: Vec<OwnedFd>) -> Result<R> {
    match catch(|| codec::decode_with_handles(bytes, handles)) {
        Ok(value) => Ok(value?),
        Err(report) => Err(CodecError::Decode {
            type_name: std::any::type_name::<R>(),
            reason: format!("its `Deserialize` panicked: {}", report.message),
        }
        .into()),
    }
}
