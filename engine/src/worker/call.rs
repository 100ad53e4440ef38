//! Calls: where their arguments lie, and where their answers go.

use super::arrays::Foreign;
use super::core::WorkerCore;
use super::request::{Options, SubmitError, TableHandle, Target, TaskId};
use crate::session::Outbox;

/// Takes the answer of one shard where it lies, from inside `handle`. Answers come in any order.
pub type Receive = Box<dyn FnMut(u32, &[u8]) + Send>;

/// A call, ready to be sent.
pub(super) struct Call {
    pub target: Target,
    pub verb: String,
    pub arguments: Arguments,
    /// Instead of the outcome's `replies`.
    pub receive: Option<Receive>,
}

/// The arguments of a call.
pub(super) enum Arguments {
    Owned(Vec<u8>),
    /// One after the other.
    Borrowed(Vec<BorrowedBytes>),
}

/// Bytes of a caller whose lifetimes the compiler cannot see.
pub struct BorrowedBytes(Foreign<*const u8>);

impl BorrowedBytes {
    /// `len` bytes at `data`.
    ///
    /// # Safety
    /// As for [`Borrowed::new`](super::Borrowed::new), until the call has ended.
    pub unsafe fn new(data: *const u8, len: usize) -> Self {
        BorrowedBytes(Foreign::bytes(data, len))
    }
}

impl Arguments {
    /// Their bytes, part by part.
    pub fn parts(&self) -> Vec<&[u8]> {
        match self {
            Arguments::Owned(bytes) => vec![bytes],
            Arguments::Borrowed(parts) => parts.iter().map(|part| part.0.as_bytes()).collect(),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Arguments::Owned(bytes) => bytes.len(),
            Arguments::Borrowed(parts) => parts.iter().map(|part| part.0.as_bytes().len()).sum(),
        }
    }
}

impl WorkerCore {
    /// Runs `verb` of the table's server function at the target shards.
    pub fn call(
        &mut self,
        table: TableHandle,
        target: Target,
        verb: &str,
        arguments: Vec<u8>,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let (verb, arguments) = (verb.to_owned(), Arguments::Owned(arguments));
        self.submit_call(table, Call { target, verb, arguments, receive: None }, options, out)
    }

    /// As [`WorkerCore::call`], for many bytes: the arguments are written into the frame from where they lie, and `receive`
    /// reads the answers where they lie. A task that ends badly is not received further.
    #[expect(clippy::too_many_arguments, reason = "a call and where its bytes come from and go to")]
    pub fn call_in_place(
        &mut self,
        table: TableHandle,
        target: Target,
        verb: &str,
        arguments: Vec<BorrowedBytes>,
        receive: Receive,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let (verb, arguments) = (verb.to_owned(), Arguments::Borrowed(arguments));
        self.submit_call(table, Call { target, verb, arguments, receive: Some(receive) }, options, out)
    }
}
