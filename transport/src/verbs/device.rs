//! An open device with the port and address chosen on it, and memory registered with it.

use std::ffi::{CStr, c_int, c_void};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::choose::{Choice, Selection, choose};
use super::error::{errno, last_error, os};
use super::events::Watchers;
use super::library::Library;
use super::sysfs::{LinkLayer, ports};
use super::{VerbsError, ffi};

/// An RDMA device, open, with a usable port. Links share it; what one link registers no other can reach.
#[derive(Debug)]
pub struct Device {
    pub(super) library: Arc<Library>,
    context: NonNull<ffi::Context>,
    pub(super) choice: Choice,
    /// The port's local identifier (InfiniBand).
    pub(super) lid: u16,
    /// The port's MTU, as `enum ibv_mtu` numbers it: 1 is 256 bytes, 5 is 4096.
    pub(super) mtu: u32,
    watchers: Watchers,
}

// SAFETY: libibverbs is thread-safe: every call on a context and its objects takes the locks it needs (ibv_open_device(3)
// has no thread affinity).
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    /// Opens the device that `wish` names, or the first that works.
    pub fn open(wish: &Selection) -> Result<Arc<Self>, VerbsError> {
        let library = Library::load()?;
        let choice = choose(&ports(), wish)?;
        let name = &choice.port.device;
        let context = open_by_name(&library, name)?;
        let mut device =
            Self { library, context, choice: choice.clone(), lid: 0, mtu: 0, watchers: Watchers::default() };
        set_nonblocking(device.events_fd())?;
        let mut port = ffi::PortAttr::default();
        // SAFETY: the context is open and `port` is what the call fills.
        let status = unsafe { (device.library.query_port)(context.as_ptr(), choice.port.number, &mut port) };
        super::error::check("ibv_query_port", status)?;
        (device.lid, device.mtu) = (port.lid, port.active_mtu);
        let state_ok = port.state == ffi::number::PORT_ACTIVE;
        if !state_ok || !(1..=5).contains(&port.active_mtu) {
            let expected = "an active port with an MTU of 256 to 4096";
            let got = format!("state {}, MTU number {}", port.state, port.active_mtu);
            return Err(VerbsError::Device { device: name.clone(), expected, got });
        }
        if choice.gid.is_none() && port.lid == 0 {
            let got = "LID 0".into();
            let expected = "a LID from a subnet manager (start opensm), or a GID index";
            return Err(VerbsError::Device { device: name.clone(), expected, got });
        }
        Ok(Arc::new(device))
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.choice.port.device
    }

    /// The port's number.
    pub fn port(&self) -> u8 {
        self.choice.port.number
    }

    /// What the port's packets travel in.
    pub fn link_layer(&self) -> LinkLayer {
        self.choice.port.link_layer
    }

    /// Bytes of payload in a packet.
    pub fn mtu_bytes(&self) -> u32 {
        128 << self.mtu
    }

    /// Who is told when something happens to the device.
    pub(super) fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Readable when something has happened, until somebody takes it.
    pub(super) fn events_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the context owns the descriptor and is open as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.context.as_ref().async_fd) }
    }

    /// Takes what has happened and tells whom it concerns.
    pub(super) fn take_events(&self) {
        // SAFETY: the context is open as long as `self`.
        unsafe { self.watchers.take(&self.library, self.context()) };
    }

    pub(super) fn context(&self) -> *mut ffi::Context {
        self.context.as_ptr()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: opened by `open_by_name` and closed once; everything made on it holds an Arc of this value.
        unsafe { (self.library.close_device)(self.context.as_ptr()) };
    }
}

pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), VerbsError> {
    let set = fcntl_getfl(fd).and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK));
    set.map_err(errno("fcntl(O_NONBLOCK)"))
}

fn open_by_name(library: &Library, name: &str) -> Result<NonNull<ffi::Context>, VerbsError> {
    let mut count: c_int = 0;
    // SAFETY: the call fills `count` and returns a list of as many devices, or null.
    let list = NonNull::new(unsafe { (library.get_device_list)(&mut count) });
    let no_provider = || VerbsError::NoProvider { device: name.to_owned() };
    let list = list.ok_or_else(no_provider)?;
    let found = (0..count as usize).find_map(|i| {
        // SAFETY: `i` is below the count; the list lives until freed below, and so do its devices and their names.
        unsafe {
            let device = *list.as_ptr().add(i);
            let its_name = CStr::from_ptr((library.get_device_name)(device));
            (its_name.to_bytes() == name.as_bytes()).then_some(device)
        }
    });
    // SAFETY: the device is one of the list, which is still alive.
    let opened = found.map(|device| NonNull::new(unsafe { (library.open_device)(device) }));
    let error = last_error();
    // SAFETY: from `get_device_list`, freed once; an open context keeps its own device alive.
    unsafe { (library.free_device_list)(list.as_ptr()) };
    match opened {
        None => Err(no_provider()),
        Some(Some(context)) => Ok(context),
        Some(None) if matches!(error, Errno::ACCESS | Errno::PERM) => {
            Err(VerbsError::Permission { device: name.to_owned() })
        }
        Some(None) => Err(VerbsError::Os { call: "ibv_open_device", error }),
    }
}

/// A protection domain: queue pairs in it reach memory in it and nothing else. Each link has its own.
#[derive(Debug)]
pub(super) struct Domain {
    pub(super) device: Arc<Device>,
    pd: NonNull<ffi::Pd>,
}

// SAFETY: as for `Device`.
unsafe impl Send for Domain {}
// SAFETY: as for `Device`.
unsafe impl Sync for Domain {}

impl Domain {
    pub(super) fn new(device: &Arc<Device>) -> Result<Arc<Self>, VerbsError> {
        // SAFETY: the context is open.
        let pd = NonNull::new(unsafe { (device.library.alloc_pd)(device.context()) });
        let pd = pd.ok_or_else(|| os("ibv_alloc_pd"))?;
        Ok(Arc::new(Self { device: device.clone(), pd }))
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::Pd {
        self.pd.as_ptr()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once; registrations and queue pairs hold an Arc of this value.
        unsafe { (self.device.library.dealloc_pd)(self.pd.as_ptr()) };
    }
}

/// Who may write to registered memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// This side's own requests read it.
    Local,
    /// The peer writes to it.
    RemoteWrite,
}

/// A range of memory registered with the device until this value is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    domain: Arc<Domain>,
    mr: NonNull<ffi::Mr>,
    pub(super) address: u64,
    pub(super) local_key: u32,
    pub(super) remote_key: u32,
}

// SAFETY: as for `Device`; the memory is only named here, never touched.
unsafe impl Send for Registration {}

impl Registration {
    /// Registers `bytes` from `address` on.
    ///
    /// # Safety
    /// The range must be mapped. With [`Access::RemoteWrite`] the peer may change its bytes at any time until this value is
    /// dropped, so it must be reached through atomics or as a ring's memory is. (Unmapping it early is not unsafe: the
    /// device keeps the pages themselves.)
    pub(super) unsafe fn of_range(
        domain: &Arc<Domain>,
        address: *mut u8,
        bytes: usize,
        access: Access,
    ) -> Result<Self, VerbsError> {
        let flags = match access {
            Access::Local => 0,
            Access::RemoteWrite => ffi::number::ACCESS_LOCAL_WRITE | ffi::number::ACCESS_REMOTE_WRITE,
        };
        // SAFETY: the caller's promise: the range is mapped; the domain is alive.
        let mr = unsafe {
            (domain.device.library.reg_mr)(domain.as_ptr(), address.cast::<c_void>(), bytes, flags as c_int)
        };
        let Some(mr) = NonNull::new(mr) else {
            return Err(match last_error() {
                Errno::NOMEM | Errno::AGAIN => VerbsError::Memlock { bytes, limit: memlock_limit() },
                error => VerbsError::Os { call: "ibv_reg_mr", error },
            });
        };
        // SAFETY: a registration just returned by the library.
        let (local_key, remote_key) = unsafe { (mr.as_ref().lkey, mr.as_ref().rkey) };
        Ok(Self { domain: domain.clone(), mr, address: address as u64, local_key, remote_key })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: registered by `of_range`, ended once.
        unsafe { (self.domain.device.library.dereg_mr)(self.mr.as_ptr()) };
    }
}

/// The limit of locked memory, for people.
fn memlock_limit() -> String {
    match getrlimit(Resource::Memlock).current {
        Some(bytes) => format!("{bytes} bytes"),
        None => "unlimited, so physical memory is short".into(),
    }
}
