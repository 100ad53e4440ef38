//! The carriers through their common contract; tcp beside a bare pair of spinning sockets.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use keyrange_benches::limits::{pin, socket_stream_seconds, socket_trips_seconds, tcp_pair};
use keyrange_benches::partner::Partner;
use keyrange_benches::two_cores;
use keyrange_transport::in_process;
use keyrange_transport::link::Link;
use keyrange_transport::shm::{self, RingConfig};
use keyrange_transport::tcp::{TcpConfig, TcpLink};

const SIZES: [usize; 2] = [56, 65_528];

fn carrier<L: Link + 'static>(c: &mut Criterion, name: &str, near: L, far: L, core: usize) {
    let mut partner = Partner::new(near, far, core);
    for bytes in SIZES {
        let payload = vec![1u8; bytes];
        let mut group = c.benchmark_group("carrier/round trip");
        group.bench_with_input(BenchmarkId::new(name, bytes), &payload, |b, payload| {
            b.iter(|| partner.round_trip(payload));
        });
        group.finish();
        let mut group = c.benchmark_group("carrier/stream");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::new(name, bytes), &payload, |b, payload| {
            b.iter_custom(|count| {
                let began = Instant::now();
                partner.stream(payload, count);
                began.elapsed()
            });
        });
        group.finish();
    }
}

fn bare_sockets(c: &mut Criterion, core: usize) {
    for bytes in SIZES {
        let limit = BenchmarkId::new("limit: bare sockets", bytes);
        c.benchmark_group("carrier/round trip").bench_function(limit, |b| {
            b.iter_custom(|trips| seconds(socket_trips_seconds(core, bytes, trips).expect("sockets")));
        });
        let limit = BenchmarkId::new("limit: bare sockets", bytes);
        let mut group = c.benchmark_group("carrier/stream");
        group.throughput(Throughput::Bytes(bytes as u64)).bench_function(limit, |b| {
            b.iter_custom(|count| seconds(socket_stream_seconds(core, bytes, count).expect("sockets")));
        });
        group.finish();
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn main() {
    let mut c = keyrange_benches::criterion();
    let cores = two_cores();
    pin(cores[0]).expect("a usable core");
    let (near, far) = in_process::pair(RingConfig::default()).expect("a ring");
    carrier(&mut c, "in-process", near, far, cores[1]);
    let (a, b) = std::os::unix::net::UnixStream::pair().expect("a socket");
    let far = std::thread::spawn(|| shm::connect(b, RingConfig::default()).expect("a ring"));
    let near = shm::connect(a, RingConfig::default()).expect("a ring");
    carrier(&mut c, "shm", near, far.join().expect("a ring"), cores[1]);
    let (a, b) = tcp_pair().expect("sockets");
    let link = |socket| TcpLink::new(socket, &TcpConfig::default()).expect("a link");
    carrier(&mut c, "tcp", link(a), link(b), cores[1]);
    bare_sockets(&mut c, cores[1]);
    c.final_summary();
}
