//! What a run of `bench push-pull` found, as it stands in the JSON file.

use serde::Serialize;

/// Latency of one kind of request.
#[derive(Serialize)]
pub struct Latency {
    pub request: String,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
    pub cpu_ns: f64,
    pub server_cpu_ns: f64,
    pub limit_ns: f64,
    pub p50_over_limit: f64,
}

/// Items per second of one kind of request, all workers together; times are per item, CPU times those of all threads of a
/// side.
#[derive(Serialize)]
pub struct Rate {
    pub request: String,
    pub items: &'static str,
    pub per_second: f64,
    pub wall_ns: f64,
    pub cpu_ns: f64,
    pub server_cpu_ns: f64,
    pub limit: &'static str,
    pub limit_per_second: f64,
    pub of_limit: f64,
}

/// What keys cost in the server's memory.
#[derive(Serialize)]
pub struct Memory {
    pub keys: usize,
    pub server_bytes_before: u64,
    pub server_bytes_after: u64,
    pub server_bytes_per_key: f64,
}

/// What waiting costs: worker, manager and server, as a part of one core.
#[derive(Serialize)]
pub struct Idle {
    pub seconds: f64,
    pub here_of_a_core: f64,
    pub server_of_a_core: f64,
}

/// All figures of one run.
#[derive(Serialize)]
pub struct Figures {
    pub carrier: String,
    /// The first worker's core and the first server's, if threads were pinned.
    pub cores: Option<[usize; 2]>,
    pub servers: usize,
    pub workers: usize,
    pub latency_limit: &'static str,
    pub latencies: Vec<Latency>,
    pub rates: Vec<Rate>,
    pub idle: Option<Idle>,
    pub memory: Option<Memory>,
}
