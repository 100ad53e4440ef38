//! Random graphs of tasks, walked by the caller: who starts when, who ends how, and that all do.

use std::sync::Mutex;

use crate::wires::*;
use keyrange::table::CallError;
use keyrange::update::CallView;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};

const SHARDS: usize = 2;

/// Notes which calls reached it.
struct Log(Arc<Mutex<Vec<u32>>>);

impl ServerFn<f32> for Log {
    fn name(&self) -> &str {
        "log"
    }
    fn update(&mut self, _: &mut Rows<'_, f32>, _: &[&[f32]]) -> Result<(), UpdateError> {
        Ok(())
    }
    fn call(&mut self, _: &str, args: &[u8], _: &mut CallView<'_, f32>) -> Result<Vec<u8>, CallError> {
        self.0.lock().unwrap().push(u32::from_le_bytes(args.try_into().unwrap()));
        Ok(Vec::new())
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Push,
    Pull,
    Call,
    /// To a table that does not exist.
    Bad,
    Group,
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    after: Vec<usize>,
    group: Option<usize>,
    task: TaskId,
}

/// What was submitted, and the naive answers to what must become of it.
#[derive(Default)]
struct Oracle {
    nodes: Vec<Node>,
}

impl Oracle {
    /// Whether all nodes can end if each starts after what it follows and after its group, and a group ends last. Some
    /// have ended already: those may have failed without waiting.
    fn all_end(&self, has_ended: impl Fn(TaskId) -> bool) -> bool {
        let count = self.nodes.len();
        let mut ended: Vec<bool> = self.nodes.iter().map(|node| has_ended(node.task)).collect();
        let mut started = ended.clone();
        loop {
            let before = (started.clone(), ended.clone());
            for (at, node) in self.nodes.iter().enumerate() {
                started[at] |= node.after.iter().all(|&other| ended[other])
                    && node.group.is_none_or(|group| started[group]);
                let mut children = (0..count).filter(|&child| self.nodes[child].group == Some(at));
                ended[at] |= started[at] && children.all(|child| ended[child]);
            }
            if before == (started.clone(), ended.clone()) {
                return ended.iter().all(|&ended| ended);
            }
        }
    }

    /// Which nodes fail: bad ones, those that follow one that fails (and what is in such groups), and groups of one that
    /// fails.
    fn failures(&self) -> Vec<bool> {
        let count = self.nodes.len();
        let (mut never_starts, mut fails) = (vec![false; count], vec![false; count]);
        loop {
            let before = (never_starts.clone(), fails.clone());
            for (at, node) in self.nodes.iter().enumerate() {
                never_starts[at] = node.after.iter().any(|&other| fails[other])
                    || node.group.is_some_and(|group| never_starts[group]);
                let mut children = (0..count).filter(|&child| self.nodes[child].group == Some(at));
                fails[at] = never_starts[at] || node.kind == Kind::Bad || children.any(|child| fails[child]);
            }
            if before == (never_starts.clone(), fails.clone()) {
                return fails;
            }
        }
    }
}

struct Play {
    cluster: Cluster,
    table: TableHandle,
    log: Arc<Mutex<Vec<u32>>>,
    random: Xoshiro256PlusPlus,
    oracle: Oracle,
}

impl Play {
    fn new(seed: u64) -> Play {
        let log = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&log);
        let mut cluster = Cluster::with_registry(1, SHARDS, move |registry| {
            let shared = Arc::clone(&shared);
            registry.register_f32("log", move |_| Ok(Box::new(Log(Arc::clone(&shared)))));
        });
        let table =
            cluster.create(&TableSpec { function: FunctionSpec::named("log"), ..spec(StoreKind::Sparse) });
        Play {
            cluster,
            table,
            log,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            oracle: Oracle::default(),
        }
    }

    /// Draws a node and submits it; one that could never end must be refused, and no other.
    fn submit(&mut self) {
        let count = self.oracle.nodes.len();
        let kinds =
            [Kind::Push, Kind::Push, Kind::Pull, Kind::Call, Kind::Call, Kind::Group, Kind::Group, Kind::Bad];
        let kind = kinds[self.random.random_range(0..kinds.len())];
        let after = (0..self.random.random_range(0..3)).filter(|_| count > 0);
        let after: Vec<usize> = after.map(|_| self.random.random_range(0..count)).collect();
        let groups: Vec<usize> = (0..count).filter(|&at| self.oracle.nodes[at].kind == Kind::Group).collect();
        let group = (!groups.is_empty() && self.random.random_bool(0.6))
            .then(|| groups[self.random.random_range(0..groups.len())]);
        let ids = |at: &usize| self.oracle.nodes[*at].task;
        let options = Options {
            after: after.iter().map(ids).collect(),
            group: group.as_ref().map(ids),
            ..Options::default()
        };
        let (worker, out) = (&mut self.cluster.workers[0], &mut self.cluster.up[0]);
        let keys = Keys::List(spread(20, 0));
        let nowhere = TableHandle { id: 999, ..self.table };
        let submitted = match kind {
            Kind::Push => worker.push(self.table, keys, vec![vec![1f32; 20]], options, out),
            Kind::Bad => worker.push(nowhere, keys, vec![vec![1f32; 20]], options, out),
            Kind::Pull => worker.pull::<f32>(self.table, keys, Vec::new(), options, out),
            Kind::Call => {
                let number = (count as u32).to_le_bytes().to_vec();
                worker.call(self.table, Target::All, "note", number, options, out)
            }
            Kind::Group => worker.group(options, out),
        };
        let ended = |worker: &WorkerCore, task| {
            task != TaskId::from_number(0) && worker.state(task) == TaskState::Finished
        };
        match submitted {
            Ok(task) => {
                self.oracle.nodes.push(Node { kind, after, group, task });
                assert!(
                    self.oracle.all_end(|task| ended(&self.cluster.workers[0], task)),
                    "a task that waits for itself was accepted"
                );
            }
            Err(SubmitError::Group { text, .. }) if text.starts_with("has ended") => {
                let state = self.cluster.workers[0].state(self.oracle.nodes[group.unwrap()].task);
                assert_eq!(state, TaskState::Finished);
            }
            Err(SubmitError::Group { .. }) => {
                self.oracle.nodes.push(Node { kind, after, group, task: TaskId::from_number(0) });
                assert!(
                    !self.oracle.all_end(|task| ended(&self.cluster.workers[0], task)),
                    "a task that could end was refused"
                );
                self.oracle.nodes.pop();
            }
            Err(error) => panic!("{error}"),
        }
        self.observe();
    }

    /// One frame arrives, any of those under way. False if there is none.
    fn step(&mut self) -> bool {
        let arrived = self.cluster.deliver_one(&mut self.random);
        self.observe();
        arrived
    }

    /// Nothing has started that still has to wait; no group has ended before its sub-tasks.
    fn observe(&self) {
        let state = |at: usize| self.cluster.workers[0].state(self.oracle.nodes[at].task);
        for (at, node) in self.oracle.nodes.iter().enumerate() {
            if state(at) == TaskState::Running {
                assert!(
                    node.after.iter().all(|&other| state(other) == TaskState::Finished),
                    "{at} starts too early"
                );
                assert!(
                    node.group.is_none_or(|group| state(group) != TaskState::Waiting),
                    "{at} before its group"
                );
            }
            if let Some(group) = node.group.filter(|&group| state(group) == TaskState::Finished) {
                assert_eq!(state(at), TaskState::Finished, "group {group} ended before {at}");
            }
        }
    }

    fn finish(mut self) {
        for node in self.oracle.nodes.iter().filter(|node| node.kind == Kind::Group) {
            let (worker, out) = (&mut self.cluster.workers[0], &mut self.cluster.up[0]);
            match worker.seal(node.task, out) {
                Err(SubmitError::Group { text, .. }) if text == "has ended" => {}
                sealed => sealed.unwrap(),
            }
        }
        while self.step() {}
        let (log, fails) = (self.log.lock().unwrap(), self.oracle.failures());
        for (at, node) in self.oracle.nodes.iter().enumerate() {
            let end = self.cluster.workers[0].take(node.task).expect("everything ends");
            assert_eq!(end.is_err(), fails[at], "node {at} {node:?}: {end:?}");
            if let Err(error) = &end {
                assert!(
                    matches!(error.cause(), TaskError::Refused { code: RefusalCode::NoTable, .. }),
                    "{error}"
                );
            }
            let runs = log.iter().filter(|&&number| number == at as u32).count();
            let expected = if node.kind == Kind::Call && end.is_ok() { SHARDS } else { 0 };
            assert_eq!(runs, expected, "node {at}");
        }
        assert_eq!((self.cluster.workers[0].open_tasks(), self.cluster.workers[0].open_requests()), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_task_starts_after_all_it_waits_for_and_ends_once(seed in any::<u64>(), count in 1..40usize, eager in 0..4u32) {
        let mut play = Play::new(seed);
        for _ in 0..count {
            play.submit();
            let steps = play.random.random_range(0..=eager);
            for _ in 0..steps {
                play.step();
            }
        }
        play.finish();
    }
}

#[test]
fn cancel_and_deadline_of_a_group_reach_its_sub_tasks_and_end_each_once() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let (worker, out) = (&mut cluster.workers[0], &mut cluster.up[0]);
    let ends = Arc::new(Mutex::new(Vec::new()));
    let noted = |name: &'static str, group| {
        let ends = Arc::clone(&ends);
        let callback = Box::new(move |_, end: Result<Outcome, TaskError>| {
            ends.lock().unwrap().push((name, end.unwrap_err()));
        });
        Options { callback: Some(callback), group, ..Options::default() }
    };
    let keys = Keys::List(spread(3, 0));
    let outer = worker.group(noted("outer", None), out).unwrap();
    let inner = worker.group(noted("inner", Some(outer)), out).unwrap();
    worker.push(table, keys.clone(), vec![vec![1f32; 3]], noted("push", Some(inner)), out).unwrap();
    worker.cancel(outer, out);
    let late = Options { deadline: Some(Duration::from_secs(1)), ..noted("late", None) };
    let late = worker.group(late, out).unwrap();
    worker.pull::<f32>(table, keys, Vec::new(), noted("pull", Some(late)), out).unwrap();
    worker.poll(Duration::from_secs(1), out);
    let timed_out = |missing: &str| TaskError::TimedOut { missing: missing.to_owned() };
    let expected = [
        ("outer", TaskError::Cancelled),
        ("inner", TaskError::Cancelled),
        ("push", TaskError::Cancelled),
        ("late", timed_out("its sub-tasks")),
        ("pull", timed_out("shard 0")),
    ];
    assert_eq!(*ends.lock().unwrap(), expected);
    assert_eq!((worker.open_tasks(), worker.open_requests()), (0, 0));
}

#[test]
fn a_chain_of_a_hundred_thousand_tasks_fails_without_growing_the_stack() {
    let mut cluster = Cluster::plain(1, 1);
    let (worker, out) = (&mut cluster.workers[0], &mut cluster.up[0]);
    let first = worker.group(Options::default(), out).unwrap();
    let mut last = first;
    for _ in 0..100_000 {
        last = worker.group(Options { after: vec![last], ..Options::default() }, out).unwrap();
        worker.seal(last, out).unwrap();
    }
    worker.cancel(first, out);
    assert_eq!(worker.take(last), Some(Err(TaskError::Dependency(Box::new(TaskError::Cancelled)))));
}
