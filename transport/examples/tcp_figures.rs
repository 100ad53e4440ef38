//! What the TCP carrier costs beside a bare pair of sockets, in one run on two pinned threads:
//! `cargo run --release -p keyrange-transport --example tcp_figures [-- trips|stream|burst [BYTES]]`
//!
//! Both do the same job: every byte sent is read and summed. Rounds of the bare pair and of the link alternate, so that
//! a disturbance hits both; medians are printed with their least and greatest, and the ratio round by round.

use std::hint::black_box;
use std::io::IoSlice;
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use keyrange_transport::link::{Link, WORD_BYTES};
use keyrange_transport::tcp::{Listener, TcpConfig, TcpLink, connect};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use rustix::thread::{CpuSet, sched_setaffinity};

const ROUNDS: usize = 9;
const TRIPS: u32 = 6_000;
const STREAM_BYTES: usize = 256 << 20;
const BURST_FRAMES: usize = 2_000_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let asked = |what: &str| args.first().is_none_or(|arg| arg == what);
    let bytes: Option<usize> = args.get(1).map(|arg| arg.parse().expect("BYTES is a number"));
    let sizes = |usual: &[usize]| bytes.map_or(usual.to_vec(), |one| vec![one]);
    if asked("trips") {
        sizes(&[64, 1024]).into_iter().for_each(trips);
    }
    if asked("stream") {
        sizes(&[4096, 16 << 10, 64 << 10, 256 << 10]).into_iter().for_each(stream);
    }
    if asked("burst") {
        let rounds = (0..ROUNDS)
            .map(|_| on_two_cores(links(), link_burst, |link| link_receive(link, BURST_FRAMES, 64)));
        let rate = Spread::of(rounds.map(|time| BURST_FRAMES as f64 / time.as_secs_f64() / 1e6));
        println!("64 B frames committed as fast as possible, M/s: {rate}");
    }
}

fn trips(frame: usize) {
    let payload = frame - WORD_BYTES;
    compare(
        &format!("round trip of {frame} B frames, us"),
        |time| time.as_secs_f64() * 1e6 / f64::from(TRIPS),
        || on_two_cores(sockets(), |a| bare_trips(a, frame, true), |b| bare_trips(b, frame, false)),
        || on_two_cores(links(), |a| link_trips(a, payload, true), |b| link_trips(b, payload, false)),
    );
}

fn stream(frame: usize) {
    let frames = STREAM_BYTES / frame;
    compare(
        &format!("streaming {frame} B frames, s/GiB"),
        |time| time.as_secs_f64() * (1 << 30) as f64 / STREAM_BYTES as f64,
        || on_two_cores(sockets(), |a| bare_send(a, frame), |b| bare_receive(b, frame)),
        || on_two_cores(links(), |a| link_send(a, frame), |b| link_receive(b, frames, frame)),
    );
}

/// Alternates rounds of both and prints what they took and how often the link goes into the bare pair.
fn compare(
    what: &str,
    unit: impl Fn(Duration) -> f64,
    bare: impl Fn() -> Duration,
    link: impl Fn() -> Duration,
) {
    let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (unit(bare()), unit(link()))).collect();
    let bare = Spread::of(rounds.iter().map(|&(bare, _)| bare));
    let link = Spread::of(rounds.iter().map(|&(_, link)| link));
    let speed = Spread::of(rounds.iter().map(|&(bare, link)| bare / link));
    println!("{what}: bare {bare}, link {link}, link's speed / bare's {speed}");
}

/// The median of some rounds with the least and the greatest.
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    fn of(rounds: impl Iterator<Item = f64>) -> Spread {
        let mut rounds: Vec<f64> = rounds.collect();
        rounds.sort_by(f64::total_cmp);
        Spread { median: rounds[rounds.len() / 2], least: rounds[0], greatest: rounds[rounds.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} ({:.3}..{:.3})", self.median, self.least, self.greatest)
    }
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    // On a machine with one core both threads share it, and the figures say so themselves.
    let _ = sched_setaffinity(None, &set);
}

fn on_two_cores<T: Send>(ends: (T, T), a: impl FnOnce(T) + Send, b: impl FnOnce(T) + Send) -> Duration {
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            pin(1);
            start.wait();
            b(ends.1);
        });
        let this = scope.spawn(|| {
            pin(0);
            start.wait();
            let began = Instant::now();
            a(ends.0);
            other.join().expect("the other side");
            began.elapsed()
        });
        this.join().expect("this side")
    })
}

fn sockets() -> (TcpStream, TcpStream) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a listener");
    let a = connect(listener.address(), deadline).expect("a connection");
    let (b, _) = listener.accept(deadline).expect("a connection");
    for socket in [&a, &b] {
        socket.set_nodelay(true).expect("nodelay");
        // As the link does for itself; where it is forbidden both are slow.
        let _ = sockopt::set_tcp_congestion(socket, "reno");
    }
    (a, b)
}

fn links() -> (TcpLink, TcpLink) {
    let (a, b) = sockets();
    let config = TcpConfig::default();
    (TcpLink::new(a, &config).expect("a link"), TcpLink::new(b, &config).expect("a link"))
}

fn bare_write(socket: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) => std::hint::spin_loop(),
            Err(error) => panic!("send: {error}"),
        }
    }
}

fn bare_read(socket: &TcpStream, bytes: &mut [u8]) {
    let mut got = 0;
    while got < bytes.len() {
        match recv(socket, &mut bytes[got..], RecvFlags::DONTWAIT) {
            Ok((now, _)) => got += now,
            Err(Errno::AGAIN) => std::hint::spin_loop(),
            Err(error) => panic!("recv: {error}"),
        }
    }
}

fn bare_trips(socket: TcpStream, frame: usize, first: bool) {
    let mut bytes = vec![0; frame];
    for _ in 0..TRIPS {
        if first {
            bare_write(&socket, &bytes);
        }
        bare_read(&socket, &mut bytes);
        if !first {
            bare_write(&socket, &bytes);
        }
    }
}

fn bare_send(socket: TcpStream, frame: usize) {
    let bytes = vec![1; frame];
    for _ in 0..STREAM_BYTES / frame {
        bare_write(&socket, &bytes);
    }
}

fn bare_receive(socket: TcpStream, frame: usize) {
    let mut bytes = vec![0; frame];
    for _ in 0..STREAM_BYTES / frame {
        bare_read(&socket, &mut bytes);
        black_box(sum(&bytes));
    }
}

/// The receiver's work on each frame.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    words.fold(0, u64::wrapping_add)
}

fn link_write(link: &mut TcpLink, payload: &[u8]) {
    while link.try_send(1, &[IoSlice::new(payload)]).is_err() {
        link.progress().expect("a living link");
    }
}

fn link_read(link: &mut TcpLink) -> usize {
    loop {
        link.progress().expect("a living link");
        if let Some(frame) = link.try_recv().expect("a living link") {
            let bytes = link.bytes(&frame);
            let len = bytes.len();
            black_box(sum(bytes));
            link.release(frame);
            return len;
        }
    }
}

fn link_trips(mut link: TcpLink, payload: usize, first: bool) {
    let bytes = vec![0; payload];
    for _ in 0..TRIPS {
        if first {
            link_write(&mut link, &bytes);
        }
        link_read(&mut link);
        if !first {
            link_write(&mut link, &bytes);
        }
    }
    while link.unsent_bytes() > 0 {
        link.progress().expect("a living link");
    }
}

fn link_send(mut link: TcpLink, frame: usize) {
    let bytes = vec![1; frame - WORD_BYTES];
    for _ in 0..STREAM_BYTES / frame {
        link_write(&mut link, &bytes);
    }
    finish(link);
}

fn link_burst(mut link: TcpLink) {
    for _ in 0..BURST_FRAMES {
        link_write(&mut link, &[0; 56]);
    }
    finish(link);
}

fn finish(mut link: TcpLink) {
    while link.unsent_bytes() > 0 {
        link.progress().expect("a living link");
    }
    link.close();
}

fn link_receive(mut link: TcpLink, frames: usize, frame: usize) {
    for _ in 0..frames {
        assert_eq!(link_read(&mut link), frame);
    }
}
