//! A peer that speaks verbs as it likes: it meets a real link by the bytes that `verbs::exchange` draws, and then WRITEs what and
//! where it wants. It shares nothing with the carrier but the declarations of `verbs.h`.

#[path = "../../src/verbs/ffi.rs"]
#[allow(dead_code, reason = "the carrier's declarations, of which this needs a part")]
mod ffi;

use std::ffi::{CStr, c_int, c_uint};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use keyrange_transport::verbs::sysfs;

use crate::rdma;

pub use ffi::number::WC_SUCCESS;
use ffi::{function as f, number as n};

/// `enum ibv_wc_status`: the memory named is not what the key is for.
pub const WC_REM_ACCESS_ERR: c_uint = 10;
/// Bytes of the ring this peer offers.
pub const RING_BYTES: usize = 1 << 16;
const PAGE_BYTES: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(20);
const MESSAGE_BYTES: usize = 72;
/// `enum ibv_qp_state`: a queue pair that does nothing any more.
const STATE_ERROR: c_uint = 6;

/// Memory of the victim's that it told this peer of.
#[derive(Debug, Clone, Copy)]
pub struct Remote {
    pub address: u64,
    pub key: u32,
    pub bytes: u64,
}

/// Ring (both views of it) and mailbox of the victim.
#[derive(Debug, Clone, Copy)]
pub struct Victim {
    pub ring: Remote,
    pub mailbox: Remote,
    queue_pair: u32,
    first_packet: u32,
    gid: [u8; 16],
}

/// The library's calls, each looked up where it is made.
struct Library(libloading::Library);

impl Library {
    /// A function by its name and its type as declared in `ffi::function`.
    fn get<T: Copy>(&self, name: &str) -> T {
        // SAFETY: callers name the type that `ffi::function` declares for the symbol; the library stays loaded while `self` lives,
        // which is as long as this peer.
        *unsafe { self.0.get::<T>(name.as_bytes()) }.unwrap()
    }
}

/// A hostile queue pair, connected to a link of this or another process.
pub struct RawPeer {
    library: Library,
    context: *mut ffi::Context,
    qp: *mut ffi::Qp,
    cq: *mut ffi::Cq,
    /// What it offers the victim to write to, and from where it writes itself: ring, ring's mirror, mailbox, scratch.
    memory: Box<[u8]>,
    mr: *mut ffi::Mr,
    posted: u64,
    pub victim: Victim,
    /// Kept open: its hang-up would tell the victim.
    pub socket: UnixStream,
}

impl RawPeer {
    /// Meets the link at the other end of `socket`.
    pub fn meet(mut socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // SAFETY: as for the carrier's own loading.
        let library = Library(unsafe { libloading::Library::new("libibverbs.so.1") }.unwrap());
        let context = open(&library, rdma::device().name());
        let gid = gid();
        let memory = vec![0u8; 2 * RING_BYTES + 2 * PAGE_BYTES].into_boxed_slice();
        let (pd, cq, mr, qp);
        // SAFETY: each object is made on those made before, which live until the process ends; the device writes into `memory`, which
        // lives as long as this peer and which nobody reads.
        unsafe {
            pd = library.get::<f::AllocPd>("ibv_alloc_pd")(context);
            cq =
                library.get::<f::CreateCq>("ibv_create_cq")(context, 64, ptr::null_mut(), ptr::null_mut(), 0);
            let access = (n::ACCESS_LOCAL_WRITE | n::ACCESS_REMOTE_WRITE) as c_int;
            mr = library.get::<f::RegMr>("ibv_reg_mr")(pd, memory.as_ptr() as *mut _, memory.len(), access);
            qp = library.get::<f::CreateQp>("ibv_create_qp")(pd, &mut queue_pair_wish(cq));
        }
        assert!(!pd.is_null() && !cq.is_null() && !mr.is_null() && !qp.is_null());
        // SAFETY: just made.
        let (number, key) = unsafe { ((*qp).qp_num, (*mr).rkey) };
        let own = own_address(number, key, memory.as_ptr() as u64, gid.address.octets());
        socket.write_all(&own).unwrap();
        let mut theirs = [0; MESSAGE_BYTES];
        socket.read_exact(&mut theirs).unwrap();
        let victim = victim(&theirs);
        let mut this = Self { library, context, qp, cq, memory, mr, posted: 0, victim, socket };
        this.connect(gid.index);
        // "Ready", both ways.
        let mut ready = [0; MESSAGE_BYTES];
        ready[..7].copy_from_slice(b"KRVB\x01\0\x02");
        this.socket.write_all(&ready).unwrap();
        this.socket.read_exact(&mut theirs).unwrap();
        this
    }

    fn connect(&mut self, gid_index: u8) {
        let init = ffi::QpAttr {
            qp_state: 1,
            qp_access_flags: n::ACCESS_REMOTE_WRITE,
            port_num: 1,
            ..Default::default()
        };
        self.modify(init, n::QP_STATE | n::QP_PKEY_INDEX | n::QP_PORT | n::QP_ACCESS_FLAGS);
        let mut route = ffi::AhAttr { is_global: 1, port_num: 1, ..Default::default() };
        (route.grh.dgid, route.grh.sgid_index, route.grh.hop_limit) = (self.victim.gid, gid_index, 64);
        let receive = ffi::QpAttr {
            qp_state: 2,
            path_mtu: 3,
            dest_qp_num: self.victim.queue_pair,
            rq_psn: self.victim.first_packet,
            max_dest_rd_atomic: 1,
            min_rnr_timer: 12,
            ah_attr: route,
            ..Default::default()
        };
        let told = n::QP_AV | n::QP_PATH_MTU | n::QP_DEST_QPN | n::QP_RQ_PSN | n::QP_MAX_DEST_RD_ATOMIC;
        self.modify(receive, n::QP_STATE | told | n::QP_MIN_RNR_TIMER);
        let send = ffi::QpAttr {
            qp_state: 3,
            timeout: 14,
            retry_cnt: 6,
            rnr_retry: 7,
            max_rd_atomic: 1,
            ..Default::default()
        };
        let told = n::QP_TIMEOUT | n::QP_RETRY_CNT | n::QP_RNR_RETRY | n::QP_SQ_PSN | n::QP_MAX_QP_RD_ATOMIC;
        self.modify(send, n::QP_STATE | told);
    }

    fn modify(&mut self, mut attributes: ffi::QpAttr, told: c_uint) {
        let modify: f::ModifyQp = self.library.get("ibv_modify_qp");
        // SAFETY: the queue pair is alive; the call reads the attributes that the mask names.
        assert_eq!(unsafe { modify(self.qp, &mut attributes, told as c_int) }, 0, "ibv_modify_qp");
    }

    /// WRITEs `bytes` to `address` under `key`, with an immediate if there is one, and returns what became of it: a completion's status.
    pub fn write(&mut self, address: u64, key: u32, bytes: &[u8], immediate: Option<u32>) -> c_uint {
        let scratch = 2 * RING_BYTES + PAGE_BYTES;
        assert!(bytes.len() <= PAGE_BYTES);
        self.memory[scratch..scratch + bytes.len()].copy_from_slice(bytes);
        let addr = self.memory[scratch..].as_ptr() as u64;
        // SAFETY: registered by `meet`.
        let mut piece = ffi::Sge { addr, length: bytes.len() as u32, lkey: unsafe { (*self.mr).lkey } };
        let mut request = ffi::SendWr::empty();
        self.posted += 1;
        (request.wr_id, request.send_flags) = (self.posted, n::SEND_SIGNALED);
        (request.remote_addr, request.rkey) = (address, key);
        if !bytes.is_empty() {
            (request.sg_list, request.num_sge) = (&mut piece, 1);
        }
        if let Some(immediate) = immediate {
            (request.opcode, request.imm_data) = (n::WR_RDMA_WRITE_WITH_IMM, immediate.to_be());
        }
        // SAFETY: the provider filled the table of its context; the request and its piece are alive during the call, the registered
        // bytes until `await_completion` has seen the end of the request.
        let posted = unsafe {
            let post = (*(*self.qp).context).ops.post_send.unwrap();
            post(self.qp, &mut request, &mut ptr::null_mut())
        };
        assert_eq!(posted, 0, "ibv_post_send");
        self.await_completion()
    }

    /// An empty WRITE with this immediate.
    pub fn signal(&mut self, immediate: u32) -> c_uint {
        self.write(self.victim.mailbox.address, self.victim.mailbox.key, &[], Some(immediate))
    }

    fn await_completion(&mut self) -> c_uint {
        let deadline = Instant::now() + PATIENCE;
        let mut done = ffi::Wc::default();
        loop {
            // SAFETY: the queue is alive and `done` has room for the one completion asked for.
            let count = unsafe { (*(*self.cq).context).ops.poll_cq.unwrap()(self.cq, 1, &mut done) };
            assert!(count >= 0 && Instant::now() < deadline, "no completion within {PATIENCE:?}");
            // Completions of receives are impossible: none is posted.
            if count == 1 && done.wr_id == self.posted {
                return done.status;
            }
            std::thread::yield_now();
        }
    }

    /// Moves the queue pair to the error state, as a failing device does.
    pub fn fail(&mut self) {
        self.modify(ffi::QpAttr { qp_state: STATE_ERROR, ..Default::default() }, n::QP_STATE);
    }
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        // SAFETY: made by `meet`, ended once, the queue pair first, then the memory it reads and is written through. Queue and domain
        // are left to the end of the context, which frees them in the kernel.
        unsafe {
            self.library.get::<f::DestroyQp>("ibv_destroy_qp")(self.qp);
            self.library.get::<f::DeregMr>("ibv_dereg_mr")(self.mr);
            self.library.get::<f::CloseDevice>("ibv_close_device")(self.context);
        }
    }
}

fn open(library: &Library, name: &str) -> *mut ffi::Context {
    let mut count = 0;
    // SAFETY: the list has `count` devices and lives until it is freed; an open context keeps its own device.
    unsafe {
        let list = library.get::<f::GetDeviceList>("ibv_get_device_list")(&mut count);
        let name_of: f::GetDeviceName = library.get("ibv_get_device_name");
        let mut devices = (0..count as usize).map(|i| *list.add(i));
        let device = devices.find(|&device| CStr::from_ptr(name_of(device)).to_str() == Ok(name)).unwrap();
        let context = library.get::<f::OpenDevice>("ibv_open_device")(device);
        library.get::<f::FreeDeviceList>("ibv_free_device_list")(list);
        assert!(!context.is_null());
        context
    }
}

/// The address of IPv4, which the carrier prefers too. (Asked for once: a table of a thousand takes its time.)
fn gid() -> sysfs::Gid {
    static GID: OnceLock<sysfs::Gid> = OnceLock::new();
    *GID.get_or_init(|| {
        let ports = sysfs::ports();
        let port = ports.iter().find(|port| port.device == rdma::device().name()).unwrap();
        *port.gids.iter().find(|gid| gid.address.to_ipv4_mapped().is_some()).unwrap()
    })
}

fn queue_pair_wish(cq: *mut ffi::Cq) -> ffi::QpInitAttr {
    ffi::QpInitAttr {
        qp_context: ptr::null_mut(),
        send_cq: cq,
        recv_cq: cq,
        srq: ptr::null_mut(),
        cap: ffi::QpCap {
            max_send_wr: 16,
            max_recv_wr: 1,
            max_send_sge: 1,
            max_recv_sge: 1,
            max_inline_data: 0,
        },
        qp_type: n::QPT_RC,
        sq_sig_all: 0,
    }
}

/// This peer's address, as `verbs::exchange` draws it.
fn own_address(queue_pair: u32, key: u32, memory: u64, gid: [u8; 16]) -> [u8; MESSAGE_BYTES] {
    let mut wire = [0; MESSAGE_BYTES];
    let mut put = |at: usize, bytes: &[u8]| wire[at..at + bytes.len()].copy_from_slice(bytes);
    // Magic, version 1, kind "address", Ethernet, an MTU of 1024.
    put(0, b"KRVB\x01\0\x01\x02\x03");
    put(12, &queue_pair.to_le_bytes());
    put(16, &gid);
    put(36, &key.to_le_bytes());
    put(40, &memory.to_le_bytes());
    put(48, &(RING_BYTES as u64).to_le_bytes());
    put(56, &(memory + 2 * RING_BYTES as u64).to_le_bytes());
    put(64, &key.to_le_bytes());
    wire
}

fn victim(wire: &[u8; MESSAGE_BYTES]) -> Victim {
    assert_eq!(&wire[..7], b"KRVB\x01\0\x01", "an address");
    let word = |at: usize| u32::from_le_bytes(wire[at..at + 4].try_into().unwrap());
    let double = |at: usize| u64::from_le_bytes(wire[at..at + 8].try_into().unwrap());
    Victim {
        ring: Remote { address: double(40), key: word(36), bytes: 2 * double(48) },
        mailbox: Remote { address: double(56), key: word(64), bytes: PAGE_BYTES as u64 },
        queue_pair: word(12),
        first_packet: word(32),
        gid: wire[16..32].try_into().unwrap(),
    }
}
