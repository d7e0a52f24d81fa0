//! One call in flight, and what its answer's bytes mean.

use super::{CallError, NoError};
use procession_ipc::call::frame::{HEADER, Status, begin};
use procession_ipc::call::{Answer, Caller, Ticket};
use procession_ipc::codec::{self, CodecError, Wire};
use procession_ipc::travel;
use procession_ipc::unwind::{PanicReport, catch};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A call of an actor's method whose answer is not taken yet: what the `_async` twin of a method returns.
///
/// The call is on its way already, before this is awaited; calls of one process arrive in the order in which they were
/// made. Await it under any executor, or [`wait`](Self::wait) for it. When it is dropped the answer is given up, and the
/// method runs all the same.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Counter { total: i64 }
/// # #[procession::actor]
/// # impl Counter {
/// #     pub fn add(&mut self, n: i64) -> i64 { self.total += n; self.total }
/// # }
/// let counter = ActorProcess::spawn(Counter { total: 0 })?;
/// let calls: Vec<Call<i64>> = (0..100).map(|_| counter.add_async(1)).collect();
/// for (n, call) in (1..).zip(calls) {
///     assert_eq!(call.wait()?, n);
/// }
/// # Ok::<(), Error>(())
/// ```
#[must_use = "the method is called, but nobody sees whether it failed"]
pub struct Call<R, E = NoError> {
    sent: Option<Result<Ticket, CallError<E>>>,
    method: &'static str,
    result: PhantomData<fn() -> R>,
}

impl<R: Wire, E: Wire> Call<R, E> {
    /// Waits for the answer on the calling thread.
    ///
    /// # Errors
    ///
    /// The method's own, or why there is no answer.
    pub fn wait(mut self) -> Result<R, CallError<E>> {
        match self.sent.take() {
            Some(Ok(ticket)) => settle(ticket, self.method),
            Some(Err(error)) => Err(error),
            None => Err(taken(self.method)),
        }
    }
}

/// Resolves to the method's value. Asked again after that, it fails.
impl<R: Wire, E: Wire> Future for Call<R, E> {
    type Output = Result<R, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let method = self.method;
        let answer = match &mut self.sent {
            Some(Ok(ticket)) => match ticket.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(answer) => answer,
            },
            Some(Err(_)) | None => {
                let refused = self.sent.take().and_then(Result::err);
                return Poll::Ready(Err(refused.unwrap_or_else(|| taken(method))));
            }
        };
        self.sent = None;
        Poll::Ready(match answer {
            Ok(answer) => open(&answer, method),
            Err(failure) => Err(CallError::of_failure(failure, method)),
        })
    }
}

// Nothing in it is pinned: the error is never awaited.
impl<R, E> Unpin for Call<R, E> {}

impl<R, E> fmt::Debug for Call<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).finish_non_exhaustive()
    }
}

fn taken<E>(method: &'static str) -> CallError<E> {
    CallError::BadResult { method, reason: "it was taken already".to_owned() }
}

/// Encodes a call, which the other side reads as an `M`, and sends it.
fn send<M: Deserialize<'static>, C: Serialize, E>(
    caller: &Caller,
    method: &'static str,
    call: &C,
) -> Result<Ticket, CallError<E>> {
    let mut frame = Vec::with_capacity(HEADER + 64);
    begin(&mut frame);
    let encoded = travel::once(|| codec::encode_checked::<C, M>(call, &mut frame));
    let ((), pins) = encoded.map_err(|error| CallError::BadArguments {
        method,
        sent: false,
        reason: error.to_string(),
    })?;
    let ticket = caller.send(frame).map_err(|failure| CallError::of_failure(failure, method))?;
    pins.leave();
    Ok(ticket)
}

/// Calls a method and waits for its answer.
#[doc(hidden)]
#[allow(clippy::missing_errors_doc)]
pub fn call<M: Deserialize<'static>, C: Serialize, R: Wire, E: Wire>(
    caller: &Caller,
    method: &'static str,
    call: &C,
) -> Result<R, CallError<E>> {
    caller.check_wait().map_err(|failure| CallError::of_failure(failure, method))?;
    settle(send::<M, C, E>(caller, method, call)?, method)
}

/// Calls a method and waits for nothing.
#[doc(hidden)]
pub fn call_async<M: Deserialize<'static>, C: Serialize, R, E>(
    caller: &Caller,
    method: &'static str,
    call: &C,
) -> Call<R, E> {
    let sent = send::<M, C, E>(caller, method, call).and_then(|ticket| match ticket.set_off() {
        Ok(()) => Ok(ticket),
        Err(error) => Err(CallError::Unreachable(error.into())),
    });
    Call { sent: Some(sent), method, result: PhantomData }
}

fn settle<R: Wire, E: Wire>(ticket: Ticket, method: &'static str) -> Result<R, CallError<E>> {
    match ticket.wait() {
        Ok(answer) => open(&answer, method),
        Err(failure) => Err(CallError::of_failure(failure, method)),
    }
}

/// Makes a result of an answer's bytes.
fn open<R: Wire, E: Wire>(answer: &Answer, method: &'static str) -> Result<R, CallError<E>> {
    let payload = &answer.payload;
    let read = || {
        Ok::<_, CodecError>(Err(match answer.status {
            Status::Value => return codec::decode_wire(payload).map(Ok),
            Status::Error => CallError::Method(codec::decode_wire(payload)?),
            Status::Panicked => CallError::of_panic(codec::decode::<PanicReport>(payload)?, method),
            Status::BadMessage => {
                CallError::BadArguments { method, sent: true, reason: codec::decode(payload)? }
            }
            Status::BadResult => CallError::BadResult { method, reason: codec::decode(payload)? },
            Status::Goodbye => CallError::ActorStopped { method },
        }))
    };
    // `Deserialize` is the user's code: its panic must not look like one of ours.
    let reason = match catch(read) {
        Ok(Ok(result)) => return result,
        Ok(Err(error)) => error.to_string(),
        Err(report) => format!("its `Deserialize` panicked: {}", report.message),
    };
    Err(CallError::BadResult { method, reason })
}

/// The two types of a `Result`, also of an alias that hides one.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named like a `Result`, but is none",
    label = "give the type another name, or return a `Result`"
)]
pub trait ResultLike {
    /// What it is when all went well.
    type Ok;
    /// What it is otherwise.
    type Err;
}

impl<T, E> ResultLike for Result<T, E> {
    type Ok = T;
    type Err = E;
}
