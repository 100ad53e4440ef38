//! Requests that consist of others: graphs, and calls that issue sub-tasks.
//!
//! Each node is executed like a request of its own. Its answer comes back here instead of leaving for the worker, for its
//! request number is one that no worker can use; so a node may take as long as any request may, and end while another
//! worker's frame is handled. Nodes that are free start in the order of their numbers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::buffers::Buffer;
use super::core::ShardCore;
use super::filtered::ReplyFilters;
use super::replies::{Reply, Sender};
use super::requests::{Refusal, Stop};
use crate::message::{
    Flags, Frame, FrameList, GraphFrame, HEADER_BYTES, Header, Kind, NODE_ANSWER_BYTES, NODES_MAX,
    RefusalCode, compose_bytes, compose_call, pad64,
};
use crate::session::{Outbox, OutboxError, Outcome, PeerId};
use crate::update::{Answer, Subtask};
use crate::worker::CALLS_MAX;

/// Names a node of a run in the place of a request number.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodeRef {
    run: u64,
    node: u32,
}

impl NodeRef {
    /// Far beyond any session's window: such a number from a worker is a fault.
    const MARK: u64 = 1 << 63;

    /// The node that this request number names; none for a worker's own number.
    #[inline]
    pub fn of(sequence: u64) -> Option<NodeRef> {
        let node = NodeRef { run: (sequence & !NodeRef::MARK) >> 16, node: (sequence & 0xffff) as u32 };
        (sequence & NodeRef::MARK != 0).then_some(node)
    }

    fn sequence(self) -> u64 {
        NodeRef::MARK | self.run << 16 | u64::from(self.node)
    }
}

/// Graphs under way.
#[derive(Default)]
pub(super) struct Graphs {
    runs: BTreeMap<u64, Run>,
    /// Number of the newest run.
    newest: u64,
    /// Nodes that have returned, with their answers, each a frame.
    returned: VecDeque<(NodeRef, Buffer)>,
    /// Nodes that may start.
    ready: BTreeSet<(u64, u32)>,
}

/// One request under way.
struct Run {
    rank: u32,
    /// The request's own number.
    sequence: u64,
    /// A call with sub-tasks: node 0 is the call, and its answer is the answer.
    is_call: bool,
    nodes: Vec<Node>,
    /// Nodes that have not ended.
    open: usize,
    /// Bytes of the answer that are not spoken for.
    room: usize,
}

#[derive(Default)]
struct Node {
    /// What to execute, and where it lies.
    frame: Option<(Arc<Buffer>, Range<usize>)>,
    blockers: u32,
    dependents: Vec<u32>,
    parent: Option<u32>,
    /// Sub-tasks that have not ended.
    children: u32,
    /// Its answer once it has returned; a sub-task's is not kept.
    answer: Option<Buffer>,
    refusal: Option<Refusal>,
    has_returned: bool,
    has_ended: bool,
}

impl Node {
    fn of(frame: Arc<Buffer>, at: Range<usize>) -> Node {
        Node { frame: Some((frame, at)), ..Node::default() }
    }
}

impl ShardCore {
    /// Begins a graph; [`ShardCore::run_graphs`] goes on with it.
    pub(super) fn graph(&mut self, rank: u32, frame: &Frame<'_>) -> Result<(), Stop> {
        let (header, payload) = (&frame.header, frame.payload());
        self.check_runs(rank)?;
        let mut copy = Buffer::zeroed(payload.len());
        copy.bytes_mut().copy_from_slice(payload);
        let copy = Arc::new(copy);
        let graph = GraphFrame::decode(header.key_count, header.aux, copy.bytes())
            .map_err(|error| Refusal::new(RefusalCode::Graph, error.to_string()))?;
        let used = HEADER_BYTES + graph.nodes.len() * NODE_ANSWER_BYTES;
        let room = self.config.frame_bytes_max.checked_sub(used);
        let room = room.ok_or_else(|| Refusal::too_large(used, self.config.frame_bytes_max))?;
        let start = copy.bytes().as_ptr() as usize;
        let place = |node: &Frame<'_>| {
            let at = node.bytes().as_ptr() as usize - start;
            at..at + node.bytes().len()
        };
        let nodes = graph.nodes.iter().map(|node| Node::of(Arc::clone(&copy), place(node)));
        let mut nodes: Vec<Node> = nodes.collect();
        for &[before, after] in &graph.edges {
            nodes[before as usize].dependents.push(after);
            nodes[after as usize].blockers += 1;
        }
        self.record(rank, header.sequence, Outcome::Applied);
        let open = nodes.len();
        self.graphs.add(Run { rank, sequence: header.sequence, is_call: false, nodes, open, room });
        Ok(())
    }

    fn check_runs(&self, rank: u32) -> Result<(), Refusal> {
        if self.graphs.runs.values().filter(|run| run.rank == rank).count() < CALLS_MAX {
            return Ok(());
        }
        let text = format!("{CALLS_MAX} graphs and calls of this worker are under way already");
        Err(Refusal::new(RefusalCode::Limit, text))
    }

    /// Takes up the sub-tasks of a call that has returned `answer`. The request is answered when they have ended.
    pub(super) fn issue(
        &mut self,
        rank: u32,
        sequence: u64,
        answer: Answer,
        subtasks: Vec<Subtask>,
        out: &mut dyn Outbox,
    ) -> Result<(), Refusal> {
        let under_way = NodeRef::of(sequence);
        let nodes =
            under_way.map_or(1, |node| self.graphs.runs.get(&node.run).map_or(0, |run| run.nodes.len()));
        if nodes + subtasks.len() > NODES_MAX {
            let text = format!("a request has at most {NODES_MAX} nodes and sub-tasks");
            return Err(Refusal::new(RefusalCode::Limit, text));
        }
        let frames: Vec<Buffer> = subtasks.iter().map(|subtask| self.subtask_frame(subtask)).collect();
        let node = match under_way {
            Some(node) => node,
            None => {
                self.check_runs(rank)?;
                self.record(rank, sequence, Outcome::Applied);
                let nodes = vec![Node::default()];
                NodeRef {
                    run: self.graphs.add(Run { rank, sequence, is_call: true, nodes, open: 1, room: 0 }),
                    node: 0,
                }
            }
        };
        self.graphs.add_subtasks(node, frames);
        let reply = Reply::Answer { sequence: node.sequence(), answer };
        self.answer(rank, reply, out);
        Ok(())
    }

    fn subtask_frame(&mut self, subtask: &Subtask) -> Buffer {
        let mut frame = Capture(None);
        let (first, last) = (self.config.owned.first(), self.config.owned.last());
        let sent = match subtask {
            Subtask::Call { table, verb, arguments } => {
                let header = Header { table: *table, ..Header::new(Kind::Call) };
                let bytes = HEADER_BYTES + pad64(verb.len()) + arguments.len();
                frame.send(PeerId(0), bytes, &mut |body| compose_call(body, &header, verb, &[arguments]))
            }
            Subtask::Wait { table, time } => {
                let value_type = self.slot(*table).map_or(1, |slot| slot.spec.value_type as u8);
                let (flags, table, time) = (Flags::AFTER_TIME, *table, *time);
                let header =
                    Header { flags, table, time, value_type, first, last, ..Header::new(Kind::Pull) };
                frame.send(PeerId(0), HEADER_BYTES, &mut |body| compose_bytes(body, &header, &[]))
            }
        };
        debug_assert!(sent.is_ok());
        frame.0.unwrap_or_else(|| Buffer::zeroed(0))
    }

    /// Goes on with all graphs as far as they can: call it after everything that may have ended a node.
    pub(super) fn run_graphs(&mut self, out: &mut dyn Outbox) {
        loop {
            while let Some((node, answer)) = self.graphs.returned.pop_front() {
                if let Some(run) = self.graphs.returned(node, answer) {
                    self.answer_run(run, out);
                }
            }
            let Some((run, node)) = self.graphs.ready.pop_first() else { return };
            self.execute_node(NodeRef { run, node }, out);
        }
    }

    fn execute_node(&mut self, node: NodeRef, out: &mut dyn Outbox) {
        let Some(run) = self.graphs.runs.get_mut(&node.run) else { return };
        let (rank, started) = (run.rank, run.nodes[node.node as usize].frame.take());
        let Some((bytes, at)) = started else { return };
        let result = match Frame::decode(&bytes.bytes()[at]) {
            Ok(frame) if frame.kind == Kind::Ack => return self.ack(rank, node.sequence()),
            Ok(mut frame) => {
                frame.header.sequence = node.sequence();
                self.execute(rank, &frame, out).map_err(|fault| fault.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(text) = result {
            self.refuse(rank, node.sequence(), Refusal::new(RefusalCode::Mismatch, text), out);
        }
    }

    /// Takes in the answer to a node.
    #[cold]
    pub(super) fn node_answered(&mut self, node: NodeRef, mut reply: Reply) {
        let (mut frame, epoch) = (Capture(None), 0);
        if let Some(sequence) = reply.sequence_mut() {
            *sequence = u64::from(node.node) + 1;
        }
        // Nodes are not filtered.
        let filters = &mut ReplyFilters::default();
        let mut sender = Sender { peer: PeerId(0), epoch, config: &self.config, filters };
        // Composed now, for the nodes that follow may change the values.
        let sent = sender.send(&mut reply, &mut self.tables, &mut frame);
        debug_assert!(sent.is_ok());
        self.graphs.returned.extend(frame.0.map(|frame| (node, frame)));
    }

    /// Answers a request of which all nodes have ended.
    fn answer_run(&mut self, run: Run, out: &mut dyn Outbox) {
        let answer = if run.is_call { call_answer(run.nodes) } else { Ok(graph_answer(run.nodes)) };
        let answer = answer.map(Answer::from);
        self.remember_and_answer(run.rank, run.sequence, answer, out);
    }
}

fn call_answer(mut nodes: Vec<Node>) -> Result<Vec<u8>, Refusal> {
    let Node { refusal, answer, .. } = nodes.swap_remove(0);
    let payload = answer.map(|frame| frame.bytes()[HEADER_BYTES..].to_vec());
    refusal.map_or(Ok(payload.unwrap_or_default()), Err)
}

fn graph_answer(nodes: Vec<Node>) -> Vec<u8> {
    let mut frames = FrameList::default();
    let asked = nodes.iter().filter(|node| node.parent.is_none());
    asked.filter_map(|node| node.answer.as_ref()).for_each(|frame| frames.append(frame.bytes()));
    frames.into_bytes()
}

impl Graphs {
    /// Whether there is nothing to go on with.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.returned.is_empty() && self.ready.is_empty()
    }

    /// Forgets what a worker that was replaced had under way.
    pub fn forget(&mut self, rank: u32) {
        self.runs.retain(|_, run| run.rank != rank);
    }

    fn add(&mut self, run: Run) -> u64 {
        self.newest += 1;
        let free = run.nodes.iter().zip(0..).filter(|(node, _)| node.blockers == 0 && node.frame.is_some());
        self.ready.extend(free.map(|(_, node)| (self.newest, node)));
        self.runs.insert(self.newest, run);
        self.newest
    }

    fn add_subtasks(&mut self, parent: NodeRef, frames: Vec<Buffer>) {
        let Some(run) = self.runs.get_mut(&parent.run) else { return };
        run.open += frames.len();
        run.nodes[parent.node as usize].children += frames.len() as u32;
        for frame in frames {
            let at = 0..frame.bytes().len();
            self.ready.insert((parent.run, run.nodes.len() as u32));
            run.nodes.push(Node { parent: Some(parent.node), ..Node::of(Arc::new(frame), at) });
        }
    }

    /// Notes that a node has returned. Gives the run back if that was the last thing it waited for.
    fn returned(&mut self, node: NodeRef, answer: Buffer) -> Option<Run> {
        let run = self.runs.get_mut(&node.run)?;
        let returned = &mut run.nodes[node.node as usize];
        if std::mem::replace(&mut returned.has_returned, true) {
            return None;
        }
        match refusal_of(&answer) {
            Some(refusal) => run.refuse(node.node, refusal),
            None => run.keep(node.node, answer),
        }
        let mut ended = VecDeque::from([node.node]);
        while let Some(node_ended) = ended.pop_front() {
            let free = run.end_if_done(node_ended, &mut ended);
            self.ready.extend(free.into_iter().map(|free| (node.run, free)));
        }
        if run.open == 0 { self.runs.remove(&node.run) } else { None }
    }
}

impl Run {
    fn is_kept(&self, node: u32) -> bool {
        self.nodes[node as usize].parent.is_none()
    }

    /// Keeps an answer if there is room for it.
    fn keep(&mut self, node: u32, answer: Buffer) {
        if !self.is_kept(node) {
            return;
        }
        let bytes = pad64(answer.bytes().len());
        let more = if self.is_call { 0 } else { bytes.saturating_sub(NODE_ANSWER_BYTES) };
        match self.room.checked_sub(more) {
            Some(room) => {
                self.room = room;
                self.nodes[node as usize].answer = Some(answer);
            }
            None => {
                self.refuse(node, Refusal::too_large(bytes, self.room + NODE_ANSWER_BYTES));
            }
        }
    }

    /// Makes the node's answer a refusal, the first one counts.
    fn refuse(&mut self, node: u32, refusal: Refusal) {
        let kept = self.is_kept(node);
        let node = &mut self.nodes[node as usize];
        if node.refusal.is_none() {
            node.answer = kept.then(|| refusal_frame(&refusal));
            node.refusal = Some(refusal);
        }
    }

    /// Ends a node that has returned and has no sub-task open. Returns the nodes that can start now; those whose end
    /// follows, too, are added to `ended`.
    fn end_if_done(&mut self, at: u32, ended: &mut VecDeque<u32>) -> Vec<u32> {
        let node = &mut self.nodes[at as usize];
        if !node.has_returned || node.children > 0 || std::mem::replace(&mut node.has_ended, true) {
            return Vec::new();
        }
        self.open -= 1;
        let (parent, refusal) = (node.parent, node.refusal.clone());
        let (dependents, mut free) = (std::mem::take(&mut node.dependents), Vec::new());
        for next in dependents {
            let follower = &mut self.nodes[next as usize];
            follower.blockers -= 1;
            match &refusal {
                Some(_) if !follower.has_returned => {
                    (follower.has_returned, follower.frame) = (true, None);
                    let text = format!("node {at}, which node {next} follows, was refused");
                    self.refuse(next, Refusal::new(RefusalCode::Dependency, text));
                    ended.push_back(next);
                }
                None if follower.blockers == 0 && !follower.has_returned => free.push(next),
                _ => {}
            }
        }
        if let Some(parent) = parent {
            self.nodes[parent as usize].children -= 1;
            if let Some(Refusal { code, text }) = refusal {
                self.refuse(parent, Refusal::new(code, format!("a sub-task was refused: {text}")));
            }
            ended.push_back(parent);
        }
        free
    }
}

/// Longest text of a refused node.
const TEXT_BYTES_MAX: usize = NODE_ANSWER_BYTES - HEADER_BYTES;

fn refusal_frame(refusal: &Refusal) -> Buffer {
    let mut frame = Capture(None);
    let text = &refusal.text.as_bytes()[..refusal.text.len().min(TEXT_BYTES_MAX)];
    let header = Header { aux: refusal.code as u32, ..Header::new(Kind::Refused) };
    let sent =
        frame.send(PeerId(0), HEADER_BYTES + text.len(), &mut |body| compose_bytes(body, &header, text));
    debug_assert!(sent.is_ok());
    frame.0.unwrap_or_else(|| Buffer::zeroed(0))
}

fn refusal_of(frame: &Buffer) -> Option<Refusal> {
    let frame = Frame::decode(frame.bytes()).ok().filter(|frame| frame.kind == Kind::Refused)?;
    let text = String::from_utf8_lossy(frame.payload()).into_owned();
    Some(Refusal::new(RefusalCode::from_code(frame.header.aux), text))
}

/// Keeps the one frame that is sent.
struct Capture(Option<Buffer>);

impl Outbox for Capture {
    fn send(
        &mut self,
        _: PeerId,
        frame_bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> u32,
    ) -> Result<(), OutboxError> {
        let mut frame = Buffer::zeroed(frame_bytes);
        let tag = fill(&mut frame.bytes_mut()[8..]);
        frame.bytes_mut()[..4].copy_from_slice(&(frame_bytes as u32).to_le_bytes());
        frame.bytes_mut()[4..8].copy_from_slice(&tag.to_le_bytes());
        self.0 = Some(frame);
        Ok(())
    }
}
