//! A device for the tests that need one: without it they are left out, and say so past the harness, which would swallow it.

#![allow(dead_code, reason = "each test crate uses what it needs")]

use std::io::Write;
use std::sync::{Arc, Once, OnceLock};

use keyrange_transport::verbs::{Device, Selection};

/// Set in the guest of ci/rdma.sh, where a device must be there: its absence is a failure.
const REQUIRED: &str = "KEYRANGE_TEST_VERBS";

/// The device all tests of a process share.
pub fn device() -> &'static Arc<Device> {
    static DEVICE: OnceLock<Arc<Device>> = OnceLock::new();
    DEVICE.get_or_init(|| Device::open(&Selection::default()).unwrap())
}

/// True if there is a device; otherwise says once why the tests of this crate do nothing.
pub fn usable() -> bool {
    static SAID: Once = Once::new();
    let Err(error) = Device::open(&Selection::default()) else { return true };
    assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, but: {error}");
    SAID.call_once(|| {
        let line = format!("skipped: no test over verbs runs here: {error}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    });
    false
}

/// True in the guest of ci/rdma.sh: its device is Soft-RoCE with an address of IPv4 on port 1, and its interfaces may be broken.
pub fn in_guest() -> bool {
    static SAID: Once = Once::new();
    if !usable() {
        return false;
    }
    let in_guest = std::env::var_os(REQUIRED).is_some();
    if !in_guest {
        SAID.call_once(|| {
            let line = format!("skipped: {REQUIRED} is not set: this is not the guest of ci/rdma.sh\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        });
    }
    in_guest
}
