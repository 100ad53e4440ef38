//! Graphs among an actor's requests: a push, a pull that follows it, and a call, shipped whole.

use super::actor::{Actor, Request, SUMS, Stage, TALLY, acknowledge, check_pull, handle, strike};
use super::network::Network;
use crate::key_range::Key;
use crate::message::{HEADER_BYTES, NODE_ANSWER_BYTES};
use crate::table::Aggregation;
use crate::worker::{Graph, Keys, NodeId, Options, Outcome, SubmitError, Target, TaskId};

/// What such a graph holds.
pub(super) struct Shipped {
    strokes: Vec<(Key, usize)>,
    list: Vec<Key>,
    since: u64,
    push: NodeId,
    pull: NodeId,
    call: NodeId,
}

impl Actor {
    /// Ships a graph about the shortest list; `None` where it has no room left or frames are too small.
    pub(super) fn ship(
        &mut self,
        stage: &mut Stage,
        network: &mut Network,
    ) -> Result<Option<(TaskId, Request)>, String> {
        let list = stage.lists[0].clone();
        let has_room = list.as_slice().iter().all(|&key| stage.ledger.has_room(key));
        let answers = HEADER_BYTES + 3 * NODE_ANSWER_BYTES;
        if !has_room || self.core.frame_bytes_max() < answers.max(HEADER_BYTES + 32 * list.len() + 640) {
            return Ok(None);
        }
        let since = stage.ledger.moment();
        let (strokes, values) = strike(stage, &list);
        let table = handle(SUMS, Aggregation::Immediate);
        let keys = || Keys::List(list.clone());
        let mut graph = Graph::new();
        let pull = graph.pull(table, keys());
        let push = graph.push(table, 0, keys(), vec![values]);
        let tally = handle(TALLY, Aggregation::Immediate);
        let call = graph.call(tally, Target::All, "count", Vec::new());
        graph.after(pull, &[push]).after(call, &[pull]);
        stage.calls_issued += 1;
        let failed = |error: SubmitError| error.to_string();
        let task = self.core.graph(graph, Options::default(), &mut network.of_worker(self.rank));
        let list = list.as_slice().to_vec();
        let shipped = Shipped { strokes, list, since, push, pull, call };
        Ok(Some((task.map_err(failed)?, Request::Graph(shipped))))
    }
}

impl Shipped {
    /// Every node ended well, and the pull saw what the push before it did.
    pub fn judge(self, outcome: Outcome, stage: &mut Stage) -> Result<(), String> {
        let nodes = outcome.nodes.into_iter().enumerate();
        let nodes = nodes.map(|(node, end)| end.map_err(|error| format!("node {node} of a graph: {error}")));
        let mut nodes = nodes.collect::<Result<Vec<Outcome>, String>>()?;
        if nodes.len() != 3 || nodes[self.push.index()].parts.len() != 1 {
            return Err("a graph ended without its nodes".to_owned());
        }
        acknowledge(stage, &self.strokes);
        let values = nodes[self.pull.index()].values.as_slice().unwrap_or(&[]);
        check_pull(stage, &self.list, values, self.since)?;
        for (&(key, index), &value) in self.strokes.iter().zip(values) {
            let count = stage.ledger.strokes(key);
            super::ledger::check(value, count, |stroke| stroke == index)
                .map_err(|text| format!("a pull that follows a push of key {key}: {text}"))?;
        }
        stage.note_calls(std::mem::take(&mut nodes[self.call.index()].replies))
    }
}
