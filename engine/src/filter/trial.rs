//! What a chain makes of one message: for those who choose a chain, and for benchmarks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyrange_transport::link::WORD_BYTES;

use super::{Chain, Context, FilterError, Outgoing, RowKeys, Scratch, undo};
use crate::message::{Element, Flags, Frame, HEADER_BYTES, Header, Kind, compose_header};
use crate::shard::buffers::Buffer;

/// Runs messages of one shape through a chain and back, without a link between.
pub struct Trial {
    chain: Arc<Chain>,
    width: usize,
    frame: Buffer,
    scratch: Scratch,
    sequence: u64,
}

/// What became of one message.
#[derive(Debug, Clone, Copy)]
pub struct TrialResult {
    /// Bytes behind the header; those of the values if the chain left them as they are.
    pub bytes: usize,
    /// Time to write the frame.
    pub encode: Duration,
    /// Time to undo it; nothing if the chain left it as it is.
    pub decode: Duration,
}

impl Trial {
    /// For messages of rows of `width` values.
    pub fn new(chain: Arc<Chain>, width: usize) -> Trial {
        Trial { chain, width, frame: Buffer::default(), scratch: Scratch::default(), sequence: 0 }
    }

    /// One message of whole rows, of at most 2^32 bytes, pushed to the keys from 0 on.
    ///
    /// # Errors
    /// [`FilterError`] if it cannot be undone, which would be a bug of a filter.
    pub fn run<V: Element>(&mut self, values: &[V]) -> Result<TrialResult, FilterError> {
        self.sequence += 1;
        let (rows, arrays) = (values.len() / self.width, [values]);
        let start = Instant::now();
        let out = Outgoing {
            table: 0,
            time: self.sequence,
            width: self.width,
            keys: RowKeys::From(0),
            arrays: &arrays,
            seed: self.chain.request_seed(self.chain.seed(), 0, self.sequence),
            stream: None,
        };
        let Some(parcel) = self.chain.parcel(&out, &[])? else {
            return Ok(TrialResult {
                bytes: size_of_val(values),
                encode: start.elapsed(),
                decode: Duration::ZERO,
            });
        };
        let bytes = parcel.bytes(&[]);
        let header = Header {
            flags: Flags::FILTERED | Flags::CONTIGUOUS,
            value_type: V::CODE,
            parts: 1,
            last: (rows as u64).saturating_sub(1),
            key_count: rows as u32,
            ..Header::new(Kind::Push)
        };
        self.frame.resize(HEADER_BYTES + bytes);
        let body = &mut self.frame.bytes_mut()[WORD_BYTES..];
        parcel.write(&[], &mut body[HEADER_BYTES - WORD_BYTES..]);
        let tag = compose_header(body, &header);
        let encode = start.elapsed();
        self.frame.bytes_mut()[4..WORD_BYTES].copy_from_slice(&tag.to_le_bytes());
        let start = Instant::now();
        let wrong = |_| FilterError::Kind { value_type: V::CODE, kind: Kind::Push as u8 };
        let frame = Frame::decode(self.frame.bytes()).map_err(wrong)?;
        let context = Context { width: self.width, frame_bytes_max: u32::MAX as usize, pull: None };
        undo(&frame, &context, &mut self.scratch)?;
        Ok(TrialResult { bytes, encode, decode: start.elapsed() })
    }
}
