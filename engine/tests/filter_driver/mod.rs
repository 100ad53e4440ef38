//! One attack on what undoes filters, at a shard and at a worker: a sound header and arbitrary bytes behind it, their
//! descriptor and the wish at the end made nearly right so that they get far. The test `hostile` and the fuzz target `filters` drive it.

use std::sync::Arc;

use keyrange::filter::Filters;
use keyrange::key_range::{KeyRange, RangeMap};
use keyrange::message::{Flags, HEADER_BYTES, Header, Kind, compose_header};
use keyrange::session::PeerId;
use keyrange::shard::{ShardConfig, ShardCore};
use keyrange::sim::{FrameBytes, Mailbox};
use keyrange::table::{FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::update::Registry;
use keyrange::worker::{Keys, Options, TableHandle, WorkerConfig, WorkerCore};

/// Keys of the messages.
const KEYS: u32 = 70;

/// Bytes of one code, and in front of an array, by code.
const CODES: [(usize, usize); 7] = [(4, 0), (2, 0), (2, 0), (2, 0), (1, 16), (2, 16), (3, 16)];

/// The frame: a header of `kind`, and `data` from byte 8 on as the body, with a descriptor of the shape that the first
/// bytes choose.
fn frame(kind: Kind, data: &[u8], sequence: u64) -> FrameBytes {
    let parts: u8 = if kind == Kind::Pull { 0 } else { 1 };
    let (code, flags, rows) = (data[0] % 7, data[1] & 31, u32::from(data[2]) % (KEYS + 1));
    let has_bitmap = flags & 1 != 0;
    let rows = if has_bitmap { rows } else { KEYS };
    let (bytes, front) = CODES[usize::from(code)];
    let bitmap = if has_bitmap { 16 } else { 0 };
    let plain = usize::from(parts) * (bitmap + front + bytes * rows as usize);
    let mut body = data[8..].to_vec();
    if data[3] & 1 == 0 && flags & 2 == 0 {
        body.resize(16 + plain, 7);
    }
    if data[3] & 2 == 0 && body.len() >= 16 {
        body[..2].copy_from_slice(&[code, flags]);
        body[4..8].copy_from_slice(&rows.to_le_bytes());
        body[8..12].copy_from_slice(&(plain as u32).to_le_bytes());
        body[12..16].copy_from_slice(&u32::from(data[5]).to_le_bytes());
    }
    let contiguous = if kind == Kind::Values { 0 } else { Flags::CONTIGUOUS };
    let wishes = data[4] & 1 == 0 && matches!(kind, Kind::Pull | Kind::PushPull);
    let filtered = data[4] & 4 == 0 || !wishes; // what only wishes is read where it lies
    if wishes {
        let bytes = if data[4] & 2 == 0 { 37 } else { 2 + u16::from(data[7]) };
        body.extend_from_slice(&data[8..]);
        body.resize(body.len() + 35, b'4');
        body.extend_from_slice(&bytes.min(body.len() as u16 + 2).to_le_bytes());
    }
    let header = Header {
        flags: contiguous | if filtered { Flags::FILTERED } else { 0 } | if wishes { Flags::WISH } else { 0 },
        sender: u32::from(kind != Kind::Values),
        table: 1,
        value_type: 1,
        parts,
        sequence,
        last: u64::from(KEYS) - 1,
        key_count: KEYS,
        aux: 1,
        ..Header::new(kind)
    };
    let mut bytes = header_bytes(&header).to_vec();
    bytes.extend_from_slice(&body);
    FrameBytes::copy_of(&bytes)
}

/// The header as it travels, field by field.
fn header_bytes(header: &Header) -> [u8; HEADER_BYTES] {
    let mut body = [0; HEADER_BYTES - 8];
    let tag = compose_header(&mut body, header);
    let mut bytes = [0; HEADER_BYTES];
    bytes[4..8].copy_from_slice(&tag.to_le_bytes());
    bytes[8..].copy_from_slice(&body);
    bytes
}

/// Nobody panics; what is refused is refused as a request, and the link lives on.
pub fn attack(data: &[u8]) {
    if data.len() < 8 {
        return;
    }
    let spec = TableSpec {
        id: 1,
        name: "fuzzed".into(),
        value_type: ValueType::F32,
        width: 1,
        store: StoreKind::Sparse,
        function: FunctionSpec::named(["add", "assign"][usize::from(data[6] & 1)]),
        aggregation: Default::default(),
    };
    let config = ShardConfig { frame_bytes_max: 4096, ..ShardConfig::new(0, KeyRange::ALL, 2) };
    let mut shard = ShardCore::new(config, Arc::new(Registry::with_builtins()));
    shard.connect(1, 0).expect("first incarnation");
    shard.create_table(spec.clone()).expect("a good table");
    let mut down = Mailbox::default();
    for (kind, sequence) in [(Kind::Push, 1), (Kind::Pull, 2), (Kind::PushPull, 3), (Kind::PushPull, 3)] {
        let (frame, refused) = (frame(kind, data, sequence), shard.stats().refused);
        shard.handle(PeerId(1), frame.bytes(), &mut down).expect("the link lives");
        shard.flush(&mut down);
        // A push that says it leaves rows out does not pass a table that does not add, whatever else is in it.
        let is_partial = frame.bytes().get(65).is_some_and(|flags| flags & 8 != 0);
        if kind == Kind::Push && is_partial && spec.function.name != "add" {
            assert_eq!(shard.stats().refused, refused + 1, "a partial push to {:?}", spec.function);
        }
    }
    let map = Arc::new(RangeMap::even(1, KeyRange::ALL, 1).expect("one shard"));
    let mut worker = WorkerCore::new(WorkerConfig::new(0), map);
    let chain = "significant:1,zeros,f16,lz4".parse().expect("a chain");
    let filters = Filters::new(&"none".parse().expect("a chain"), &chain, 1).expect("good chains");
    let (keys, mut up) =
        (Keys::Range(KeyRange::new(0, u64::from(KEYS) - 1).expect("a range")), Mailbox::default());
    for sequence in 1..=3 {
        let options = Options { filters: filters.clone(), ..Options::default() };
        worker.pull::<f32>(TableHandle::from(&spec), keys.clone(), vec![], options, &mut up).expect("room");
        worker
            .handle(PeerId(0), frame(Kind::Values, data, sequence).bytes(), &mut up)
            .expect("the link lives");
    }
}
