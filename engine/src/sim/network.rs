//! Frames on their way, and what befalls them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{FrameBytes, SimConfig};
use crate::session::{Outbox, OutboxError, PeerId};

/// A frame on its way.
pub(super) struct Packet {
    pub due: u64,
    tie: u64,
    /// Generation of the link it travels on; frames of a broken link are lost.
    link: u32,
    pub worker: usize,
    pub shard: usize,
    pub to_shard: bool,
    pub frame: FrameBytes,
}

impl PartialEq for Packet {
    fn eq(&self, other: &Packet) -> bool {
        (self.due, self.tie) == (other.due, other.tie)
    }
}

impl Eq for Packet {}

impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Packet) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Packet {
    fn cmp(&self, other: &Packet) -> std::cmp::Ordering {
        (self.due, self.tie).cmp(&(other.due, other.tie))
    }
}

pub(super) struct Network {
    pub random: Xoshiro256PlusPlus,
    pub now: u64,
    pub frames: u64,
    drop: f64,
    duplicate: f64,
    full: f64,
    delay_max: u64,
    shards: usize,
    links: Vec<u32>,
    packets: BinaryHeap<Reverse<Packet>>,
}

impl Network {
    pub fn new(config: &SimConfig, random: Xoshiro256PlusPlus) -> Network {
        Network {
            random,
            now: 0,
            frames: 0,
            drop: config.drop,
            duplicate: config.duplicate,
            full: config.full,
            delay_max: config.delay_max,
            shards: config.shards,
            links: vec![0; config.workers * config.shards],
            packets: BinaryHeap::new(),
        }
    }

    /// From now on everything arrives at the next tick.
    pub fn calm(&mut self) {
        (self.drop, self.duplicate, self.full, self.delay_max) = (0.0, 0.0, 0.0, 1);
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.random_bool(probability)
    }

    /// Breaks the link: what is on it is lost.
    pub fn reset(&mut self, worker: usize, shard: usize) {
        self.links[worker * self.shards + shard] += 1;
    }

    /// The next frame that has arrived.
    pub fn arrived(&mut self) -> Option<Packet> {
        while self.packets.peek().is_some_and(|Reverse(packet)| packet.due <= self.now) {
            let Some(Reverse(packet)) = self.packets.pop() else { break };
            if packet.link == self.links[packet.worker * self.shards + packet.shard] {
                return Some(packet);
            }
        }
        None
    }

    /// The outbox of one worker.
    pub fn of_worker(&mut self, worker: usize) -> Port<'_> {
        Port { network: self, me: worker, is_worker: true }
    }

    /// The outbox of one shard.
    pub fn of_shard(&mut self, shard: usize) -> Port<'_> {
        Port { network: self, me: shard, is_worker: false }
    }

    fn post(&mut self, worker: usize, shard: usize, to_shard: bool, frame: FrameBytes) {
        self.frames += 1;
        let link = self.links[worker * self.shards + shard];
        let copies = if self.chance(self.drop) { 0 } else { 1 + u32::from(self.chance(self.duplicate)) };
        for _ in 0..copies {
            let due = self.now + self.random.random_range(1..=self.delay_max);
            let tie = self.random.random();
            let frame = frame.clone();
            self.packets.push(Reverse(Packet { due, tie, link, worker, shard, to_shard, frame }));
        }
    }
}

/// One node's way into the network.
pub(super) struct Port<'a> {
    network: &'a mut Network,
    me: usize,
    is_worker: bool,
}

impl Outbox for Port<'_> {
    fn send(
        &mut self,
        to: PeerId,
        frame_bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> u32,
    ) -> Result<(), OutboxError> {
        if self.network.chance(self.network.full) {
            return Err(OutboxError::Full);
        }
        let frame = FrameBytes::compose(frame_bytes, fill);
        let to = to.0 as usize;
        let (worker, shard) = if self.is_worker { (self.me, to) } else { (to, self.me) };
        self.network.post(worker, shard, self.is_worker, frame);
        Ok(())
    }
}
