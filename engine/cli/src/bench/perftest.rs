//! The same figures as `ib_write_lat` and `ib_write_bw` print theirs, to be laid side by side.
//!
//! Times are of one way (half a round trip) in microseconds, MB are 2^20 bytes. Where perftest takes the best pair of posts for its
//! peak, this is the best repetition; its average is the median repetition here.

use std::fmt::Write;

use super::carrier::{RoundTrip, Stream};

/// The lines of both programs, as far as there are figures.
pub fn table(round_trips: &[RoundTrip], streams: &[Stream]) -> String {
    let mut text = String::new();
    if !round_trips.is_empty() {
        text += "\nOne way, as ib_write_lat\n #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    \
                 t_avg[usec]    t_stdev[usec]   99% percentile[usec]   99.9% percentile[usec]\n";
    }
    for trip in round_trips {
        let (bytes, timed) = (trip.message_bytes, trip.timed);
        let [min, max, typical, p99, p999] =
            [trip.min_ns, trip.max_ns, trip.p50_ns, trip.p99_ns, trip.p999_ns]
                .map(|ns| one_way_us(ns as f64));
        let [mean, stdev] = [trip.mean_ns, trip.stdev_ns].map(one_way_us);
        let _ = writeln!(
            text,
            " {bytes:<7} {timed:<14} {min:<14.2} {max:<12.2} {typical:<16.2} {mean:<14.2} {stdev:<15.2} {p99:<22.2} {p999:.2}"
        );
    }
    if !streams.is_empty() {
        text += "\nStreams, as ib_write_bw\n #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]\n";
    }
    for stream in streams {
        let (bytes, messages) = (stream.message_bytes, stream.messages);
        let mb = |per_second: f64| per_second * bytes as f64 / f64::from(1 << 20);
        let (peak, average) = (mb(stream.messages_per_second_max), mb(stream.messages_per_second));
        let rate = stream.messages_per_second / 1e6;
        let _ = writeln!(text, " {bytes:<10} {messages:<14} {peak:<18.2} {average:<20.2} {rate:.6}");
    }
    text
}

fn one_way_us(round_trip_ns: f64) -> f64 {
    round_trip_ns / 2e3
}
