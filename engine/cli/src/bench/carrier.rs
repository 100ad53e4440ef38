//! `bench ring` and `bench carrier`: round trips and streams over one link, size by size.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use hdrhistogram::Histogram;
use keyrange_transport::link::{FRAME_ALIGN, Link, WORD_BYTES};
use serde::Serialize;

use super::limits::{
    clock_read_ns, copy_seconds, hand_over_bytes_per_second, pin, ping_pong_ns, socket_stream_seconds,
    socket_trips_seconds,
};
use super::options::{LinkCarrier, MeasureArgs, Pattern, SweepArgs};
use super::peer::{Peer, open, open_ring};
use super::perftest;
use super::report::{digits, gigabytes, median, median_ratio, rate, size, table, time, write_json};
use super::turn::{Turn, latency_histogram, measure};
use crate::failure::Failure;
use crate::verbs_options::VerbsArgs;

/// Trips of one raw ping-pong.
const PING_PONG_TRIPS: u64 = 20_000;

/// A limit is measured on at most so many messages.
const LIMIT_MESSAGES_MAX: u64 = 1 << 20;

/// Bytes of one raw hand-over.
const HAND_OVER_BYTES_MIN: u64 = 16 << 20;
const HAND_OVER_BYTES_MAX: u64 = 512 << 20;

/// Arguments of `bench ring`.
#[derive(Args, Serialize)]
pub struct RingArgs {
    #[command(flatten)]
    #[serde(skip)]
    measure: MeasureArgs,

    #[command(flatten)]
    sweep: SweepArgs,
}

/// Arguments of `bench carrier`.
#[derive(Args, Serialize)]
pub struct CarrierArgs {
    /// Which carrier
    #[arg(long, env = "KEYRANGE_BENCH_CARRIER", value_enum, default_value_t = LinkCarrier::Shm)]
    carrier: LinkCarrier,

    #[command(flatten)]
    verbs: VerbsArgs,

    #[command(flatten)]
    #[serde(skip)]
    measure: MeasureArgs,

    #[command(flatten)]
    sweep: SweepArgs,
}

/// Round trips of one size. CPU times are of both sides' threads.
#[derive(Serialize)]
pub struct RoundTrip {
    pub message_bytes: usize,
    /// Trips that were timed one by one.
    pub timed: u64,
    pub mean_ns: f64,
    pub stdev_ns: f64,
    pub min_ns: u64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
    cpu_ns: f64,
    peer_cpu_ns: f64,
    ping_pong_ns: f64,
    limit_ns: f64,
    over_limit: f64,
}

/// A stream of one size.
#[derive(Serialize)]
pub struct Stream {
    pub message_bytes: usize,
    /// Messages of all repetitions.
    pub messages: u64,
    /// The median and the best repetition.
    pub messages_per_second: f64,
    pub messages_per_second_max: f64,
    bytes_per_second: f64,
    cpu_ns: f64,
    peer_cpu_ns: f64,
    copy_bytes_per_second: f64,
    limit_bytes_per_second: f64,
    of_limit: f64,
}

/// All figures of one run.
#[derive(Serialize)]
struct Figures {
    carrier: String,
    reading: &'static str,
    cores: [usize; 2],
    clock_read_ns: f64,
    round_trips: Vec<RoundTrip>,
    streams: Vec<Stream>,
}

/// One link to measure.
struct Bench<'a, L: Link + ?Sized> {
    link: &'a mut L,
    peer: Peer,
    sweep: &'a SweepArgs,
    rounds: u32,
    cores: [usize; 2],
    tcp: bool,
}

/// `bench ring`: the ring itself, its type known to the compiler on both sides.
pub fn run_ring(args: &RingArgs) -> anyhow::Result<()> {
    let cores = prepare(&args.measure, &args.sweep)?;
    let (mut link, peer) = open_ring(args.sweep.ring_bytes, cores[1], true)?;
    let (sweep, rounds) = (&args.sweep, args.measure.rounds);
    let figures = Bench { link: &mut link, peer, sweep, rounds, cores, tcp: false }.run("ring, shm")?;
    print(&figures);
    write_json("keyrange bench ring", &args.measure, args, &figures)
}

/// `bench carrier`: through the contract, as the engine calls it.
pub fn run_carrier(args: &CarrierArgs) -> anyhow::Result<()> {
    let cores = prepare(&args.measure, &args.sweep)?;
    let (mut link, peer) = open(args.carrier, &args.verbs, args.sweep.ring_bytes, cores[1])?;
    let (sweep, rounds, tcp) = (&args.sweep, args.measure.rounds, args.carrier == LinkCarrier::Tcp);
    let name = link.kind().to_string();
    let figures = Bench { link: link.as_mut(), peer, sweep, rounds, cores, tcp }.run(&name)?;
    print(&figures);
    if args.carrier == LinkCarrier::Verbs {
        print!("{}", perftest::table(&figures.round_trips, &figures.streams));
    }
    write_json("keyrange bench carrier", &args.measure, args, &figures)
}

fn prepare(measure: &MeasureArgs, sweep: &SweepArgs) -> anyhow::Result<[usize; 2]> {
    measure.check_json()?;
    if !sweep.ring_bytes.is_power_of_two() || !(1 << 12..=1 << 30).contains(&sweep.ring_bytes) {
        let text = format!("--ring-bytes: expected a power of two from 4K to 1G, got {}", sweep.ring_bytes);
        return Err(Failure::input(text));
    }
    let cores = measure.two_cores()?;
    pin(cores[0]).with_context(|| format!("pinning to core {}", cores[0]))?;
    Ok(cores)
}

impl<L: Link + ?Sized> Bench<'_, L> {
    fn run(mut self, carrier: &str) -> anyhow::Result<Figures> {
        let mut figures = Figures {
            carrier: carrier.to_owned(),
            reading: if self.sweep.untouched { "nobody reads them" } else { "the receiver reads every byte" },
            cores: self.cores,
            clock_read_ns: clock_read_ns(),
            round_trips: Vec::new(),
            streams: Vec::new(),
        };
        for message_bytes in self.sweep.sizes() {
            if self.sweep.wants(Pattern::RoundTrip) {
                figures.round_trips.push(self.round_trip(message_bytes)?);
            }
        }
        for message_bytes in self.sweep.sizes() {
            if self.sweep.wants(Pattern::Stream) {
                figures.streams.push(self.stream(message_bytes)?);
            }
        }
        self.peer.finish()?;
        self.link.close();
        Ok(figures)
    }

    /// One turn: wall time, CPU time here, CPU time of the peer, in nanoseconds.
    fn turn(&mut self, turn: Turn, latencies: Option<&mut Histogram<u64>>) -> anyhow::Result<[f64; 3]> {
        self.peer.begin(turn)?;
        let (wall, cpu) = measure(self.link, turn, latencies)?;
        let peer_cpu = self.peer.finish_turn()?;
        Ok([wall, cpu, peer_cpu].map(|time| time.as_nanos() as f64))
    }

    /// Warms up, and finds how many messages make a turn of the length wanted.
    fn calibrated(&mut self, reply: bool, message_bytes: usize) -> anyhow::Result<Turn> {
        let mut messages = self.sweep.messages.unwrap_or(16);
        let mut spent = Duration::ZERO;
        loop {
            let SweepArgs { in_place, untouched, .. } = *self.sweep;
            let turn = Turn { reply, in_place, untouched, message_bytes, messages };
            let [wall_ns, ..] = self.turn(turn, None)?;
            spent += Duration::from_nanos(wall_ns as u64);
            if self.sweep.messages.is_none() {
                let wanted = self.sweep.turn.as_nanos() as f64 * messages as f64 / wall_ns;
                // A first turn meets cold memory, so its rate is not trusted far.
                messages = (wanted as u64).clamp(1, messages * 16);
            }
            if spent >= self.sweep.warm_up {
                return Ok(Turn { messages, ..turn });
            }
        }
    }

    fn round_trip(&mut self, message_bytes: usize) -> anyhow::Result<RoundTrip> {
        let turn = self.calibrated(true, message_bytes)?;
        let per_message = 1.0 / turn.messages as f64;
        let (mut walls, mut cpus, mut peer_cpus) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ping_pongs, mut limits) = (Vec::new(), Vec::new());
        let mut latencies = latency_histogram()?;
        for _ in 0..self.rounds {
            let ping_pong = ping_pong_ns(self.cores[1], PING_PONG_TRIPS)?;
            ping_pongs.push(ping_pong);
            limits.push(self.round_trip_limit_ns(message_bytes, ping_pong, turn.messages)?);
            let [wall, cpu, peer_cpu] = self.turn(turn, None)?.map(|ns| ns * per_message);
            walls.push(wall);
            cpus.push(cpu);
            peer_cpus.push(peer_cpu);
            self.turn(turn, Some(&mut latencies))?;
        }
        let at = |quantile| latencies.value_at_quantile(quantile);
        Ok(RoundTrip {
            message_bytes,
            timed: latencies.len(),
            mean_ns: median(&walls),
            stdev_ns: latencies.stdev(),
            min_ns: latencies.min(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: latencies.max(),
            cpu_ns: median(&cpus),
            peer_cpu_ns: median(&peer_cpus),
            ping_pong_ns: median(&ping_pongs),
            limit_ns: median(&limits),
            over_limit: median_ratio(&walls, &limits),
        })
    }

    fn round_trip_limit_ns(&self, message_bytes: usize, ping_pong: f64, trips: u64) -> anyhow::Result<f64> {
        let trips = trips.min(LIMIT_MESSAGES_MAX);
        if self.tcp {
            return Ok(socket_trips_seconds(self.cores[1], message_bytes, trips)? * 1e9 / trips as f64);
        }
        let copy = copy_seconds(message_bytes, self.sweep.ring_bytes, trips) * 1e9 / trips as f64;
        Ok(ping_pong + 2.0 * copy)
    }

    fn stream(&mut self, message_bytes: usize) -> anyhow::Result<Stream> {
        let turn = self.calibrated(false, message_bytes)?;
        let (mut rates, mut cpus, mut peer_cpus) = (Vec::new(), Vec::new(), Vec::new());
        let (mut copies, mut limits) = (Vec::new(), Vec::new());
        let limited = turn.messages.min(LIMIT_MESSAGES_MAX);
        for _ in 0..self.rounds {
            copies.push(limited as f64 / copy_seconds(message_bytes, self.sweep.ring_bytes, limited));
            limits.push(self.stream_limit(message_bytes, limited)?);
            let [wall, cpu, peer_cpu] = self.turn(turn, None)?.map(|ns| ns / turn.messages as f64);
            rates.push(1e9 / wall);
            cpus.push(cpu);
            peer_cpus.push(peer_cpu);
        }
        let messages_per_second = median(&rates);
        Ok(Stream {
            message_bytes,
            messages: turn.messages * u64::from(self.rounds),
            messages_per_second,
            messages_per_second_max: rates.iter().copied().fold(0.0, f64::max),
            bytes_per_second: messages_per_second * message_bytes as f64,
            cpu_ns: median(&cpus),
            peer_cpu_ns: median(&peer_cpus),
            copy_bytes_per_second: median(&copies) * message_bytes as f64,
            limit_bytes_per_second: median(&limits) * message_bytes as f64,
            of_limit: median_ratio(&rates, &limits),
        })
    }

    /// Messages per second.
    fn stream_limit(&self, message_bytes: usize, messages: u64) -> anyhow::Result<f64> {
        let other = self.cores[1];
        if self.tcp {
            return Ok(messages as f64 / socket_stream_seconds(other, message_bytes, messages)?);
        }
        let lines_bytes = (message_bytes + WORD_BYTES).next_multiple_of(FRAME_ALIGN);
        let bytes = (messages * lines_bytes as u64).clamp(HAND_OVER_BYTES_MIN, HAND_OVER_BYTES_MAX);
        let limit = hand_over_bytes_per_second(other, self.sweep.ring_bytes, bytes)?;
        Ok(limit / lines_bytes as f64)
    }
}

fn print(figures: &Figures) {
    let [here, there] = figures.cores;
    println!(
        "{}, cores {here} and {there}; medians, one clock reading {:.0} ns",
        figures.carrier, figures.clock_read_ns
    );
    if !figures.round_trips.is_empty() {
        println!("\nRound trips (percentiles contain one clock reading each)");
        let mut rows = table(&[
            "bytes",
            "mean",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "CPU here",
            "CPU there",
            "ping-pong",
            "limit",
            "x limit",
        ]);
        for row in &figures.round_trips {
            let percentile = [row.p50_ns, row.p90_ns, row.p99_ns, row.p999_ns, row.max_ns];
            let mut cells = vec![size(row.message_bytes), time(row.mean_ns)];
            cells.extend(percentile.map(|ns| time(ns as f64)));
            cells.extend([row.cpu_ns, row.peer_cpu_ns, row.ping_pong_ns, row.limit_ns].map(time));
            cells.push(digits(row.over_limit));
            rows.add_row(cells);
        }
        println!("{rows}");
    }
    if !figures.streams.is_empty() {
        println!("\nStreams ({})", figures.reading);
        let mut rows =
            table(&["bytes", "messages", "payload", "CPU here", "CPU there", "copy", "limit", "of limit"]);
        for row in &figures.streams {
            rows.add_row([
                size(row.message_bytes),
                rate(row.messages_per_second),
                gigabytes(row.bytes_per_second),
                time(row.cpu_ns),
                time(row.peer_cpu_ns),
                gigabytes(row.copy_bytes_per_second),
                gigabytes(row.limit_bytes_per_second),
                digits(row.of_limit),
            ]);
        }
        println!("{rows}");
    }
}
