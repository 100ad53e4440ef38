//! A pair of links between threads of one process: the very same rings, without a second process.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;

use crate::link::CarrierKind;
use crate::shm::{ConnectError, Half, RingConfig, ShmLink};

/// Makes both ends. Each may move to a thread of its own.
pub fn pair(config: RingConfig) -> Result<(ShmLink, ShmLink), ConnectError> {
    let (a, b) = UnixStream::pair().map_err(|error| ConnectError::Os {
        call: "socketpair",
        error: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })?;
    let a = Half::offer(OwnedFd::from(a), config)?;
    let b = Half::offer(OwnedFd::from(b), config)?;
    Ok((a.complete(CarrierKind::InProcess)?, b.complete(CarrierKind::InProcess)?))
}
