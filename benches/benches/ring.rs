//! The ring between two threads beside the raw ping-pong of two cache lines and beside rtrb.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use keyrange_benches::limits::{hand_over_bytes_per_second, pin, ping_pong_ns};
use keyrange_benches::partner::Partner;
use keyrange_benches::two_cores;
use keyrange_transport::in_process;
use keyrange_transport::shm::RingConfig;

const SIZES: [usize; 4] = [48, 1000, 4088, 65_528];

/// One message of a small-message peer: as many bytes as fit beside the carrier's word in a line.
type Small = [u64; 6];

fn nanoseconds(ns: f64) -> Duration {
    Duration::from_nanos(ns as u64)
}

fn round_trips(c: &mut Criterion, cores: [usize; 2]) {
    let (near, far) = in_process::pair(RingConfig::default()).expect("a ring");
    let mut partner = Partner::new(near, far, cores[1]);
    let mut group = c.benchmark_group("ring/round trip");
    for bytes in &SIZES[..2] {
        let payload = vec![1u8; *bytes];
        group.bench_with_input(BenchmarkId::new("ring", bytes), &payload, |b, payload| {
            b.iter(|| partner.round_trip(payload));
        });
    }
    drop(partner);
    group.bench_function("limit: raw ping-pong", |b| {
        b.iter_custom(|trips| nanoseconds(ping_pong_ns(cores[1], trips).expect("two cores") * trips as f64));
    });
    group.bench_function("rtrb/48", |b| b.iter_custom(|trips| rtrb_round_trips(cores[1], trips)));
    group.finish();
}

fn streams(c: &mut Criterion, cores: [usize; 2]) {
    let (near, far) = in_process::pair(RingConfig::default()).expect("a ring");
    let mut partner = Partner::new(near, far, cores[1]);
    let mut group = c.benchmark_group("ring/stream");
    for bytes in SIZES {
        let payload = vec![1u8; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::new("ring", bytes), &payload, |b, payload| {
            b.iter_custom(|count| {
                let began = Instant::now();
                partner.stream(payload, count);
                began.elapsed()
            });
        });
    }
    drop(partner);
    group.throughput(Throughput::Bytes(65_536));
    group.bench_function("limit: raw hand-over/65536", |b| {
        b.iter_custom(|count| {
            let rate = hand_over_bytes_per_second(cores[1], 1 << 20, count * 65_536).expect("two cores");
            nanoseconds((count * 65_536) as f64 / rate * 1e9)
        });
    });
    group.throughput(Throughput::Bytes(48));
    group.bench_function("rtrb/48", |b| b.iter_custom(|count| rtrb_stream(cores[1], count)));
    group.finish();
}

fn pop<T>(from: &mut rtrb::Consumer<T>) -> T {
    loop {
        if let Ok(value) = from.pop() {
            return value;
        }
    }
}

fn push<T>(to: &mut rtrb::Producer<T>, mut value: T) {
    while let Err(rtrb::PushError::Full(back)) = to.push(value) {
        value = back;
    }
}

fn rtrb_round_trips(core: usize, trips: u64) -> Duration {
    let (mut there, mut from_here) = rtrb::RingBuffer::<Small>::new(16_384);
    let (mut back, mut from_there) = rtrb::RingBuffer::<Small>::new(16_384);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(core).expect("a usable core");
            (0..trips).for_each(|_| push(&mut back, pop(&mut from_here)));
        });
        let began = Instant::now();
        for _ in 0..trips {
            push(&mut there, [1; 6]);
            black_box(pop(&mut from_there));
        }
        began.elapsed()
    })
}

fn rtrb_stream(core: usize, count: u64) -> Duration {
    let (mut there, mut from_here) = rtrb::RingBuffer::<Small>::new(16_384);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(core).expect("a usable core");
            (0..count).for_each(|_| _ = black_box(pop(&mut from_here).iter().sum::<u64>()));
        });
        (0..count).for_each(|_| push(&mut there, [1; 6]));
    });
    began.elapsed()
}

fn main() {
    let mut c = keyrange_benches::criterion();
    let cores = two_cores();
    pin(cores[0]).expect("a usable core");
    round_trips(&mut c, cores);
    streams(&mut c, cores);
    c.final_summary();
}
