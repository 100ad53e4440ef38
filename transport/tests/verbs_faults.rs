//! Faults of devices: addresses that do not fit, a port that goes down, a card that is removed. They break interfaces, so they run
//! in the guest of ci/rdma.sh; faults of the network between two machines: ci/rdma/pair_faults.job.
#![cfg(not(loom))]

mod conformance;
mod rdma;

use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use keyrange_transport::link::{Link, LinkEnd, SendError};
use keyrange_transport::verbs::{self, Device, Selection, VerbsConfig, VerbsError, VerbsLink};

use conformance::{PATIENCE, RING_BYTES};

fn config() -> VerbsConfig {
    VerbsConfig { ring_bytes: RING_BYTES, connect_timeout: PATIENCE, ..VerbsConfig::default() }
}

/// Both ends of a link, each on its own device, or why there is none.
fn meet(one: &Arc<Device>, other: &Arc<Device>) -> [Result<VerbsLink, VerbsError>; 2] {
    let (a, b) = UnixStream::pair().unwrap();
    let other = other.clone();
    let far = thread::spawn(move || verbs::connect(b, &other, &config()));
    [verbs::connect(a, one, &config()), far.join().unwrap()]
}

fn with_gid(index: u8) -> Result<Arc<Device>, VerbsError> {
    Device::open(&Selection { gid_index: Some(index), ..Selection::default() })
}

#[test]
fn an_address_that_does_not_exist_is_told_with_those_that_do() {
    if !rdma::usable() {
        return;
    }
    let error = with_gid(200).unwrap_err();
    assert!(matches!(&error, VerbsError::NoGid { found, .. } if found.contains("1: ")), "{error}");
}

#[test]
fn addresses_of_different_networks_are_an_error_on_both_sides() {
    if !rdma::in_guest() {
        return;
    }
    // Of the guest's device the first address is a link-local one of IPv6, the second one of IPv4.
    let began = Instant::now();
    for end in meet(&with_gid(0).unwrap(), &with_gid(1).unwrap()) {
        // Whoever is told first hangs up on the other.
        let error = end.unwrap_err();
        let fits = matches!(error, VerbsError::Unreachable { .. } | VerbsError::PeerGone);
        assert!(fits, "{error}");
        println!("{error}");
    }
    assert!(began.elapsed() < PATIENCE);
}

/// A Soft-RoCE device of this test's own, to be broken.
struct OwnDevice(&'static str);

impl OwnDevice {
    fn new(card: &'static str, address: &str) -> Self {
        run(&format!("ip link add {card} type dummy"));
        run(&format!("ip address add {address}/24 dev {card}"));
        run(&format!("ip link set {card} up"));
        run(&format!("rdma link add rxe{card} type rxe netdev {card}"));
        Self(card)
    }

    fn open(&self) -> Arc<Device> {
        let device = Some(format!("rxe{}", self.0));
        // The port's state follows the card's a little later.
        conformance::eventually("an active port", || {
            Device::open(&Selection { device: device.clone(), ..Selection::default() }).ok()
        })
    }

    fn linked(&self) -> (VerbsLink, VerbsLink) {
        let device = self.open();
        let [a, b] = meet(&device, &device).map(Result::unwrap);
        (a, b)
    }
}

impl Drop for OwnDevice {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &format!("ip link delete {}", self.0)]).status();
    }
}

fn run(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}: {status}");
}

/// Sends from `a` to `b` until one of them ends, at most until the deadline.
fn end_of(a: &mut VerbsLink, b: &mut VerbsLink) -> LinkEnd {
    conformance::eventually("the end of a link", || exchange(a, b).err())
}

/// Sends a frame from `a`, and receives what came to `b`.
fn exchange(a: &mut VerbsLink, b: &mut VerbsLink) -> Result<u32, LinkEnd> {
    match a.try_send(7, &[]) {
        Ok(()) | Err(SendError::Full) => {}
        Err(SendError::Ended(end)) => return Err(end),
        Err(error) => panic!("{error}"),
    }
    a.progress()?;
    b.progress()?;
    let mut frames = 0;
    while let Some(frame) = b.try_recv()? {
        b.release(frame);
        frames += 1;
    }
    Ok(frames)
}

fn check_traffic(a: &mut VerbsLink, b: &mut VerbsLink) {
    conformance::eventually("frames", || (exchange(a, b).unwrap() > 0).then_some(()));
}

#[test]
fn a_port_that_goes_down_ends_its_links_and_no_others() {
    if !rdma::in_guest() {
        return;
    }
    let own = OwnDevice::new("k1", "10.77.1.1");
    let (mut a, mut b) = own.linked();
    let [mut c, mut d] = meet(rdma::device(), rdma::device()).map(Result::unwrap);
    check_traffic(&mut a, &mut b);
    run("ip link set k1 down");
    let end = end_of(&mut a, &mut b);
    assert!(matches!(&end, LinkEnd::Os(text) if text.contains("rxek1")), "{end}");
    println!("{end}");
    check_traffic(&mut c, &mut d);
    // A port that is up again is as good as new.
    run("ip link set k1 up");
    let (mut a, mut b) = own.linked();
    check_traffic(&mut a, &mut b);
}

/// The card is pulled out: its port is gone, and the links on it end. (Only `rdma link delete` waits politely until the last
/// link is closed.)
#[test]
fn a_card_that_is_removed_ends_its_links_and_no_others() {
    if !rdma::in_guest() {
        return;
    }
    let own = OwnDevice::new("k2", "10.77.2.1");
    let (mut a, mut b) = own.linked();
    let [mut c, mut d] = meet(rdma::device(), rdma::device()).map(Result::unwrap);
    check_traffic(&mut a, &mut b);
    // It may wait for the links' end.
    let removing = thread::spawn(|| run("ip link delete k2"));
    let end = end_of(&mut a, &mut b);
    assert!(matches!(&end, LinkEnd::Os(text) if text.contains("rxek2")), "{end}");
    println!("{end}");
    drop((a, b));
    removing.join().unwrap();
    check_traffic(&mut c, &mut d);
    let gone = Selection { device: Some("rxek2".into()), ..Selection::default() };
    conformance::eventually("no device", || match Device::open(&gone) {
        Err(VerbsError::NoSuchPort { .. }) => Some(()),
        _ => None,
    });
}
