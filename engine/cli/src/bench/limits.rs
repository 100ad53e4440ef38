//! What the machine itself can do between two cores: a cache line there and back, a copy, a bare pair of sockets.
//!
//! Nothing of Keyrange is in here, so that every figure has something beside it that no program can beat. The calling
//! thread is pinned by its caller; the second thread pins itself to the core it is given.

use std::hint::{black_box, spin_loop};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// A bare socket that moves nothing for this long is broken.
const SOCKET_PATIENCE: Duration = Duration::from_secs(10);

/// Pins the calling thread to one core.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// The cores this process may use, in order.
pub fn usable_cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// CPU time the calling thread has used.
pub fn thread_cpu() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs() as u32)
}

/// What one reading of the clock costs, in nanoseconds.
pub fn clock_read_ns() -> f64 {
    let (began, readings) = (Instant::now(), 100_000);
    for _ in 0..readings {
        black_box(Instant::now());
    }
    began.elapsed().as_nanos() as f64 / f64::from(readings)
}

/// Keeps two words from sharing a line, or the pair of lines that prefetchers fetch together.
#[repr(align(256))]
struct Line(AtomicU64);

/// Round trip in nanoseconds between this thread and one on `other_core`: two cache lines, each written by one side only.
/// The mean of `trips`.
pub fn ping_pong_ns(other_core: usize, trips: u64) -> io::Result<f64> {
    const READY: u64 = u64::MAX;
    let (ping, pong) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| {
            let pinned = pin(other_core);
            pong.0.store(READY, Ordering::Release);
            for trip in 1..=trips {
                while ping.0.load(Ordering::Acquire) != trip {}
                pong.0.store(trip, Ordering::Release);
            }
            pinned
        });
        while pong.0.load(Ordering::Acquire) != READY {
            spin_loop();
        }
        let began = Instant::now();
        for trip in 1..=trips {
            ping.0.store(trip, Ordering::Release);
            while pong.0.load(Ordering::Acquire) != trip {}
        }
        let taken = began.elapsed();
        joined(answer)?;
        Ok(taken.as_nanos() as f64 / trips as f64)
    })
}

/// Seconds one core takes to copy `messages` messages of `message_bytes` into successive places of `into_bytes` of
/// memory: what a producer has to do for a ring of that size when nobody reads.
pub fn copy_seconds(message_bytes: usize, into_bytes: usize, messages: u64) -> f64 {
    let from = vec![1u8; message_bytes];
    let mut into = vec![0u8; into_bytes.max(message_bytes)];
    let last = into.len() - message_bytes;
    let step = message_bytes.next_multiple_of(64);
    let mut at = 0;
    let began = Instant::now();
    for _ in 0..messages {
        into[at..at + message_bytes].copy_from_slice(black_box(&from));
        at = if at + step > last { 0 } else { at + step };
    }
    black_box(&into);
    began.elapsed().as_secs_f64()
}

/// Bytes per second that go from this thread to one on `other_core` through `memory_bytes` of shared memory: one copies
/// into a quarter of it while the other reads the quarters before, and one flag per quarter says whose it is. `bytes` in
/// all, rounded up to whole quarters.
pub fn hand_over_bytes_per_second(other_core: usize, memory_bytes: usize, bytes: u64) -> io::Result<f64> {
    let part_bytes = (memory_bytes / 4).max(64);
    let parts: [_; 4] =
        std::array::from_fn(|_| Part { turn: Line(AtomicU64::new(0)), bytes: vec![0; part_bytes].into() });
    let rounds = bytes.div_ceil(4 * part_bytes as u64);
    let (from, ready) = (vec![1u8; part_bytes], Line(AtomicU64::new(0)));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let pinned = pin(other_core);
            ready.0.store(1, Ordering::Release);
            for round in 0..rounds {
                parts.iter().for_each(|part| part.when(2 * round + 1, |bytes| _ = black_box(sum(bytes))));
            }
            pinned
        });
        while ready.0.load(Ordering::Acquire) == 0 {
            spin_loop();
        }
        let began = Instant::now();
        for round in 0..rounds {
            parts
                .iter()
                .for_each(|part| part.when(2 * round, |bytes| bytes.copy_from_slice(black_box(&from))));
        }
        joined(reader)?;
        Ok((rounds * 4 * part_bytes as u64) as f64 / began.elapsed().as_secs_f64())
    })
}

/// Memory that two threads use in turn: even numbers are the writer's turns, odd ones the reader's.
struct Part {
    turn: Line,
    bytes: Mutex<Vec<u8>>,
}

impl Part {
    fn when(&self, turn: u64, work: impl FnOnce(&mut [u8])) {
        while self.turn.0.load(Ordering::Acquire) != turn {
            spin_loop();
        }
        // Never contended: the flag says whose turn it is.
        work(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        self.turn.0.store(turn + 1, Ordering::Release);
    }
}

/// An array aligned to cache lines, on huge pages where it is large and the kernel has them, as the engine's tables are:
/// random access to 4 KiB pages would measure address translation, vectors across lines the line they split.
pub struct Array<T> {
    memory: Vec<T>,
    start: usize,
}

impl<T: Copy> Array<T> {
    /// `count` times `value`.
    pub fn new(count: usize, value: T) -> Array<T> {
        const LINE_BYTES: usize = 64;
        let mut memory: Vec<T> = Vec::with_capacity(count + LINE_BYTES / size_of::<T>());
        advise_huge_pages(&mut memory);
        let start = memory.as_ptr().align_offset(LINE_BYTES);
        memory.resize(start + count, value);
        Array { memory, start }
    }

    /// The same numbers.
    pub fn of(numbers: impl ExactSizeIterator<Item = T>, zero: T) -> Array<T> {
        let mut array = Array::new(numbers.len(), zero);
        array.iter_mut().zip(numbers).for_each(|(place, number)| *place = number);
        array
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.start..]
    }
}

impl<T> DerefMut for Array<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..]
    }
}

/// Asks for huge pages behind the vector's whole capacity, before it is written.
fn advise_huge_pages<T>(memory: &mut Vec<T>) {
    let (start, page_bytes) = (memory.as_mut_ptr().cast::<u8>(), rustix::param::page_size());
    let before = start.align_offset(page_bytes);
    let bytes = (memory.capacity() * size_of::<T>()).saturating_sub(before) / page_bytes * page_bytes;
    if bytes > 0 {
        // SAFETY: the pages lie within the vector's allocation, which nobody else uses now, and the advice changes no byte.
        let _ = unsafe { madvise(start.add(before).cast(), bytes, Advice::LinuxHugepage) };
    }
}

/// Cache lines per second that one core adds to, `lines` of them at random places of as many lines of memory.
pub fn random_lines_per_second(lines: usize) -> f64 {
    let mut memory = Array::new(lines, Line64([1; 8]));
    let began = Instant::now();
    add_to_random_lines(&mut memory);
    lines as f64 / began.elapsed().as_secs_f64()
}

/// Adds to as many lines at random places as there are lines.
pub fn add_to_random_lines(memory: &mut [Line64]) {
    let (lines, mut place) = (memory.len(), 0u64);
    for _ in 0..lines {
        // A full-period generator, so the places are known early and the core overlaps the misses.
        place = place.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let at = ((u128::from(place) * lines as u128) >> 64) as usize;
        memory[at].0[0] += 1;
    }
    black_box(memory);
}

/// A cache line.
#[repr(align(64))]
#[derive(Clone, Copy, Default)]
pub struct Line64([u64; 8]);

/// Reads every byte.
pub fn sum(bytes: &[u8]) -> u64 {
    let (lines, rest) = bytes.as_chunks::<64>();
    let mut lanes = [0u64; 8];
    for line in lines {
        for (lane, word) in lanes.iter_mut().zip(line.as_chunks::<8>().0) {
            *lane = lane.wrapping_add(u64::from_ne_bytes(*word));
        }
    }
    // Words and bytes apart from the lanes, so that a short message costs no vector work.
    let (words, rest) = rest.as_chunks::<8>();
    let words = words.iter().fold(0u64, |total, &word| total.wrapping_add(u64::from_ne_bytes(word)));
    let total = rest.iter().fold(words, |total, &byte| total.wrapping_add(u64::from(byte)));
    if lines.is_empty() { total } else { lanes.iter().fold(total, |total, &lane| total.wrapping_add(lane)) }
}

/// Reads every number with the widest vectors there are: what one core can read.
pub fn read_all_numbers(numbers: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn avx512(numbers: &[f32]) -> f32 {
            sum_of_lanes(numbers)
        }
        #[target_feature(enable = "avx2")]
        fn avx2(numbers: &[f32]) -> f32 {
            sum_of_lanes(numbers)
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just detected.
            return unsafe { avx512(numbers) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just detected.
            return unsafe { avx2(numbers) };
        }
    }
    sum_of_lanes(numbers)
}

/// Enough lanes for eight of the widest vectors, which hides the latency of additions.
#[inline(always)]
fn sum_of_lanes(numbers: &[f32]) -> f32 {
    let (chunks, rest) = numbers.as_chunks::<128>();
    let mut lanes = [0.0f32; 128];
    for chunk in chunks {
        for l in 0..128 {
            lanes[l] += chunk[l];
        }
    }
    // Pairwise: one after the other these additions would take longer than the reading of a small array.
    for half in [64, 32, 16, 8, 4, 2, 1] {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
    }
    lanes[0] + rest.iter().sum::<f32>()
}

/// A connected pair of TCP sockets on the loopback, without delays and surely to each other.
pub fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, peer) = listener.accept()?;
    if peer != near.local_addr()? {
        return Err(io::Error::other(format!("expected a connection from ourselves, got one from {peer}")));
    }
    for socket in [&near, &far] {
        socket.set_nodelay(true)?;
        // As the carrier does: some systems pace what goes over the loopback. Where it is forbidden both are slow.
        let _ = sockopt::set_tcp_congestion(socket, "reno");
    }
    Ok((near, far))
}

/// Seconds for `trips` round trips of `bytes` over a bare pair of spinning sockets.
pub fn socket_trips_seconds(other_core: usize, bytes: usize, trips: u64) -> io::Result<f64> {
    let there = |socket: &TcpStream, buffer: &mut [u8]| {
        write_all(socket, buffer)?;
        read_all(socket, buffer)
    };
    let back = |socket: &TcpStream, buffer: &mut [u8]| {
        read_all(socket, buffer)?;
        write_all(socket, buffer)
    };
    on_sockets(other_core, bytes, trips, there, back)
}

/// Seconds to stream `messages` messages of `bytes` over a bare pair of spinning sockets; the receiver reads every byte.
pub fn socket_stream_seconds(other_core: usize, bytes: usize, messages: u64) -> io::Result<f64> {
    let write = |socket: &TcpStream, buffer: &mut [u8]| write_all(socket, buffer);
    let read = |socket: &TcpStream, buffer: &mut [u8]| {
        read_all(socket, buffer)?;
        black_box(sum(buffer));
        Ok(())
    };
    on_sockets(other_core, bytes, messages, write, read)
}

/// Runs `near` here and `far` on the other core `rounds` times each; the time from start until both are done.
fn on_sockets(
    other_core: usize,
    bytes: usize,
    rounds: u64,
    near: impl Fn(&TcpStream, &mut [u8]) -> io::Result<()>,
    far: impl Fn(&TcpStream, &mut [u8]) -> io::Result<()> + Send,
) -> io::Result<f64> {
    let (here, there) = tcp_pair()?;
    std::thread::scope(|scope| {
        let other = scope.spawn(move || {
            pin(other_core)?;
            let mut buffer = vec![0; bytes];
            write_all(&there, &[1])?;
            for _ in 0..rounds {
                far(&there, &mut buffer)?;
            }
            write_all(&there, &[1])
        });
        let mut buffer = vec![1; bytes];
        let mut signal = [0];
        read_all(&here, &mut signal)?;
        let began = Instant::now();
        for _ in 0..rounds {
            near(&here, &mut buffer)?;
        }
        read_all(&here, &mut signal)?;
        let seconds = began.elapsed().as_secs_f64();
        joined(other)?;
        Ok(seconds)
    })
}

fn joined(thread: std::thread::ScopedJoinHandle<'_, io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the other thread panicked")))
}

fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let mut refused_since = None;
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => {
                bytes = &bytes[sent..];
                refused_since = None;
            }
            Err(Errno::AGAIN) => still_patient(&mut refused_since)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn read_all(socket: &TcpStream, mut bytes: &mut [u8]) -> io::Result<()> {
    let mut refused_since = None;
    while !bytes.is_empty() {
        match recv(socket, &mut *bytes, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((got, _)) => {
                bytes = &mut bytes[got..];
                refused_since = None;
            }
            Err(Errno::AGAIN) => still_patient(&mut refused_since)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn still_patient(refused_since: &mut Option<Instant>) -> io::Result<()> {
    match refused_since {
        Some(since) if since.elapsed() > SOCKET_PATIENCE => Err(io::ErrorKind::TimedOut.into()),
        Some(_) => Ok(()),
        None => {
            *refused_since = Some(Instant::now());
            Ok(())
        }
    }
}
