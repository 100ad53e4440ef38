//! Graphs shipped whole to the shards, and calls with sub-tasks.

use std::sync::Mutex;

use crate::wires::*;
use keyrange::message::{
    Frame, FrameList, GraphError, Header, Kind, NODES_MAX, compose_bytes, compose_call, compose_header,
};
use keyrange::sim::FrameBytes;
use keyrange::table::CallError;
use keyrange::update::{CallView, Subtask};
use keyrange::worker::{Graph, NodeId};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};

/// Verbs that tell in which order they ran, refuse, and issue sub-tasks.
struct Scribe(Arc<Mutex<Vec<u8>>>);

impl ServerFn<f32> for Scribe {
    fn name(&self) -> &str {
        "scribe"
    }
    fn update(&mut self, rows: &mut Rows<'_, f32>, parts: &[&[f32]]) -> Result<(), UpdateError> {
        rows.scatter_add(0, parts[0]);
        Ok(())
    }
    fn call(&mut self, verb: &str, args: &[u8], view: &mut CallView<'_, f32>) -> Result<Vec<u8>, CallError> {
        let call = |verb: &str, arguments: &[u8]| Subtask::Call {
            table: 4,
            verb: verb.to_owned(),
            arguments: arguments.to_vec(),
        };
        self.0.lock().unwrap().extend(args);
        match verb {
            "refuse" => return Err(CallError::Arguments { verb: verb.to_owned(), text: "never".to_owned() }),
            "two" => [call("note", b"x"), call("note", b"y")].into_iter().for_each(|task| view.issue(task)),
            "tree" => [call("two", b"t"), call("two", b"u")].into_iter().for_each(|task| view.issue(task)),
            "fail below" => view.issue(call("refuse", b"r")),
            "for ever" => view.issue(call("for ever", b"")),
            "after update" => view.issue(Subtask::Wait { table: 9, time: u64::from(args[0]) }),
            _ => {}
        }
        Ok(verb.as_bytes().to_vec())
    }
}

struct Shipyard {
    cluster: Cluster,
    table: TableHandle,
    sums: TableHandle,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Shipyard {
    fn new(workers: usize, shards: usize) -> Shipyard {
        let log = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&log);
        let mut cluster = Cluster::with_registry(workers, shards, move |registry| {
            let shared = Arc::clone(&shared);
            registry.register_f32("scribe", move |_| Ok(Box::new(Scribe(Arc::clone(&shared)))));
        });
        let function = FunctionSpec::named("scribe");
        let table = cluster.create(&TableSpec { function, ..spec(StoreKind::Sparse) });
        let aggregation = Aggregation::AllWorkers;
        let sums = cluster.create(&TableSpec { id: 9, aggregation, ..spec(StoreKind::Sparse) });
        Shipyard { cluster, table, sums, log }
    }

    fn ship(&mut self, rank: usize, graph: Graph) -> TaskId {
        self.cluster.workers[rank].graph(graph, Options::default(), &mut self.cluster.up[rank]).unwrap()
    }

    fn call(&mut self, verb: &str, arguments: &[u8]) -> TaskId {
        let (worker, out) = (&mut self.cluster.workers[0], &mut self.cluster.up[0]);
        worker.call(self.table, Target::All, verb, arguments.to_vec(), Options::default(), out).unwrap()
    }

    fn log(&self) -> Vec<u8> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

fn values(end: &Result<Outcome, TaskError>) -> Vec<f32> {
    end.as_ref().unwrap().values.clone().into_vec()
}

fn refusal(end: &Result<Outcome, TaskError>) -> (RefusalCode, &str) {
    match end {
        Err(TaskError::Refused { code, text, .. }) => (*code, text),
        _ => panic!("expected a refusal, got {end:?}"),
    }
}

#[test]
fn a_graph_takes_one_frame_each_way_and_its_nodes_see_what_they_follow() {
    let mut yard = Shipyard::new(1, 2);
    let keys = || Keys::List(spread(100, 0));
    let ones = || vec![vec![1f32; 100]];
    let mut graph = Graph::new();
    let before = graph.pull(yard.table, keys());
    let push = graph.push(yard.table, 0, keys(), ones());
    let pulls: [NodeId; 2] = std::array::from_fn(|_| graph.pull(yard.table, keys()));
    let last = graph.push_pull(yard.table, 0, keys(), ones());
    let call = graph.call(yard.table, Target::All, "note", b"c".to_vec());
    graph.after(push, &[before]).after(pulls[0], &[push]).after(pulls[1], &[push]);
    graph.after(last, &pulls).after(call, &[last]);
    let task = yard.ship(0, graph);
    assert_eq!(yard.cluster.up[0].frames.len(), 2);
    let nodes = yard.cluster.wait(0, task).unwrap().nodes;
    let expected = [(before, 0.0), (pulls[0], 1.0), (pulls[1], 1.0), (last, 2.0)];
    for (node, value) in expected {
        assert_eq!(values(&nodes[node.index()]), [value; 100]);
    }
    assert_eq!(nodes[push.index()].as_ref().unwrap().parts.len(), 1);
    let replies = &nodes[call.index()].as_ref().unwrap().replies;
    assert_eq!(*replies, [(0, b"note".to_vec()), (1, b"note".to_vec())]);
    assert_eq!(yard.log(), b"cc");
}

#[test]
fn an_update_that_depends_on_the_pushes_of_all_workers_is_a_graph() {
    let mut yard = Shipyard::new(3, 2);
    let (keys, table, sums) = (Keys::List(spread(40, 0)), yard.table, yard.sums);
    let mut tasks = Vec::new();
    for rank in 0..3 {
        let mut graph = Graph::new();
        // No edge from the push to the rest: the update itself is what they wait for.
        let push = graph.push(sums, 7, keys.clone(), vec![vec![1f32 + rank as f32; 40]]);
        let told = graph.wait(sums, KeyRange::ALL, 7);
        let pull = graph.pull(sums, keys.clone());
        let call = graph.call(table, Target::All, "note", vec![rank as u8]);
        graph.after(pull, &[told]).after(call, &[told, push]);
        tasks.push((yard.ship(rank, graph), pull));
        yard.cluster.run();
        if rank < 2 {
            assert!(
                tasks.iter().enumerate().all(|(rank, &(task, _))| {
                    yard.cluster.workers[rank].state(task) == TaskState::Running
                })
            );
            assert!(yard.log().is_empty());
        }
    }
    for (rank, (task, pull)) in tasks.into_iter().enumerate() {
        let nodes = yard.cluster.workers[rank].take(task).unwrap().unwrap().nodes;
        assert!(nodes.iter().all(Result::is_ok), "{nodes:?}");
        assert_eq!(values(&nodes[pull.index()]), [6.0; 40]);
    }
    assert_eq!(yard.log(), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn completion_of_an_update_is_told_without_values() {
    let mut yard = Shipyard::new(2, 3);
    let (sums, table) = (yard.sums, yard.table);
    let wait = |yard: &mut Shipyard, table, range| {
        let (worker, out) = (&mut yard.cluster.workers[0], &mut yard.cluster.up[0]);
        worker.wait_update(table, range, 5, Options::default(), out).unwrap()
    };
    let told = wait(&mut yard, sums, KeyRange::ALL);
    // One key only: the shards without a key are awaited all the same.
    let keys = Keys::Range(KeyRange::one(3));
    let both = |yard: &mut Shipyard, rank: usize| {
        let (worker, out) = (&mut yard.cluster.workers[rank], &mut yard.cluster.up[rank]);
        let list = Keys::List(KeyList::new(vec![3]).unwrap());
        worker.push(sums, list, vec![vec![1f32]], Options::at(5), out).unwrap()
    };
    both(&mut yard, 0);
    yard.cluster.run();
    assert_eq!(yard.cluster.workers[0].state(told), TaskState::Running);
    both(&mut yard, 1);
    assert_eq!(yard.cluster.wait(0, told).unwrap(), Outcome::default());
    let again = wait(&mut yard, sums, KeyRange::one(3));
    yard.cluster.wait(0, again).unwrap();
    let never = wait(&mut yard, table, KeyRange::one(3));
    let refused = yard.cluster.wait(0, never);
    assert_eq!(refusal(&refused).0, RefusalCode::Mismatch);
    assert_eq!(yard.cluster.pull(0, sums, &keys), [2.0]);
}

#[test]
fn a_refused_node_refuses_those_that_follow_it_and_no_others() {
    let mut yard = Shipyard::new(1, 1);
    let table = yard.table;
    let mut graph = Graph::new();
    let [bad, next, last] =
        ["refuse", "note", "note"].map(|verb| graph.call(table, Target::All, verb, b"b".to_vec()));
    let free = graph.call(table, Target::All, "note", b"f".to_vec());
    graph.after(next, &[free, bad]).after(last, &[next]);
    let nowhere = graph.pull(TableHandle { id: 77, ..table }, Keys::Range(KeyRange::one(1)));
    let task = yard.ship(0, graph);
    let nodes = yard.cluster.wait(0, task).unwrap().nodes;
    assert_eq!(refusal(&nodes[bad.index()]).0, RefusalCode::Function);
    let followed = (RefusalCode::Dependency, "node 0, which node 1 follows, was refused");
    assert_eq!(refusal(&nodes[next.index()]), followed);
    assert_eq!(refusal(&nodes[last.index()]).0, RefusalCode::Dependency);
    assert_eq!(refusal(&nodes[nowhere.index()]).0, RefusalCode::NoTable);
    assert!(nodes[free.index()].is_ok());
    assert_eq!(yard.log(), b"bf");
}

#[test]
fn impossible_graphs_are_refused_naming_the_node() {
    let mut yard = Shipyard::new(1, 1);
    let table = yard.table;
    let mut submit = |graph: Graph| {
        yard.cluster.workers[0]
            .graph(graph, Options::default(), &mut yard.cluster.up[0])
            .unwrap_err()
            .to_string()
    };
    let calls = |count: usize| {
        let mut graph = Graph::new();
        let nodes = (0..count).map(|_| graph.call(table, Target::All, "note", Vec::new()));
        let nodes: Vec<NodeId> = nodes.collect();
        (graph, nodes)
    };
    assert_eq!(submit(Graph::new()), "a graph has 1 to 256 nodes, got 0");
    assert!(submit(calls(NODES_MAX + 1).0).contains("got 257"));
    let (mut cycle, nodes) = calls(5);
    cycle.after(nodes[2], &[nodes[3]]).after(nodes[3], &[nodes[2]]).after(nodes[4], &[nodes[3]]);
    let text = submit(cycle);
    assert!(text == "node 2 is part of a cycle" || text == "node 3 is part of a cycle", "{text}");
    let (mut foreign, _) = calls(2);
    foreign.after(nodes[4], &[]).after(nodes[1], &[nodes[4]]);
    assert_eq!(submit(foreign), GraphError::UnknownNode { node: 4, nodes: 2 }.to_string());
    let (mut short, _) = calls(1);
    short.push(table, 0, Keys::Range(KeyRange::one(1)), vec![vec![1f32; 2]]);
    assert!(submit(short).starts_with("node 1: value array 0: expected 1 values"));
    let mut large = Graph::new();
    large.push(table, 0, Keys::List(spread(30_000, 0)), vec![vec![1f32; 30_000]]);
    assert!(submit(large).contains("does not fit"));
}

/// A graph as a hostile worker would write it: calls, and whatever edges.
fn forged(sequence: u64, edges: &[[u32; 2]], kinds: &[Kind]) -> FrameBytes {
    let mut list = FrameList::after(edge_bytes(edges));
    for &kind in kinds {
        let header = Header::new(kind);
        let sent = match kind {
            Kind::Call => list.send(PeerId(0), 128, &mut |body| compose_call(body, &header, "note", &[&[]])),
            _ => list.send(PeerId(0), 64, &mut |body| compose_header(body, &header)),
        };
        sent.unwrap();
    }
    let payload = list.into_bytes();
    let (key_count, aux) = (kinds.len() as u32, edges.len() as u32);
    let header = Header { sequence, key_count, aux, ..Header::new(Kind::Graph) };
    FrameBytes::compose(64 + payload.len(), &mut |body| compose_bytes(body, &header, &payload))
}

fn edge_bytes(edges: &[[u32; 2]]) -> Vec<u8> {
    edges.iter().flatten().flat_map(|node| node.to_le_bytes()).collect()
}

#[test]
fn forged_graphs_are_refused_naming_the_node_and_run_nothing() {
    let mut yard = Shipyard::new(1, 1);
    let (call, nothing) = (Kind::Call, Kind::Ack);
    let cases = [
        (vec![[0, 1], [1, 0]], vec![call, call, nothing], "is part of a cycle"),
        (vec![[0, 7]], vec![call, call], "an edge names node 7, but there are only 2"),
        (vec![[1, 1]], vec![call, call], "node 1 is part of a cycle"),
        (vec![], vec![nothing, Kind::Control], "node 1: a graph has no node of kind 5"),
        (vec![], vec![nothing, Kind::Graph], "node 1: a graph has no node of kind 7"),
        (vec![], vec![], "a graph has 1 to 256 nodes, got 0"),
        (vec![], vec![nothing; 257], "a graph has 1 to 256 nodes, got 257"),
    ];
    for (at, (edges, kinds, expected)) in cases.into_iter().enumerate() {
        // The numbers follow those that the making of the tables used.
        let frame = forged(3 + at as u64, &edges, &kinds);
        let (shard, out) = (&mut yard.cluster.shards[0], &mut yard.cluster.down[0]);
        shard.handle(PeerId(0), frame.bytes(), out).unwrap();
        let (_, answer) = out.frames.pop_front().unwrap();
        let answer = Frame::decode(answer.bytes()).unwrap();
        let text = String::from_utf8_lossy(answer.payload()).into_owned();
        assert!(answer.kind == Kind::Refused && text.contains(expected), "{text}");
    }
    assert!(yard.log().is_empty());
}

#[test]
fn an_answer_that_does_not_fit_is_refused_and_the_others_come() {
    let mut yard = Shipyard::new(1, 1);
    let range = KeyRange::new(0, 19_999).unwrap();
    let mut graph = Graph::new();
    let pulls: [NodeId; 4] = std::array::from_fn(|_| graph.pull(yard.table, Keys::Range(range)));
    let task = yard.ship(0, graph);
    let nodes = yard.cluster.wait(0, task).unwrap().nodes;
    assert_eq!(values(&nodes[pulls[1].index()]).len(), 20_000);
    assert_eq!(refusal(&nodes[pulls[3].index()]).0, RefusalCode::Limit);
}

#[test]
fn a_call_is_answered_when_its_sub_tasks_have_ended() {
    let mut yard = Shipyard::new(2, 1);
    let task = yard.call("tree", b"r");
    let expected = vec![(0, b"tree".to_vec())];
    assert_eq!(yard.cluster.wait(0, task).unwrap().replies, expected);
    assert_eq!(yard.log(), b"rtuxyxy");
    let task = yard.call("fail below", b"f");
    let end = yard.cluster.wait(0, task);
    assert!(refusal(&end).1.starts_with("a sub-task was refused: verb \"refuse\": never"), "{end:?}");
    let task = yard.call("for ever", b"");
    let end = yard.cluster.wait(0, task);
    assert!(refusal(&end).1.contains("at most 256"), "{end:?}");
    yard.log();
    let task = yard.call("after update", &[3]);
    let mut graph = Graph::new();
    let waits = graph.call(yard.table, Target::All, "after update", vec![3]);
    let then = graph.call(yard.table, Target::All, "note", b"n".to_vec());
    graph.after(then, &[waits]);
    let shipped = yard.ship(0, graph);
    for rank in 0..2 {
        yard.cluster.run();
        assert_eq!(yard.cluster.workers[0].state(task), TaskState::Running);
        assert_eq!(yard.cluster.workers[0].state(shipped), TaskState::Running);
        let (worker, out) = (&mut yard.cluster.workers[rank], &mut yard.cluster.up[rank]);
        worker.push(yard.sums, Keys::Range(KeyRange::one(1)), vec![vec![1f32]], Options::at(3), out).unwrap();
    }
    assert_eq!(yard.cluster.wait(0, task).unwrap().replies, [(0, b"after update".to_vec())]);
    assert!(yard.cluster.wait(0, shipped).unwrap().nodes.iter().all(Result::is_ok));
    assert_eq!(yard.log(), [3, 3, b'n']);
}

#[test]
fn a_repeated_graph_runs_once_while_it_runs_and_after() {
    let mut yard = Shipyard::new(1, 1);
    let (table, sums) = (yard.table, yard.sums);
    let mut graph = Graph::new();
    let call = graph.call(table, Target::All, "note", b"1".to_vec());
    let told = graph.wait(sums, KeyRange::ALL, 1);
    let push = graph.push(table, 0, Keys::Range(KeyRange::one(5)), vec![vec![1f32]]);
    graph.after(push, &[call, told]);
    let task = yard.ship(0, graph);
    let shipped = yard.cluster.up[0].frames[0].1.clone();
    let again = |yard: &mut Shipyard| {
        yard.cluster.shards[0].handle(PeerId(0), shipped.bytes(), &mut yard.cluster.down[0]).unwrap();
    };
    again(&mut yard);
    yard.cluster.run();
    let (worker, out) = (&mut yard.cluster.workers[0], &mut yard.cluster.up[0]);
    worker.push(sums, Keys::Range(KeyRange::one(5)), vec![vec![1f32]], Options::at(1), out).unwrap();
    yard.cluster.run();
    again(&mut yard);
    assert!(yard.cluster.wait(0, task).unwrap().nodes.iter().all(Result::is_ok));
    assert_eq!((yard.log(), yard.cluster.shards[0].stats().repeated), (b"1".to_vec(), 2));
    assert_eq!(yard.cluster.pull(0, table, &Keys::Range(KeyRange::one(5))), [1.0]);
}

#[test]
fn what_waits_for_a_table_that_is_dropped_is_refused() {
    let mut yard = Shipyard::new(2, 1);
    let mut graph = Graph::new();
    let told = graph.wait(yard.sums, KeyRange::ALL, 1);
    let push = graph.push(yard.sums, 1, Keys::Range(KeyRange::one(5)), vec![vec![1f32]]);
    let task = yard.ship(0, graph);
    let dropped = Control::Drop { table: 9 };
    yard.cluster.run();
    yard.cluster.workers[1].control(&dropped, Options::default(), &mut yard.cluster.up[1]).unwrap();
    let nodes = yard.cluster.wait(0, task).unwrap().nodes;
    for node in [told, push] {
        assert_eq!(refusal(&nodes[node.index()]).0, RefusalCode::NoTable);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_graphs_run_every_node_once_after_those_it_follows(seed in any::<u64>(), count in 1..40usize) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut yard = Shipyard::new(1, 2);
        let (table, mut graph) = (yard.table, Graph::new());
        let bad: Vec<bool> = (0..count).map(|_| random.random_bool(0.1)).collect();
        let nodes: Vec<NodeId> = (0..count)
            .map(|node| {
                let verb = if bad[node] { "refuse" } else { ["note", "two", "tree"][random.random_range(0..3)] };
                graph.call(table, Target::All, verb, vec![128 + node as u8])
            })
            .collect();
        let mut order: Vec<usize> = (0..count).collect();
        (1..count).for_each(|at| order.swap(at, random.random_range(0..=at)));
        let mut before = vec![Vec::new(); count];
        for at in 1..count {
            for _ in 0..random.random_range(0..3) {
                before[order[at]].push(order[random.random_range(0..at)]);
            }
            let names: Vec<NodeId> = before[order[at]].iter().map(|&node| nodes[node]).collect();
            graph.after(nodes[order[at]], &names);
        }
        let task = yard.ship(0, graph);
        yard.cluster.run();
        let ends = yard.cluster.workers[0].take(task).expect("all have ended").unwrap().nodes;
        let mut doomed = vec![false; count];
        for &node in &order {
            doomed[node] = before[node].iter().any(|&other| doomed[other] || bad[other]);
            prop_assert_eq!(ends[node].is_err(), doomed[node] || bad[node], "node {}", node);
        }
        let log: Vec<u8> = yard.log().into_iter().filter(|&byte| byte >= 128).collect();
        let expected = doomed.iter().filter(|&&doomed| !doomed).count();
        prop_assert_eq!(log.len(), 2 * expected);
        for half in log.chunks(expected.max(1)) {
            let place = |node: usize| half.iter().position(|&byte| usize::from(byte) == 128 + node);
            for node in (0..count).filter(|&node| !doomed[node]) {
                let mine = place(node).expect("it ran");
                prop_assert!(before[node].iter().all(|&other| place(other).is_some_and(|other| other < mine)));
            }
        }
    }
}
