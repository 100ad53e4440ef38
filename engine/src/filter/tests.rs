//! Random messages through random chains and back, and bytes that no chain made.

use std::fmt::Debug;

use keyrange_transport::link::WORD_BYTES;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::message::{Element, Flags, Frame, HEADER_BYTES, Header, Kind, compose_header};
use crate::shard::buffers::Buffer;

const FRAME_BYTES_MAX: usize = 64 << 10;

/// Every builtin filter that works without a stream, with parameters that make it do something.
const WORDS: [&str; 13] = [
    "key-cache",
    "zeros",
    "significant:0.5",
    "skip:0.5",
    "noise:0.1",
    "frequency:2:64x2",
    "bloom:64x2",
    "fixed:1",
    "fixed:2",
    "fixed:3",
    "q2.13",
    "f16",
    "lz4",
];

fn random_chain(random: &mut StdRng) -> ChainSpec {
    loop {
        let words: Vec<&str> =
            (0..random.random_range(0..5)).map(|_| WORDS[random.random_range(0..WORDS.len())]).collect();
        let spec: ChainSpec = words.join(",").parse().unwrap();
        if spec.check(Direction::Push).is_ok() {
            return spec;
        }
    }
}

fn random_values<V: Element>(random: &mut StdRng, len: usize) -> Vec<V> {
    let zeros = random.random_range(0.0..1.2);
    let value = |random: &mut StdRng| match random.random_range(0..100) {
        _ if random.random_range(0.0..1.0) < zeros => V::ZERO,
        0 => V::from_f64(-0.0),
        1 => V::from_f64(3.75),
        _ => V::from_f64(random.random_range(-3.0..3.0)),
    };
    (0..len).map(|_| value(random)).collect()
}

/// A frame of these bytes behind the header, as a link hands it over.
fn framed(header: &Header, write: impl FnOnce(&mut [u8]), bytes: usize) -> Buffer {
    let mut frame = Buffer::zeroed(HEADER_BYTES + bytes);
    let body = &mut frame.bytes_mut()[WORD_BYTES..];
    write(&mut body[HEADER_BYTES - WORD_BYTES..]);
    let tag = compose_header(body, header);
    frame.bytes_mut()[4..WORD_BYTES].copy_from_slice(&tag.to_le_bytes());
    frame
}

/// One push of random size; returns whether it went filtered.
fn round_trip<V: Element + Debug>(random: &mut StdRng, scratch: &mut Scratch) -> bool {
    let spec = random_chain(random);
    let chain = Chain::new(&spec, Direction::Push, random.random()).unwrap();
    let (rows, width, parts) =
        (random.random_range(1..150), random.random_range(1..4), random.random_range(1..3));
    let values: Vec<Vec<V>> = (0..parts).map(|_| random_values(random, rows * width)).collect();
    let arrays: Vec<&[V]> = values.iter().map(Vec::as_slice).collect();
    let keys: Vec<u64> = (0..rows as u64).map(|row| row * 3).collect();
    let out = Outgoing {
        table: 1,
        time: 2,
        width,
        keys: RowKeys::List(&keys),
        arrays: &arrays,
        seed: 7,
        stream: None,
    };
    let key_bytes: &[u8] = bytemuck::cast_slice(&keys);
    let Some(parcel) = chain.parcel(&out, key_bytes).unwrap() else {
        assert!(spec.of(Stage::Rows).all(FilterSpec::is_lossless), "{spec}");
        return false;
    };
    let header = Header {
        flags: Flags::FILTERED,
        value_type: V::CODE,
        parts: parts as u8,
        last: u64::MAX,
        key_count: rows as u32,
        sequence: 5,
        ..Header::new(Kind::Push)
    };
    let frame = framed(&header, |into| parcel.write(key_bytes, into), parcel.bytes(key_bytes));
    let frame = Frame::decode(frame.bytes()).unwrap();
    let context = Context { width, frame_bytes_max: FRAME_BYTES_MAX, pull: None };
    let is_partial = spec.filters.iter().any(FilterSpec::needs_sums);
    assert_eq!(undo(&frame, &context, scratch), Ok(is_partial), "{spec}");
    let plain = Frame::decode(scratch.frame()).unwrap();
    assert_eq!(plain.keys(), crate::message::KeyPart::List(&keys));
    assert_eq!((plain.header.flags, plain.header.sequence), (0, 5));
    let back = plain.values::<V>(width).unwrap();
    for (sent, got) in values.iter().zip(back) {
        check(&spec, sent, got);
    }
    true
}

/// What came back is what was sent, as far as the chain promises that.
fn check<V: Element + Debug>(spec: &ChainSpec, sent: &[V], got: &[V]) {
    if spec.is_lossless() {
        let bits = |values: &[V]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(sent), bits(got), "{spec}");
        return;
    }
    let skips = spec.filters.iter().any(|filter| matches!(filter, FilterSpec::Skip { .. }));
    let noise = spec.filters.iter().any(|filter| matches!(filter, FilterSpec::Noise { .. }));
    let drops = spec.of(Stage::Rows).any(|filter| !filter.is_lossless());
    let step = match spec.of(Stage::Codes).next() {
        Some(FilterSpec::Fixed { bytes }) => {
            15.1 / f64::from(keyrange_kernels::quantise::fixed_top(usize::from(*bytes)))
        }
        Some(FilterSpec::Q2x13) => 1.0 / 8192.0,
        Some(_) => 1.0 / 128.0,
        None => 1e-6,
    };
    for (&x, &y) in sent.iter().zip(got) {
        let wanted = x.to_f64() * if skips { 2.0 } else { 1.0 };
        // q2.13 has no more than this.
        let clamps = matches!(spec.of(Stage::Codes).next(), Some(FilterSpec::Q2x13));
        let wanted = if clamps { wanted.clamp(-4.0, 4.0) } else { wanted };
        let rounding = step * 1.001 + y.to_f64().abs() * f64::from(f32::EPSILON);
        let close = (y.to_f64() - wanted).abs() <= rounding + if noise { 1.5 } else { 0.0 };
        assert!(close || (drops && y == V::ZERO), "{spec}: {x:?} came back as {y:?}");
    }
}

#[test]
fn a19_random_chains_bring_random_messages_back() {
    let (mut random, mut scratch, mut filtered) = (StdRng::seed_from_u64(1), Scratch::default(), 0);
    for _ in 0..50_000 {
        filtered += usize::from(round_trip::<f32>(&mut random, &mut scratch));
        filtered += usize::from(round_trip::<f64>(&mut random, &mut scratch));
    }
    assert!(filtered > 50_000, "{filtered}");
}

#[test]
fn a19_damaged_bodies_end_in_errors_or_in_other_values() {
    let (mut random, mut scratch) = (StdRng::seed_from_u64(2), Scratch::default());
    let values: Vec<f32> = (0..200).map(|at| if at % 5 == 0 { at as f32 } else { 0.0 }).collect();
    for chain in ["zeros", "zeros,fixed:2", "zeros,lz4", "f16,lz4", "fixed:3", "zeros,bf16,lz4", "lz4"] {
        let chain = Chain::new(&chain.parse().unwrap(), Direction::Push, 1).unwrap();
        let arrays = [values.as_slice()];
        let out = Outgoing {
            table: 1,
            time: 1,
            width: 1,
            keys: RowKeys::From(0),
            arrays: &arrays,
            seed: 1,
            stream: None,
        };
        let parcel = chain.parcel(&out, &[]).unwrap().unwrap();
        let mut bytes = vec![0; parcel.bytes(&[])];
        parcel.write(&[], &mut bytes);
        let header = Header {
            flags: Flags::FILTERED | Flags::CONTIGUOUS,
            value_type: 1,
            parts: 1,
            last: 199,
            key_count: 200,
            ..Header::new(Kind::PushPull)
        };
        let mut errors = 0;
        for _ in 0..3000 {
            let mut damaged = bytes.clone();
            for _ in 0..random.random_range(0..3) {
                let at = random.random_range(0..damaged.len());
                damaged[at] = random.random();
            }
            damaged
                .truncate(damaged.len() - random.random_range(0..2) * random.random_range(0..damaged.len()));
            let frame = framed(&header, |into| into.copy_from_slice(&damaged), damaged.len());
            let frame = Frame::decode(frame.bytes()).unwrap();
            let context = Context { width: 1, frame_bytes_max: FRAME_BYTES_MAX, pull: None };
            match undo(&frame, &context, &mut scratch) {
                Ok(_) => assert!(Frame::decode(scratch.frame()).unwrap().values::<f32>(1).is_ok()),
                Err(error) => errors += usize::from(!error.to_string().is_empty()),
            }
        }
        assert!(errors > 500, "{errors}");
    }
}

#[test]
fn a19_wishes_are_read_as_they_are_written_and_damaged_ones_are_others_or_errors() {
    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..3000 {
        let chain = random_chain(&mut random).to_string();
        let (stream, number) = (u128::from(random.random::<u64>()) << 64, random.random());
        let wish = Wish { seed: random.random(), stream, number, whole: random.random() };
        let mut bytes = wish.to_bytes(&chain);
        let text_end = bytes.len() - size_of::<u16>();
        assert_eq!(bytes[text_end..], (bytes.len() as u16).to_le_bytes());
        assert_eq!(Wish::read(&bytes[..text_end]), Ok((wish, chain.as_bytes())));
        let at = random.random_range(0..28); // `whole` is any number but 0
        bytes[at] ^= random.random_range(1..=255);
        assert_ne!(Wish::read(&bytes[..text_end]).unwrap().0, wish, "byte {at}");
        assert!(Wish::read(&bytes[..random.random_range(0..32)]).is_err());
    }
    assert!(Wish::read(&[b'a'; 545]).is_err());
}

#[test]
fn a19_words_are_read_as_they_are_written_and_nonsense_is_refused_with_a_reason() {
    let all = "key-cache,significant:0.5,frequency:3:1024x2,bloom:4096x3,zeros,skip:0.25,user:clip:7,noise:0.001,f16,lz4";
    for text in [all.rsplit_once(",user").unwrap().0, "none", "fixed:2,lz4", "user:clip:7,q2.13"] {
        let spec: ChainSpec = text.parse().unwrap();
        assert_eq!(spec.to_string(), text);
        assert_eq!(serde_json::from_str::<ChainSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
        spec.check(Direction::Push).unwrap();
    }
    for (chain, direction, reason) in [
        ("lz4,fixed:2", Direction::Push, "fixed needs values, and after lz4 there are only bytes"),
        ("f16,f16", Direction::Push, "twice"),
        ("f16,bf16", Direction::Push, "coded once"),
        ("q2.13,significant:1", Direction::Pull, "put significant before it"),
        ("skip:0.5,significant:1", Direction::Push, "must see every row"),
        ("skip:0.5", Direction::Pull, "must be there"),
        ("noise:1,zeros", Direction::Push, "put zeros before it"),
        ("zeros,noise:1,skip:1,lz4,key-cache,bloom,frequency:1,f16,user:a", Direction::Push, "at most 8"),
    ] {
        let error = chain.parse::<ChainSpec>().unwrap().check(direction).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains(chain.split(',').next().unwrap()), "{error}");
    }
    for word in [
        "kkt",
        "zip",
        "fixed:4",
        "fixed",
        "skip:0",
        "skip:nan",
        "significant:-1",
        "frequency:0",
        "bloom:3x1",
        "f16:2",
        "user",
    ] {
        assert!(!word.parse::<FilterSpec>().unwrap_err().to_string().is_empty(), "{word}");
    }
}

#[test]
fn a19_lossy_pushes_are_refused_where_absence_is_no_neutral_element() {
    let table = |function: &str| crate::table::TableSpec {
        id: 1,
        name: "counts".to_owned(),
        value_type: crate::table::ValueType::F64,
        width: 1,
        store: crate::table::StoreKind::Sparse,
        function: crate::table::FunctionSpec::named(function),
        aggregation: Default::default(),
    };
    let lossy: ChainSpec = "skip:0.5".parse().unwrap();
    assert!(lossy.check_table(Direction::Push, &table("add")).is_ok());
    assert!(lossy.check_table(Direction::Push, &table("assign")).unwrap_err().to_string().contains("adds"));
    for fine in ["zeros,lz4", "key-cache,noise:1,fixed:2", "user:clip,f16"] {
        let fine: ChainSpec = fine.parse().unwrap();
        assert!(fine.check_table(Direction::Push, &table("assign")).is_ok(), "{fine}");
    }
}
