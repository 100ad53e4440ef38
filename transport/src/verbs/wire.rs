//! Numbers as they cross the fabric, so that a reader never takes half of one for the whole.
//!
//! The bytes of one WRITE may land in any order and one at a time (`ibv_query_qp_data_in_order` says 0, and Soft-RoCE copies
//! with `rep movsb`); only separate WRITEs of one queue pair land one after the other. Hence each byte of a number that is
//! polled carries a bit that tells whether it has landed, and seven bits of the number:
//!
//! ```text
//!   a frame's word   lands on a zero:                 every byte's top bit is 1 (never all, if a signal tells that it is there)
//!   a credit         lands on the credit before it:   every byte's top bit is the credit's turn, 1 0 1 0 ...
//! ```

use crate::ring::LINE_BYTES;

const ARRIVAL_BITS: u64 = 0x8080_8080_8080_8080;

/// The longest frame whose length fits a word, a multiple of the line.
pub(super) const FRAME_BYTES_MAX: usize = (1 << 24) - LINE_BYTES as usize;

/// Spreads 56 bits over eight bytes, seven in each.
#[inline(always)]
fn spread(x: u64) -> u64 {
    let x = x & 0x0fff_ffff | (x & 0x00ff_ffff_f000_0000) << 4;
    let x = x & 0x0000_3fff_0000_3fff | (x & 0x0fff_c000_0fff_c000) << 2;
    x & 0x007f_007f_007f_007f | (x & 0x3f80_3f80_3f80_3f80) << 1
}

/// Undoes [`spread`], whatever the top bits are.
#[inline(always)]
fn gather(x: u64) -> u64 {
    let x = x & 0x007f_007f_007f_007f | (x & 0x7f00_7f00_7f00_7f00) >> 1;
    let x = x & 0x0000_3fff_0000_3fff | (x & 0x3fff_0000_3fff_0000) >> 2;
    x & 0x0fff_ffff | (x & 0x0fff_ffff_0000_0000) >> 4
}

/// A frame's word: its length (at most [`FRAME_BYTES_MAX`]) and tag.
#[inline(always)]
pub(super) fn encode_word(len: u32, tag: u32) -> u64 {
    spread(u64::from(len) | u64::from(tag) << 24) | ARRIVAL_BITS
}

/// As [`encode_word`], for a frame whose arrival a [`Signal::Landed`] tells: nobody takes it for landed before.
#[inline(always)]
pub(super) fn encode_signalled_word(len: u32, tag: u32) -> u64 {
    encode_word(len, tag) & !0x80
}

/// The ring's form of a word (`u32` length, `u32` tag), or `None` if it has not landed entirely.
#[inline(always)]
pub(super) fn decode_word(wire: u64) -> Option<u64> {
    (wire & ARRIVAL_BITS == ARRIVAL_BITS).then(|| decode_landed_word(wire))
}

/// The ring's form of a word that is known to have landed.
#[inline(always)]
pub(super) fn decode_landed_word(wire: u64) -> u64 {
    let packed = gather(wire);
    packed & 0x00ff_ffff | packed >> 24 << 32
}

/// A ring's head (a multiple of the line) as the `turn`-th credit of its link.
pub(super) fn encode_credit(head: u64, turn: u64) -> u64 {
    spread(head / LINE_BYTES) | if turn & 1 == 1 { ARRIVAL_BITS } else { 0 }
}

/// The head a credit tells, or `None` while two credits are mixed.
pub(super) fn decode_credit(wire: u64) -> Option<u64> {
    matches!(wire & ARRIVAL_BITS, 0 | ARRIVAL_BITS).then(|| gather(wire) * LINE_BYTES)
}

/// What one side tells the other beside the ring: the immediate of an empty WRITE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Look again: what you asked for has come.
    Wake,
    /// I sleep, having received everything up to this position: wake me when there is more.
    AwaitFrames(u64),
    /// I sleep, knowing of room up to this head: wake me when it has moved.
    AwaitRoom(u64),
    /// I send and read no more; what I sent lies before this signal.
    Closed,
    /// The frame that this comes with, and all before it, lie in your ring up to this position.
    Landed(u64),
}

/// Positions travel in lines, modulo so many; a ring is far smaller, so they are told apart.
const LINES: u64 = 1 << 28;

impl Signal {
    pub(super) fn encode(self) -> u32 {
        let (kind, position) = match self {
            Signal::Wake => (1, 0),
            Signal::AwaitFrames(position) => (2, position),
            Signal::AwaitRoom(head) => (3, head),
            Signal::Closed => (4, 0),
            Signal::Landed(position) => (5, position),
        };
        kind << 28 | (position / LINE_BYTES % LINES) as u32
    }

    /// `sent` and `received` are this side's own positions, near which the peer's must be: 2^27 lines at most.
    pub(super) fn decode(immediate: u32, sent: u64, received: u64) -> Option<Self> {
        let position = |near: u64| {
            let ahead = u64::from(immediate).wrapping_sub(near / LINE_BYTES).wrapping_add(LINES / 2) % LINES;
            (near / LINE_BYTES + ahead).saturating_sub(LINES / 2) * LINE_BYTES
        };
        match immediate >> 28 {
            1 => Some(Signal::Wake),
            2 => Some(Signal::AwaitFrames(position(sent))),
            3 => Some(Signal::AwaitRoom(position(received))),
            4 => Some(Signal::Closed),
            5 => Some(Signal::Landed(position(received))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Some bytes of `new` have landed on `old`.
    fn mixed(old: u64, new: u64, landed: u8) -> u64 {
        let (old, new) = (old.to_le_bytes(), new.to_le_bytes());
        u64::from_le_bytes(std::array::from_fn(|i| if landed >> i & 1 == 1 { new[i] } else { old[i] }))
    }

    proptest! {
        #[test]
        fn a_word_is_whole_or_not_there(len in 8..=FRAME_BYTES_MAX as u32, tag: u32, landed: u8) {
            let wire = encode_word(len, tag);
            let whole = u64::from(len) | u64::from(tag) << 32;
            let expected = (landed == 0xff).then_some(whole);
            prop_assert_eq!(decode_word(mixed(0, wire, landed)), expected);
            let signalled = encode_signalled_word(len, tag);
            prop_assert_eq!(decode_word(mixed(0, signalled, landed)), None);
            prop_assert_eq!(decode_landed_word(signalled), whole);
            prop_assert_eq!(decode_landed_word(wire), whole);
        }

        #[test]
        fn a_credit_is_the_old_or_the_new_one(
            old in 0u64..1 << 50, step in 1u64..1 << 30, turn in 0u64..9, landed: u8,
        ) {
            let (old, new) = (old * LINE_BYTES, (old + step) * LINE_BYTES);
            let wire = mixed(encode_credit(old, turn), encode_credit(new, turn + 1), landed);
            let expected = match landed {
                0 => Some(old),
                0xff => Some(new),
                _ => None,
            };
            prop_assert_eq!(decode_credit(wire), expected);
        }

        #[test]
        fn a_position_survives_its_shortening(near in 1u64 << 30..1 << 50, lines in -(1i64 << 20)..1 << 20) {
            let near = near * LINE_BYTES;
            let position = near.wrapping_add_signed(lines * LINE_BYTES as i64);
            for signal in [Signal::AwaitFrames(position), Signal::AwaitRoom(position), Signal::Landed(position), Signal::Wake, Signal::Closed] {
                prop_assert_eq!(Signal::decode(signal.encode(), near, near), Some(signal));
            }
        }
    }

    #[test]
    fn the_first_positions_are_told_apart_too() {
        for position in [0, 64, 4096] {
            let signal = Signal::AwaitFrames(position);
            assert_eq!(Signal::decode(signal.encode(), 64, 0), Some(signal));
        }
        assert_eq!(Signal::decode(0, 0, 0), None);
        assert_eq!(Signal::decode(u32::MAX, 0, 0), None);
    }
}
