//! For carriers whose two ends do not share a descriptor: the head, carried from one to the other by hand.

use super::layout::RingMemory;
use super::sync::Ordering;
use super::{Consumer, Producer};

impl<M: RingMemory> Consumer<M> {
    /// The head as last published, to bring to the producer's side.
    #[inline]
    pub fn published_head(&self) -> u64 {
        self.memory().descriptor().head.0.load(Ordering::Relaxed)
    }
}

impl<M: RingMemory> Producer<M> {
    /// Takes over a head that the consumer published in its own memory. The next claim that needs it judges it.
    #[inline]
    pub fn import_head(&mut self, head: u64) {
        self.memory().descriptor().head.0.store(head, Ordering::Release);
    }
}
