//! Tasks: functions that a pool's worker calls again and again.
//!
//! A task's payload is the encoding of a `Vec` of argument items, so one payload is one *chunk*. Its reply is either the
//! encoding of a `Vec` of results, or, as soon as one item fails, of a `Vec` of results and failures: a failing item costs
//! itself only, the rest of its chunk still runs.

use super::descriptor::{Descriptor, Kind, at_offset, offset_of};
use super::outcome::Failure;
use super::target::{Slot, TaskArg, TaskTarget, assert_target, conjure};
use crate::codec::{self, CodecError, Wire};
use crate::unwind::catch;
use crate::{Error, Result};
use std::marker::PhantomData;

/// How to call a chunk of one function: payload in, reply appended.
pub type TaskEntry = fn(&[u8], &mut Vec<u8>) -> ReplyForm;

/// A function as it travels to a worker of the same build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId(pub u64);

/// What a reply's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyForm {
    /// A `Vec<R>`: all items succeeded.
    Values,
    /// A `Vec<Result<R, Failure>>`.
    Mixed,
}

/// A chunk's results.
#[derive(Debug)]
pub enum Results<R> {
    /// All items succeeded.
    Values(Vec<R>),
    /// At least one failed.
    Mixed(Vec<Result<R, Failure>>),
}

#[derive(Debug)]
enum TaskKind {}

impl Kind for TaskKind {
    const MAGIC: [u64; 2] = [0x4fa8_1c6e_93d7_b250, 0xe2b7_650d_8af1_3c94];
    type Run = TaskEntry;
}

struct ItemSite<F, T, M, R>(PhantomData<(F, T, M, R)>);

impl<F, T, M, R> ItemSite<F, T, M, R>
where
    T: TaskArg<M>,
    R: Wire,
    F: for<'a> Fn(T::Param<'a>) -> R + Copy + 'static,
{
    const DESCRIPTOR: &'static Descriptor<TaskKind> = &Descriptor::new(run_items::<F, T, M, R> as TaskEntry);
}

struct TupleSite<F, A, M>(PhantomData<(F, A, M)>);

impl<F, A, M> TupleSite<F, A, M>
where
    F: TaskTarget<A, M, Output: Wire>,
{
    const DESCRIPTOR: &'static Descriptor<TaskKind> = &Descriptor::new(run_tuples::<F, A, M> as TaskEntry);
}

/// The travelling form of a function of one parameter: what `map` needs.
///
/// # Errors
///
/// The function is not part of the main image.
pub fn item_task<F, T, M, R>(_function: F) -> Result<TaskId>
where
    T: TaskArg<M>,
    R: Wire,
    F: for<'a> Fn(T::Param<'a>) -> R + Copy + 'static,
{
    const { assert_target::<F>() };
    offset_of(ItemSite::<F, T, M, R>::DESCRIPTOR, std::any::type_name::<F>()).map(TaskId)
}

/// The travelling form of a function that takes a tuple of arguments: what `apply` needs.
///
/// # Errors
///
/// The function is not part of the main image.
pub fn tuple_task<F, A, M>(_function: F) -> Result<TaskId>
where
    F: TaskTarget<A, M, Output: Wire>,
{
    const { assert_target::<F>() };
    offset_of(TupleSite::<F, A, M>::DESCRIPTOR, std::any::type_name::<F>()).map(TaskId)
}

/// The function behind a [`TaskId`] that came from another process.
///
/// # Errors
///
/// No task of this build has it.
pub fn task_of(id: TaskId) -> Result<TaskEntry> {
    at_offset::<TaskKind>(id.0).map(Descriptor::run)
}

fn run_items<F, T, M, R>(payload: &[u8], reply: &mut Vec<u8>) -> ReplyForm
where
    T: TaskArg<M>,
    R: Wire,
    F: for<'a> Fn(T::Param<'a>) -> R + Copy + 'static,
{
    let function = conjure::<F>();
    run_chunk(payload, reply, |item| {
        let (owned, used) = codec::decode_prefix::<T::Owned>(item)?;
        Ok((used, move || function(T::lend(&mut Slot::new(owned)))))
    })
}

fn run_tuples<F, A, M>(payload: &[u8], reply: &mut Vec<u8>) -> ReplyForm
where
    F: TaskTarget<A, M, Output: Wire>,
{
    let function = conjure::<F>();
    run_chunk(payload, reply, |item| {
        let (owned, used) = codec::decode_prefix::<F::Owned>(item)?;
        Ok((used, move || function.call(owned)))
    })
}

/// Calls each item of a chunk. `prepare` decodes the item at the start of the bytes: its length and the call.
fn run_chunk<R, C>(
    payload: &[u8],
    reply: &mut Vec<u8>,
    prepare: impl Fn(&[u8]) -> Result<(usize, C), CodecError>,
) -> ReplyForm
where
    R: Wire,
    C: FnOnce() -> R,
{
    let Some((count, mut rest)) = payload.split_first_chunk() else {
        let failure = Failure::BadArguments("the chunk has no length".to_owned());
        return send_mixed::<R>(&[Err(failure)], reply);
    };
    let count = usize::try_from(u64::from_le_bytes(*count)).unwrap_or(usize::MAX);
    // An honest chunk has at least a byte an item, or items without bytes, which are few.
    let mut values = Vec::with_capacity(count.min(payload.len()));
    // One gate for the whole run of successes: `values` and `rest` say where a panic happened.
    let caught = catch(|| {
        while values.len() < count {
            let (used, call) = prepare(rest)?;
            rest = &rest[used..];
            values.push(call());
        }
        Ok::<(), CodecError>(())
    });
    let failure = match caught {
        Ok(Ok(())) => return send_values(values, reply),
        Ok(Err(error)) => return send_mixed(&undecodable(values, count, &error), reply),
        Err(report) => Failure::Panicked(report),
    };
    let mut results: Vec<Result<R, Failure>> = values.into_iter().map(Ok).collect();
    results.push(Err(failure));
    send_mixed(&run_rest(results, rest, count, prepare), reply)
}

/// Goes on after the first panic of a chunk, each item behind its own gate.
fn run_rest<R, C>(
    mut results: Vec<Result<R, Failure>>,
    mut rest: &[u8],
    count: usize,
    prepare: impl Fn(&[u8]) -> Result<(usize, C), CodecError>,
) -> Vec<Result<R, Failure>>
where
    C: FnOnce() -> R,
{
    while results.len() < count {
        match catch(|| prepare(rest)) {
            Ok(Ok((used, call))) => {
                rest = &rest[used..];
                results.push(catch(call).map_err(Failure::Panicked));
            }
            Ok(Err(error)) => return undecodable_rest(results, count, &error),
            // A panic of the user's `Deserialize`: where the item ends is unknown, as after an error.
            Err(report) => {
                let why =
                    CodecError::Decode { type_name: std::any::type_name::<R>(), reason: report.message };
                return undecodable_rest(results, count, &why);
            }
        }
    }
    results
}

/// An item that cannot be decoded hides where the next one starts: it and all that follow fail.
fn undecodable<R>(values: Vec<R>, count: usize, error: &CodecError) -> Vec<Result<R, Failure>> {
    undecodable_rest(values.into_iter().map(Ok).collect(), count, error)
}

fn undecodable_rest<R>(
    mut results: Vec<Result<R, Failure>>,
    count: usize,
    error: &CodecError,
) -> Vec<Result<R, Failure>> {
    // The parent knows how many items it sent; one failure stands for a length that is itself nonsense.
    let missing = (count - results.len()).clamp(1, 1 << 16);
    results.extend((0..missing).map(|_| Err(Failure::BadArguments(error.to_string()))));
    results
}

fn send_values<R: Wire>(values: Vec<R>, reply: &mut Vec<u8>) -> ReplyForm {
    let start = reply.len();
    let encoded = catch(|| {
        codec::encode_wire(&values, reply)?;
        codec::check_encoded::<Vec<R>, Vec<R>>(&reply[start..])
    });
    if let Ok(Ok(())) = encoded {
        return ReplyForm::Values;
    }
    reply.truncate(start);
    // Some item's `Serialize` refuses: find out which, the others still count.
    let results = values.into_iter().map(|value| match catch(|| encodable(&value)) {
        Ok(Ok(())) => Ok(value),
        Ok(Err(error)) => Err(Failure::BadResult(error.to_string())),
        Err(report) => Err(Failure::BadResult(format!("its `Serialize` panicked: {}", report.message))),
    });
    send_mixed(&results.collect::<Vec<_>>(), reply)
}

fn encodable<R: Wire>(value: &R) -> Result<(), CodecError> {
    let bytes = codec::encode(value)?;
    codec::check_encoded::<R, R>(&bytes)
}

fn send_mixed<R: Wire>(results: &[Result<R, Failure>], reply: &mut Vec<u8>) -> ReplyForm {
    if let Err(error) = codec::encode_into(results, reply) {
        // Each success was encodable a moment ago; a `Serialize` that changes its mind fails them all.
        let failure = Failure::BadResult(error.to_string());
        let all: Vec<Result<(), Failure>> = results.iter().map(|_| Err(failure.clone())).collect();
        let _ = codec::encode_into(&all, reply);
    }
    ReplyForm::Mixed
}

/// Decodes a reply in the process that sent the chunk of `count` items.
///
/// # Errors
///
/// Bytes that are not `count` results of type `R`.
pub fn read_reply<R: Wire>(form: ReplyForm, bytes: &[u8], count: usize) -> Result<Results<R>, Error> {
    let decoded = catch(|| match form {
        ReplyForm::Values => codec::decode_wire(bytes).map(Results::Values),
        ReplyForm::Mixed => codec::decode(bytes).map(Results::Mixed),
    });
    let results = decoded.unwrap_or_else(|report| {
        let reason = format!("its `Deserialize` panicked: {}", report.message);
        Err(CodecError::Decode { type_name: std::any::type_name::<R>(), reason })
    })?;
    let came = match &results {
        Results::Values(values) => values.len(),
        Results::Mixed(results) => results.len(),
    };
    if came == count { Ok(results) } else { Err(Error::Malformed { what: "number of results in a reply" }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::target::ByValue;

    fn chunk<T: serde::Serialize>(items: &[T]) -> Vec<u8> {
        codec::encode(&items).unwrap()
    }

    fn double(x: u32) -> u32 {
        assert_ne!(x, 13, "unlucky");
        x * 2
    }

    #[test]
    fn a_chunk_gives_its_values_in_order() {
        let entry = task_of(item_task::<_, u32, ByValue, u32>(double).unwrap()).unwrap();
        let mut reply = Vec::new();
        let form = entry(&chunk(&[1_u32, 2, 3]), &mut reply);
        assert!(matches!(read_reply::<u32>(form, &reply, 3).unwrap(), Results::Values(v) if v == [2, 4, 6]));
        assert!(read_reply::<u32>(form, &reply, 4).is_err(), "the count must agree");
    }

    #[test]
    fn a_panicking_item_costs_only_itself() {
        let entry = task_of(item_task::<_, u32, ByValue, u32>(double).unwrap()).unwrap();
        let mut reply = Vec::new();
        let form = entry(&chunk(&[13_u32, 1, 13, 2]), &mut reply);
        let Results::Mixed(results) = read_reply::<u32>(form, &reply, 4).unwrap() else {
            panic!("not mixed")
        };
        let shown: Vec<_> = results.iter().map(|r| r.as_ref().ok().copied()).collect();
        assert_eq!(shown, [None, Some(2), None, Some(4)]);
        assert!(results[0].as_ref().unwrap_err().to_string().contains("unlucky"));
    }

    #[test]
    fn hostile_chunks_fail_item_by_item_and_never_panic() {
        let entry = task_of(item_task::<_, u32, ByValue, u32>(double).unwrap()).unwrap();
        let huge = u64::MAX.to_le_bytes().to_vec();
        for payload in [vec![], vec![1, 2], huge, chunk(&[1_u32, 2])[..15].to_vec()] {
            let mut reply = Vec::new();
            assert_eq!(entry(&payload, &mut reply), ReplyForm::Mixed, "{payload:?}");
            let results: Vec<Result<u32, Failure>> = codec::decode(&reply).unwrap();
            assert!(results.iter().any(Result::is_err));
        }
    }

    #[test]
    fn a_result_that_cannot_travel_is_named_and_the_others_arrive() {
        let entry = task_of(item_task::<_, u32, ByValue, Picky>(Picky::new).unwrap()).unwrap();
        let mut reply = Vec::new();
        let form = entry(&chunk(&[1_u32, 2]), &mut reply);
        let Results::Mixed(results) = read_reply::<Picky>(form, &reply, 2).unwrap() else {
            panic!("not mixed")
        };
        assert!(results[0].is_ok());
        assert!(matches!(&results[1], Err(Failure::BadResult(why)) if why.contains("two is refused")));
    }

    #[derive(Debug, serde::Deserialize)]
    struct Picky(u32);

    impl Picky {
        fn new(x: u32) -> Self {
            Self(x)
        }
    }

    impl serde::Serialize for Picky {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 == 2 {
                return Err(serde::ser::Error::custom("two is refused"));
            }
            serializer.serialize_newtype_struct("Picky", &self.0)
        }
    }
}
