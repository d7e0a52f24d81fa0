//! The answer to one call, as the code that the attribute generates gives it.

use procession_ipc::call::frame::{Status, begin, finish_reply};
use procession_ipc::codec::{self, CodecError, Wire};
use procession_ipc::travel;
use serde::Serialize;

/// Where the answer to one call goes.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    id: u64,
}

impl<'a> Reply<'a> {
    /// The answer to request `id`, to be appended to `out`.
    pub(super) fn new(out: &'a mut Vec<u8>, id: u64) -> Self {
        Self { out, id }
    }

    /// Answers with what the method returned.
    pub fn value<T: Wire>(self, value: &T) {
        self.give(Status::Value, value);
    }

    /// Answers with what a method returned that may fail.
    pub fn result<T: Wire, E: Wire>(self, result: &Result<T, E>) {
        match result {
            Ok(value) => self.give(Status::Value, value),
            Err(error) => self.give(Status::Error, error),
        }
    }

    fn give<T: Wire>(self, status: Status, value: &T) {
        let at = self.out.len();
        begin(self.out);
        match travel::once(|| codec::encode_wire_checked(value, self.out)) {
            Ok(((), pins)) => {
                pins.leave();
                finish_reply(self.out, at, status, self.id);
            }
            Err(error) => {
                self.out.truncate(at);
                self.note(Status::BadResult, &error.to_string());
            }
        }
    }

    /// Answers with why there is no result. Only strings and options are in it, so it can be encoded.
    pub(super) fn note<T: Serialize + ?Sized>(self, status: Status, note: &T) {
        let at = self.out.len();
        begin(self.out);
        let encoded: Result<(), CodecError> = codec::encode_into(note, self.out);
        debug_assert!(encoded.is_ok(), "a note that cannot be encoded: {encoded:?}");
        finish_reply(self.out, at, status, self.id);
    }
}
