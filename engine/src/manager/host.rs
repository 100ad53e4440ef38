//! Which host a node lives in: two nodes with the same fingerprint can share memory.

use std::fs;
use std::os::linux::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// The kernel's boot id and the network namespace's inode. Abstract Unix sockets belong to a network
/// namespace, so equal fingerprints mean "can reach each other's Unix sockets".
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostFingerprint {
    /// `/proc/sys/kernel/random/boot_id`: changes with each boot, equal for everybody on the host.
    pub boot_id: String,
    /// Inode of `/proc/self/ns/net`.
    pub net_namespace: u64,
}

impl HostFingerprint {
    /// Reads this process's own. Where `/proc` is not to be had, the answer equals nobody else's on purpose:
    /// then TCP is used.
    pub fn of_this_process() -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|text| text.trim().to_owned())
            .unwrap_or_else(|_| format!("unknown-{}", std::process::id()));
        let net_namespace = fs::metadata("/proc/self/ns/net").map(|meta| meta.st_ino()).unwrap_or(0);
        HostFingerprint { boot_id, net_namespace }
    }
}
