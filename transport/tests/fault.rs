//! What the wrapper does to frames, over a real carrier.
#![cfg(not(loom))]

use std::io::IoSlice;

use keyrange_transport::fault::{FaultPlan, Faulty};
use keyrange_transport::in_process;
use keyrange_transport::link::{Link, LinkEnd, SendError, WORD_BYTES};
use keyrange_transport::shm::RingConfig;

fn pair(plan: &str) -> (Faulty<impl Link>, impl Link) {
    let (a, b) = in_process::pair(RingConfig { ring_bytes: 1 << 16, ..RingConfig::default() }).unwrap();
    (Faulty::new(a, plan.parse::<FaultPlan>().unwrap(), 1), b)
}

/// Sends frames with tags `0..frames`, by turns claimed and gathered, and returns the tags that come, in order.
fn tags_received(from: &mut impl Link, to: &mut impl Link, frames: u32) -> Vec<u32> {
    let mut tags = Vec::new();
    let mut next = 0;
    // The last round sends nothing: it parks, so that what was kept back comes out.
    while next <= frames {
        if next == frames {
            from.prepare_park();
            from.finish_park();
            next += u32::from(from.unsent_bytes() == 0);
        } else {
            let body = next.to_le_bytes();
            let sent = match next % 2 {
                0 => from.try_send(next, &[IoSlice::new(&body)]),
                _ => from.try_claim(WORD_BYTES + 4).map(|room| room.copy_from_slice(&body)),
            };
            match sent {
                Ok(()) if next % 2 == 1 => from.commit(next),
                Ok(()) | Err(SendError::Full) => {}
                Err(error) => panic!("{error}"),
            }
            next += u32::from(sent.is_ok());
        }
        from.progress().unwrap();
        to.progress().unwrap();
        while let Some(frame) = to.try_recv().unwrap() {
            assert_eq!(to.bytes(&frame)[WORD_BYTES..], frame.tag().to_le_bytes());
            tags.push(frame.tag());
            to.release(frame);
        }
    }
    tags
}

#[test]
fn without_faults_nothing_changes() {
    let (mut a, mut b) = pair("");
    assert_eq!(tags_received(&mut a, &mut b, 5000), (0..5000).collect::<Vec<_>>());
}

#[test]
fn dropped_frames_are_missing_and_the_others_stay_in_order() {
    let (mut a, mut b) = pair("seed=1,drop=0.1");
    let tags = tags_received(&mut a, &mut b, 5000);
    assert!(tags.is_sorted_by(|a, b| a < b));
    assert_eq!(tags.len() as u64, 5000 - a.counts().dropped);
    assert!(a.counts().dropped > 300);
}

#[test]
fn duplicated_frames_come_twice_in_a_row() {
    let (mut a, mut b) = pair("seed=2,dup=0.1");
    let mut tags = tags_received(&mut a, &mut b, 5000);
    assert!(tags.is_sorted());
    assert_eq!(tags.len() as u64, 5000 + a.counts().duplicated);
    tags.dedup();
    assert_eq!(tags, (0..5000).collect::<Vec<_>>());
}

#[test]
fn delayed_frames_come_exactly_so_many_frames_later() {
    for (plan, frames) in [("seed=3,delay=0.02,delay_frames=5", 5), ("seed=3,reorder=0.02", 1)] {
        let (mut a, mut b) = pair(plan);
        let mut tags = tags_received(&mut a, &mut b, 5000);
        assert!(a.counts().kept_back > 50);
        // Two frames overtake each other only if one of them is late, and by no more than the delay.
        let late = tags.windows(2).filter(|two| two[0] > two[1]).count() as u64;
        assert!(late > 0 && late <= a.counts().kept_back);
        assert!(tags.iter().enumerate().all(|(at, tag)| at.abs_diff(*tag as usize) <= frames));
        tags.sort();
        assert_eq!(tags, (0..5000).collect::<Vec<_>>(), "late is not lost");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_does_not() {
    let run = |plan| {
        let (mut a, mut b) = pair(plan);
        tags_received(&mut a, &mut b, 2000)
    };
    let plan = "seed=5,drop=0.05,dup=0.05,delay=0.05,reorder=0.05";
    assert_eq!(run(plan), run(plan));
    assert_ne!(run(plan), run("seed=6,drop=0.05,dup=0.05,delay=0.05,reorder=0.05"));
}

#[test]
fn the_last_frame_of_a_conversation_arrives_though_no_other_pushes_it() {
    let (mut a, mut b) = pair("seed=7,delay=1,delay_frames=1000");
    a.try_send(3, &[]).unwrap();
    assert_eq!(b.try_recv(), Ok(None));
    while b.try_recv().unwrap().is_none() {
        // Ends by the count of polls; a failure would hang here and be seen by the suite's own limit.
        a.progress().unwrap();
    }
}

#[test]
fn a_kill_ends_both_sides_after_exactly_so_many_frames() {
    let (mut a, mut b) = pair("kill=3");
    for tag in 0..3 {
        a.try_send(tag, &[]).unwrap();
    }
    assert!(matches!(a.try_send(3, &[]), Err(SendError::Ended(LinkEnd::PeerGone(_)))));
    assert!(matches!(a.progress(), Err(LinkEnd::PeerGone(_))));
    a.close();
    drop(a);
    let mut tags = Vec::new();
    let end = loop {
        let _ = b.progress();
        match b.try_recv() {
            Ok(Some(frame)) => {
                tags.push(frame.tag());
                b.release(frame);
            }
            Ok(None) => {}
            Err(end) => break end,
        }
    };
    assert_eq!(tags, [0, 1, 2]);
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");
}
