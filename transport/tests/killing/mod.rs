//! What the tests of killed peers share over all carriers: the other process, and what the survivor must see.

use std::io::{IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyrange_transport::link::{Link, LinkEnd, SendError, WORD_BYTES};
use keyrange_transport::wait::{WaitConfig, Waiter, Woken};

const ROLE: &str = "KEYRANGE_TEST_PEER";

/// Frames that a peer sends before it is killed in the middle of the next.
pub const FRAMES: u32 = 50;
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What this process is to be, if it is the other one: then no test of its own runs.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// What the other process does with its end.
pub fn play(role: &str, link: &mut impl Link) {
    let frame = |n: u32| [n as u8; 300];
    match role {
        "in the middle of a record" => {
            for n in 0..FRAMES {
                link.try_send(n, &[IoSlice::new(&frame(n))]).unwrap();
            }
            while link.unsent_bytes() > 0 {
                link.progress().unwrap();
            }
            link.try_claim(5000).unwrap()[..2500].fill(0xff);
            tell();
        }
        "streaming" => {
            tell();
            let deadline = Instant::now() + PATIENCE;
            for n in 0.. {
                link.progress().unwrap();
                while link.try_send(n, &[IoSlice::new(&frame(n))]) == Err(SendError::Full) {
                    assert!(Instant::now() < deadline);
                }
            }
        }
        _ => tell(),
    }
    std::thread::sleep(PATIENCE);
}

/// Tells the test that this process has come to its point.
fn tell() {
    std::io::stderr().write_all(b"!").unwrap();
}

/// Starts the other process and waits until it has come to its point.
pub fn start<L: Link>(role: &str, connect: impl Fn(UnixStream) -> L) -> (Child, L) {
    let (near, far) = UnixStream::pair().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "peer_process", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let link = connect(near);
    child.stderr.take().unwrap().read_exact(&mut [0]).unwrap();
    (child, link)
}

/// SIGKILL, and the process is gone.
pub fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Receives until the end, checking that frames are whole and in order; returns their number and the end.
pub fn drain<L: Link>(link: &mut L) -> (u32, LinkEnd) {
    let mut waiter = Waiter::new(WaitConfig { threads: 2 }).unwrap();
    waiter.add_link(0, link).unwrap();
    let (mut received, deadline) = (0, Instant::now() + PATIENCE);
    loop {
        let _ = link.progress();
        match link.try_recv() {
            Ok(Some(frame)) => {
                assert_eq!(frame.tag(), received);
                assert!(link.bytes(&frame)[WORD_BYTES..].iter().all(|&b| b == received as u8));
                link.release(frame);
                received += 1;
            }
            Ok(None) => assert_ne!(waiter.wait(link, deadline).unwrap(), Woken::TimedOut),
            Err(end) => return (received, end),
        }
    }
}

/// Kills a streaming peer after its first frame: what the ring then holds is whole and in order, though nothing is released.
pub fn kill_while_streaming<L: Link>(child: Child, link: &mut L) -> LinkEnd {
    let first = loop {
        link.progress().unwrap();
        if let Some(frame) = link.try_recv().unwrap() {
            break frame;
        }
    };
    assert_eq!(first.tag(), 0);
    kill(child);
    for expected in 1.. {
        let frame = loop {
            let _ = link.progress();
            match link.try_recv() {
                Ok(Some(frame)) => break frame,
                Ok(None) => {}
                Err(end) => return end,
            }
        };
        assert_eq!(frame.tag(), expected);
        assert!(link.bytes(&frame)[WORD_BYTES..].iter().all(|&b| b == expected as u8));
    }
    unreachable!("a ring holds fewer frames than that")
}
