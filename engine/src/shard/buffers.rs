//! Recycled memory for contributions that must wait, aligned like the frames they come from.

use bytemuck::{Pod, Zeroable};

/// A cache line, so that vectors of them are aligned like frames.
#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Line([u8; 64]);

/// Copied bytes.
#[derive(Clone, Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// Zeroes.
    pub fn zeroed(len: usize) -> Buffer {
        Buffer { lines: vec![Line::zeroed(); len.div_ceil(64)], len }
    }

    /// Gives it this length; what was in it may remain.
    pub fn resize(&mut self, len: usize) {
        if self.lines.len() < len.div_ceil(64) {
            self.lines.resize(len.div_ceil(64), Line::zeroed());
        }
        self.len = len;
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }

    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

/// Buffers given back, for the next contributions.
#[derive(Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<Line>>,
}

/// Buffers kept at most; more are given back to the allocator.
const FREE_MAX: usize = 256;

impl Buffers {
    /// A copy of `bytes`. Memory is touched twice only when a buffer grows.
    pub fn copy(&mut self, bytes: &[u8]) -> Buffer {
        self.gather(&[bytes])
    }

    /// Copies of `arrays` one after the other, each from a multiple of 64 on.
    pub fn gather(&mut self, arrays: &[&[u8]]) -> Buffer {
        let mut lines = self.free.pop().unwrap_or_default();
        let wanted = arrays.iter().map(|array| array.len().div_ceil(64)).sum();
        if lines.len() < wanted {
            lines.resize(wanted, Line::zeroed());
        }
        let memory: &mut [u8] = bytemuck::cast_slice_mut(&mut lines);
        let (mut start, mut len) = (0, 0);
        for array in arrays {
            len = start + array.len();
            memory[start..len].copy_from_slice(array);
            start = len.next_multiple_of(64);
        }
        Buffer { lines, len }
    }

    pub fn recycle(&mut self, buffer: Buffer) {
        if self.free.len() < FREE_MAX {
            self.free.push(buffer.lines);
        }
    }
}
