//! What a started function came to: a value on its way back, or why there is none, as data.

use super::parcel::{Kind, Parcel};
use crate::codec::show::error_text;
use crate::codec::{self, CodecError, Wire};
use crate::gate::PrivateFd;
use crate::travel::{self, Pins};
use crate::unwind::{PanicReport, catch};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
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
    Value { bytes: Vec<u8>, handles: Vec<OwnedFd>, pins: Pins, error: Option<String> },
    /// No result.
    Failed(Failure),
}

/// Calls `body`, which runs the user's function, and encodes what it gives.
pub(crate) fn of_call<R: Wire>(body: impl FnOnce() -> R) -> Outcome {
    // Serialize, Deserialize and Drop of the result are the user's code too.
    let called = catch(|| {
        let value = body();
        let ((bytes, handles), pins) = travel::once(|| codec::encode_checked_with_handles::<R, R>(&value))?;
        Ok::<_, CodecError>(Outcome::Value { bytes, handles, pins, error: error_text(&value) })
    });
    match called {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => Outcome::Failed(Failure::BadResult(error.to_string())),
        Err(report) => Outcome::Failed(Failure::Panicked(report)),
    }
}

impl Outcome {
    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Value { error: None, .. })
    }

    /// What went wrong, unless it has been printed: a panic prints itself.
    pub(super) fn complaint(&self) -> Option<String> {
        match self {
            Self::Value { error, .. } => error.as_ref().map(|error| format!("returned an error: {error}")),
            Self::Failed(Failure::Panicked(_)) => None,
            Self::Failed(failure) => Some(failure.to_string()),
        }
    }

    /// The message to the parent, and the handles of shared objects in it.
    pub(super) fn into_parcel(self) -> (Parcel, Pins) {
        match self {
            Self::Value { bytes, handles, pins, .. } => (Parcel { kind: Kind::Value, bytes, handles }, pins),
            Self::Failed(failure) => {
                // A failure is strings and unit variants: it encodes. If memory ran out, an empty one still says "failed".
                let bytes = codec::encode(&failure).unwrap_or_default();
                (Parcel { kind: Kind::Failure, bytes, handles: Vec::new() }, Pins::default())
            }
        }
    }
}

/// The parent's end of a start socket: where the result of one child arrives. Copies share it.
#[derive(Debug, Clone)]
pub struct Reply(Arc<Mutex<Arrival>>);

/// Where the result is. It arrives at most once.
#[derive(Debug)]
enum Arrival {
    /// In the socket, if it is there yet.
    Awaited(PrivateFd),
    /// Here, since somebody looked at it.
    Here(Parcel),
    /// With whoever took it.
    Taken,
}

impl Reply {
    pub(super) fn new(socket: PrivateFd) -> Self {
        Self(Arc::new(Mutex::new(Arrival::Awaited(socket))))
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
        let parcel = match std::mem::replace(&mut *self.arrival(), Arrival::Taken) {
            Arrival::Awaited(socket) => Parcel::try_receive(&socket)?,
            Arrival::Here(parcel) => Some(parcel),
            Arrival::Taken => None,
        };
        let Some(parcel) = parcel else { return Ok(None) };
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
        if let Arrival::Awaited(socket) = &*arrival
            && let Ok(Some(parcel)) = Parcel::try_receive(socket)
        {
            *arrival = Arrival::Here(parcel);
        }
        match &*arrival {
            Arrival::Here(parcel) if parcel.kind == Kind::Failure => codec::decode(&parcel.bytes).ok(),
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
