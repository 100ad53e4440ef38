//! The message: one frame speaks for one table and one key range.
//!
//! Here live the layout of a frame, its writer and its reader. What a request *does* is decided elsewhere.
//! Everything is little endian; every part starts on a multiple of 64 bytes, so kernels run on it where it lies.
//!
//! ```text
//! header, 64 bytes
//!  0 u32 len         the carrier's: bytes of the frame, padding excluded
//!  4 u32 tag         the carrier passes it through; holds the checksum of bytes 8..64
//!  8 u8  version     of this format, so that old and new programs refuse each other instead of guessing
//!  9 u8  kind        what is asked or answered
//! 10 u16 flags       how keys are given, when to answer
//! 12 u32 epoch       incarnation of the worker, so that a replaced worker's late frames are known as such
//! 16 u32 sender      rank of the worker, or index of the shard, that wrote the frame
//! 20 u16 table       which table
//! 22 u8  value_type  1 = f32, 2 = f64, 0 = no values
//! 23 u8  parts       number of value arrays
//! 24 u64 sequence    number of the request within its worker-shard session, from 1, never reused (Rows: generation
//!                    of the stream x 2^32 + number of the frame in it, from 0)
//! 32 u64 time        the caller's task number; aggregation goes by it (clocked tables: a worker's clock, see below)
//! 40 u64 first       smallest key of the range
//! 48 u64 last        largest key of the range, INCLUDED, so that 2^64-1 belongs to somebody
//! 56 u32 key_count   keys the values belong to (calls: bytes of the verb; Ack: requests acknowledged)
//! 60 u32 aux         requests: chunk, see [`Chunk`] (EARLY: number of the part); Refused: reason; Values: 1 = more follow;
//!                    Rows: see below
//!
//! requests Push, Pull, PushPull and reply Values
//! 64  keys           u64 x key_count | 16 bytes of signature (KEYS_CACHED) | nothing (CONTIGUOUS: first..=last)
//!  +  values         `parts` arrays of key_count x width values, each on a multiple of 64 bytes
//!
//! the same with LENT (Push, PushPull): in the place of each array 24 bytes that say where the worker lent it
//!  +  0 u32 slab     the worker's number of the slab, lent over this link before
//!     4 u32 0
//!     8 u64 offset   first byte, from the slab's beginning
//!    16 u64 bytes    exactly key_count x width values
//!
//! the same with FILTERED: see the byte table of [`crate::filter`]
//! Pull and PushPull with WISH: behind the last byte what the answer is to go through, and u16 bytes of that, these two included
//!
//! a clocked table (its workers' clocks are counted per key range)
//! Push    time: the worker's clock from now on for all keys of first..=last, whose increments are `key_count` of them
//!         with EARLY: increments of some keys at the clock that will be `time` when it is closed; the clock stays. `aux`
//!         numbers the frames to this shard at that clock, rising from 1
//! Pull    with AFTER_TIME: answer when no worker's clock is below `time`
//!         with EARLY and EXISTING: the increments of a clock that this worker's predecessor did not close
//! Values  time: no worker's clock was below it when the values were read; to a Pull with SUBSCRIBE: no other worker's
//! Rows    keys and values like a Push; time: the least clock of all other workers; first: the receiver's own clock, as
//!         far as these rows hold its increments; last: first + the number of its last early part that they hold; aux: 1 = the
//!         last frame: what the receiver has now is what there was at `time`, or newer; 2 = early: `time` has been told
//!
//! Call      64 verb (key_count bytes of UTF-8), then on the next multiple of 64 the arguments
//! Graph     64 `aux` edges (u32 node, u32 node that follows it), then `key_count` frames of kind Push, Pull, PushPull, Call
//!              or Ack (nothing to do here), each on the next multiple of 64, sender, epoch and sequence 0
//!           its Reply: as many frames of kind Ack, Values, Reply or Refused, laid out the same way
//! Control   64 JSON        Reply  64 bytes        Refused  64 UTF-8 text        Ack, NeedKeys, Clock: nothing
//! ```
//!
//! One key travels as the contiguous range of itself: two cache lines for a push.
//!
//! A peer on shared memory can change a frame while it is read. So [`Frame::decode`] copies the header first and
//! believes only the copy; keys are copied before they are checked; values may be anything at any time.
//!
//! Read `header.rs`, `layout.rs`, `frame.rs` (reader), `compose.rs` (writer), `graph.rs` (frames in frames), `control.rs`, `values.rs` and
//! `lent.rs` (arrays that change hands).

mod compose;
mod control;
mod frame;
mod graph;
mod header;
mod layout;
mod lent;
mod values;

pub use compose::{
    body_part, compose, compose_bytes, compose_call, compose_header, compose_parts, gather, gather_call,
};
pub use control::Control;
pub use frame::{DecodeError, Frame, KeyPart};
pub use graph::{FrameList, GraphError, GraphFrame, NODE_ANSWER_BYTES, NODES_MAX, check_order, frames};
pub use header::{Chunk, Flags, Header, Kind, RefusalCode, VERSION};
pub use layout::{HEADER_BYTES, Layout, PARTS_MAX, SIGNATURE_BYTES, VERB_BYTES_MAX, WISH_BYTES_MAX, pad64};
pub use lent::{Lent, LentArray, LentBlock};
pub use values::Values;

/// A value type that can travel: `f32` or `f64`.
pub trait Element: crate::table::Value {
    /// Its code in the header.
    const CODE: u8 = Self::TYPE as u8;
    /// Wraps an array.
    fn wrap(values: Vec<Self>) -> Values;
    /// Looks into an array of this type.
    fn slice_of(values: &Values) -> Option<&[Self]>;
    /// Looks into an array of this type, for writing.
    fn vec_of(values: &mut Values) -> Option<&mut Vec<Self>>;
    /// Unwraps an array of this type.
    fn vec_from(values: Values) -> Option<Vec<Self>>;
}

macro_rules! element {
    ($type:ty, $variant:ident) => {
        impl Element for $type {
            fn wrap(values: Vec<Self>) -> Values {
                Values::$variant(values)
            }
            fn slice_of(values: &Values) -> Option<&[Self]> {
                if let Values::$variant(values) = values { Some(values) } else { None }
            }
            fn vec_of(values: &mut Values) -> Option<&mut Vec<Self>> {
                if let Values::$variant(values) = values { Some(values) } else { None }
            }
            fn vec_from(values: Values) -> Option<Vec<Self>> {
                if let Values::$variant(values) = values { Some(values) } else { None }
            }
        }
    };
}

element!(f32, F32);
element!(f64, F64);

/// Bytes of one value with the header code `code`, if there is such a type.
pub fn value_bytes(code: u8) -> Option<usize> {
    crate::table::ValueType::from_code(code).map(crate::table::ValueType::bytes)
}
