//! Frames: what is written is read, and damage of any kind is an error.

use keyrange::key_range::{Key, KeyRange};
use keyrange::message::{
    Chunk, DecodeError, Flags, Frame, HEADER_BYTES, Header, KeyPart, Kind, Layout, VERSION, WISH_BYTES_MAX,
    compose, compose_bytes, compose_call, pad64,
};
use keyrange::sim::FrameBytes;
use proptest::prelude::*;

fn push_frame(keys: &[Key], arrays: &[Vec<f64>], width: usize) -> FrameBytes {
    request_frame(Header::new(Kind::Push), keys, arrays, width, &[])
}

/// A request of the kind and with the flags of `of`, and with this wish.
fn request_frame(of: Header, keys: &[Key], arrays: &[Vec<f64>], width: usize, wish: &[u8]) -> FrameBytes {
    let header = Header {
        table: 3,
        value_type: 2,
        parts: arrays.len() as u8,
        sequence: 77,
        time: 5,
        first: keys.first().copied().unwrap_or(0),
        last: keys.last().copied().unwrap_or(0),
        key_count: keys.len() as u32,
        aux: Chunk::WHOLE.to_aux(),
        ..of
    };
    let slices: Vec<&[f64]> = arrays.iter().map(Vec::as_slice).collect();
    let layout = Layout::new(size_of_val(keys), keys.len() * width * 8, arrays.len());
    FrameBytes::compose(layout.frame_bytes + wish.len(), &mut |body| {
        compose(body, &header, KeyPart::List(keys), &slices, wish, &layout)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        keys in prop::collection::btree_set(any::<Key>(), 0..60),
        width in 1..4usize,
        parts in 0..=4usize,
    ) {
        let keys: Vec<Key> = keys.into_iter().collect();
        let array = |part: usize| (0..keys.len() * width).map(|at| (at * 10 + part) as f64).collect::<Vec<f64>>();
        let arrays: Vec<Vec<f64>> = (0..parts).map(array).collect();
        let bytes = push_frame(&keys, &arrays, width);
        let frame = Frame::decode(bytes.bytes()).unwrap();
        prop_assert_eq!(frame.kind, Kind::Push);
        prop_assert_eq!(frame.keys(), KeyPart::List(&keys));
        let values = frame.values::<f64>(width).unwrap();
        for (part, array) in arrays.iter().enumerate() {
            prop_assert_eq!(values[part], array.as_slice());
            prop_assert!(array.is_empty() || values[part].as_ptr().addr().is_multiple_of(64));
        }
        // One byte more or less, or another width, is noticed.
        let longer = FrameBytes::copy_of(&[bytes.bytes(), &[0]].concat());
        prop_assert!(Frame::decode(longer.bytes()).unwrap().values::<f64>(width).is_err());
        if parts > 0 && !keys.is_empty() {
            prop_assert!(frame.values::<f64>(width + 1).is_err());
            prop_assert!(frame.values::<f32>(width).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), sign in any::<bool>()) {
        if sign && bytes.len() >= HEADER_BYTES {
            sign_header(&mut bytes);
        }
        let bytes = FrameBytes::copy_of(&bytes);
        if let Ok(frame) = Frame::decode(bytes.bytes()) {
            let _ = (frame.keys(), frame.range(), frame.payload(), frame.call());
            let _ = (frame.values::<f32>(1), frame.values::<f64>(usize::MAX / 2));
        }
    }
}

/// Makes version, kind and checksum right, so that the rest of the header is looked at.
fn sign_header(bytes: &mut [u8]) {
    bytes[8] = VERSION;
    bytes[9] = [1, 2, 3, 4, 5, 16, 17, 18, 19, 20][usize::from(bytes[9]) % 10];
    bytes[10] &= 15;
    bytes[11] = 0;
    let header: Header = bytemuck::pod_read_unaligned(&bytes[..HEADER_BYTES]);
    bytes[4..8].copy_from_slice(&header.checksum().to_le_bytes());
}

#[test]
fn every_flipped_bit_of_the_header_is_noticed() {
    let good = push_frame(&[3, 9], &[vec![1.0, 2.0]], 1);
    for bit in 32..HEADER_BYTES * 8 {
        let mut bad = good.clone();
        bad.bytes_mut()[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(Frame::decode(bad.bytes()), Err(DecodeError::Checksum { .. })), "bit {bit}");
    }
}

#[test]
fn every_truncation_is_noticed() {
    let good = push_frame(&[3, 9, 11], &[vec![1.0; 3], vec![2.0; 3]], 1);
    for len in 0..good.bytes().len() {
        let short = FrameBytes::copy_of(&good.bytes()[..len]);
        let read = Frame::decode(short.bytes()).and_then(|frame| frame.values::<f64>(1).map(|_| ()));
        assert!(read.is_err(), "{len} bytes");
    }
}

#[test]
fn fields_that_contradict_each_other_are_errors() {
    type Change = fn(&mut Header);
    let cases: [(&str, Change); 7] = [
        ("version", |header| header.version = VERSION + 1),
        ("kind", |header| header.kind = 99),
        ("unknown flag", |header| header.flags = 1 << 12),
        ("two ways to name keys", |header| header.flags = Flags::KEYS_CACHED | Flags::CONTIGUOUS),
        ("backward range", |header| (header.first, header.last) = (9, 3)),
        ("range and count differ", |header| header.flags = Flags::CONTIGUOUS),
        ("five arrays", |header| header.parts = 5),
    ];
    let good = push_frame(&[3, 9], &[vec![1.0, 2.0]], 1);
    for (name, change) in cases {
        let mut header: Header = bytemuck::pod_read_unaligned(&good.bytes()[..HEADER_BYTES]);
        change(&mut header);
        header.tag = header.checksum();
        let mut bad = good.clone();
        bad.bytes_mut()[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
        assert!(Frame::decode(bad.bytes()).is_err(), "{name}");
    }
}

#[test]
fn the_whole_key_space_can_be_named() {
    let header = Header { last: Key::MAX, flags: Flags::EXISTING, ..Header::new(Kind::Pull) };
    let bytes = FrameBytes::compose(HEADER_BYTES, &mut |body| compose_bytes(body, &header, &[]));
    assert_eq!(Frame::decode(bytes.bytes()).unwrap().range(), KeyRange::ALL);
}

#[test]
fn a_call_carries_verb_and_arguments() {
    let header = Header::new(Kind::Call);
    let bytes = FrameBytes::compose(HEADER_BYTES + pad64(5) + 3, &mut |body| {
        compose_call(body, &header, "score", &[&[1, 2], &[3]])
    });
    assert_eq!(Frame::decode(bytes.bytes()).unwrap().call().unwrap(), ("score", &[1u8, 2, 3][..]));
}

#[test]
fn a_wish_at_the_end_changes_nothing_before_it() {
    let (keys, arrays) = ([3, 9], [vec![1.0, 2.0], vec![3.0, 4.0]]);
    let of = |kind| Header { flags: Flags::WISH, ..Header::new(kind) };
    for text in [&b"lz4"[..], b"", &[7; WISH_BYTES_MAX - 2]] {
        let wish = [text, &(text.len() as u16 + 2).to_le_bytes()].concat();
        let bytes = request_frame(of(Kind::PushPull), &keys, &arrays, 1, &wish);
        let frame = Frame::decode(bytes.bytes()).unwrap();
        assert_eq!((frame.wish(), frame.keys()), (Some(text), KeyPart::List(&keys)));
        assert_eq!(frame.values::<f64>(1).unwrap()[..2], [&arrays[0][..], &arrays[1]]);
        let push = request_frame(of(Kind::Push), &keys, &arrays, 1, &wish);
        assert!(matches!(Frame::decode(push.bytes()), Err(DecodeError::Flags { .. })), "nothing is answered");
    }
    // Too short, longer than the frame, longer than any.
    for bytes in [0u16, 1, 300, WISH_BYTES_MAX as u16 + 1] {
        let frame = request_frame(of(Kind::Pull), &keys, &[], 1, &bytes.to_le_bytes());
        assert!(matches!(Frame::decode(frame.bytes()), Err(DecodeError::Wish { got, .. }) if got == bytes));
    }
    let plain = request_frame(Header::new(Kind::Pull), &keys, &[], 1, &[]);
    assert_eq!(Frame::decode(plain.bytes()).unwrap().wish(), None);
}
