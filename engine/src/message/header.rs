//! The 64 bytes in front of every frame.

use bytemuck::{Pod, Zeroable};

/// Version of the format.
pub const VERSION: u8 = 3;

#[cfg(target_endian = "big")]
compile_error!("frames are little endian and are read where they lie");

const _: () = assert!(size_of::<Header>() == 64 && align_of::<Header>() == 8);

/// The header as it lies in memory; see the table in the module's documentation.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[expect(missing_docs, reason = "the fields are described in the byte table of the module")]
pub struct Header {
    pub len: u32,
    pub tag: u32,
    pub version: u8,
    pub kind: u8,
    pub flags: u16,
    pub epoch: u32,
    pub sender: u32,
    pub table: u16,
    pub value_type: u8,
    pub parts: u8,
    pub sequence: u64,
    pub time: u64,
    pub first: u64,
    pub last: u64,
    pub key_count: u32,
    pub aux: u32,
}

impl Header {
    /// A header of this version with everything else zero.
    pub fn new(kind: Kind) -> Header {
        Header { version: VERSION, kind: kind as u8, ..Header::default() }
    }

    /// The header in these bytes, copied and unchecked.
    #[inline]
    pub fn from_bytes(bytes: &[u8; 64]) -> Header {
        bytemuck::pod_read_unaligned(bytes)
    }

    /// Checksum of bytes 8..64: any single flipped bit changes it, and a stray frame passes once in 2^32.
    ///
    /// Seven words, mixed by four independent 64x64 multiplications (about 2 ns).
    #[inline]
    pub fn checksum(&self) -> u32 {
        let words: &[u64; 8] = bytemuck::cast_ref(self);
        let mix = |a: u64, b: u64, key_a: u64, key_b: u64| {
            let product = u128::from(a ^ key_a) * u128::from(b ^ key_b);
            product as u64 ^ (product >> 64) as u64
        };
        let a = mix(words[1], words[2], 0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03);
        let b = mix(words[3], words[4], 0x8cb9_2ba7_2f3d_8dd7, 0xabc9_8388_fb8f_ac03);
        let c = mix(words[5], words[6], 0x2545_f491_4f6c_dd1d, 0xda94_2042_e4dd_58b5);
        let d = mix(words[7], a.rotate_left(32), 0x9e6c_63d0_876a_3f6b, 0xe703_7ed1_a0b4_28db);
        let sum = a ^ b.rotate_left(17) ^ c.rotate_left(41) ^ d;
        (sum ^ (sum >> 32)) as u32
    }
}

/// What a frame asks or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Apply values to keys; answered by Ack. With no parts it only makes the keys known to the table.
    Push = 1,
    /// Read the values of keys; answered by Values.
    Pull = 2,
    /// Push, then pull the same keys; answered by Values once the push is applied.
    PushPull = 3,
    /// Run a verb of the table's server function; answered by Reply.
    Call = 4,
    /// Create, freeze or drop a table; answered by Ack.
    Control = 5,
    /// Where is this worker's clock of a clocked table; answered by Reply, intervals of (u64 first key, u64 clock).
    Clock = 6,
    /// Run the requests that follow in the order their edges say; answered by Reply, which holds their answers.
    Graph = 7,
    /// `key_count` requests from `sequence` on are done.
    Ack = 16,
    /// Values of the keys asked for.
    Values = 17,
    /// Bytes a server function answered.
    Reply = 18,
    /// The key list of this signature is not cached: send the same request again, with its keys.
    NeedKeys = 19,
    /// The request was not applied; the text says why.
    Refused = 20,
    /// Rows of a clocked table that the worker subscribed to, unasked: somebody changed them.
    Rows = 21,
}

impl Kind {
    /// The kind with this code.
    #[inline]
    pub fn from_code(code: u8) -> Option<Kind> {
        Some(match code {
            1 => Kind::Push,
            2 => Kind::Pull,
            3 => Kind::PushPull,
            4 => Kind::Call,
            5 => Kind::Control,
            6 => Kind::Clock,
            7 => Kind::Graph,
            16 => Kind::Ack,
            17 => Kind::Values,
            18 => Kind::Reply,
            19 => Kind::NeedKeys,
            20 => Kind::Refused,
            21 => Kind::Rows,
            _ => return None,
        })
    }

    /// Whether a worker sends it to a shard.
    pub fn is_request(self) -> bool {
        (self as u8) < Kind::Ack as u8
    }

    /// Whether keys and value arrays follow the header.
    pub fn has_keys(self) -> bool {
        matches!(self, Kind::Push | Kind::Pull | Kind::PushPull | Kind::Values | Kind::Rows)
    }
}

/// Bits of the header's `flags`.
#[derive(Debug, Clone, Copy)]
pub struct Flags;

impl Flags {
    /// The key part is the 128-bit signature of a list the receiver has seen.
    pub const KEYS_CACHED: u16 = 1;
    /// The keys are all of first..=last; no key part.
    pub const CONTIGUOUS: u16 = 2;
    /// Answer this Pull only when update `time` of the table is finished here.
    pub const AFTER_TIME: u16 = 4;
    /// Pull the keys of first..=last that exist; the reply carries them.
    pub const EXISTING: u16 = 8;
    /// In the place of each value array stands where the worker lent it.
    pub const LENT: u16 = 16;
    /// Keys and values went through filters; [`crate::filter`] says what the body is.
    pub const FILTERED: u16 = 32;
    /// Clocked tables: send the rows of this Pull again whenever somebody has changed them.
    pub const SUBSCRIBE: u16 = 64;
    /// Clocked tables. Push: increments of a clock that is not closed, part `aux` of them (from 1); the clock stays. Pull
    /// with EXISTING: of a clock that this worker's predecessor never closed, the increments it sent so.
    pub const EARLY: u16 = 128;
    /// Behind everything else stands what the answer is to go through; [`crate::filter`] says how.
    pub const WISH: u16 = 256;
    /// Every bit there is.
    pub const ALL: u16 = 511;
}

/// Which part of a worker's contribution to an aggregated update this request is: long key lists are cut into
/// several requests, and the contribution is complete when all are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// From 0.
    pub index: u16,
    /// At least 1.
    pub count: u16,
}

impl Chunk {
    /// The only chunk.
    pub const WHOLE: Chunk = Chunk { index: 0, count: 1 };

    /// As the header's `aux`.
    pub fn to_aux(self) -> u32 {
        u32::from(self.index) << 16 | u32::from(self.count)
    }

    /// From the header's `aux`; `None` unless `index < count`.
    pub fn from_aux(aux: u32) -> Option<Chunk> {
        let chunk = Chunk { index: (aux >> 16) as u16, count: aux as u16 };
        (chunk.index < chunk.count).then_some(chunk)
    }
}

/// Why a shard refused a request, for programs; the text of the frame is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum RefusalCode {
    /// No table of this number here.
    NoTable = 1,
    /// The shard does not own the keys.
    NotOwned = 2,
    /// The request does not fit the table (type, width, number of arrays, store, aggregation).
    Mismatch = 3,
    /// The task number is too old, already finished, or too many are open.
    Time = 4,
    /// The server function said no, or knows no such verb.
    Function = 5,
    /// The key list does not rise strictly.
    Keys = 6,
    /// A limit was reached.
    Limit = 7,
    /// Refused before; this is the answer to a repetition.
    Repeated = 8,
    /// The request's filters cannot be undone or do not fit the table, the chain wanted for the answer is none, or a filter of
    /// the program's own said no to the answer.
    Filter = 9,
    /// A node that it follows was refused.
    Dependency = 10,
    /// The graph cannot be run: a cycle, an unknown node, a node that is no request.
    Graph = 11,
}

impl RefusalCode {
    /// The reason with this number; unknown numbers read as [`RefusalCode::Limit`].
    pub fn from_code(code: u32) -> RefusalCode {
        use RefusalCode::*;
        [NoTable, NotOwned, Mismatch, Time, Function, Keys, Limit, Repeated, Filter, Dependency, Graph]
            .into_iter()
            .find(|&reason| reason as u32 == code)
            .unwrap_or(Limit)
    }
}
