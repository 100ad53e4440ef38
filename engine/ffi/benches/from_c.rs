//! What the C interface costs beside the Rust one, over shared memory: a worker in C and one in Rust, each a process, take turns
//! on the same core against the same server on another.
//!
//! `cargo bench -p keyrange-ffi --bench from_c` needs two cores and a C compiler, and prints medians over interleaved turns:
//! nanoseconds of an 8-byte push and its wait, of either call that does it, and the bandwidth of large pushes from lent memory and
//! from any other, from C. (4 MiB arrays come from memory, 1 MiB ones from cache.)

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::client::{Mending, Worker, WorkerConfig};
use engine::key_range::KeyRange;
use engine::manager::{Address, Door, JobPlan, Manager, ManagerConfig};
use engine::node::carrier::CarrierWish;
use engine::node::{Membership, ServerConfig, connect_worker, run_server};
use engine::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use engine::update::Registry;
use engine::worker::{Borrowed, Keys, Options, TableHandle};

type Failure = Box<dyn std::error::Error>;

const LIMIT: Duration = Duration::from_secs(60);
const ROUNDS: usize = 21;
const SMALL_PUSHES: usize = 5000;
const LARGE_PUSHES: usize = 32;
const MIB: usize = 1 << 20;
const WORKER_CORE: usize = 0;
const SERVER_CORE: usize = 1;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, address] = arguments.as_slice()
        && role == "server"
    {
        return serve(address);
    }
    let plan = JobPlan::new(1, 2);
    let door = Door::named("keyrange", []);
    let manager = Manager::start(ManagerConfig { listen: vec!["tcp:127.0.0.1:0".parse()?], door, plan })?;
    let address = manager.addresses()[0].clone();
    let mut server = Command::new(std::env::current_exe()?).args(["server", &address.to_string()]).spawn()?;
    let mut c = CWorker::start(&address)?;
    let mut rust = RustWorker::connect(&address)?;
    c.line()?; // ready
    measure(&mut c, &mut rust)?;
    rust.worker.finish(LIMIT)?;
    c.finish()?;
    server.wait()?;
    Ok(())
}

fn measure(c: &mut CWorker, rust: &mut RustWorker) -> Result<(), Failure> {
    let mut turns: [Vec<f64>; 8] = Default::default();
    for _ in 0..ROUNDS {
        turns[0].push(rust.push_one()?);
        turns[1].push(c.turn("push_one", SMALL_PUSHES, 1)?);
        turns[2].push(rust.push()?);
        turns[3].push(c.turn("push", SMALL_PUSHES, 1)?);
        turns[4].push(c.turn("copied", LARGE_PUSHES, MIB / 4)?);
        turns[5].push(c.turn("lent", LARGE_PUSHES, MIB / 4)?);
        turns[6].push(c.turn("copied", LARGE_PUSHES, MIB)?);
        turns[7].push(c.turn("lent", LARGE_PUSHES, MIB)?);
    }
    let [rust_one, c_one, rust_push, c_push, copied_1, lent_1, copied_4, lent_4] = turns.map(median);
    println!("8-byte push and wait over shm, medians of {ROUNDS} turns of {SMALL_PUSHES}:");
    println!("  push_one   Rust {rust_one:7.0} ns   C {c_one:7.0} ns   {:.2} x", c_one / rust_one);
    println!("  push       Rust {rust_push:7.0} ns   C {c_push:7.0} ns   {:.2} x", c_push / rust_push);
    println!("large pushes from C, 4 under way, medians of {ROUNDS} turns of {LARGE_PUSHES}:");
    for (mib, copied, lent) in [(1, copied_1, lent_1), (4, copied_4, lent_4)] {
        let bytes = (mib * MIB) as f64;
        println!("  {mib} MiB   any memory {:6.2} GB/s   lent {:6.2} GB/s", bytes / copied, bytes / lent);
    }
    Ok(())
}

fn median(mut turns: Vec<f64>) -> f64 {
    turns.sort_by(f64::total_cmp);
    turns[turns.len() / 2]
}

fn membership(address: &Address) -> Membership {
    let door = Door::named("keyrange", []);
    Membership { manager: address.clone(), door, rank: None, join_deadline: LIMIT }
}

fn serve(address: &str) -> Result<(), Failure> {
    let config = ServerConfig {
        membership: membership(&address.parse()?),
        shards: 1,
        listen: vec!["tcp:127.0.0.1:0".parse()?],
        carrier: CarrierWish::Shm,
        verbs: Default::default(),
        cores: vec![SERVER_CORE],
        functions: Arc::new(Registry::with_builtins()),
    };
    run_server(config)?;
    Ok(())
}

/// The worker in Rust, on the calling thread.
struct RustWorker {
    worker: Worker,
    table: TableHandle,
}

impl RustWorker {
    fn connect(address: &Address) -> Result<RustWorker, Failure> {
        let (membership, carrier) = (membership(address), CarrierWish::Shm);
        let (verbs, mending) = (Default::default(), Mending::default());
        let mut worker =
            connect_worker(&WorkerConfig { membership, carrier, verbs, core: Some(WORKER_CORE), mending })?;
        // As kr_table_spec_init() has it.
        let table = worker.create_table(
            &TableSpec {
                id: 0,
                name: "table 0".to_owned(),
                value_type: ValueType::F64,
                width: 1,
                store: StoreKind::Sparse,
                function: FunctionSpec::named("add"),
                aggregation: Aggregation::Immediate,
            },
            LIMIT,
        )?;
        Ok(RustWorker { worker, table })
    }

    fn push_one(&mut self) -> Result<f64, Failure> {
        let from = Instant::now();
        for _ in 0..SMALL_PUSHES {
            let task = self.worker.push_one(self.table, 5, &[1f64], LIMIT)?;
            self.worker.wait(task, LIMIT)?;
        }
        Ok(from.elapsed().as_nanos() as f64 / SMALL_PUSHES as f64)
    }

    fn push(&mut self) -> Result<f64, Failure> {
        let (row, from) = (1f64, Instant::now());
        for _ in 0..SMALL_PUSHES {
            // SAFETY: the row stays as it is until the wait below has returned.
            let array = unsafe { Borrowed::new(&raw const row, 1) };
            let keys = Keys::Range(KeyRange::one(5));
            let task = self.worker.push(self.table, keys, vec![array], Options::default())?;
            self.worker.wait(task, LIMIT)?;
        }
        Ok(from.elapsed().as_nanos() as f64 / SMALL_PUSHES as f64)
    }
}

/// The worker in C, a process.
struct CWorker {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl CWorker {
    /// Installs the library, compiles the driver against it, and starts it.
    fn start(address: &Address) -> Result<CWorker, Failure> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("from_c");
        let program = place.join("from_c");
        let built = std::env::current_exe()?;
        let built = built.parent().ok_or("this program lies in no folder")?;
        let mut install = Command::new("sh");
        install.arg(here.join("install.sh")).arg("--from").arg(built).arg("--prefix").arg(&place);
        let mut compile = Command::new("cc");
        compile.args(["-O2", "-std=c99", "-Wall", "-Wextra"]).arg(here.join("benches/from_c.c"));
        compile.arg("-I").arg(place.join("include")).arg("-L").arg(place.join("lib")).arg("-lkeyrange");
        compile.arg(format!("-Wl,-rpath,{}", place.join("lib").display())).arg("-o").arg(&program);
        for command in [&mut install, &mut compile] {
            if !command.stdout(Stdio::null()).status()?.success() {
                return Err(format!("{command:?} failed").into());
            }
        }
        let mut process = Command::new(program)
            .args([address.to_string(), WORKER_CORE.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = BufReader::new(process.stdout.take().ok_or("no output to read")?);
        Ok(CWorker { process, said })
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Nanoseconds per push of one turn.
    fn turn(&mut self, kind: &str, pushes: usize, values: usize) -> Result<f64, Failure> {
        writeln!(self.process.stdin.as_mut().ok_or("no input to write to")?, "{kind} {pushes} {values}")?;
        Ok(self.line()?.parse()?)
    }

    fn finish(mut self) -> Result<(), Failure> {
        drop(self.process.stdin.take());
        let end = self.process.wait()?;
        if end.success() { Ok(()) } else { Err(format!("the C worker ended with {end}").into()) }
    }
}
