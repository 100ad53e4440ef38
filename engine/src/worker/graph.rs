//! Static graphs: requests with an order between them, shipped whole.
//!
//! A graph is built here, cut over the shards as pushes are, and sent as one frame per shard. Each shard runs its part of
//! every node in the order of the edges, without a word to the worker in between; so an edge orders two nodes on each
//! shard, not across shards (for that, let tasks follow each other). Each shard answers when all its parts have ended.

use super::arrays::{BorrowedMut, PushArray, Sink};
use super::call::{Arguments, Call};
use super::core::{NO_TABLE, WorkerCore, sources};
use super::ending::answer_len;
use super::pieces::{Body, What};
use super::receive::store_values;
use super::request::{Keys, Options, SubmitError, TableHandle, Target, TaskError, TaskId};
use super::send::send_body;
use crate::key_list::KeyList;
use crate::key_range::KeyRange;
use crate::message::{
    Element, Frame, FrameList, HEADER_BYTES, Header, Kind, NODE_ANSWER_BYTES, NODES_MAX, RefusalCode, Values,
    check_order, compose_header, frames,
};
use crate::session::{Outbox, PeerId};

/// Names a node of one [`Graph`]: its place among [`Outcome::nodes`](super::Outcome::nodes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// The place, from 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A graph to be: nodes, and which starts only after which. Nodes without an order between them start in the order they
/// were added. Pulls name their keys (not [`Keys::Existing`]); per shard the whole graph is one frame, and its answers are.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<Body>,
    edges: Vec<[u32; 2]>,
}

impl Graph {
    /// Without nodes.
    pub fn new() -> Graph {
        Graph::default()
    }

    fn add(&mut self, body: Body) -> NodeId {
        self.nodes.push(body);
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// A push at time `time`: see [`WorkerCore::push`]. On a table that aggregates it ends with the update.
    pub fn push<A: PushArray>(&mut self, table: TableHandle, time: u64, keys: Keys, parts: Vec<A>) -> NodeId {
        let parts = sources(parts);
        self.add(Body { time, parts, ..Body::new(Kind::Push, table, What::Keys(keys)) })
    }

    /// A pull of what the values are when its turn has come.
    pub fn pull(&mut self, table: TableHandle, keys: Keys) -> NodeId {
        self.add(Body { into: sink(table), ..Body::new(Kind::Pull, table, What::Keys(keys)) })
    }

    /// As [`Graph::pull`], into borrowed memory of exactly keys x width values.
    pub fn pull_into<V: Element>(&mut self, table: TableHandle, keys: Keys, into: BorrowedMut<V>) -> NodeId {
        self.add(Body { into: into.into(), ..Body::new(Kind::Pull, table, What::Keys(keys)) })
    }

    /// A push answered with the new values of its keys.
    pub fn push_pull<A: PushArray>(
        &mut self,
        table: TableHandle,
        time: u64,
        keys: Keys,
        parts: Vec<A>,
    ) -> NodeId {
        let (parts, into) = (sources(parts), sink(table));
        self.add(Body { time, parts, into, ..Body::new(Kind::PushPull, table, What::Keys(keys)) })
    }

    /// A call of a verb of the table's server function. With [`Target::All`] each shard runs it when its turn has come
    /// there.
    pub fn call(&mut self, table: TableHandle, target: Target, verb: &str, arguments: Vec<u8>) -> NodeId {
        let (verb, arguments) = (verb.to_owned(), Arguments::Owned(arguments));
        self.add(Body::new(Kind::Call, table, What::Call(Call { target, verb, arguments, receive: None })))
    }

    /// Ends when update `time` of the table is finished: on each shard that `range`, the range of the update, touches.
    pub fn wait(&mut self, table: TableHandle, range: KeyRange, time: u64) -> NodeId {
        self.add(update_wait(table, range, time))
    }

    /// Lets `node` start only after all of `before` have ended; if one of those is refused on a shard, so is `node` there.
    pub fn after(&mut self, node: NodeId, before: &[NodeId]) -> &mut Graph {
        self.edges.extend(before.iter().map(|before| [before.0, node.0]));
        self
    }
}

fn sink(table: TableHandle) -> Sink {
    Sink::Owned(if table.value_type == f64::CODE { Values::F64(Vec::new()) } else { Values::default() })
}

/// A pull of no keys once the update is finished.
fn update_wait(table: TableHandle, range: KeyRange, time: u64) -> Body {
    let what = What::Keys(Keys::ListIn(KeyList::empty(), range));
    Body { time, after_time: true, into: sink(table), ..Body::new(Kind::Pull, table, what) }
}

/// What hangs on a graph's task.
pub(super) struct GraphBody {
    nodes: Vec<(Body, Option<TaskError>)>,
    edges: u32,
    /// What each shard gets, behind the header.
    messages: Vec<(u32, Vec<u8>)>,
}

impl GraphBody {
    pub fn shards(&self) -> impl Iterator<Item = u32> {
        self.messages.iter().map(|&(shard, _)| shard)
    }

    /// Header and payload of the message number `piece`.
    pub fn message(&self, header: Header, piece: u32) -> (Header, &[u8]) {
        let payload = self.messages.get(piece as usize).map_or(&[][..], |(_, payload)| payload);
        (Header { key_count: self.nodes.len() as u32, aux: self.edges, ..header }, payload)
    }

    /// The nodes, or how they failed.
    pub fn into_nodes(self) -> Vec<(Body, Option<TaskError>)> {
        self.nodes
    }

    /// Takes in a shard's answers.
    pub fn store(&mut self, shard: u32, payload: &[u8]) -> Result<(), String> {
        let mut answers = frames(payload);
        for (place, (body, failure)) in self.nodes.iter_mut().enumerate() {
            let frame = answers.next().ok_or_else(|| format!("node {place} has no answer"))?;
            let frame = frame.map_err(|error| format!("node {place}: {error}"))?;
            store_answer(body, failure, shard, &frame).map_err(|text| format!("node {place}: {text}"))?;
        }
        if answers.next().is_some() { Err("more answers than nodes".to_owned()) } else { Ok(()) }
    }
}

fn store_answer(
    body: &mut Body,
    failure: &mut Option<TaskError>,
    shard: u32,
    frame: &Frame<'_>,
) -> Result<(), String> {
    if frame.kind == Kind::Refused {
        let code = RefusalCode::from_code(frame.header.aux);
        let text = String::from_utf8_lossy(frame.payload()).into_owned();
        failure.get_or_insert(TaskError::Refused { shard, code, text });
        return Ok(());
    }
    let piece = body.pieces.iter().position(|piece| piece.shard == shard);
    match (piece, body.kind, frame.kind) {
        (None, _, Kind::Ack) | (Some(_), Kind::Push, Kind::Ack) => Ok(()),
        (Some(piece), Kind::Pull | Kind::PushPull, Kind::Values) => store_values(body, piece, frame),
        (Some(_), Kind::Call, Kind::Reply) => {
            body.replies.push((shard, frame.payload().to_vec()));
            Ok(())
        }
        (_, asked, got) => Err(format!("an answer of kind {got:?} to a {asked:?}")),
    }
}

impl WorkerCore {
    /// Ships a graph. The task ends when all its nodes have, with their ends in
    /// [`Outcome::nodes`](super::Outcome::nodes): a node that is refused fails itself and those that follow it, not the
    /// task. The values of pushes are copied here.
    ///
    /// # Errors
    /// [`SubmitError::Graph`] for a cycle, [`SubmitError::Node`] for a node that could not be submitted by itself,
    /// [`SubmitError::TooLarge`] for a graph that does not fit into a frame. Nothing was sent.
    pub fn graph(
        &mut self,
        graph: Graph,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let what = What::Graph(self.cut_graph(graph)?);
        self.submit(Kind::Graph, NO_TABLE, what, Vec::new(), Sink::default(), options, out)
    }

    /// Tells when the pushes of all workers for update `time` have come and it is finished, on each shard that `range`,
    /// the range of the update, touches. No values travel.
    pub fn wait_update(
        &mut self,
        table: TableHandle,
        range: KeyRange,
        time: u64,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let Body { kind, what, into, .. } = update_wait(table, range, time);
        let options = Options { time, after_time: true, ..options };
        self.submit(kind, table, what, Vec::new(), into, options, out)
    }

    fn cut_graph(&self, graph: Graph) -> Result<GraphBody, SubmitError> {
        let Graph { mut nodes, edges } = graph;
        if !(1..=NODES_MAX).contains(&nodes.len()) {
            return Err(crate::message::GraphError::Nodes { got: nodes.len() }.into());
        }
        check_order(nodes.len(), &edges)?;
        for (node, body) in nodes.iter_mut().enumerate() {
            let checked = self.check(body).and_then(|()| {
                body.cut(&self.map, self.config.frame_bytes_max);
                self.check_pieces(body)
            });
            checked.map_err(|error| SubmitError::Node { node, error: Box::new(error) })?;
            if let Some(values) = answer_len(body) {
                body.into.resize(values);
            }
        }
        let concerned =
            |&shard: &u32| nodes.iter().any(|body| body.pieces.iter().any(|piece| piece.shard == shard));
        let shards = (0..self.map.shards() as u32).filter(concerned);
        let messages = shards.map(|shard| Ok((shard, self.graph_message(shard, &nodes, &edges)?)));
        let messages = messages.collect::<Result<_, SubmitError>>()?;
        let nodes = nodes.into_iter().map(|body| (body, None)).collect();
        Ok(GraphBody { nodes, edges: edges.len() as u32, messages })
    }

    fn graph_message(&self, shard: u32, nodes: &[Body], edges: &[[u32; 2]]) -> Result<Vec<u8>, SubmitError> {
        let max = self.config.frame_bytes_max;
        let too_large = |what, got| Err(SubmitError::TooLarge { what, got, max });
        let answers = HEADER_BYTES + nodes.len() * NODE_ANSWER_BYTES;
        if answers > max {
            return too_large("the answer to a graph", answers);
        }
        let mut list = FrameList::after(bytemuck::cast_slice(edges).to_vec());
        let peer = PeerId(shard);
        for body in nodes {
            let mut pieces = body.pieces.iter().filter(|piece| piece.shard == shard);
            let sent = match (pieces.next(), pieces.next()) {
                (None, _) => {
                    list.send(peer, HEADER_BYTES, &mut |body| compose_header(body, &Header::new(Kind::Ack)))
                }
                (Some(piece), None) => send_body(&mut list, peer, body, piece),
                (Some(_), Some(_)) => return too_large("a node of a graph", max + 1),
            };
            debug_assert!(sent.is_ok());
            if HEADER_BYTES + list.len() > max {
                return too_large("the part of a graph for one shard", HEADER_BYTES + list.len());
            }
        }
        Ok(list.into_bytes())
    }
}
