//! Jobs: a whole cluster in this process, or a manager, servers and workers in several.

use std::ffi::c_char;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::client::Worker;
use engine::cluster::Embedded;
use engine::manager::{Address, Door, Event, JobEnd, JobPlan, Manager, ManagerConfig};
use engine::node::carrier::CarrierWish;
use engine::node::{Membership, ServerConfig, run_server};
use engine::update::Registry;

use crate::function::kr_functions;
use crate::handle::{Handle, Kind, place, sized, slice, text};
use crate::status::{Fault, guard, kr_status};
use crate::worker::{kr_worker, millis};

/// The size of a job. Start from kr_job_init(), or from zeros: but for `servers` and `workers`, 0 stands for the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kr_job {
    /// sizeof(kr_job).
    pub size: usize,
    /// Servers, at least 1. In a cluster of this process each is one thread.
    pub servers: u32,
    /// Workers, at least 1.
    pub workers: u32,
    /// The keys from `first_key` to `last_key` are split evenly over the server threads; keys outside belong to the outermost ones.
    /// 0 and 0: all keys.
    pub first_key: u64,
    /// The last of them, included.
    pub last_key: u64,
    /// Receive ring of each link, a power of two from 4096; a frame is at most a quarter of it. Default 1 MiB.
    pub ring_bytes: u32,
    /// Requests under way for each worker and server thread, at most; a power of two from 64. Default 16384.
    pub window_requests: u32,
    /// Every node must have joined so long after the start. Default 20 s.
    pub join_ms: u32,
}

impl kr_job {
    fn plan(self) -> Result<JobPlan, Fault> {
        let default = JobPlan::new(self.servers, self.workers);
        let or = |given: u32, default: u32| if given == 0 { default } else { given };
        let plan = JobPlan {
            keys: if self.last_key == 0 { default.keys } else { (self.first_key, self.last_key) },
            ring_bytes: or(self.ring_bytes, default.ring_bytes),
            window_requests: or(self.window_requests, default.window_requests),
            join_deadline: if self.join_ms == 0 { default.join_deadline } else { millis(self.join_ms) },
            ..default
        };
        plan.check().map_err(|error| Fault::invalid(error.to_string()))?;
        Ok(plan)
    }
}

/// Fills `job` with the defaults for so many servers and workers.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_job_init(job: *mut kr_job, servers: u32, workers: u32) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let job = unsafe { place("kr_job", job)? };
        *job = kr_job {
            size: size_of::<kr_job>(),
            servers,
            workers,
            first_key: 0,
            last_key: u64::MAX,
            ring_bytes: 0,
            window_requests: 0,
            join_ms: 0,
        };
        Ok(kr_status::KR_OK)
    })
}

/// A whole job in this process: its servers are threads, its workers are yours to use, each from a thread of your choice. Any number of
/// clusters can be in one process. Any thread may take a worker from it or abort it; join it when no other thread uses it.
pub struct kr_cluster {
    _opaque: (),
}

struct Cluster {
    embedded: Mutex<Embedded>,
    workers: Mutex<Vec<Option<Worker>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kind for Cluster {
    const NAME: &'static str = "kr_cluster";
    const MAGIC: u64 = 0x6b72_636c_7573_0001;
}

/// Starts a job in this process, with server functions of yours besides the built-in ones (`functions` may be NULL).
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_cluster_start(
    job: *const kr_job,
    functions: *mut kr_functions,
    cluster: *mut *mut kr_cluster,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (job, functions, cluster) = unsafe {
            (sized("kr_job", job)?, kr_functions::registry(functions)?, place("cluster", cluster)?)
        };
        let mut embedded = Embedded::start(&job.plan()?, &functions)?;
        let workers = embedded.take_workers().into_iter().map(Some).collect();
        let (embedded, workers) = (Mutex::new(embedded), Mutex::new(workers));
        *cluster = Handle::into_raw(Cluster { embedded, workers }).cast();
        Ok(kr_status::KR_OK)
    })
}

/// Hands out the worker of this rank, once. It ends with kr_worker_finish() or kr_worker_fail(), before kr_cluster_join().
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_cluster_worker(
    cluster: *mut kr_cluster,
    rank: u32,
    worker: *mut *mut kr_worker,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (cluster, worker) =
            unsafe { (Handle::share(cluster.cast::<Handle<Cluster>>())?, place("worker", worker)?) };
        let mut workers = lock(&cluster.workers);
        let count = workers.len();
        let slot = workers.get_mut(rank as usize);
        let slot =
            slot.ok_or_else(|| Fault::invalid(format!("rank: expected 0 to {}, got {rank}", count - 1)))?;
        let taken =
            slot.take().ok_or_else(|| Fault::invalid(format!("worker {rank} was handed out before")))?;
        *worker = crate::worker::wrap(taken);
        Ok(kr_status::KR_OK)
    })
}

/// Ends the job; every worker hears `reason` at its next call.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_cluster_abort(cluster: *mut kr_cluster, reason: *const c_char) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (cluster, reason) =
            unsafe { (Handle::share(cluster.cast::<Handle<Cluster>>())?, text("reason", reason)?) };
        lock(&cluster.embedded).abort(reason);
        Ok(kr_status::KR_OK)
    })
}

/// Waits until every worker has finished or the job was aborted, ends the server threads, and frees the cluster. Workers that were
/// not handed out count as having left, which aborts the job. KR_ENDED, with the reason, when the job did not end well.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_cluster_join(cluster: *mut kr_cluster) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let Cluster { embedded, workers } = unsafe { Handle::take(cluster.cast::<Handle<Cluster>>())? };
        drop(workers);
        ended(&embedded.into_inner().unwrap_or_else(PoisonError::into_inner).join())
    })
}

fn ended(end: &JobEnd) -> Result<kr_status, Fault> {
    match end {
        JobEnd::Finished => Ok(kr_status::KR_OK),
        JobEnd::Aborted { reason, .. } => Err(Fault { status: kr_status::KR_ENDED, text: reason.clone() }),
    }
}

/// How a process finds its job. Start from kr_member_init().
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kr_member {
    /// sizeof(kr_member).
    pub size: usize,
    /// Where the manager listens: "tcp:HOST:PORT" or "unix:NAME".
    pub manager: *const c_char,
    /// Name of the job, the same on all its nodes. NULL is "keyrange".
    pub job: *const c_char,
    /// The job's secret, the same on all its nodes; needed beyond loopback.
    pub secret: *const u8,
    /// Its length.
    pub secret_bytes: usize,
    /// How frames travel: "auto", "shm" or "tcp". NULL is "auto".
    pub carrier: *const c_char,
    /// How long to look for the manager and to wait for the other nodes. 0 is 20 s.
    pub join_ms: u32,
    /// The rank to have, or KR_ANY_RANK.
    pub rank: u32,
}

/// Fills `member` with the defaults for a manager that listens at `manager`; the string is not copied.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_member_init(member: *mut kr_member, manager: *const c_char) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let member = unsafe { place("kr_member", member)? };
        *member = kr_member {
            size: size_of::<kr_member>(),
            manager,
            job: std::ptr::null(),
            secret: std::ptr::null(),
            secret_bytes: 0,
            carrier: std::ptr::null(),
            join_ms: 0,
            rank: KR_ANY_RANK,
        };
        Ok(kr_status::KR_OK)
    })
}

/// The lowest free rank.
pub const KR_ANY_RANK: u32 = u32::MAX;

/// # Safety
/// `name` is NULL or a string; `secret` points to `secret_bytes` bytes.
unsafe fn door(name: *const c_char, secret: *const u8, secret_bytes: usize) -> Result<Door, Fault> {
    // SAFETY: the caller's promise.
    let name = if name.is_null() { "keyrange" } else { unsafe { text("job", name)? } };
    // SAFETY: the same.
    Ok(Door::named(name, unsafe { slice("secret", secret, secret_bytes)? }))
}

fn address(what: &str, text: &str) -> Result<Address, Fault> {
    text.parse().map_err(|error| Fault::invalid(format!("{what}: {error}")))
}

impl kr_member {
    /// # Safety
    /// Its pointers are NULL or point to what they say.
    pub unsafe fn membership(&self) -> Result<Membership, Fault> {
        // SAFETY: the caller's promise.
        let (manager, door) =
            unsafe { (text("manager", self.manager)?, door(self.job, self.secret, self.secret_bytes)?) };
        let join_deadline = if self.join_ms == 0 { Duration::from_secs(20) } else { millis(self.join_ms) };
        let rank = (self.rank != KR_ANY_RANK).then_some(self.rank);
        Ok(Membership { manager: address("manager", manager)?, door, rank, join_deadline })
    }

    /// # Safety
    /// Its pointers are NULL or point to what they say.
    pub unsafe fn carrier(&self) -> Result<CarrierWish, Fault> {
        if self.carrier.is_null() {
            return Ok(CarrierWish::Auto);
        }
        // SAFETY: the caller's promise.
        let carrier = unsafe { text("carrier", self.carrier)? };
        carrier.parse().map_err(|error| Fault::invalid(format!("carrier: {error}")))
    }
}

/// The manager of a job whose nodes are other processes.
pub struct kr_manager {
    _opaque: (),
}

struct RunningManager(Manager);

impl Kind for RunningManager {
    const NAME: &'static str = "kr_manager";
    const MAGIC: u64 = 0x6b72_6d61_6e61_0001;
}

/// Starts a manager that listens at `listen` ("tcp:HOST:PORT", port 0 for any, or "unix:NAME"). `job_name` may be NULL, and so may
/// `secret` on one host.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_manager_start(
    job: *const kr_job,
    listen: *const c_char,
    job_name: *const c_char,
    secret: *const u8,
    secret_bytes: usize,
    manager: *mut *mut kr_manager,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (job, listen, manager) =
            unsafe { (sized("kr_job", job)?, text("listen", listen)?, place("manager", manager)?) };
        // SAFETY: the same.
        let door = unsafe { door(job_name, secret, secret_bytes)? };
        let config = ManagerConfig { listen: vec![address("listen", listen)?], door, plan: job.plan()? };
        let started = Manager::start(config).map_err(Fault::node)?;
        *manager = Handle::into_raw(RunningManager(started)).cast();
        Ok(kr_status::KR_OK)
    })
}

/// Writes where the manager can be reached (with the port that was found) to `address`, zero-terminated. KR_INVALID if `address_bytes` is
/// too small.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_manager_address(
    manager: *mut kr_manager,
    address: *mut c_char,
    address_bytes: usize,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let manager = unsafe { Handle::enter(manager.cast::<Handle<RunningManager>>())? };
        let text = manager.0.addresses().first().map(Address::to_string).unwrap_or_default();
        if address.is_null() || text.len() >= address_bytes {
            let expected = text.len() + 1;
            return Err(Fault::invalid(format!(
                "address: expected room for {expected} bytes, got {address_bytes}"
            )));
        }
        // SAFETY: the caller's promise, and the text with its end fits.
        unsafe {
            address.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len());
            *address.add(text.len()) = 0;
        }
        Ok(kr_status::KR_OK)
    })
}

/// Waits for the job's end, at most `timeout_ms` (KR_TIMED_OUT: call again). KR_OK when every worker finished; KR_ENDED, with the reason,
/// when the job was aborted.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_manager_wait(manager: *mut kr_manager, timeout_ms: u32) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let manager = unsafe { Handle::enter(manager.cast::<Handle<RunningManager>>())? };
        let until = Instant::now() + millis(timeout_ms);
        loop {
            match manager.0.events().recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended(end)) => return ended(&end),
                Ok(_) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    let text = format!("the job has not ended within {timeout_ms} ms");
                    return Err(Fault { status: kr_status::KR_TIMED_OUT, text });
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    let text = "the job's end was told before, or its manager panicked".to_owned();
                    return Err(Fault { status: kr_status::KR_ENDED, text });
                }
            }
        }
    })
}

/// Frees a manager; a job that still runs is aborted. NULL is fine.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_manager_free(manager: *mut kr_manager) -> kr_status {
    guard(|| {
        if !manager.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { Handle::take(manager.cast::<Handle<RunningManager>>())? });
        }
        Ok(kr_status::KR_OK)
    })
}

/// Runs a server with `threads` server threads until the job's end, on the calling thread and threads of its own. `listen` says where
/// workers of other hosts reach it ("tcp:HOST:0" for any port); NULL is loopback. `functions` may be NULL.
/// KR_OK when the job finished; KR_ENDED, with the reason, when it was aborted.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_server_run(
    member: *const kr_member,
    threads: u32,
    listen: *const c_char,
    functions: *mut kr_functions,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (member, functions): (kr_member, Arc<Registry>) =
            unsafe { (sized("kr_member", member)?, kr_functions::registry(functions)?) };
        // SAFETY: the same.
        let listen = if listen.is_null() { "127.0.0.1:0" } else { unsafe { text("listen", listen)? } };
        // SAFETY: the same.
        let (membership, carrier) = unsafe { (member.membership()?, member.carrier()?) };
        let config = ServerConfig {
            membership,
            shards: threads,
            listen: vec![address("listen", listen)?],
            carrier,
            verbs: Default::default(),
            cores: Vec::new(),
            functions,
        };
        run_server(config)?;
        Ok(kr_status::KR_OK)
    })
}
