//! Tasks: functions that a pool's worker calls again and again.
//!
//! A task's payload is the encoding of a `Vec` of argument items, so one payload is one *chunk*. Its reply is the encoding of
//! a `Vec` of results, those before the first failure; if there is a failure, a `Vec` of results and failures follows, from
//! it on. A failing item costs itself only, the rest of its chunk still runs.
//!
//! Each result is written as soon as it is there, so a chunk needs no memory but that of its bytes.

use super::apart::Border;
use super::descriptor::{Descriptor, Kind, at_offset, offset_of};
use super::outcome::Failure;
use super::target::{Slot, TaskArg, TaskTarget, assert_target, conjure};
use crate::codec::{self, CodecError, Wire};
use crate::travel::{self, Pins};
use crate::unwind::{PanicReport, catch};
use crate::{Error, Result};
use std::cell::Cell;
use std::iter;
use std::marker::PhantomData;

/// How to call a chunk of one function: payload in, reply appended, to cross this border.
pub type TaskEntry = fn(&[u8], &mut Vec<u8>, Border);

/// A function as it travels to a worker of the same build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId(pub u64);

/// Bytes of the length of an encoded `Vec`.
const LENGTH: usize = 8;

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

fn run_items<F, T, M, R>(payload: &[u8], reply: &mut Vec<u8>, border: Border)
where
    T: TaskArg<M>,
    R: Wire,
    F: for<'a> Fn(T::Param<'a>) -> R + Copy + 'static,
{
    let function = conjure::<F>();
    run_chunk(payload, (reply, border), |item| {
        let (owned, used) = codec::decode_prefix::<T::Owned>(item)?;
        Ok((used, move || function(T::lend(&mut Slot::new(owned)))))
    });
}

fn run_tuples<F, A, M>(payload: &[u8], reply: &mut Vec<u8>, border: Border)
where
    F: TaskTarget<A, M, Output: Wire>,
{
    let function = conjure::<F>();
    run_chunk(payload, (reply, border), |item| {
        let (owned, used) = codec::decode_prefix::<F::Owned>(item)?;
        Ok((used, move || function.call(owned)))
    });
}

/// What is being done with an item.
#[derive(Debug, Clone, Copy)]
enum Step {
    Decode,
    Call,
    Encode,
}

/// Calls each item of a chunk. `prepare` decodes the item at the start of the bytes: its length and the call.
fn run_chunk<R, C>(
    payload: &[u8],
    (reply, border): (&mut Vec<u8>, Border),
    prepare: impl Fn(&[u8]) -> Result<(usize, C), CodecError>,
) where
    R: Wire,
    C: FnOnce() -> R,
{
    let mut reply = Reply::begin(reply, border);
    let Some((count, mut rest)) = payload.split_first_chunk() else {
        return reply.finish(Some(&Failure::BadArguments("the chunk has no length".to_owned())));
    };
    let count = usize::try_from(u64::from_le_bytes(*count)).unwrap_or(usize::MAX);
    while reply.results < count {
        let step = Cell::new(Step::Decode);
        // One gate for a whole run of successes: `step`, `rest` and `reply` say where a panic happened.
        let caught = catch(|| {
            while reply.results < count {
                step.set(Step::Decode);
                let (used, call) = prepare(rest).map_err(|error| Failure::BadArguments(error.to_string()))?;
                rest = &rest[used..];
                step.set(Step::Call);
                let value = call();
                step.set(Step::Encode);
                reply.write(&value)?;
                drop(value);
                reply.keep();
            }
            Ok(())
        });
        let failure = match caught {
            Ok(Ok(())) => break,
            Ok(Err(failure)) => failure,
            Err(report) => step.get().panicked(report),
        };
        if let Failure::BadArguments(_) = failure {
            // Where the next item starts is hidden.
            return reply.finish(Some(&failure));
        }
        reply.fail(&failure);
    }
    reply.finish(None);
}

impl Step {
    fn panicked(self, report: PanicReport) -> Failure {
        match self {
            Self::Decode => Failure::BadArguments(format!("its `Deserialize` panicked: {}", report.message)),
            Self::Call => Failure::Panicked(report),
            Self::Encode => {
                Failure::BadResult(format!("its `Serialize` or `Drop` panicked: {}", report.message))
            }
        }
    }
}

/// The reply to a chunk for which there is no function: all of its items fail.
pub fn refuse(failure: &Failure, reply: &mut Vec<u8>) {
    Reply::begin(reply, Border::Open).finish(Some(failure));
}

/// A reply that is being written: the results before the first failure, then, if there is one, each result from it on, and
/// why all that follow failed, if they did. How many those are is known to whoever sent the chunk.
struct Reply<'a> {
    out: &'a mut Vec<u8>,
    /// Where it begins, with the number of results before the first failure.
    start: usize,
    /// Where the last whole result ends.
    end: usize,
    /// How many results there are, failures included.
    results: usize,
    /// After the first failure: how many results are before it, and where the number of those from it on is.
    tail: Option<(usize, usize)>,
    /// Whether a result of this chunk is known to be readable.
    is_checked: bool,
    /// The handles in the result that is being written.
    pins: Pins,
    border: Border,
}

impl<'a> Reply<'a> {
    #[inline]
    fn begin(out: &'a mut Vec<u8>, border: Border) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH]);
        let (end, pins) = (out.len(), Pins::default());
        Self { start, end, out, results: 0, tail: None, is_checked: false, pins, border }
    }

    /// Writes a result. It counts once it is [kept](Self::keep).
    #[inline]
    fn write<R: Wire>(&mut self, value: &R) -> Result<(), Failure> {
        self.encode(value).map_err(|error| Failure::BadResult(error.to_string()))?;
        self.border
            .check("a result", !self.pins.is_empty())
            .map_err(|error| Failure::BadResult(error.to_string()))
    }

    #[inline]
    fn encode<R: Wire>(&mut self, value: &R) -> Result<(), CodecError> {
        if !self.is_checked || self.tail.is_some() {
            self.encode_and_check(value)
        } else if !travel::may_carry::<R>() {
            codec::encode_wire(value, self.out)
        } else {
            travel::once_into(&mut self.pins, || codec::encode_wire(value, self.out))
        }
    }

    #[inline(never)]
    fn encode_and_check<R: Wire>(&mut self, value: &R) -> Result<(), CodecError> {
        if self.tail.is_some() {
            // The mark of `Ok` in a `Result`.
            codec::encode_into(&0_u32, self.out)?;
        }
        travel::once_into(&mut self.pins, || codec::encode_wire_checked(value, self.out))?;
        self.is_checked = true;
        Ok(())
    }

    #[inline]
    fn keep(&mut self) {
        self.results += 1;
        self.end = self.out.len();
        if !self.pins.is_empty() {
            std::mem::take(&mut self.pins).leave();
        }
    }

    /// Has one item fail; whatever was written for it is gone.
    #[cold]
    fn fail(&mut self, failure: &Failure) {
        self.begin_tail();
        // A failure is strings: it encodes.
        let _ = codec::encode_into(&Err::<(), _>(failure), self.out);
        self.results += 1;
        self.end = self.out.len();
    }

    #[cold]
    fn begin_tail(&mut self) {
        self.out.truncate(self.end);
        drop(std::mem::take(&mut self.pins));
        if self.tail.is_none() {
            self.tail = Some((self.results, self.end));
            self.out.extend_from_slice(&[0; LENGTH]);
        }
    }

    /// Ends it; `rest` is why all items fail that have no result yet.
    #[inline]
    fn finish(mut self, rest: Option<&Failure>) {
        if rest.is_some() {
            self.begin_tail();
        }
        let mut values = self.results;
        if let Some((before, at)) = self.tail {
            put_length(self.out, at, values - before);
            let _ = codec::encode_into(&rest, self.out);
            values = before;
        }
        put_length(self.out, self.start, values);
    }
}

#[inline]
fn put_length(out: &mut [u8], at: usize, length: usize) {
    out[at..at + LENGTH].copy_from_slice(&(length as u64).to_le_bytes());
}

/// Decodes a reply in the process that sent the chunk of `count` items: appends the results before the first failure to
/// `values`, and returns what comes from it on.
///
/// # Errors
///
/// Bytes that are not `count` results of type `R`; `values` is then as it was.
pub fn read_reply<R: Wire>(
    bytes: &[u8],
    count: usize,
    values: &mut Vec<R>,
) -> Result<Vec<Result<R, Failure>>, Error> {
    if codec::decode_numbers(bytes, count, values) {
        return Ok(Vec::new());
    }
    let before = values.len();
    let decoded = catch(|| {
        let tail = codec::decode_values(bytes, count, values)?;
        if tail.is_empty() { Ok((Vec::new(), None)) } else { codec::decode(tail) }
    });
    let tail = decoded.unwrap_or_else(|report| {
        let reason = format!("its `Deserialize` panicked: {}", report.message);
        Err(CodecError::Decode { type_name: std::any::type_name::<R>(), reason })
    });
    let came = values.len() - before;
    let complete = tail.map_err(Error::from).and_then(|(mut tail, rest): (Vec<Result<R, Failure>>, _)| {
        let left = count.checked_sub(came + tail.len());
        match (left, rest) {
            (Some(0), None) => Ok(tail),
            (Some(left @ 1..), Some(failure)) => {
                tail.extend(iter::repeat_n(failure, left).map(Err));
                Ok(tail)
            }
            _ => Err(Error::Malformed { what: "number of results in a reply" }),
        }
    });
    if complete.is_err() {
        values.truncate(before);
    }
    complete
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

    /// What the parent of a worker makes of its reply: values, and what came from the first failure on.
    fn results<R: Wire>(entry: TaskEntry, payload: &[u8], count: usize) -> (Vec<R>, Vec<Result<R, Failure>>) {
        let (mut reply, mut values) = (Vec::new(), Vec::new());
        entry(payload, &mut reply, Border::Open);
        let tail = read_reply(&reply, count, &mut values).unwrap();
        (values, tail)
    }

    #[test]
    fn a_chunk_gives_its_values_in_order() {
        let entry = task_of(item_task::<_, u32, ByValue, u32>(double).unwrap()).unwrap();
        let mut reply = Vec::new();
        entry(&chunk(&[1_u32, 2, 3]), &mut reply, Border::Open);
        let mut values = vec![0];
        assert_eq!(read_reply::<u32>(&reply, 3, &mut values).unwrap(), []);
        assert_eq!(values, [0, 2, 4, 6]);
        for count in [2, 4] {
            assert!(read_reply::<u32>(&reply, count, &mut values).is_err(), "the count must agree");
        }
        assert_eq!(values, [0, 2, 4, 6], "an error leaves nothing behind");
    }

    #[test]
    fn a_panicking_item_costs_only_itself() {
        let entry = task_of(item_task::<_, u32, ByValue, u32>(double).unwrap()).unwrap();
        for items in [&[13_u32, 1, 13, 2][..], &[1, 2, 13], &[1, 13, 2, 3], &[13]] {
            let (values, tail) = results::<u32>(entry, &chunk(items), items.len());
            let before = items.iter().position(|&item| item == 13).unwrap();
            assert_eq!(values.len(), before, "{items:?}");
            assert!(tail[0].as_ref().unwrap_err().to_string().contains("unlucky"));
            let shown: Vec<_> =
                values.into_iter().map(Some).chain(tail.into_iter().map(Result::ok)).collect();
            let expected: Vec<_> = items.iter().map(|&item| (item != 13).then_some(item * 2)).collect();
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn hostile_chunks_fail_item_by_item_and_never_panic() {
        let entry = task_of(item_task::<_, u32, ByValue, u32>(double).unwrap()).unwrap();
        let huge = u64::MAX.to_le_bytes().to_vec();
        let cut = chunk(&[1_u32, 2])[..15].to_vec();
        let table = [(vec![], 0, 1), (vec![1, 2], 0, 1), (huge, 0, 1), (cut, 1, 1)];
        for (payload, values, failures) in table {
            let (came, tail) = results::<u32>(entry, &payload, values + failures);
            assert_eq!((came.len(), tail.len()), (values, failures), "{payload:?}");
            assert!(tail.iter().all(Result::is_err));
        }
    }

    #[test]
    fn an_item_that_cannot_be_decoded_takes_those_behind_it_along() {
        #[expect(clippy::needless_pass_by_value, reason = "owned text is what arrives")]
        fn length(text: String) -> usize {
            text.len()
        }
        let entry = task_of(item_task::<_, String, ByValue, usize>(length).unwrap()).unwrap();
        let mut payload = chunk(&["ab", "c", "d"]);
        payload[8 + 8 + 2 + 8] = 0xff;
        let (values, tail) = results::<usize>(entry, &payload, 3);
        assert_eq!(values, [2]);
        assert!(matches!(&tail[..], [Err(Failure::BadArguments(_)), Err(Failure::BadArguments(_))]));
    }

    #[test]
    fn a_task_without_a_function_fails_item_by_item() {
        let (mut reply, failure) = (Vec::new(), Failure::NotCalled("no such task".to_owned()));
        refuse(&failure, &mut reply);
        let tail = read_reply::<u32>(&reply, 2, &mut Vec::new()).unwrap();
        assert_eq!(tail, [Err(failure.clone()), Err(failure)]);
        assert!(read_reply::<u32>(&reply, 0, &mut Vec::new()).is_err(), "it says that there was an item");
    }

    /// More items than a message may hold for nothing, in a chunk that has no byte of them.
    #[test]
    fn failures_of_any_number_of_items_of_no_size_all_arrive() {
        /// Cannot be read but once.
        #[derive(Debug)]
        struct Once;
        impl<'de> serde::Deserialize<'de> for Once {
            fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                thread_local!(static READ: Cell<bool> = const { Cell::new(false) });
                if READ.replace(true) { Err(serde::de::Error::custom("read before")) } else { Ok(Self) }
            }
        }
        impl serde::Serialize for Once {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_unit()
            }
        }
        const COUNT: usize = 100_000;
        let payload = (COUNT as u64).to_le_bytes();
        let nothing = task_of(item_task::<_, (), ByValue, ()>(|()| ()).unwrap()).unwrap();
        assert_eq!(results::<()>(nothing, &payload, COUNT), (vec![(); COUNT], Vec::new()));
        let entry = task_of(item_task::<_, Once, ByValue, ()>(|_: Once| ()).unwrap()).unwrap();
        let (values, tail) = results::<()>(entry, &payload, COUNT);
        assert_eq!((values.len(), tail.len()), (1, COUNT - 1));
        assert!(
            tail.iter().all(|one| matches!(one, Err(Failure::BadArguments(why)) if why.contains("before")))
        );
        let (mut reply, failure) = (Vec::new(), Failure::NotCalled("no such task".to_owned()));
        refuse(&failure, &mut reply);
        let tail = read_reply::<()>(&reply, COUNT, &mut Vec::new()).unwrap();
        assert_eq!(tail, vec![Err(failure); COUNT]);
    }

    #[test]
    fn a_result_that_cannot_travel_is_named_and_the_others_arrive() {
        let entry = task_of(item_task::<_, u32, ByValue, Picky>(Picky::new).unwrap()).unwrap();
        let (values, tail) = results::<Picky>(entry, &chunk(&[1_u32, 2, 3, 4, 5]), 5);
        assert_eq!(values, [Picky(1)]);
        assert!(matches!(&tail[0], Err(Failure::BadResult(why)) if why.contains("two is refused")));
        assert_eq!(tail[1], Ok(Picky(3)));
        assert!(
            matches!(&tail[2], Err(Failure::BadResult(why)) if why.contains("panicked") && why.contains("four is too much"))
        );
        assert_eq!(tail[3], Ok(Picky(5)));
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
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
            assert_ne!(self.0, 4, "four is too much");
            serializer.serialize_newtype_struct("Picky", &self.0)
        }
    }
}
