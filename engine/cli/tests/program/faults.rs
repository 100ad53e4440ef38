//! Processes of a job are killed, stopped and interrupted: it says whom it lost, ends, and leaves nothing behind.

use std::time::Instant;

use rustix::process::Signal;

use crate::program::{Node, Place, Running, await_some, cpu_seconds, runs, send, shared_memory_names};

/// A job that would go on for minutes: nothing proves an accuracy of 1e-15.
const ENDLESS: &str = "train sparse-lr --generate --generate-rows 5000 --l1 0.01 --tolerance 1e-15 --certificate --diagonal-only --report report.json";

/// Starts a job with 2 servers and 2 workers and waits until it trains.
fn training(place: &Place, options: &str) -> (Running, Vec<Node>) {
    let mut job = place.keyrange(ENDLESS).words(options).start();
    job.await_stderr("  pass ");
    let nodes = job.nodes();
    assert_eq!(nodes.len(), 4, "{nodes:?}");
    (job, nodes)
}

fn pid(nodes: &[Node], name: &str) -> u32 {
    nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("{name} among {nodes:?}")).pid
}

/// No process of the job runs, and no file, segment or report is left.
fn check_nothing_left(place: &Place, nodes: &[Node]) {
    for node in nodes {
        await_some(&format!("the end of {node:?}"), || (!runs(node.pid)).then_some(()));
    }
    assert!(place.names().is_empty(), "{:?}", place.names());
    assert!(place.temporary().is_empty(), "{:?}", place.temporary());
    assert!(shared_memory_names().is_empty(), "{:?}", shared_memory_names());
}

fn kill_and_check(victim: &str, carrier: &str) {
    let place = Place::new();
    let (job, nodes) = training(&place, carrier);
    send(pid(&nodes, victim), Signal::KILL);
    let killed = Instant::now();
    let got = job.end();
    println!("{victim} killed, {carrier}: the job ended {:.2} s later", killed.elapsed().as_secs_f64());
    assert_eq!(got.code, Some(1), "{got:?}");
    let error = got.stderr.lines().find(|line| line.starts_with("error: ")).expect("a message");
    assert!(error.contains(victim), "{error}");
    check_nothing_left(&place, &nodes);
}

#[test]
fn a_killed_server_is_named() {
    kill_and_check("server 1", "--carrier shm");
    kill_and_check("server 0", "--carrier tcp");
}

#[test]
fn a_killed_worker_is_named() {
    kill_and_check("worker 0", "--carrier shm");
    kill_and_check("worker 1", "--carrier tcp --delay 4");
}

#[test]
fn nobody_outlives_a_killed_launcher() {
    let place = Place::new();
    let (job, nodes) = training(&place, "--carrier shm");
    send(job.pid(), Signal::KILL);
    assert_eq!(job.end().code, None);
    check_nothing_left(&place, &nodes);
}

#[test]
fn signals_end_the_job_cleanly() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let place = Place::new();
        let (job, nodes) = training(&place, "--carrier shm --model model");
        send(job.pid(), signal);
        let got = job.end();
        assert_eq!(got.code, Some(code), "{got:?}");
        check_nothing_left(&place, &nodes);
    }
}

#[test]
fn signals_end_an_embedded_job() {
    let place = Place::new();
    let mut job = place.keyrange(ENDLESS).words("--embedded").start();
    job.await_stderr("  pass ");
    send(job.pid(), Signal::TERM);
    let got = job.end();
    assert_eq!(got.code, Some(143), "{got:?}");
    check_nothing_left(&place, &[]);
}

#[test]
fn a_stopped_worker_is_reported_and_costs_nobody_time() {
    const PASSES: &str = "--max-passes 700";
    let undisturbed = Place::new();
    undisturbed.keyrange(ENDLESS).words(PASSES).succeed();

    let place = Place::new();
    let (mut job, nodes) = training(&place, PASSES);
    let stopped = pid(&nodes, "worker 1");
    send(stopped, Signal::STOP);
    job.await_stderr("worker 1 has said nothing");
    // A measurement, not a synchronisation: what the others use within a second while they can only wait.
    let others: Vec<_> = nodes.iter().map(|node| node.pid).filter(|pid| *pid != stopped).collect();
    let spent = || others.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
    let before = spent();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let used = spent() - before;
    send(stopped, Signal::CONT);
    assert!(used < 0.2, "{used} s of processor time while a worker was stopped");

    let got = job.end();
    assert_eq!(got.code, Some(0), "{got:?}");
    assert!(got.stderr.contains("worker 1 is back"), "{got:?}");
    assert_eq!(place.report().objective_digits(), undisturbed.report().objective_digits());
}

/// Frames that are lost, doubled, late or out of order, and links that are cut, cost time but not a bit of the result.
#[test]
fn a_job_over_faulty_links_gives_the_same_bits() {
    const JOB: &str = "train sparse-lr -q --generate --generate-rows 2000 --l1 2 --report report.json";
    let place = Place::new();
    let objective = |options: &str| {
        place.keyrange(JOB).words(options).succeed();
        place.report().objective_digits()
    };
    let expected = objective("--carrier shm");
    let lossy = "--fault seed=3,drop=0.01,dup=0.01,delay=0.01,reorder=0.02";
    assert_eq!(objective(&format!("--carrier shm {lossy}")), expected);
    assert_eq!(objective(&format!("--carrier tcp {lossy},kill=300")), expected);
    let got = place.keyrange(JOB).words("--fault drop=2").run();
    assert_eq!(got.code, Some(2), "{got:?}");
    assert!(got.stderr.contains("a probability from 0 to 1"), "{}", got.stderr);
}
