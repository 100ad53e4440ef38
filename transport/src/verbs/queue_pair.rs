//! A reliable connected queue pair: its life as a table, and the two calls of its hot path.

use std::ffi::{c_int, c_uint};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::completion::Completions;
use super::device::Domain;
use super::error::{check, os};
use super::exchange::Address;
use super::ffi::{self, number as n};
use super::pieces::{PIECES_MAX, PIECES_MIN};
use super::{LinkLayer, VerbsError};

/// Requests that may wait for completion. 128 records in flight are more than a link of 100 Gbit/s holds.
pub(super) const SEND_DEPTH: u32 = 256;
/// Signals of the peer that may wait to be looked at...
pub(super) const RECEIVE_DEPTH: u32 = 256;
/// ...of which so many may tell of frames, for that is how many a side sends before it knows that they were received. Of others
/// it never has more than five under way: two questions, two answers, the close (see `link`).
pub(super) const LANDINGS: usize = 240;
/// Receives are posted anew when so many have been used.
pub(super) const RECEIVE_BATCH: usize = 8;
const _: () = assert!(LANDINGS + 5 + RECEIVE_BATCH <= RECEIVE_DEPTH as usize);
/// Marks the completion of a receive.
pub(super) const RECEIVED: u64 = u64::MAX;

/// The states of `enum ibv_qp_state` that a link passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum State {
    Reset = 0,
    Init = 1,
    ReadyToReceive = 2,
    ReadyToSend = 3,
}

/// A step of life: what the queue pair is told on its way.
struct Step {
    from: State,
    to: State,
    told: c_uint,
}

/// The whole life (IBTA 10.3.1). Errors end it: a queue pair that failed is never revived, its link ends.
const LIFE: [Step; 3] = [
    Step {
        from: State::Reset,
        to: State::Init,
        told: n::QP_STATE | n::QP_PKEY_INDEX | n::QP_PORT | n::QP_ACCESS_FLAGS,
    },
    Step {
        from: State::Init,
        to: State::ReadyToReceive,
        told: n::QP_STATE
            | n::QP_AV
            | n::QP_PATH_MTU
            | n::QP_DEST_QPN
            | n::QP_RQ_PSN
            | n::QP_MAX_DEST_RD_ATOMIC
            | n::QP_MIN_RNR_TIMER,
    },
    Step {
        from: State::ReadyToReceive,
        to: State::ReadyToSend,
        told: n::QP_STATE
            | n::QP_TIMEOUT
            | n::QP_RETRY_CNT
            | n::QP_RNR_RETRY
            | n::QP_SQ_PSN
            | n::QP_MAX_QP_RD_ATOMIC,
    },
];

/// A lost packet is sent again after 4.096 us * 2^14 = 67 ms...
const TIMEOUT: u8 = 14;
/// ...and the peer is given up after so many tries, half a second on most devices. (Soft-RoCE takes 7 for "without end".)
const RETRIES: u8 = 6;
/// A peer that has no receive posted is waited for without end: its death surfaces on the socket.
const RNR_RETRIES: u8 = 7;
/// It asks for 0.64 ms of patience then.
const RNR_TIMER: u8 = 12;
/// Routers a packet may pass.
const HOPS: u8 = 64;

type PostSend = unsafe extern "C" fn(*mut ffi::Qp, *mut ffi::SendWr, *mut *mut ffi::SendWr) -> c_int;
type PostReceive = unsafe extern "C" fn(*mut ffi::Qp, *mut ffi::RecvWr, *mut *mut ffi::RecvWr) -> c_int;

/// A queue pair in a domain of its own.
#[derive(Debug)]
pub(super) struct QueuePair {
    domain: Arc<Domain>,
    qp: NonNull<ffi::Qp>,
    post_send: PostSend,
    post_receive: PostReceive,
    state: State,
    /// Bytes a request may carry in itself.
    pub(super) inline_bytes: usize,
    /// Places of memory it may gather them from.
    pub(super) pieces: usize,
    pub(super) number: u32,
}

// SAFETY: as for `Device`; this value is used by one thread at a time.
unsafe impl Send for QueuePair {}

impl QueuePair {
    /// A new queue pair in state Init, with every receive posted.
    pub(super) fn new(domain: &Arc<Domain>, completions: &Completions) -> Result<Self, VerbsError> {
        // Devices differ in what they grant; eight bytes, a word, from one place is all that is needed.
        let wishes = [(256, PIECES_MAX), (128, PIECES_MAX), (64, PIECES_MIN), (8, PIECES_MIN), (8, 1)];
        let made = wishes.into_iter().find_map(|wish| create(domain, completions, wish));
        let (qp, granted) = made.ok_or_else(|| os("ibv_create_qp"))?;
        // SAFETY: just made by the library; the provider filled the table of its context before.
        let (number, ops) = unsafe { (qp.as_ref().qp_num, &(*qp.as_ref().context).ops) };
        let operations = ops.post_send.zip(ops.post_recv);
        let (post_send, post_receive) = operations.expect("every provider can post");
        let mut this = Self {
            domain: domain.clone(),
            qp,
            post_send,
            post_receive,
            state: State::Reset,
            inline_bytes: granted.max_inline_data as usize,
            pieces: granted.max_send_sge as usize,
            number,
        };
        let access = n::ACCESS_REMOTE_WRITE;
        let port_num = domain.device.port();
        this.advance(ffi::QpAttr { qp_access_flags: access, port_num, ..Default::default() })?;
        for _ in 0..RECEIVE_DEPTH as usize / RECEIVE_BATCH {
            this.receive()?;
        }
        Ok(this)
    }

    /// Its address, as events name it.
    pub(super) fn as_ptr(&self) -> *const ffi::Qp {
        self.qp.as_ptr()
    }

    /// Connects it to the peer's: from here on the peer may write. `mtu` is what both ports can.
    pub(super) fn get_ready_to_receive(&mut self, peer: &Address, mtu: u32) -> Result<(), VerbsError> {
        let device = &self.domain.device;
        let mut route = ffi::AhAttr { dlid: peer.lid, port_num: device.port(), ..Default::default() };
        if let Some(gid) = &device.choice.gid {
            route.is_global = 1;
            route.grh.dgid = peer.gid;
            route.grh.sgid_index = gid.index;
            route.grh.hop_limit = HOPS;
        }
        debug_assert!(device.choice.gid.is_some() || device.link_layer() == LinkLayer::InfiniBand);
        self.advance(ffi::QpAttr {
            path_mtu: mtu,
            dest_qp_num: peer.queue_pair,
            rq_psn: peer.first_packet,
            max_dest_rd_atomic: 1,
            min_rnr_timer: RNR_TIMER,
            ah_attr: route,
            ..Default::default()
        })
    }

    /// Lets it send, once the peer is ready to receive.
    pub(super) fn get_ready_to_send(&mut self, first_packet: u32) -> Result<(), VerbsError> {
        self.advance(ffi::QpAttr {
            sq_psn: first_packet,
            timeout: TIMEOUT,
            retry_cnt: RETRIES,
            rnr_retry: RNR_RETRIES,
            max_rd_atomic: 1,
            ..Default::default()
        })
    }

    /// The next step of its life.
    fn advance(&mut self, mut attributes: ffi::QpAttr) -> Result<(), VerbsError> {
        let step = LIFE.iter().find(|step| step.from == self.state).expect("no step follows ready to send");
        attributes.qp_state = step.to as c_uint;
        // SAFETY: the queue pair is alive; the call reads the attributes that the mask names.
        let status = unsafe {
            (self.domain.device.library.modify_qp)(self.qp.as_ptr(), &mut attributes, step.told as c_int)
        };
        check("ibv_modify_qp", status)?;
        self.state = step.to;
        Ok(())
    }

    /// Posts receives for [`RECEIVE_BATCH`] signals of the peer: they carry no bytes.
    pub(super) fn receive(&mut self) -> Result<(), VerbsError> {
        let mut requests = [const {
            ffi::RecvWr { wr_id: RECEIVED, next: ptr::null_mut(), sg_list: ptr::null_mut(), num_sge: 0 }
        }; RECEIVE_BATCH];
        for i in 1..RECEIVE_BATCH {
            requests[i - 1].next = &raw mut requests[i];
        }
        let (mut bad, first) = (ptr::null_mut(), requests.as_mut_ptr());
        // SAFETY: the queue pair is alive; the requests are linked in order, end with a null, name no memory and are copied by
        // the call.
        check("ibv_post_recv", unsafe { (self.post_receive)(self.qp.as_ptr(), first, &mut bad) })
    }

    /// Posts requests in one go.
    ///
    /// # Safety
    /// What their pieces name must be mapped, and if registered (not inline) stay unchanged until the peer has received it.
    #[inline]
    pub(super) unsafe fn send<const N: usize>(
        &mut self,
        requests: &mut [ffi::SendWr; N],
    ) -> Result<(), VerbsError> {
        for i in 1..N {
            requests[i - 1].next = &raw mut requests[i];
        }
        let mut bad = ptr::null_mut();
        // SAFETY: the queue pair is alive, the requests are linked in order and end with a null; the call copies them, and
        // the bytes of inline pieces. For the others the caller vouches.
        check("ibv_post_send", unsafe { (self.post_send)(self.qp.as_ptr(), requests.as_mut_ptr(), &mut bad) })
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once, before its completion queue (`Endpoint`) and its domain (held here).
        unsafe { (self.domain.device.library.destroy_qp)(self.qp.as_ptr()) };
    }
}

/// Makes a queue pair that carries so many bytes in a request, from so many places; returns what was granted.
fn create(
    domain: &Arc<Domain>,
    completions: &Completions,
    (inline_bytes, pieces): (u32, usize),
) -> Option<(NonNull<ffi::Qp>, ffi::QpCap)> {
    let mut wish = ffi::QpInitAttr {
        qp_context: ptr::null_mut(),
        send_cq: completions.as_ptr(),
        recv_cq: completions.as_ptr(),
        srq: ptr::null_mut(),
        cap: ffi::QpCap {
            max_send_wr: SEND_DEPTH,
            max_recv_wr: RECEIVE_DEPTH,
            max_send_sge: pieces as u32,
            max_recv_sge: 1,
            max_inline_data: inline_bytes,
        },
        qp_type: n::QPT_RC,
        sq_sig_all: 0,
    };
    // SAFETY: domain and queue are alive; the call reads the wish and writes what it grants into its `cap`.
    let qp = unsafe { (domain.device.library.create_qp)(domain.as_ptr(), &mut wish) };
    NonNull::new(qp).map(|qp| (qp, wish.cap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_one_step_and_the_last_none() {
        for (i, step) in LIFE.iter().enumerate() {
            assert_eq!(step.from as usize, i);
            assert_eq!(step.to as usize, i + 1);
            assert_ne!(step.told & n::QP_STATE, 0);
        }
        assert_eq!(LIFE.last().map(|step| step.to), Some(State::ReadyToSend));
    }
}
