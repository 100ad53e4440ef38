//! Real processes: this binary starts itself as servers and workers, and kills some of them.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyrange::client::{Worker, WorkerConfig};
use keyrange::key_range::KeyRange;
use keyrange::manager::{Address, Door, Event, JobEnd, JobPlan, Manager, ManagerConfig, NodeName};
use keyrange::message::Values;
use keyrange::node::carrier::CarrierWish;
use keyrange::node::{Membership, ServerConfig, connect_worker, run_server};
use keyrange::table::{Aggregation, StoreKind};
use keyrange::update::Registry;
use keyrange::worker::{Keys, Options};
use serde_json::json;

use crate::common::{LIMIT, spec};

const JOB: [u8; 16] = *b"cluster-proc-job";
const ROUNDS: u64 = 20;

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("KEYRANGE_TEST_{name}")).ok()
}

/// Not a test of its own: what a child process runs.
#[test]
fn child() {
    let Some(role) = variable("ROLE") else { return };
    let membership = Membership {
        manager: variable("MANAGER").unwrap().parse().unwrap(),
        door: Door::new(JOB, variable("SECRET").unwrap()),
        rank: variable("RANK").map(|rank| rank.parse().unwrap()),
        join_deadline: Duration::from_secs(10),
    };
    let carrier: CarrierWish = variable("CARRIER").unwrap().parse().unwrap();
    let result =
        if role == "server" { server(membership, carrier) } else { worker(membership, carrier, &role) };
    match result {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(3);
        }
    }
}

fn server(membership: Membership, carrier: CarrierWish) -> Result<(), String> {
    let config = ServerConfig {
        membership,
        shards: 2,
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        carrier,
        verbs: Default::default(),
        cores: Vec::new(),
        functions: Arc::new(Registry::with_builtins()),
    };
    run_server(config).map(drop).map_err(|error| error.to_string())
}

fn worker(membership: Membership, carrier: CarrierWish, role: &str) -> Result<(), String> {
    let (verbs, mending) = Default::default();
    let config = WorkerConfig { membership, carrier, verbs, core: None, mending };
    let mut worker = connect_worker(&config).map_err(|error| error.to_string())?;
    if role == "waiter" {
        return wait_for_ever(&mut worker);
    }
    train(&mut worker)?;
    worker.finish(LIMIT).map_err(|error| error.to_string())
}

/// Waits for an update to which nobody contributes.
fn wait_for_ever(worker: &mut Worker) -> Result<(), String> {
    let text = |error: keyrange::client::WorkerError| error.to_string();
    let dense = StoreKind::Dense { first: 0, last: 99_999 };
    let table = worker.create_table(&spec(1, dense, Aggregation::AllWorkers, 1), LIMIT).map_err(text)?;
    let range = Keys::Range(KeyRange::new(0, 9).unwrap());
    let options = Options { after_time: true, ..Options::at(1) };
    let task = worker.pull::<f32>(table, range, Vec::new(), options).map_err(text)?;
    worker.wait(task, LIMIT).map(drop).map_err(text)
}

/// Aggregated rounds whose sums are known, then a report.
fn train(worker: &mut Worker) -> Result<(), String> {
    let text = |error: keyrange::client::WorkerError| error.to_string();
    let dense = StoreKind::Dense { first: 0, last: 99_999 };
    let table = worker.create_table(&spec(1, dense, Aggregation::AllWorkers, 1), LIMIT).map_err(text)?;
    let range = KeyRange::new(0, 99_999).unwrap();
    let share = (1..=worker.workers()).sum::<u32>() as f32;
    for time in 1..=ROUNDS {
        let mine = vec![(worker.rank() + 1) as f32; 100_000];
        let task = worker
            .push_pull(table, Keys::Range(range), vec![mine], Vec::new(), Options::at(time))
            .map_err(text)?;
        let values = worker.wait(task, LIMIT).map_err(text)?.values;
        if values != Values::F32(vec![share * time as f32; 100_000]) {
            return Err(format!("wrong sum in round {time}"));
        }
        worker.report_progress(json!({ "round": time })).map_err(text)?;
    }
    worker.barrier("done", LIMIT).map_err(text)?;
    worker.report(json!({ "rounds": ROUNDS })).map_err(text)
}

/// Child processes that do not outlive the test.
struct Node(Child, String);

impl Node {
    /// Waits for the end; its exit code and what it wrote.
    fn end(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "{} does not end", self.1);
            std::thread::yield_now();
        };
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Job {
    manager: Manager,
    carrier: &'static str,
    secret: &'static str,
}

impl Job {
    fn new(servers: u32, workers: u32, listen: Address, carrier: &'static str, secret: &'static str) -> Job {
        let plan = JobPlan {
            keys: (0, 99_999),
            join_deadline: Duration::from_secs(10),
            silent_after: Duration::from_millis(1200),
            ..JobPlan::new(servers, workers)
        };
        let door = Door::new(JOB, secret);
        let manager = Manager::start(ManagerConfig { listen: vec![listen], door, plan }).unwrap();
        Job { manager, carrier, secret }
    }

    fn local(servers: u32, workers: u32) -> Job {
        Job::new(servers, workers, Address::unique_unix("test").unwrap(), "auto", "")
    }

    fn spawn(&self, role: &str, rank: u32) -> Node {
        self.spawn_with_secret(role, rank, self.secret)
    }

    fn spawn_with_secret(&self, role: &str, rank: u32, secret: &str) -> Node {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cluster_processes::child", "--nocapture"])
            .env("KEYRANGE_TEST_ROLE", role)
            .env("KEYRANGE_TEST_MANAGER", self.manager.addresses()[0].to_string())
            .env("KEYRANGE_TEST_SECRET", secret)
            .env("KEYRANGE_TEST_RANK", rank.to_string())
            .env("KEYRANGE_TEST_CARRIER", self.carrier)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Node(child, format!("{role} {rank}"))
    }

    /// Events up to and including the first that `pick` accepts.
    fn until(&self, pick: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut seen = Vec::new();
        loop {
            let event = self.manager.events().recv_timeout(LIMIT).expect("an event in time");
            let found = pick(&event);
            assert!(
                found || !matches!(event, Event::Ended(_)),
                "the job ended early: {event:?} after {seen:?}"
            );
            seen.push(event);
            if found {
                return seen;
            }
        }
    }

    fn ended(&self) -> Vec<Event> {
        self.until(|event| matches!(event, Event::Ended(_)))
    }
}

fn trains_to_the_end(job: &Job, servers: u32, workers: u32, carrier_named: &str) {
    let nodes: Vec<_> = (0..servers)
        .map(|rank| job.spawn("server", rank))
        .chain((0..workers).map(|rank| job.spawn("trainer", rank)))
        .collect();
    let events = job.ended();
    assert_eq!(events.last(), Some(&Event::Ended(JobEnd::Finished)), "{events:?}");
    let reports = events.iter().filter(|event| matches!(event, Event::Report { .. })).count();
    let progress = events.iter().filter(|event| matches!(event, Event::Progress { .. })).count();
    assert_eq!((reports, progress), (workers as usize, workers as usize * ROUNDS as usize));
    for event in &events {
        if let Event::Linked { carriers, .. } = event {
            assert!(carriers.iter().all(|line| line.contains(carrier_named)), "{carriers:?}");
        }
    }
    for node in nodes {
        let (code, said) = node.end();
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn processes_of_one_host_train_over_shared_memory() {
    trains_to_the_end(&Job::local(2, 2), 2, 2, "shm");
}

#[test]
fn processes_train_over_tcp_with_a_secret() {
    let job = Job::new(1, 2, "127.0.0.1:0".parse().unwrap(), "tcp", "a secret");
    trains_to_the_end(&job, 1, 2, "tcp");
}

#[test]
fn a_killed_process_is_named_to_everybody_else_and_the_job_ends() {
    for victim in ["server 0", "waiter 1"] {
        let job = Job::local(1, 2);
        let mut nodes = vec![job.spawn("server", 0), job.spawn("waiter", 0), job.spawn("waiter", 1)];
        job.until(|event| *event == Event::Running);
        let place = nodes.iter().position(|node| node.1 == victim).unwrap();
        let killed = nodes.remove(place);
        killed.signal(rustix::process::Signal::KILL);
        let events = job.ended();
        let culprit = if place == 0 { NodeName::server(0) } else { NodeName::worker(1) };
        let Some(Event::Ended(JobEnd::Aborted { culprit: named, .. })) = events.last() else {
            panic!("{events:?}")
        };
        assert_eq!(*named, Some(culprit), "{events:?}");
        for node in nodes {
            let (code, said) = node.end();
            assert_eq!(code, Some(3), "{said}");
            assert!(said.contains(&format!("{culprit} (process")), "{said}");
        }
    }
}

#[test]
fn a_killed_manager_ends_every_node() {
    let job = Job::local(1, 1);
    let nodes = [job.spawn("server", 0), job.spawn("waiter", 0)];
    job.until(|event| *event == Event::Running);
    drop(job);
    for node in nodes {
        let (code, said) = node.end();
        assert_eq!(code, Some(3), "{} {said}", "node");
        assert!(said.contains("the launcher has gone"), "{said}");
    }
}

#[test]
fn a_stopped_process_is_reported_and_may_come_back() {
    let job = Job::local(1, 1);
    let nodes = [job.spawn("server", 0), job.spawn("waiter", 0)];
    job.until(|event| *event == Event::Running);
    nodes[1].signal(rustix::process::Signal::STOP);
    let node = NodeName::worker(0);
    job.until(|event| matches!(event, Event::Silent { node: silent, .. } if *silent == node));
    nodes[1].signal(rustix::process::Signal::CONT);
    job.until(|event| *event == Event::Back { node });
    job.manager.abort("the test is over");
    job.ended();
}

#[test]
fn a_wrong_secret_is_refused_at_the_door_and_harms_nobody() {
    let job = Job::new(1, 1, "127.0.0.1:0".parse().unwrap(), "tcp", "right");
    let (code, said) = job.spawn_with_secret("server", 0, "wrong").end();
    assert_eq!(code, Some(3));
    assert!(said.contains("secret"), "{said}");
    job.until(|event| matches!(event, Event::Refused { reason } if reason.contains("secret")));
    trains_to_the_end(&job, 1, 1, "tcp");
}

#[test]
fn a_server_that_never_comes_is_named_to_the_one_that_did() {
    let plan = JobPlan { join_deadline: Duration::from_millis(600), ..JobPlan::new(1, 1) };
    let listen = vec![Address::unique_unix("test").unwrap()];
    let manager = Manager::start(ManagerConfig { listen, door: Door::new(JOB, ""), plan }).unwrap();
    let job = Job { manager, carrier: "auto", secret: "" };
    let (code, said) = job.spawn("waiter", 0).end();
    assert_eq!(code, Some(3));
    assert!(said.contains("server 0 did not join"), "{said}");
}

#[test]
fn a_manager_that_is_not_there_is_named_by_its_address() {
    let membership = Membership {
        manager: "unix:keyrange-nobody-listens-here".parse().unwrap(),
        door: Door::new(JOB, ""),
        rank: None,
        join_deadline: Duration::from_millis(50),
    };
    let (carrier, verbs, mending) = Default::default();
    let config = WorkerConfig { membership, carrier, verbs, core: None, mending };
    let Err(error) = connect_worker(&config) else { panic!("nobody is there") };
    assert!(error.to_string().contains("unix:keyrange-nobody-listens-here"), "{error}");
}

#[test]
fn a_port_in_use_is_named() {
    let plan = JobPlan::new(1, 1);
    let door = Door::new(JOB, "");
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let first = Manager::start(ManagerConfig { listen, door: door.clone(), plan: plan.clone() }).unwrap();
    let taken = first.addresses()[0].clone();
    let Err(error) = Manager::start(ManagerConfig { listen: vec![taken.clone()], door, plan }) else {
        panic!("two listeners on one port")
    };
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
}
