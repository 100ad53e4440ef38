//! A wire without a carrier: frames one after the other in one piece of memory that is there from the beginning. For the
//! allocation test and the example `core_figures`.

use keyrange::session::{Outbox, OutboxError, PeerId};

#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Line([u8; 64]);

/// See the module's documentation; emptied as a whole.
pub struct Wire {
    memory: Vec<Line>,
    used: usize,
    /// First line and bytes of each.
    pub frames: Vec<(usize, usize)>,
}

impl Wire {
    pub fn new(bytes: usize) -> Wire {
        Wire { memory: vec![Line([0; 64]); bytes / 64], used: 0, frames: Vec::with_capacity(64) }
    }

    pub fn frame(&self, index: usize) -> &[u8] {
        let (at, len) = self.frames[index];
        &bytemuck::cast_slice(&self.memory[at..])[..len]
    }

    pub fn clear(&mut self) {
        self.used = 0;
        self.frames.clear();
    }
}

impl Outbox for Wire {
    fn send(
        &mut self,
        _: PeerId,
        frame_bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> u32,
    ) -> Result<(), OutboxError> {
        let lines = frame_bytes.div_ceil(64);
        if self.used + lines > self.memory.len() {
            return Err(OutboxError::Full);
        }
        let memory = bytemuck::cast_slice_mut(&mut self.memory[self.used..self.used + lines]);
        let tag = fill(&mut memory[8..frame_bytes]);
        memory[..4].copy_from_slice(&(frame_bytes as u32).to_le_bytes());
        memory[4..8].copy_from_slice(&tag.to_le_bytes());
        self.frames.push((self.used, frame_bytes));
        self.used += lines;
        Ok(())
    }
}
