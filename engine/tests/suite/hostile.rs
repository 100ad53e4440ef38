//! Hostile messages, correctly signed so that they reach the cores behind the decoder: neither core panics, and what a
//! healthy worker pushes meanwhile is all there. (The fuzz target `message` looks longer.)

use crate::hostile_driver::{PIECE_BYTES, attack};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_signed_frame_harms_anybody(
        mut data in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>(), 1 => 0..4u8], 0..6 * PIECE_BYTES),
        lens in prop::collection::vec(any::<bool>(), 6),
    ) {
        // Short frames with one key and one value are the ones that get far.
        for (piece, plain) in data.chunks_mut(PIECE_BYTES).zip(lens) {
            if plain && piece.len() == PIECE_BYTES {
                piece[22..24].copy_from_slice(&[1, 1]);
                piece[56..64].copy_from_slice(&[17, 0, 0, 0, 1, 0, 0, 0]);
            }
        }
        attack(&data);
    }

    #[test]
    fn no_filtered_frame_harms_anybody(
        mut data in prop::collection::vec(prop_oneof![2 => Just(0u8), 1 => any::<u8>()], 8..400),
        is_partial in any::<bool>(),
    ) {
        // Sound pushes that say they leave rows out, to a table that does not add: random bytes are too rarely that.
        if is_partial {
            (data[1], data[3], data[6]) = (16, 0, 1);
        }
        crate::filter_driver::attack(&data);
    }
}
