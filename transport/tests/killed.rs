//! Two real processes: one is killed, the other goes on, and nothing is left.
#![cfg(not(loom))]

mod killing;

use std::os::fd::{AsFd, OwnedFd};

use keyrange_transport::link::{Link, LinkEnd, SendError};
use keyrange_transport::shm::{self, RingConfig, ShmLink};

use killing::*;

/// Not a test: what the other process runs. Without a role it does nothing.
#[test]
fn peer_process() {
    let Some(role) = role() else { return };
    play(&role, &mut connect(std::io::stdin().as_fd().try_clone_to_owned().unwrap()));
}

fn connect(socket: impl Into<OwnedFd>) -> ShmLink {
    shm::connect(socket, RingConfig { connect_timeout: PATIENCE, ..RingConfig::default() }).unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Our memory maps and named segments, anywhere they could be.
fn segments() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let named = ["/dev/shm", "/tmp"].iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten());
    let named = named.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("memfd") || name.to_string_lossy().starts_with("keyrange")
    });
    maps.lines().filter(|line| line.contains("memfd:keyrange")).count() + named.count()
}

/// One test, because it counts this process's descriptors.
#[test]
fn a_killed_peer_is_named_its_frames_arrive_and_nothing_is_left() {
    if role().is_some() {
        return;
    }
    let before = (descriptors(), segments());

    let (child, mut link) = start("in the middle of a record", connect);
    kill(child);
    let (received, end) = drain(&mut link);
    assert_eq!(received, FRAMES);
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");
    assert_eq!(link.try_claim(100).unwrap_err(), SendError::Ended(end));
    drop(link);

    let (child, mut link) = start("streaming", connect);
    let end = kill_while_streaming(child, &mut link);
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");
    drop(link);

    let (child, mut link) = start("asleep", connect);
    let killer = std::thread::spawn(move || kill(child));
    let (received, end) = drain(&mut link);
    killer.join().unwrap();
    assert_eq!(received, 0);
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");
    drop(link);

    assert_eq!((descriptors(), segments()), before);
}
