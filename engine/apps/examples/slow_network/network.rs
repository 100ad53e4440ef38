//! Frames on their way: late by the latency and by what a node sends and receives in a second.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use keyrange::session::{Outbox, OutboxError, PeerId};
use keyrange::sim::FrameBytes;

/// A frame on its way, or a time at which a node has something to do.
pub struct Event {
    pub node: usize,
    pub from: PeerId,
    pub frame: Option<FrameBytes>,
}

#[derive(Default)]
pub struct Network {
    pub now_ns: u64,
    latency_ns: u64,
    bytes_per_s: u64,
    /// When each node has sent and received what it has to.
    sends_until: Vec<u64>,
    receives_until: Vec<u64>,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    by_number: HashMap<u64, Event>,
    count: u64,
    pub bytes: u64,
}

impl Network {
    /// Between `nodes` nodes, nothing on its way.
    pub fn new(nodes: usize, latency_ns: u64, bytes_per_s: u64) -> Network {
        let idle = vec![0; nodes];
        Network {
            latency_ns,
            bytes_per_s,
            sends_until: idle.clone(),
            receives_until: idle,
            ..Network::default()
        }
    }

    pub fn put(&mut self, at_ns: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at_ns, self.count)));
        self.by_number.insert(self.count, event);
    }

    pub fn next(&mut self) -> Option<Event> {
        let Reverse((at_ns, number)) = self.events.pop()?;
        self.now_ns = self.now_ns.max(at_ns);
        self.by_number.remove(&number)
    }
}

/// One node's way into the network: workers come first, then shards.
pub struct Port<'a>(pub &'a mut Network, pub usize, pub usize);

impl Outbox for Port<'_> {
    fn send(
        &mut self,
        to: PeerId,
        frame_bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> u32,
    ) -> Result<(), OutboxError> {
        let Port(network, from, workers) = self;
        let frame = FrameBytes::compose(frame_bytes, fill);
        let (node, peer) = if *from < *workers {
            (*workers + to.0 as usize, *from)
        } else {
            (to.0 as usize, *from - *workers)
        };
        let wire_ns = frame_bytes as u64 * 1_000_000_000 / network.bytes_per_s;
        let sent = network.now_ns.max(network.sends_until[*from]) + wire_ns;
        network.sends_until[*from] = sent;
        // Cut-through: the first byte comes a latency after it left, and all of them once the receiver has had the others'.
        let came = (sent + network.latency_ns).max(network.receives_until[node] + wire_ns);
        network.receives_until[node] = came;
        network.bytes += frame_bytes as u64;
        network.put(came, Event { node, from: PeerId(peer as u32), frame: Some(frame) });
        Ok(())
    }
}
