//! Sequential, bounded delay and eventual: task t starts when every task up to t - 1 - tau has finished.

use crate::wires::*;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};

const KEYS: usize = 20;
const TIMES: u64 = 12;

/// What worker `part` of several would subtract from `weights` at time `time`: never the same twice, never exact.
fn gradient(weights: &[f64], part: usize, time: u64) -> Vec<f64> {
    let value =
        |(at, weight): (usize, &f64)| 0.1 * (weight + (at + 3 * part) as f64 + 0.7 * time as f64).sin();
    weights.iter().enumerate().map(value).collect()
}

/// One worker's loop: as soon as the delay allows, it pushes the gradient at the newest weights it has.
struct Trainer {
    delay: BoundedDelay,
    weights: Vec<f64>,
    newest: u64,
    started: Vec<(TaskId, u64)>,
    taken: usize,
}

struct Training {
    cluster: Cluster,
    table: TableHandle,
    list: KeyList,
    trainers: Vec<Trainer>,
    /// The furthest that any task started ahead of one not finished.
    lead_max: u64,
}

impl Training {
    fn new(workers: usize, tau: u64) -> Training {
        let mut cluster = Cluster::plain(workers, 2);
        let function = FunctionSpec::named("add");
        let table = cluster.create(&TableSpec { function, ..blocks(StoreKind::Sparse) });
        let trainer = |_| Trainer {
            delay: BoundedDelay::new(tau),
            weights: vec![0.0; KEYS],
            newest: 0,
            started: Vec::new(),
            taken: 0,
        };
        let trainers = (0..workers).map(trainer).collect();
        Training { cluster, table, list: spread(KEYS as u64, 0), trainers, lead_max: 0 }
    }

    /// Starts what may start; `parts` are the shares of the data each worker has.
    fn start(&mut self, parts: impl Fn(usize) -> Vec<usize>) {
        for (rank, trainer) in self.trainers.iter_mut().enumerate() {
            let (worker, out) = (&mut self.cluster.workers[rank], &mut self.cluster.up[rank]);
            harvest(trainer, worker);
            let time = trainer.started.len() as u64;
            if time == TIMES || !trainer.delay.ready(time) {
                continue;
            }
            let mut sum = vec![0.0; KEYS];
            for part in parts(rank) {
                let gradient = gradient(&trainer.weights, part, time);
                sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
            }
            let keys = Keys::ListIn(self.list.clone(), KeyRange::ALL);
            let task =
                worker.push_pull(self.table, keys, vec![sum], Vec::new(), Options::at(time), out).unwrap();
            let open =
                trainer.started.iter().position(|&(task, _)| worker.state(task) != TaskState::Finished);
            let lead = open.map_or(0, |oldest| time - oldest as u64);
            assert!(lead <= trainer.delay.tau(), "task {time} started {lead} ahead");
            self.lead_max = self.lead_max.max(lead);
            trainer.delay.started(time, task);
            trainer.started.push((task, time));
        }
    }

    fn is_over(&self) -> bool {
        self.trainers.iter().all(|trainer| trainer.taken as u64 == TIMES)
    }

    /// Plays to the end; frames arrive in any order.
    fn play(
        &mut self,
        seed: u64,
        parts: impl Fn(usize) -> Vec<usize>,
        change: impl Fn(&mut Xoshiro256PlusPlus, &mut BoundedDelay),
    ) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        for _ in 0..100_000 {
            if self.is_over() {
                return;
            }
            let lucky = random.random_range(0..self.trainers.len());
            change(&mut random, &mut self.trainers[lucky].delay);
            self.start(&parts);
            self.cluster.deliver_one(&mut random);
        }
        panic!("the training does not end");
    }
}

/// Takes what is finished; the newest update's weights count.
fn harvest(trainer: &mut Trainer, worker: &mut WorkerCore) {
    let open: Vec<TaskId> = trainer.delay.open().map(|(_, task)| task).collect();
    for task in open {
        let Some(outcome) = worker.take(task) else { continue };
        let outcome = outcome.unwrap();
        trainer.delay.finished(task);
        trainer.taken += 1;
        let time = trainer.started.iter().find(|&&(of, _)| of == task).expect("started").1;
        if time >= trainer.newest {
            (trainer.newest, trainer.weights) = (time, outcome.values.into_vec());
        }
    }
}

fn bits(training: &Training) -> Vec<Vec<u64>> {
    let weights =
        training.trainers.iter().map(|trainer| trainer.weights.iter().map(|w| w.to_bits()).collect());
    weights.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_task_is_further_ahead_than_the_bound_also_when_that_changes(seed in any::<u64>(), tau in 0..6u64) {
        let mut fixed = Training::new(3, tau);
        fixed.play(seed, |rank| vec![rank], |_, _| {});
        prop_assert!(fixed.lead_max <= tau);
        let mut changing = Training::new(3, tau);
        changing.play(seed, |rank| vec![rank], |random, delay| {
            if random.random_bool(0.05) {
                delay.set_tau(random.random_range(0..6));
            }
        });
        prop_assert!(changing.lead_max <= 5);
    }

    #[test]
    fn without_delay_the_bits_are_those_of_one_worker_alone(seed in any::<u64>()) {
        let mut alone = Training::new(1, 0);
        alone.play(0, |_| vec![0, 1, 2], |_, _| {});
        let mut together = Training::new(3, 0);
        together.play(seed, |rank| vec![rank], |_, _| {});
        prop_assert_eq!(together.lead_max, 0);
        prop_assert!(bits(&together).iter().all(|weights| *weights == bits(&alone)[0]));
    }

    /// Submitted all at once, the tasks wait by themselves.
    #[test]
    fn tasks_that_wait_for_their_blockers_keep_the_bound_too(seed in any::<u64>(), tau in 0..6u64) {
        let mut cluster = Cluster::plain(1, 2);
        let table = cluster.create(&spec(StoreKind::Sparse));
        let (mut delay, mut tasks) = (BoundedDelay::new(tau), Vec::new());
        for time in 0..TIMES {
            let options = Options { after: delay.blockers(time).collect(), ..Options::at(time) };
            let (worker, out) = (&mut cluster.workers[0], &mut cluster.up[0]);
            let task = worker.push(table, Keys::List(spread(10, 0)), vec![vec![1f32; 10]], options, out).unwrap();
            delay.started(time, task);
            tasks.push(task);
        }
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        loop {
            let state = |time: usize| cluster.workers[0].state(tasks[time]);
            let oldest = (0..tasks.len()).find(|&time| state(time) != TaskState::Finished);
            let newest = (0..tasks.len()).rfind(|&time| state(time) != TaskState::Waiting);
            if let (Some(oldest), Some(newest)) = (oldest, newest) {
                prop_assert!(newest.saturating_sub(oldest) as u64 <= tau);
            }
            if !cluster.deliver_one(&mut random) {
                prop_assert_eq!(oldest, None);
                break;
            }
        }
    }
}

#[test]
fn without_a_bound_nothing_waits() {
    let mut training = Training::new(2, u64::MAX);
    for _ in 0..TIMES {
        training.start(|rank| vec![rank]);
    }
    assert!(training.trainers.iter().all(|trainer| trainer.started.len() as u64 == TIMES));
    assert_eq!(training.lead_max, TIMES - 1);
    training.play(1, |rank| vec![rank], |_, _| {});
}
