//! Rows that come unasked: put into order, counted, and asked for again when some are lost.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::worker::RowsFrame;

/// Frames of one shard that came before others they follow, at most; a link that keeps order has none.
const EARLY_MAX: usize = 4096;

/// Without news for this long a stream over a link that may lose frames is asked for anew, later and later.
const PATIENCE: Duration = Duration::from_millis(60);
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// The streams of all shards for one table.
pub(super) struct Streams {
    shards: Vec<FromShard>,
    generation: u32,
    links_replaced: u64,
    patience: Duration,
    ask_at: Option<Duration>,
}

#[derive(Default)]
struct FromShard {
    /// Number of the frame that is next.
    next: u32,
    early: BTreeMap<u32, RowsFrame>,
    /// Everything of this clock has come.
    clock: u64,
}

impl Streams {
    pub fn new(shards: usize) -> Streams {
        let shards = (0..shards).map(|_| FromShard::default()).collect();
        Streams { shards, generation: 0, links_replaced: 0, patience: PATIENCE, ask_at: None }
    }

    /// Everything of this clock has come from this shard.
    pub fn clock_of(&self, shard: usize) -> u64 {
        self.shards.get(shard).map_or(0, |from| from.clock)
    }

    /// Everything of this clock has come from everywhere.
    pub fn system_clock(&self) -> u64 {
        self.shards.iter().map(|from| from.clock).min().unwrap_or(0)
    }

    /// Takes in a frame; `apply` gets those whose turn has come, in order.
    pub fn take_in(&mut self, frame: RowsFrame, mut apply: impl FnMut(&RowsFrame)) {
        let Some(from) = self.shards.get_mut(frame.shard as usize) else { return };
        if frame.generation != self.generation || frame.number < from.next || from.early.len() >= EARLY_MAX {
            return;
        }
        from.early.insert(frame.number, frame);
        while let Some(frame) = from.early.remove(&from.next) {
            from.next += 1;
            apply(&frame);
            if frame.is_last {
                from.clock = from.clock.max(frame.clock);
                (self.patience, self.ask_at) = (PATIENCE, None);
            }
        }
    }

    /// Whether the streams must be asked for anew, and under which number: somebody has waited long (only if frames can be
    /// lost), or links were replaced.
    pub fn ask_again(
        &mut self,
        now: Duration,
        is_waited_for: bool,
        lossy: bool,
        links_replaced: u64,
    ) -> Option<u32> {
        let is_late = if is_waited_for && lossy {
            now >= *self.ask_at.get_or_insert(now + self.patience)
        } else {
            self.ask_at = None;
            false
        };
        if !is_late && links_replaced == self.links_replaced {
            return None;
        }
        if is_late {
            self.patience = (2 * self.patience).min(PATIENCE_MAX);
        }
        self.links_replaced = links_replaced;
        self.ask_at = None;
        self.generation += 1;
        for from in &mut self.shards {
            (from.next, from.early) = (0, BTreeMap::new());
        }
        Some(self.generation)
    }
}
