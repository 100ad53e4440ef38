//! Links end once, with the right reason, and not before what was committed is delivered.

use keyrange_transport::link::{LinkEnd, SendError};

use super::*;

pub fn a_close_delivers_what_was_committed(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    for tag in 0..3 {
        assert!(offer(a.as_mut(), tag, &body(tag.into(), 500)));
    }
    a.try_claim(100).unwrap();
    a.close();
    for tag in 0..3 {
        let frame = eventually("a frame", || {
            let _ = a.progress();
            b.progress().unwrap();
            b.try_recv().unwrap()
        });
        check(b.as_mut(), frame, tag, &body(tag.into(), 500));
    }
    let end = eventually("the end", || {
        let _ = a.progress();
        b.progress().err()
    });
    assert_eq!(end, LinkEnd::ClosedByPeer);
    assert_eq!(b.try_recv().unwrap_err(), LinkEnd::ClosedByPeer);
    assert_eq!(b.progress().unwrap_err(), LinkEnd::ClosedByPeer);
    assert_eq!(b.try_claim(100).unwrap_err(), SendError::Ended(LinkEnd::ClosedByPeer));
    assert!(!b.prepare_park());
}

pub fn a_closed_end_says_so(factory: Factory) {
    let (mut a, _b) = factory(RING_BYTES);
    a.close();
    a.close();
    assert_eq!(a.try_recv().unwrap_err(), LinkEnd::ClosedHere);
    assert_eq!(a.try_claim(100).unwrap_err(), SendError::Ended(LinkEnd::ClosedHere));
    assert_eq!(a.try_send(0, &[]).unwrap_err(), SendError::Ended(LinkEnd::ClosedHere));
}

pub fn a_dropped_peer_is_gone_after_its_frames(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    for tag in 0..20 {
        assert!(offer(a.as_mut(), tag, &body(tag.into(), 500)));
    }
    a.try_claim(1000).unwrap().fill(1);
    flush(a.as_mut());
    drop(a);
    for tag in 0..20 {
        let frame = receive(b.as_mut());
        check(b.as_mut(), frame, tag, &body(tag.into(), 500));
    }
    let end = end_of(b.as_mut());
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");
    assert_eq!(b.try_recv().unwrap_err(), end);
    assert_eq!(b.try_claim(100).unwrap_err(), SendError::Ended(end));
}

pub fn a_peer_that_closes_frees_a_sender_that_waits_for_room(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    fill(a.as_mut(), &body(1, 2000));
    b.close();
    let end = eventually("the end", || {
        let _ = b.progress();
        let _ = a.progress();
        match a.try_claim(2000) {
            Err(SendError::Ended(end)) => Some(end),
            _ => None,
        }
    });
    assert!(matches!(end, LinkEnd::ClosedByPeer | LinkEnd::PeerGone(_)), "{end:?}");
}
