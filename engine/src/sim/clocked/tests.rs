use super::{SimConfig, World};
use crate::clock::EarlyTraffic;

#[test]
fn rows_leave_early_in_both_directions_of_every_third_schedule() {
    let mut total = EarlyTraffic::default();
    for seed in 0..150 {
        let config = SimConfig::seeded(seed);
        let mut world = World::new(&config).unwrap();
        world.play().unwrap_or_else(|text| panic!("seed {seed}: {text}"));
        let early = world.actors.iter().map(|actor| actor.early());
        let some = early.fold(EarlyTraffic::default(), |sum, one| EarlyTraffic {
            rows_sent: sum.rows_sent + one.rows_sent,
            rows_received: sum.rows_received + one.rows_received,
            ..sum
        });
        assert!(seed % 3 == 2 || some == EarlyTraffic::default(), "seed {seed}");
        total.rows_sent += some.rows_sent;
        total.rows_received += some.rows_received;
    }
    assert!(total.rows_sent > 500 && total.rows_received > 100, "{total:?}");
}
