//! A worker's own early parts: when one may leave, and what is in it.
//!
//! A part takes open increments out of their rows and sends them as a push that closes no clock. One is under way at a
//! time, behind the last closed clock and before the next, and none while rows are asked for: so rows that come hold all
//! parts up to one whose number they tell, and the increments of later ones are put on top, as those of closed clocks are.
//! A worker that replaces another sends nothing early in the clocks that the other may have begun.

use std::time::Duration;

use super::config::ClockError;
use super::core::ClockedCore;
use super::early::{Bucket, EarlyConfig, Weigher, keep_heaviest, rows_frame_bytes};
use crate::key_list::KeyList;
use crate::key_range::Key;
use crate::message::{Control, Element, Layout};
use crate::session::Outbox;
use crate::worker::{Keys, Options, TaskId, WorkerCore};

/// Budget and order of one worker's early parts.
pub(super) struct EarlySender {
    config: EarlyConfig,
    bucket: Bucket,
    weigher: Weigher,
    /// Parts sent of the clock at hand.
    pub number: u32,
    /// The servers have been asked to do the same.
    has_asked: bool,
    pub asks: Option<TaskId>,
}

impl EarlySender {
    pub fn new(config: EarlyConfig, rank: u32) -> EarlySender {
        EarlySender {
            config,
            bucket: Bucket::new(config.bytes_per_s, config.burst_bytes),
            weigher: Weigher::new(config.order, rank.into()),
            number: 0,
            has_asked: false,
            asks: None,
        }
    }

    /// The servers' share of the budget: as much as a worker's, divided among them.
    fn of_server(&self, shards: usize) -> EarlyConfig {
        EarlyConfig { bytes_per_s: (self.config.bytes_per_s / shards as u64).max(1), ..self.config }
    }
}

impl<V: Element> ClockedCore<V> {
    /// Has the servers send rows early, too.
    pub(super) fn ask_for_early(
        &mut self,
        core: &mut WorkerCore,
        out: &mut dyn Outbox,
    ) -> Result<(), ClockError> {
        let Some(sender) = self.sender.as_mut().filter(|sender| self.config.eager && !sender.has_asked)
        else {
            return Ok(());
        };
        let early = sender.of_server(core.map().shards());
        let control = Control::SendEarly { table: self.table.id, early, width: self.width as u32 };
        sender.asks = Some(core.control(&control, Options::default(), out)?);
        sender.has_asked = true;
        Ok(())
    }

    /// Sends the heaviest open increments, as many as a full budget carries.
    pub(super) fn send_early(
        &mut self,
        core: &mut WorkerCore,
        now: Duration,
        out: &mut dyn Outbox,
    ) -> Result<(), ClockError> {
        let is_begun = core.config().epoch > 0 && self.clock <= self.before.max();
        if self.pull.is_some() || !self.pushes.is_empty() || !self.knows_before || is_begun {
            return Ok(());
        }
        let Some(sender) = self.sender.as_mut().filter(|sender| sender.number < u32::MAX - 1) else {
            return Ok(());
        };
        if !self.rows.is_touched() || !sender.bucket.is_full(now) {
            return Ok(());
        }
        let mut rows = self.rows.weigh(&mut sender.weigher, self.width);
        let burst_bytes = usize::try_from(sender.config.burst_bytes).unwrap_or(usize::MAX);
        let (keys, bytes) = fit(&mut rows, self.table.width as usize * size_of::<V>(), burst_bytes, core);
        if keys.is_empty() {
            return Ok(());
        }
        core.check_room()?;
        sender.number += 1;
        sender.bucket.take(bytes);
        let (part, clock) = (sender.number, self.clock + 1);
        let values = self.rows.part(&keys, (clock, part));
        if self.config.value_bound.is_some() {
            self.in_transit.push_back((clock, keys.clone(), values.clone()));
        }
        self.stats.early.rows_sent += keys.len() as u64;
        self.stats.early.bytes_sent += bytes as u64;
        let list = Keys::List(KeyList::new(keys).expect("sorted, each row once"));
        let options = Options { early: part, ..Options::at(clock) };
        self.pushes.push_back(core.push(self.table, list, vec![values], options, out)?);
        Ok(())
    }
}

/// The heaviest rows whose frames, one to each shard, come to at most `bytes_max`: their keys, rising, and their bytes.
fn fit(
    rows: &mut Vec<(f64, Key)>,
    row_bytes: usize,
    bytes_max: usize,
    core: &WorkerCore,
) -> (Vec<Key>, usize) {
    let map = core.map();
    let rows_max = Layout::keys_max(core.frame_bytes_max(), 1, row_bytes);
    keep_heaviest(rows, bytes_max / (row_bytes + size_of::<Key>()));
    let (mut counts, mut bytes, mut keys) = (vec![0; map.shards()], 0, Vec::new());
    for &(_, key) in rows.iter() {
        let count = &mut counts[map.shard_of(key)];
        let with = bytes - rows_frame_bytes(*count, row_bytes) + rows_frame_bytes(*count + 1, row_bytes);
        if *count == rows_max || with > bytes_max {
            break;
        }
        (*count, bytes) = (*count + 1, with);
        keys.push(key);
    }
    keys.sort_unstable();
    (keys, bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::key_range::{KeyRange, RangeMap};
    use crate::worker::WorkerConfig;

    proptest! {
        #[test]
        fn a_part_is_the_longest_beginning_of_the_order_that_fits(
            weights in prop::collection::vec(0..20u8, 0..50),
            (shards, row_bytes, bytes_max) in (1..4usize, 1..20usize, 100..3000usize),
        ) {
            let map = Arc::new(RangeMap::even(1, KeyRange::ALL, shards).unwrap());
            let core = WorkerCore::new(WorkerConfig::new(0), Arc::clone(&map));
            let key = |place: usize| (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut rows: Vec<(f64, Key)> =
                weights.iter().enumerate().map(|(place, &weight)| (weight.into(), key(place))).collect();
            // The oracle sorts all of them, and counts the bytes of each beginning anew.
            let mut sorted = rows.clone();
            sorted.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
            let bytes_of = |rows: &[(f64, Key)]| -> usize {
                let on = |shard| rows.iter().filter(|row| map.shard_of(row.1) == shard).count();
                (0..shards).map(|shard| rows_frame_bytes(on(shard), 8 * row_bytes)).sum()
            };
            let longest = (0..=sorted.len()).take_while(|&len| bytes_of(&sorted[..len]) <= bytes_max).last().unwrap();
            let mut expected: Vec<Key> = sorted[..longest].iter().map(|row| row.1).collect();
            expected.sort_unstable();
            let (keys, bytes) = fit(&mut rows, 8 * row_bytes, bytes_max, &core);
            prop_assert_eq!(keys, expected);
            prop_assert_eq!(bytes, bytes_of(&sorted[..longest]));
        }
    }
}
