//! The manager's core, driven by hand: every statement here is about what nodes and launcher hear.

use std::time::Duration;

use serde_json::json;

use super::core::*;
use super::message::*;
use super::plan::{Event, JobEnd, JobPlan};
use super::{Address, HostFingerprint};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn registration(role: Role, rank: Option<u32>) -> ToManager {
    let server = role == Role::Server;
    ToManager::Register(Registration {
        role,
        rank,
        pid: 7,
        host: HostFingerprint { boot_id: "b".into(), net_namespace: 1 },
        shards: if server { 2 } else { 0 },
        addresses: if server { vec![Address::Unix("x".into())] } else { vec![] },
        verbs: None,
    })
}

/// A core with its outputs, and the connections it was told of.
struct Bench {
    core: ManagerCore,
    out: Vec<Output>,
}

impl Bench {
    fn new(servers: u32, workers: u32) -> Self {
        Bench { core: ManagerCore::new(JobPlan::new(servers, workers), ms(0)), out: Vec::new() }
    }

    fn say(&mut self, at: Duration, from: Connection, message: ToManager) {
        self.core.handle(at, from, message, &mut self.out);
    }

    fn tick(&mut self, at: Duration) {
        self.core.tick(at, &mut self.out);
    }

    /// Servers on connections 0.., workers on 100.., all ready; outputs so far forgotten.
    fn running(servers: u32, workers: u32) -> Self {
        let mut bench = Bench::new(servers, workers);
        let all = || (0..u64::from(servers)).chain(100..100 + u64::from(workers));
        for connection in all() {
            let role = if connection < 100 { Role::Server } else { Role::Worker };
            bench.say(ms(0), connection, registration(role, None));
        }
        for connection in all() {
            bench.say(ms(0), connection, ToManager::Ready { carriers: vec![] });
        }
        assert!(bench.take_events().contains(&Event::Running));
        bench
    }

    fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.out)
            .into_iter()
            .filter_map(|output| if let Output::Event(event) = output { Some(event) } else { None })
            .collect()
    }

    /// Who was told something that `pick` accepts.
    fn told(&self, pick: impl Fn(&FromManager) -> bool) -> Vec<Connection> {
        let mut who: Vec<_> = self
            .out
            .iter()
            .filter_map(|output| match output {
                Output::Send(connection, message) if pick(message) => Some(*connection),
                _ => None,
            })
            .collect();
        who.sort_unstable();
        who
    }

    fn reason(&self) -> String {
        self.core.ended().expect("the job has ended").to_string()
    }
}

#[test]
fn when_the_last_node_registers_everybody_gets_the_same_map() {
    let mut bench = Bench::new(2, 1);
    bench.say(ms(1), 5, registration(Role::Worker, None));
    bench.say(ms(2), 6, registration(Role::Server, Some(1)));
    assert!(bench.told(|m| matches!(m, FromManager::Start(_))).is_empty());
    bench.say(ms(3), 7, registration(Role::Server, None));
    assert_eq!(bench.told(|m| matches!(m, FromManager::Start(_))), [5, 6, 7]);
    let starts: Vec<_> = bench
        .out
        .iter()
        .filter_map(
            |o| if let Output::Send(c, FromManager::Start(s)) = o { Some((*c, s.clone())) } else { None },
        )
        .collect();
    for (connection, start) in &starts {
        assert_eq!(start.rank, u32::from(*connection == 6));
        assert_eq!((start.shards(), start.servers[1].shard_first, start.workers), (4, 2, 1));
        assert_eq!(start.servers, starts[0].1.servers);
    }
}

#[test]
fn a_node_that_never_comes_is_named_to_those_who_did() {
    let mut bench = Bench::new(1, 2);
    bench.say(ms(1), 5, registration(Role::Worker, Some(1)));
    bench.tick(ms(19_999));
    assert!(bench.core.ended().is_none());
    bench.tick(ms(20_000));
    assert!(bench.reason().contains("server 0, worker 0 did not join within 20s"), "{}", bench.reason());
    assert_eq!(bench.told(|m| matches!(m, FromManager::Abort { .. })), [5]);
}

#[test]
fn a_node_without_links_is_named() {
    let mut bench = Bench::new(1, 1);
    bench.say(ms(0), 1, registration(Role::Server, None));
    bench.say(ms(100), 2, registration(Role::Worker, None));
    bench.say(ms(200), 1, ToManager::Ready { carriers: vec![] });
    bench.tick(ms(20_100));
    assert!(bench.reason().contains("worker 0 did not set up all links"), "{}", bench.reason());
}

#[test]
fn a_death_is_named_once_to_everybody_else() {
    let mut bench = Bench::running(2, 2);
    bench.core.lost(101, "its connection was closed", &mut bench.out);
    bench.core.lost(0, "its connection was closed", &mut bench.out);
    assert!(bench.reason().contains("worker 1 (process 7) died"), "{}", bench.reason());
    let culprit = Some(NodeName::worker(1));
    assert_eq!(
        bench.told(|m| matches!(m, FromManager::Abort { culprit: c, .. } if *c == culprit)),
        [0, 1, 100]
    );
    assert_eq!(bench.take_events().len(), 1, "one end, and nothing after it");
}

#[test]
fn a_job_ends_well_when_workers_and_then_servers_finish() {
    let mut bench = Bench::running(1, 2);
    bench.say(ms(1), 100, ToManager::Report { body: json!({"a": 1}) });
    bench.say(ms(1), 100, ToManager::Finish);
    bench.core.lost(100, "closed", &mut bench.out);
    assert!(bench.told(|m| *m == FromManager::Stop).is_empty());
    bench.say(ms(2), 101, ToManager::Finish);
    assert_eq!(bench.told(|m| *m == FromManager::Stop), [0]);
    bench.core.lost(101, "closed", &mut bench.out);
    bench.say(ms(3), 0, ToManager::Finish);
    assert_eq!(bench.core.ended(), Some(&JobEnd::Finished));
}

#[test]
fn a_server_that_does_not_stop_is_named() {
    let mut bench = Bench::running(1, 1);
    bench.say(ms(5), 100, ToManager::Finish);
    bench.tick(ms(10_005));
    assert!(bench.reason().contains("server 0 did not end within 10s"));
}

#[test]
fn a_barrier_opens_for_all_when_the_last_worker_comes_and_can_be_used_again() {
    let mut bench = Bench::running(1, 3);
    for _ in 0..2 {
        for worker in [101, 100] {
            bench.say(ms(1), worker, ToManager::Barrier { name: "b".into() });
            assert!(bench.told(|m| matches!(m, FromManager::BarrierDone { .. })).is_empty());
        }
        bench.say(ms(1), 102, ToManager::Barrier { name: "b".into() });
        assert_eq!(bench.told(|m| matches!(m, FromManager::BarrierDone { .. })), [100, 101, 102]);
        bench.out.clear();
    }
}

#[test]
fn those_who_wait_at_a_barrier_hear_who_is_missing() {
    let mut bench = Bench::running(1, 2);
    bench.say(ms(10), 101, ToManager::Barrier { name: "b".into() });
    bench.say(ms(1000), 100, ToManager::Heartbeat);
    bench.tick(ms(1010));
    let missing = vec![NodeName::worker(0)];
    assert_eq!(
        bench.told(|m| *m == FromManager::BarrierMissing { name: "b".into(), missing: missing.clone() }),
        [101]
    );
}

#[test]
fn nobody_waits_at_a_barrier_for_a_worker_that_has_finished() {
    for finish_first in [true, false] {
        let mut bench = Bench::running(1, 2);
        let barrier = (101, ToManager::Barrier { name: "b".into() });
        let finish = (100, ToManager::Finish);
        let order = if finish_first { [finish, barrier] } else { [barrier, finish] };
        for (connection, message) in order {
            bench.say(ms(1), connection, message);
        }
        assert!(bench.reason().contains("worker 0 has finished"), "{}", bench.reason());
    }
}

#[test]
fn a_stopped_node_is_reported_and_not_given_up() {
    let mut bench = Bench::running(1, 1);
    bench.say(ms(2000), 0, ToManager::Heartbeat);
    bench.tick(ms(2000));
    let silent = Event::Silent { node: NodeName::worker(0), silent_ms: 2000 };
    assert_eq!(bench.take_events(), [silent]);
    bench.say(ms(3000), 0, ToManager::Heartbeat);
    bench.tick(ms(3000));
    assert!(bench.take_events().is_empty(), "said once");
    bench.say(ms(3100), 100, ToManager::Heartbeat);
    assert_eq!(bench.take_events(), [Event::Back { node: NodeName::worker(0) }]);
    assert!(bench.core.ended().is_none());
}

#[test]
fn strangers_and_surplus_nodes_are_refused_without_harm() {
    let mut bench = Bench::new(1, 1);
    bench.say(ms(0), 1, ToManager::Heartbeat);
    bench.say(ms(0), 2, registration(Role::Worker, Some(4)));
    bench.say(ms(0), 3, registration(Role::Worker, None));
    bench.say(ms(0), 4, registration(Role::Worker, None));
    bench.say(ms(0), 5, registration(Role::Worker, Some(0)));
    assert_eq!(bench.told(|m| matches!(m, FromManager::Refused { .. })), [1, 2, 4, 5]);
    assert!(bench.core.ended().is_none());
    assert_eq!(bench.core.name_of(3), Some(NodeName::worker(0)));
}
