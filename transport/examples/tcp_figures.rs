//! What the TCP carrier costs beside a bare pair of sockets, in one run on two pinned threads:
//! `cargo run --release -p keyrange-transport --example tcp_figures`
//!
//! Rounds of the bare pair and of the link alternate; medians and their ratio are printed.

use std::io::IoSlice;
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use keyrange_transport::link::{Link, WORD_BYTES};
use keyrange_transport::tcp::{Listener, TcpConfig, TcpLink, connect};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::thread::{CpuSet, sched_setaffinity};

const ROUNDS: usize = 9;
const TRIPS: u32 = 6_000;
const STREAM_BYTES: usize = 256 << 20;

fn main() {
    for payload in [56, 1016] {
        let (mut bare, mut link) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(on_two_cores(
                sockets(),
                |a| bare_trips(a, payload, true),
                |b| bare_trips(b, payload, false),
            ));
            link.push(on_two_cores(
                links(),
                |a| link_trips(a, payload, true),
                |b| link_trips(b, payload, false),
            ));
        }
        report(
            &format!("round trip, {} B frames, us", payload + WORD_BYTES),
            &bare,
            &link,
            1e6 / f64::from(TRIPS),
        );
    }
    for frame in [4096, 16 << 10, 64 << 10, 256 << 10] {
        let (mut bare, mut link) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(on_two_cores(sockets(), |a| bare_send(a, frame), |b| bare_receive(b, frame)));
            link.push(on_two_cores(links(), |a| link_send(a, frame), |b| link_receive(b, frame)));
        }
        report(
            &format!("streaming {frame} B frames, s/GiB"),
            &bare,
            &link,
            (1 << 30) as f64 / STREAM_BYTES as f64,
        );
    }
    let mut burst = Vec::new();
    for _ in 0..ROUNDS {
        burst.push(on_two_cores(links(), link_burst, |b| link_receive_frames(b, BURST_FRAMES)));
    }
    let seconds = median(&burst).as_secs_f64();
    println!("64 B frames, committed as fast as possible: {:.2} M/s", BURST_FRAMES as f64 / seconds / 1e6);
}

const BURST_FRAMES: usize = 2_000_000;

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

fn report(what: &str, bare: &[Duration], link: &[Duration], scale: f64) {
    let (bare, link) = (median(bare).as_secs_f64() * scale, median(link).as_secs_f64() * scale);
    println!(
        "{what}: bare {bare:.3}, link {link:.3}, link/bare {:.3}, bare/link {:.3}",
        link / bare,
        bare / link
    );
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

fn bare_trips(socket: TcpStream, payload: usize, first: bool) {
    let mut bytes = vec![0; payload + WORD_BYTES];
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
    }
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
            let len = link.bytes(&frame).len();
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

fn link_receive(link: TcpLink, frame: usize) {
    link_receive_frames(link, STREAM_BYTES / frame);
}

fn link_receive_frames(mut link: TcpLink, frames: usize) {
    for _ in 0..frames {
        link_read(&mut link);
    }
}
