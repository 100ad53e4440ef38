//! What the shared-memory ring does between two pinned processes, beside what the caches allow.
//!
//! ```text
//! cargo run --release -p keyrange-transport --example ring_figures [rounds] [ring KiB]
//! ```
//!
//! Raw ping-pong and ring take turns in one run, because core-to-core latency of shared machines drifts by factors.
//! The consumer reads every byte of every frame.

use std::hint::{black_box, spin_loop};
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use keyrange_transport::link::{Frame, Link, SendError, WORD_BYTES};
use keyrange_transport::region::MirroredMap;
use keyrange_transport::shm::{self, RingConfig, ShmLink};
use rustix::thread::{CpuSet, sched_setaffinity};

const RAW: u32 = 1;
const ECHO: u32 = 2;
const SINK: u32 = 3;
const PAGE: usize = 4096;
/// Ping-pongs per turn.
const TURN: u64 = 20_000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "--peer") {
        return peer(args[2].parse().unwrap());
    }
    let rounds: usize = args.get(1).map_or(9, |arg| arg.parse().expect("rounds: a number"));
    let ring_bytes = args.get(2).map_or(1 << 20, |arg| arg.parse::<usize>().expect("ring: KiB") << 10);
    pin(0);
    let raw = MirroredMap::new(PAGE).unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--peer", &ring_bytes.to_string()])
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::from(raw.fd().try_clone_to_owned().unwrap()))
        .spawn()
        .unwrap();
    let mut link = shm::connect(near, config(ring_bytes)).unwrap();
    println!("ring of {} KiB, medians of {rounds} turns", ring_bytes >> 10);
    round_trips(&mut link, &raw, rounds);
    streams(&mut link, rounds);
    link.close();
    child.wait().unwrap();
}

fn config(ring_bytes: usize) -> RingConfig {
    RingConfig { ring_bytes, ..RingConfig::default() }
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

/// The two lines of the raw ping-pong.
fn lines(map: &MirroredMap) -> [&AtomicU64; 2] {
    // SAFETY: both words lie in the page mapped by `map`, are aligned, and are accessed as atomics only.
    [0, 256].map(|offset| unsafe { &*map.as_ptr().add(offset).cast::<AtomicU64>() })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Sends a frame, spinning while there is no room.
fn send(link: &mut ShmLink, tag: u32, bytes: &[u8]) {
    loop {
        match link.try_send(tag, &[IoSlice::new(bytes)]) {
            Ok(()) => return,
            Err(SendError::Full) => link.progress().unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn receive(link: &mut ShmLink) -> Frame {
    loop {
        if let Some(frame) = link.try_recv().unwrap() {
            return frame;
        }
        link.progress().unwrap();
    }
}

fn command(link: &mut ShmLink, what: u32, count: u64) {
    send(link, what, &count.to_le_bytes());
}

/// Reads every byte.
fn sum(bytes: &[u8]) -> u64 {
    let (lines, rest) = bytes.as_chunks::<64>();
    let mut lanes = [0u64; 8];
    for line in lines {
        for (lane, word) in lanes.iter_mut().zip(line.as_chunks::<8>().0) {
            *lane = lane.wrapping_add(u64::from_ne_bytes(*word));
        }
    }
    let (words, rest) = rest.as_chunks::<8>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane = lane.wrapping_add(u64::from_ne_bytes(*word));
    }
    let rest = rest.iter().map(|&b| u64::from(b)).sum();
    lanes.iter().fold(rest, |a, &b| a.wrapping_add(b))
}

fn round_trips(link: &mut ShmLink, raw: &MirroredMap, rounds: usize) {
    for frame_bytes in [48usize, 64, 112, 1024] {
        let body = vec![1u8; frame_bytes - WORD_BYTES];
        let (mut raws, mut rings) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            command(link, RAW, TURN);
            raws.push(raw_turn(lines(raw)));
            command(link, ECHO, TURN);
            let begin = Instant::now();
            for n in 0..TURN {
                send(link, n as u32, &body);
                let frame = receive(link);
                black_box(sum(link.bytes(&frame)));
                link.release(frame);
            }
            rings.push(begin.elapsed().as_nanos() as f64 / TURN as f64);
        }
        let ratios = raws.iter().zip(&rings).map(|(raw, ring)| ring / raw).collect();
        let (raw, ring, ratio) = (median(raws), median(rings), median(ratios));
        println!("round trip {frame_bytes:>5} B   raw {raw:6.0} ns   ring {ring:6.0} ns   ratio {ratio:.2}");
    }
}

fn raw_turn([ping, pong]: [&AtomicU64; 2]) -> f64 {
    ping.store(0, Ordering::Relaxed);
    while pong.load(Ordering::Acquire) != u64::MAX {
        spin_loop();
    }
    let begin = Instant::now();
    for n in 1..=TURN {
        ping.store(n, Ordering::Release);
        while pong.load(Ordering::Acquire) != n {}
    }
    begin.elapsed().as_nanos() as f64 / TURN as f64
}

fn raw_answer([ping, pong]: [&AtomicU64; 2], count: u64) {
    pong.store(u64::MAX, Ordering::Release);
    for n in 1..=count {
        while ping.load(Ordering::Acquire) != n {}
        pong.store(n, Ordering::Release);
    }
}

fn streams(link: &mut ShmLink, rounds: usize) {
    for (frame_bytes, count) in [
        (48usize, 4_000_000u64),
        (112, 2_000_000),
        (1024, 1_000_000),
        (4096, 400_000),
        (65536, 40_000),
        (262144, 8_000),
    ] {
        let body = vec![1u8; frame_bytes - WORD_BYTES];
        let mut rates = Vec::new();
        for _ in 0..rounds {
            command(link, SINK, count);
            let begin = Instant::now();
            for n in 0..count {
                send(link, n as u32, &body);
            }
            let done = receive(link);
            rates.push(count as f64 / begin.elapsed().as_secs_f64());
            link.release(done);
        }
        let rate = median(rates);
        let gigabytes = rate * frame_bytes as f64 / 1e9;
        println!("stream {frame_bytes:>7} B   {:8.2} M/s   {gigabytes:6.2} GB/s", rate / 1e6);
    }
    println!("{:?}", link.stats());
}

fn peer(ring_bytes: usize) {
    pin(1);
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let raw = MirroredMap::from_fd(std::io::stdout().as_fd().try_clone_to_owned().unwrap(), PAGE).unwrap();
    let mut link = shm::connect(socket, config(ring_bytes)).unwrap();
    loop {
        let Ok(()) = link.progress() else { return };
        let Some(frame) = link.try_recv().unwrap_or(None) else { continue };
        let count = u64::from_le_bytes(link.bytes(&frame)[WORD_BYTES..].try_into().unwrap());
        link.release(frame);
        match frame.tag {
            RAW => raw_answer(lines(&raw), count),
            ECHO => echo(&mut link, count),
            _ => sink(&mut link, count),
        }
    }
}

fn echo(link: &mut ShmLink, count: u64) {
    let mut copy = vec![0; link.frame_bytes_max()];
    for _ in 0..count {
        let frame = receive(link);
        let body = &mut copy[..frame.len as usize - WORD_BYTES];
        body.copy_from_slice(&link.bytes(&frame)[WORD_BYTES..]);
        link.release(frame);
        send(link, frame.tag, body);
    }
}

fn sink(link: &mut ShmLink, count: u64) {
    let mut total = 0;
    for _ in 0..count {
        let frame = receive(link);
        total += sum(link.bytes(&frame));
        link.release(frame);
    }
    send(link, SINK, &total.to_le_bytes());
}
