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
    pub server_cpu_ns: Option<f64>,
    pub limit_ns: f64,
    pub p50_over_limit: f64,
}

/// Items per second of one kind of request; CPU times are per item.
#[derive(Serialize)]
pub struct Rate {
    pub request: String,
    pub items: &'static str,
    pub per_second: f64,
    pub cpu_ns: f64,
    pub server_cpu_ns: Option<f64>,
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

/// All figures of one run.
#[derive(Serialize)]
pub struct Figures {
    pub carrier: String,
    pub cores: [usize; 2],
    pub latency_limit: &'static str,
    pub latencies: Vec<Latency>,
    pub rates: Vec<Rate>,
    pub memory: Option<Memory>,
}
