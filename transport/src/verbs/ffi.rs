//! libibverbs as it lies in memory: the part of `infiniband/verbs.h` that this carrier uses.
//!
//! The sizes and offsets asserted below were printed by a C program compiled against libibverbs-dev 44.0 on x86-64, and
//! `ci/rdma.sh` makes C assertions of them and compiles these against the real header each time. The structures are part of
//! libibverbs.so.1's binary interface: none but those behind a context's end has changed in years.
//!
//! Post, poll and arm are inline functions in C: they call through the table of operations in the context.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem::offset_of;

/// A device in the list; opaque.
#[repr(C)]
pub struct Device {
    _opaque: [u8; 0],
}

/// An open device: only the beginning is declared, and only the library makes one.
#[repr(C)]
pub struct Context {
    device: *mut Device,
    pub ops: ContextOps,
    pub cmd_fd: c_int,
    pub async_fd: c_int,
    num_comp_vectors: c_int,
}

/// The operations the provider fills in; the others are of no use here.
#[repr(C)]
pub struct ContextOps {
    _before_poll: [*const c_void; 11],
    pub poll_cq: Option<unsafe extern "C" fn(*mut Cq, c_int, *mut Wc) -> c_int>,
    pub req_notify_cq: Option<unsafe extern "C" fn(*mut Cq, c_int) -> c_int>,
    _between: [*const c_void; 12],
    pub post_send: Option<unsafe extern "C" fn(*mut Qp, *mut SendWr, *mut *mut SendWr) -> c_int>,
    pub post_recv: Option<unsafe extern "C" fn(*mut Qp, *mut RecvWr, *mut *mut RecvWr) -> c_int>,
    _after: [*const c_void; 5],
}

/// A protection domain.
#[repr(C)]
pub struct Pd {
    context: *mut Context,
    handle: u32,
}

/// A registered range of memory.
#[repr(C)]
pub struct Mr {
    context: *mut Context,
    pd: *mut Pd,
    addr: *mut c_void,
    length: usize,
    handle: u32,
    pub lkey: u32,
    pub rkey: u32,
}

/// What happened to a device beside its completions.
#[repr(C)]
#[derive(Debug)]
pub struct AsyncEvent {
    /// A union: the address of a queue pair or completion queue, or a port's number in the first four bytes.
    pub element: u64,
    pub event_type: c_uint,
    pub _padding: u32,
}

/// A completion channel: a descriptor to sleep on.
#[repr(C)]
pub struct CompChannel {
    context: *mut Context,
    pub fd: c_int,
    refcnt: c_int,
}

/// A completion queue: only the beginning is declared.
#[repr(C)]
pub struct Cq {
    pub context: *mut Context,
    channel: *mut CompChannel,
}

/// A queue pair: only the beginning is declared.
#[repr(C)]
pub struct Qp {
    pub context: *mut Context,
    qp_context: *mut c_void,
    pd: *mut Pd,
    send_cq: *mut Cq,
    recv_cq: *mut Cq,
    srq: *mut c_void,
    handle: u32,
    pub qp_num: u32,
}

/// A work completion.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Wc {
    pub wr_id: u64,
    pub status: c_uint,
    pub opcode: c_uint,
    pub vendor_err: u32,
    pub byte_len: u32,
    /// In network byte order.
    pub imm_data: u32,
    pub qp_num: u32,
    pub src_qp: u32,
    pub wc_flags: c_uint,
    pub pkey_index: u16,
    pub slid: u16,
    pub sl: u8,
    pub dlid_path_bits: u8,
}

/// A piece of local memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Sge {
    pub addr: u64,
    pub length: u32,
    pub lkey: u32,
}

/// A send request. Of its unions only the RDMA members are declared.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SendWr {
    pub wr_id: u64,
    pub next: *mut SendWr,
    pub sg_list: *mut Sge,
    pub num_sge: c_int,
    pub opcode: c_uint,
    pub send_flags: c_uint,
    /// In network byte order.
    pub imm_data: u32,
    pub remote_addr: u64,
    pub rkey: u32,
    _rest_of_wr: [u32; 5],
    _qp_type: u64,
    _bind_or_tso: [u64; 6],
}

/// A receive request.
#[repr(C)]
#[derive(Debug)]
pub struct RecvWr {
    pub wr_id: u64,
    pub next: *mut RecvWr,
    pub sg_list: *mut Sge,
    pub num_sge: c_int,
}

/// What a queue pair can hold.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct QpCap {
    pub max_send_wr: u32,
    pub max_recv_wr: u32,
    pub max_send_sge: u32,
    pub max_recv_sge: u32,
    pub max_inline_data: u32,
}

/// How to make a queue pair.
#[repr(C)]
#[derive(Debug)]
pub struct QpInitAttr {
    pub qp_context: *mut c_void,
    pub send_cq: *mut Cq,
    pub recv_cq: *mut Cq,
    pub srq: *mut c_void,
    pub cap: QpCap,
    pub qp_type: c_uint,
    pub sq_sig_all: c_int,
}

/// A route beyond the local subnet (always present on Ethernet).
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, Default)]
pub struct GlobalRoute {
    pub dgid: [u8; 16],
    pub flow_label: u32,
    pub sgid_index: u8,
    pub hop_limit: u8,
    pub traffic_class: u8,
}

/// Where packets go.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct AhAttr {
    pub grh: GlobalRoute,
    pub dlid: u16,
    pub sl: u8,
    pub src_path_bits: u8,
    pub static_rate: u8,
    pub is_global: u8,
    pub port_num: u8,
}

/// What a queue pair is told at a transition.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct QpAttr {
    pub qp_state: c_uint,
    pub cur_qp_state: c_uint,
    pub path_mtu: c_uint,
    pub path_mig_state: c_uint,
    pub qkey: u32,
    pub rq_psn: u32,
    pub sq_psn: u32,
    pub dest_qp_num: u32,
    pub qp_access_flags: c_uint,
    pub cap: QpCap,
    pub ah_attr: AhAttr,
    pub alt_ah_attr: AhAttr,
    pub pkey_index: u16,
    pub alt_pkey_index: u16,
    pub en_sqd_async_notify: u8,
    pub sq_draining: u8,
    pub max_rd_atomic: u8,
    pub max_dest_rd_atomic: u8,
    pub min_rnr_timer: u8,
    pub port_num: u8,
    pub timeout: u8,
    pub retry_cnt: u8,
    pub rnr_retry: u8,
    pub alt_port_num: u8,
    pub alt_timeout: u8,
    pub rate_limit: u32,
}

/// What a port is. The exported `ibv_query_port` fills it up to `phys_state`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PortAttr {
    pub state: c_uint,
    pub max_mtu: c_uint,
    pub active_mtu: c_uint,
    pub gid_tbl_len: c_int,
    port_cap_flags: u32,
    pub max_msg_sz: u32,
    bad_pkey_cntr: u32,
    qkey_viol_cntr: u32,
    pkey_tbl_len: u16,
    pub lid: u16,
    sm_lid: u16,
    _bytes: [u8; 7],
    pub phys_state: u8,
    _newer: [u8; 6],
}

/// Numbers of `verbs.h`, grouped by the enumeration they come from.
pub mod number {
    use super::c_uint;

    pub const WC_SUCCESS: c_uint = 0;

    pub const WR_RDMA_WRITE: c_uint = 0;
    pub const WR_RDMA_WRITE_WITH_IMM: c_uint = 1;
    pub const SEND_SIGNALED: c_uint = 2;
    pub const SEND_SOLICITED: c_uint = 4;
    pub const SEND_INLINE: c_uint = 8;

    pub const ACCESS_LOCAL_WRITE: c_uint = 1;
    pub const ACCESS_REMOTE_WRITE: c_uint = 2;

    pub const QPT_RC: c_uint = 2;

    pub const QP_STATE: c_uint = 1 << 0;
    pub const QP_ACCESS_FLAGS: c_uint = 1 << 3;
    pub const QP_PKEY_INDEX: c_uint = 1 << 4;
    pub const QP_PORT: c_uint = 1 << 5;
    pub const QP_AV: c_uint = 1 << 7;
    pub const QP_PATH_MTU: c_uint = 1 << 8;
    pub const QP_TIMEOUT: c_uint = 1 << 9;
    pub const QP_RETRY_CNT: c_uint = 1 << 10;
    pub const QP_RNR_RETRY: c_uint = 1 << 11;
    pub const QP_RQ_PSN: c_uint = 1 << 12;
    pub const QP_MAX_QP_RD_ATOMIC: c_uint = 1 << 13;
    pub const QP_MIN_RNR_TIMER: c_uint = 1 << 15;
    pub const QP_SQ_PSN: c_uint = 1 << 16;
    pub const QP_MAX_DEST_RD_ATOMIC: c_uint = 1 << 17;
    pub const QP_DEST_QPN: c_uint = 1 << 20;

    pub const PORT_ACTIVE: c_uint = 4;
}

impl SendWr {
    /// A request with nothing in it: a WRITE of no bytes.
    pub fn empty() -> Self {
        Self {
            wr_id: 0,
            next: std::ptr::null_mut(),
            sg_list: std::ptr::null_mut(),
            num_sge: 0,
            opcode: number::WR_RDMA_WRITE,
            send_flags: 0,
            imm_data: 0,
            remote_addr: 0,
            rkey: 0,
            _rest_of_wr: [0; 5],
            _qp_type: 0,
            _bind_or_tso: [0; 6],
        }
    }
}

/// `offset_of` several fields at once.
macro_rules! offsets {
    ($type:ty: $($field:ident $offset:literal),* $(,)?) => {
        $(#[cfg(target_pointer_width = "64")]
        const _: () = assert!(offset_of!($type, $field) == $offset);)*
    };
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<ContextOps>() == 256);
    assert!(size_of::<Mr>() == 48);
    assert!(size_of::<CompChannel>() == 16);
    assert!(size_of::<AsyncEvent>() == 16);
    assert!(size_of::<Wc>() == 48);
    assert!(size_of::<Sge>() == 16);
    assert!(size_of::<SendWr>() == 128);
    assert!(size_of::<RecvWr>() == 32);
    assert!(size_of::<QpInitAttr>() == 64);
    assert!(size_of::<AhAttr>() == 32);
    assert!(size_of::<QpAttr>() == 144);
    assert!(size_of::<PortAttr>() == 52);
};
offsets!(Context: ops 8, cmd_fd 264, async_fd 268, num_comp_vectors 272);
offsets!(ContextOps: poll_cq 88, req_notify_cq 96, post_send 200, post_recv 208);
offsets!(Mr: lkey 36, rkey 40);
offsets!(CompChannel: fd 8);
offsets!(AsyncEvent: event_type 8);
offsets!(Cq: context 0, channel 8);
offsets!(Qp: context 0, handle 48, qp_num 52);
offsets!(Wc: status 8, opcode 12, vendor_err 16, byte_len 20, imm_data 24, qp_num 28, wc_flags 36);
offsets!(SendWr: next 8, sg_list 16, num_sge 24, opcode 28, send_flags 32, imm_data 36, remote_addr 40, rkey 48);
offsets!(SendWr: _qp_type 72, _bind_or_tso 80);
offsets!(RecvWr: sg_list 16, num_sge 24);
offsets!(QpInitAttr: cap 32, qp_type 52, sq_sig_all 56);
offsets!(AhAttr: dlid 24, is_global 29, port_num 30);
offsets!(QpAttr: path_mtu 8, rq_psn 20, qp_access_flags 32, cap 36, ah_attr 56, alt_ah_attr 88, pkey_index 120);
offsets!(QpAttr: max_rd_atomic 126, port_num 129, timeout 130, rnr_retry 132, rate_limit 136);
offsets!(PortAttr: active_mtu 8, gid_tbl_len 12, lid 34, phys_state 45);

/// The exported functions, by the types `verbs.h` gives them. Names are the C ones without `ibv_`.
pub mod function {
    use super::*;

    pub type GetDeviceList = unsafe extern "C" fn(*mut c_int) -> *mut *mut Device;
    pub type FreeDeviceList = unsafe extern "C" fn(*mut *mut Device);
    pub type GetDeviceName = unsafe extern "C" fn(*mut Device) -> *const c_char;
    pub type OpenDevice = unsafe extern "C" fn(*mut Device) -> *mut Context;
    pub type CloseDevice = unsafe extern "C" fn(*mut Context) -> c_int;
    pub type QueryPort = unsafe extern "C" fn(*mut Context, u8, *mut PortAttr) -> c_int;
    pub type AllocPd = unsafe extern "C" fn(*mut Context) -> *mut Pd;
    pub type DeallocPd = unsafe extern "C" fn(*mut Pd) -> c_int;
    pub type RegMr = unsafe extern "C" fn(*mut Pd, *mut c_void, usize, c_int) -> *mut Mr;
    pub type DeregMr = unsafe extern "C" fn(*mut Mr) -> c_int;
    pub type CreateCompChannel = unsafe extern "C" fn(*mut Context) -> *mut CompChannel;
    pub type DestroyCompChannel = unsafe extern "C" fn(*mut CompChannel) -> c_int;
    pub type CreateCq =
        unsafe extern "C" fn(*mut Context, c_int, *mut c_void, *mut CompChannel, c_int) -> *mut Cq;
    pub type DestroyCq = unsafe extern "C" fn(*mut Cq) -> c_int;
    pub type GetCqEvent = unsafe extern "C" fn(*mut CompChannel, *mut *mut Cq, *mut *mut c_void) -> c_int;
    pub type AckCqEvents = unsafe extern "C" fn(*mut Cq, c_uint);
    pub type CreateQp = unsafe extern "C" fn(*mut Pd, *mut QpInitAttr) -> *mut Qp;
    pub type ModifyQp = unsafe extern "C" fn(*mut Qp, *mut QpAttr, c_int) -> c_int;
    pub type DestroyQp = unsafe extern "C" fn(*mut Qp) -> c_int;
    pub type GetAsyncEvent = unsafe extern "C" fn(*mut Context, *mut AsyncEvent) -> c_int;
    pub type AckAsyncEvent = unsafe extern "C" fn(*mut AsyncEvent);
    pub type WcStatusStr = unsafe extern "C" fn(c_uint) -> *const c_char;
}
