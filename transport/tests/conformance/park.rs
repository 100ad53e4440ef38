//! Sleeping: whatever comes wakes the sleeper, and nothing is lost between looking and falling asleep.

use std::sync::mpsc;
use std::thread;

use keyrange_transport::wait::{WaitConfig, Waiter, Woken};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

/// Prepares, tells the other side, sleeps until one of the link's descriptors is readable, and finishes.
fn sleep_once(link: &mut dyn Link, asleep: &mpsc::Sender<()>) {
    assert!(link.prepare_park(), "there was something to do already");
    asleep.send(()).unwrap();
    assert!(sleep_until_woken(link), "never woken");
    link.finish_park();
}

/// False if nothing came within the patience of a test.
fn sleep_until_woken(link: &dyn Link) -> bool {
    let [doorbell, life] = link.park_fds();
    let mut flags = PollFlags::IN | PollFlags::RDHUP;
    flags.set(PollFlags::OUT, link.wants_writable());
    let mut fds =
        [PollFd::from_borrowed_fd(doorbell, flags), PollFd::from_borrowed_fd(life, PollFlags::RDHUP)];
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    poll(&mut fds, Some(&patience)).unwrap() > 0
}

/// Runs `sleeper` on a thread of its own and `waker` here, after the sleeper has prepared.
fn wake(
    mut link: Box<dyn Link>,
    sleeper: impl FnOnce(&mut dyn Link, &mpsc::Sender<()>) + Send,
    waker: impl FnOnce(),
) {
    let (asleep, is_asleep) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || sleeper(link.as_mut(), &asleep));
        is_asleep.recv_timeout(PATIENCE).unwrap();
        waker();
    });
}

pub fn a_frame_wakes_a_sleeper(factory: Factory) {
    let (mut a, b) = factory(RING_BYTES);
    let sleeper = |link: &mut dyn Link, asleep: &mpsc::Sender<()>| {
        sleep_once(link, asleep);
        let frame = receive(link);
        check(link, frame, 5, b"wake up");
    };
    wake(b, sleeper, || {
        assert!(offer(a.as_mut(), 5, b"wake up"));
        flush(a.as_mut());
    });
}

pub fn room_wakes_a_sleeper(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    let bytes = body(3, 3000);
    let sent = fill(a.as_mut(), &bytes);
    let sleeper = |link: &mut dyn Link, asleep: &mpsc::Sender<()>| {
        sleep_once(link, asleep);
        eventually("room", || {
            link.progress().unwrap();
            offer(link, sent, &body(3, 3000)).then_some(())
        });
        flush(link);
    };
    wake(a, sleeper, || {
        for tag in 0..=sent {
            let frame = receive(b.as_mut());
            check(b.as_mut(), frame, tag, &bytes);
        }
    });
}

pub fn a_close_wakes_a_sleeper(factory: Factory) {
    let (mut a, b) = factory(RING_BYTES);
    let sleeper = |link: &mut dyn Link, asleep: &mpsc::Sender<()>| {
        sleep_once(link, asleep);
        assert_eq!(end_of(link), LinkEnd::ClosedByPeer);
    };
    wake(b, sleeper, || {
        a.close();
        let _ = a.progress();
    });
}

pub fn a_death_wakes_a_sleeper(factory: Factory) {
    let (a, b) = factory(RING_BYTES);
    let sleeper = |link: &mut dyn Link, asleep: &mpsc::Sender<()>| {
        sleep_once(link, asleep);
        assert!(matches!(end_of(link), LinkEnd::PeerGone(_)));
    };
    wake(b, sleeper, || drop(a));
}

pub fn nobody_sleeps_while_a_frame_waits(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    assert!(offer(a.as_mut(), 1, b"here already"));
    flush(a.as_mut());
    // A socket may need a moment to carry it; then the park is refused, or ends at once.
    eventually("the frame", || {
        if b.prepare_park() {
            let woken = sleep_until_woken(b.as_ref());
            b.finish_park();
            assert!(woken);
        }
        b.progress().unwrap();
        b.try_recv().unwrap()
    });
}

/// Answers every frame, sleeping before each look: each side's commit races with the other's park.
fn sleep_and_echo(link: &mut dyn Link, rounds: u32, starts: bool) {
    let send = |link: &mut dyn Link, n: u32| {
        assert!(offer(link, n, b"ball"));
        flush(link);
    };
    if starts {
        send(link, 0);
    }
    for n in 0..rounds {
        let frame = eventually("the ball", || {
            if link.prepare_park() {
                assert!(sleep_until_woken(link), "round {n}: a wake was lost");
                link.finish_park();
            }
            link.progress().unwrap();
            link.try_recv().unwrap()
        });
        check(link, frame, n, b"ball");
        if starts && n + 1 < rounds {
            send(link, n + 1);
        } else if !starts {
            send(link, n);
        }
    }
}

pub fn no_wake_is_lost_in_a_race(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    thread::scope(|scope| {
        scope.spawn(move || sleep_and_echo(b.as_mut(), 2_000, false));
        scope.spawn(move || sleep_and_echo(a.as_mut(), 2_000, true));
    });
}

pub fn a_waiter_carries_many_links(factory: Factory) {
    const LINKS: usize = 4;
    const FRAMES: u32 = 300;
    let (mut near, far): (Vec<_>, Vec<_>) = (0..LINKS).map(|_| factory(RING_BYTES)).unzip();
    thread::scope(|scope| {
        for mut link in far {
            scope.spawn(move || sleep_and_echo(link.as_mut(), FRAMES, true));
        }
        let mut waiter = Waiter::new(WaitConfig { threads: LINKS + 1 }).unwrap();
        for (token, link) in near.iter().enumerate() {
            waiter.add_link(token as u64, link.as_ref()).unwrap();
        }
        let mut answered = [0u32; LINKS];
        let deadline = Instant::now() + PATIENCE;
        while answered != [FRAMES; LINKS] {
            let mut found = false;
            for (link, answered) in near.iter_mut().zip(&mut answered) {
                let _ = link.progress();
                while *answered < FRAMES
                    && let Some(frame) = link.try_recv().unwrap()
                {
                    check(link.as_mut(), frame, *answered, b"ball");
                    assert!(offer(link.as_mut(), *answered, b"ball"));
                    (*answered, found) = (*answered + 1, true);
                }
                let _ = link.progress();
            }
            if found {
                waiter.worked();
            } else {
                assert_ne!(waiter.wait(&mut near, deadline).unwrap(), Woken::TimedOut, "{answered:?}");
            }
        }
    });
}

pub fn a_wait_ends_at_its_deadline(factory: Factory) {
    let (_a, b) = factory(RING_BYTES);
    let mut waiter = Waiter::new(WaitConfig { threads: 1 }).unwrap();
    waiter.add_link(0, b.as_ref()).unwrap();
    let mut links = vec![b];
    // A thread kept from its core may meet a deadline before it parks: then the next one is farther.
    let mut patience = Duration::from_millis(20);
    eventually("a park that ends at its deadline", || {
        let deadline = Instant::now() + patience;
        eventually("the deadline", || {
            (waiter.wait(&mut links, deadline).unwrap() == Woken::TimedOut).then_some(())
        });
        patience *= 2;
        (waiter.parks() > 0).then_some(())
    });
    waiter.remove_link(links[0].as_ref()).unwrap();
}
