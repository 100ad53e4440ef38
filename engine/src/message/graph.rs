//! Graphs: several requests in one frame, with an order between them, and their answers in one frame.
//!
//! The nodes are ordinary frames. A peer on shared memory can change a frame while it is read: copy a graph, then decode
//! the copy.

use thiserror::Error;

use super::{DecodeError, Flags, Frame, HEADER_BYTES, Kind, pad64};
use crate::session::{Outbox, OutboxError, PeerId};

/// Most nodes of a graph, sub-tasks included.
pub const NODES_MAX: usize = 256;

/// In the answer to a graph every node has room for so many bytes, a header and some text; what they leave of a frame is
/// for the longer ones, first come, first served.
pub const NODE_ANSWER_BYTES: usize = 256;

/// Why a graph cannot be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GraphError {
    /// None, or too many.
    #[error("a graph has 1 to {NODES_MAX} nodes, got {got}")]
    Nodes {
        /// Nodes announced.
        got: usize,
    },
    /// An edge from or to a node that is not there.
    #[error("an edge names node {node}, but there are only {nodes}")]
    UnknownNode {
        /// The node named.
        node: u32,
        /// Nodes there are.
        nodes: usize,
    },
    /// The node waits for itself.
    #[error("node {node} is part of a cycle")]
    Cycle {
        /// One node of the cycle.
        node: u32,
    },
    /// The node is no frame.
    #[error("node {node}: {error}")]
    Frame {
        /// Which node.
        node: u32,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The node is a frame, but not one that a graph can have.
    #[error("node {node}: a graph has no node of kind {kind} with flags {flags:#06x}")]
    Kind {
        /// Which node.
        node: u32,
        /// Its kind.
        kind: u8,
        /// Its flags.
        flags: u16,
    },
}

/// A decoded graph.
#[derive(Debug)]
pub struct GraphFrame<'a> {
    /// Each names a node and one that starts only when that has ended.
    pub edges: Vec<[u32; 2]>,
    /// Push, Pull, PushPull, Call; or Ack, which is nothing to do.
    pub nodes: Vec<Frame<'a>>,
}

impl<'a> GraphFrame<'a> {
    /// Decodes and checks what follows the header of a graph of `nodes` nodes and `edges` edges.
    ///
    /// # Errors
    /// The first thing wrong; everything is looked at, so that running the graph meets no surprise.
    pub fn decode(nodes: u32, edges: u32, payload: &'a [u8]) -> Result<GraphFrame<'a>, GraphError> {
        let count = nodes as usize;
        if !(1..=NODES_MAX).contains(&count) {
            return Err(GraphError::Nodes { got: count });
        }
        let edge_bytes = (edges as usize).saturating_mul(size_of::<[u32; 2]>());
        let short = || DecodeError::Length { expected: HEADER_BYTES + edge_bytes, got: payload.len() };
        let raw = payload.get(..edge_bytes).ok_or_else(|| GraphError::Frame { node: 0, error: short() })?;
        let edges: Vec<[u32; 2]> = raw.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
        check_order(count, &edges)?;
        let mut frames = frames(payload.get(pad64(edge_bytes)..).unwrap_or(&[]));
        let nodes = (0..nodes).map(|node| {
            let wrong = |error| GraphError::Frame { node, error };
            let frame = frames.next().ok_or_else(|| wrong(DecodeError::Short { got: 0 }))?.map_err(wrong)?;
            check_node(node, &frame)?;
            Ok(frame)
        });
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        match frames.next() {
            None => Ok(GraphFrame { edges, nodes }),
            Some(_) => Err(GraphError::Nodes { got: count + 1 }),
        }
    }
}

fn check_node(node: u32, frame: &Frame<'_>) -> Result<(), GraphError> {
    let (kind, flags) = (frame.header.kind, frame.header.flags);
    match frame.kind {
        Kind::Call => frame.call().map(drop).map_err(|error| GraphError::Frame { node, error }),
        Kind::Push | Kind::Pull | Kind::PushPull | Kind::Ack
            if flags & !(Flags::CONTIGUOUS | Flags::AFTER_TIME) == 0 =>
        {
            Ok(())
        }
        _ => Err(GraphError::Kind { node, kind, flags }),
    }
}

/// Checks that the edges name nodes there are, and that no node waits for itself.
pub fn check_order(nodes: usize, edges: &[[u32; 2]]) -> Result<(), GraphError> {
    if let Some(&node) = edges.iter().flatten().find(|&&node| node as usize >= nodes) {
        return Err(GraphError::UnknownNode { node, nodes });
    }
    let (mut blockers, mut dependents) = (vec![0u32; nodes], vec![Vec::new(); nodes]);
    for &[before, after] in edges {
        blockers[after as usize] += 1;
        dependents[before as usize].push(after);
    }
    let mut free: Vec<u32> = (0..nodes as u32).filter(|&node| blockers[node as usize] == 0).collect();
    while let Some(node) = free.pop() {
        for &next in &dependents[node as usize] {
            blockers[next as usize] -= 1;
            if blockers[next as usize] == 0 {
                free.push(next);
            }
        }
    }
    let Some(mut node) = blockers.iter().position(|&count| count > 0) else { return Ok(()) };
    // Every node left has one before it that is left: going back as many steps as there are nodes ends on a cycle.
    for _ in 0..nodes {
        let before =
            edges.iter().find(|[before, after]| *after as usize == node && blockers[*before as usize] > 0);
        node = before.map_or(node, |&[before, _]| before as usize);
    }
    Err(GraphError::Cycle { node: node as u32 })
}

/// Frames that follow one another, each on a multiple of 64 bytes with its length in its first word.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, DecodeError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let word = rest.first_chunk::<4>();
        if rest.is_empty() {
            return None;
        }
        let expected = word.map_or(HEADER_BYTES, |word| u32::from_le_bytes(*word) as usize);
        let Some(frame) = rest.get(..expected) else {
            let got = rest.len();
            rest = &[];
            return Some(Err(DecodeError::Length { expected, got }));
        };
        rest = rest.get(pad64(expected.max(1))..).unwrap_or(&[]);
        Some(Frame::decode(frame))
    })
}

/// Frames put one after the other, as [`frames`] reads them.
#[derive(Debug, Default)]
pub struct FrameList {
    bytes: Vec<u8>,
}

impl FrameList {
    /// After these bytes.
    pub fn after(bytes: Vec<u8>) -> FrameList {
        FrameList { bytes }
    }

    /// Appends a frame as it is.
    pub fn append(&mut self, frame: &[u8]) {
        self.bytes.resize(pad64(self.bytes.len()), 0);
        self.bytes.extend_from_slice(frame);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All of them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Outbox for FrameList {
    fn send(
        &mut self,
        _: PeerId,
        frame_bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> u32,
    ) -> Result<(), OutboxError> {
        let start = pad64(self.bytes.len());
        self.bytes.resize(start + frame_bytes, 0);
        let frame = &mut self.bytes[start..];
        let tag = fill(&mut frame[8..]);
        frame[..4].copy_from_slice(&(frame_bytes as u32).to_le_bytes());
        frame[4..8].copy_from_slice(&tag.to_le_bytes());
        Ok(())
    }
}
