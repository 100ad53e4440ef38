//! One attack on a shard and a worker: arbitrary bytes as messages, first as they are, then with a correct checksum,
//! version and sender, so that they reach the cores behind the decoder. The test `hostile` and the fuzz target `message`
//! drive it.

use std::sync::{Arc, OnceLock};

use keyrange::key_range::{KeyRange, RangeMap};
use keyrange::message::{Flags, Frame, HEADER_BYTES, Header, VERSION};
use keyrange::session::PeerId;
use keyrange::shard::{ShardConfig, ShardCore};
use keyrange::sim::{FrameBytes, Mailbox};
use keyrange::table::{Aggregation, AnyTable, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::update::Registry;
use keyrange::worker::{TableHandle, WorkerConfig, WorkerCore};

/// Bytes of one message.
pub const PIECE_BYTES: usize = 320;

const HOSTILE: PeerId = PeerId(1);

fn spec(id: u16, aggregation: Aggregation) -> TableSpec {
    TableSpec {
        id,
        name: "fuzzed".into(),
        value_type: ValueType::F32,
        width: 1,
        store: if id == 2 { StoreKind::Dense { first: 0, last: 999 } } else { StoreKind::Sparse },
        function: FunctionSpec::named("add"),
        aggregation,
    }
}

fn shard() -> ShardCore {
    static REGISTRY: OnceLock<Arc<Registry>> = OnceLock::new();
    let registry = Arc::clone(REGISTRY.get_or_init(|| Arc::new(Registry::with_builtins())));
    let config =
        ShardConfig { window_requests: 64, frame_bytes_max: 4096, ..ShardConfig::new(0, KeyRange::ALL, 2) };
    let mut shard = ShardCore::new(config, registry);
    for rank in 0..2 {
        shard.connect(rank, 0).expect("first incarnation");
    }
    for (id, aggregation) in
        [(1, Aggregation::Immediate), (2, Aggregation::Immediate), (3, Aggregation::AllWorkers)]
    {
        shard.create_table(spec(id, aggregation)).expect("a good table");
    }
    shard
}

/// Makes right what any peer could make right: version, kind, epoch, sender, a table that exists, the checksum.
fn sign(bytes: &mut [u8], sender: u32, request: bool) {
    let kinds: &[u8] = if request { &[1, 2, 3, 4, 5, 7] } else { &[16, 17, 18, 19, 20] };
    bytes[8] = VERSION;
    bytes[9] = kinds[usize::from(bytes[9]) % kinds.len()];
    let flags = u16::from(bytes[10]) & Flags::ALL;
    bytes[10..12].copy_from_slice(&flags.to_le_bytes());
    bytes[12..16].fill(0);
    bytes[16..20].copy_from_slice(&sender.to_le_bytes());
    bytes[20] = [1, 2, 3, 5][usize::from(bytes[20]) % 4]; // 4 is the healthy worker's own table, 5 does not exist
    bytes[21] = 0;
    bytes[25..32].fill(0); // sequence below 256
    bytes[58..60].fill(0); // no more keys than a short input could have
    if bytes[9] == 7 {
        sign_nodes(bytes);
    }
    let header = Header::from_bytes(bytes.first_chunk().expect("a whole header"));
    bytes[4..8].copy_from_slice(&header.checksum().to_le_bytes());
}

/// Makes the nodes of a graph frames: at most two edges, then as many nodes as there is room for.
fn sign_nodes(bytes: &mut [u8]) {
    let edges = bytes[60] % 3;
    bytes[60..64].copy_from_slice(&u32::from(edges).to_le_bytes());
    for end in bytes[HEADER_BYTES..].chunks_mut(4).take(2 * usize::from(edges)) {
        end.iter_mut().enumerate().for_each(|(at, byte)| *byte = if at == 0 { *byte % 4 } else { 0 });
    }
    let start = (HEADER_BYTES + if edges > 0 { 64 } else { 0 }).min(bytes.len());
    let nodes = bytes[start..].chunks_mut(64);
    let mut count = 0u32;
    for node in nodes.filter(|node| node.len() == HEADER_BYTES) {
        node[..4].copy_from_slice(&64u32.to_le_bytes());
        node[8] = VERSION;
        node[9] = [1, 2, 3, 4, 16][usize::from(node[9]) % 5];
        (node[10], node[11]) = (node[10] & 6, 0);
        node[20] = [1, 2, 3, 5][usize::from(node[20]) % 4];
        node[21] = 0;
        node[57..60].fill(0);
        let header = Header::from_bytes(node.first_chunk().expect("a whole header"));
        node[4..8].copy_from_slice(&header.checksum().to_le_bytes());
        count += 1;
    }
    bytes[56..60].copy_from_slice(&count.to_le_bytes());
}

/// Neither core may panic, a fault is an answer, and what a healthy worker pushes meanwhile must be all there.
pub fn attack(data: &[u8]) {
    let raw = FrameBytes::copy_of(data);
    if let Ok(frame) = Frame::decode(raw.bytes()) {
        let _ = (frame.keys(), frame.values::<f32>(1), frame.values::<f64>(3), frame.call(), frame.payload());
    }
    let map = Arc::new(RangeMap::even(1, KeyRange::ALL, 1).expect("one shard"));
    let mut worker = WorkerCore::new(WorkerConfig::new(0), map);
    let (mut shard, mut up, mut down) = (shard(), Mailbox::default(), Mailbox::default());
    let table = TableHandle::from(&spec(4, Aggregation::Immediate));
    shard.create_table(spec(4, Aggregation::Immediate)).expect("a good table");
    let mut pushed = 0f32;
    for piece in data.chunks(PIECE_BYTES) {
        let mut frame = FrameBytes::copy_of(piece);
        if piece.len() >= HEADER_BYTES {
            sign(frame.bytes_mut(), HOSTILE.0, true);
        }
        let _ = shard.handle(HOSTILE, frame.bytes(), &mut down);
        let mut answer = FrameBytes::copy_of(piece);
        worker.push_one(table, 7, &[1f32], u64::MAX, &mut up).expect("room");
        pushed += 1.0;
        if piece.len() >= HEADER_BYTES {
            sign(answer.bytes_mut(), 0, false);
        }
        let _ = worker.handle(PeerId(0), answer.bytes(), &mut up);
    }
    for (_, frame) in up.frames.drain(..) {
        let header = Frame::decode(frame.bytes()).expect("the worker's own").header;
        if header.table == 4 {
            shard.handle(PeerId(0), frame.bytes(), &mut down).expect("a healthy worker");
        }
    }
    shard.flush(&mut down);
    let Some(AnyTable::F32(table)) = shard.table_mut(4) else {
        return; // dropped by a control request, which any worker of the job may send
    };
    let at = table.resolve(&[7], false).expect("sorted");
    let mut value = [0f32];
    table.pull(&at, &mut value).expect("current");
    assert_eq!(value[0], pushed);
}
