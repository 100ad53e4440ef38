//! The reference of the lossy table: what each push was to apply, what each row was when, and what a pull may have read.
//!
//! It sees every request when it is made and every frame that a shard takes in. A frame names worker, incarnation and time,
//! and no two pushes of a worker have the same time, so each update is known to be of one push. Values are multiples of
//! 1/8, of which f64 adds any number exactly.

use std::collections::{BTreeMap, HashMap};

use super::chains::SimChains;
use super::expected::{Expected, Memory, ROW_MAX, Row, expect_read};
use super::table::{LOSSY, Updates};
use crate::filter::{ChainSpec, Context, FilterSpec, Scratch, Wish, undo};
use crate::key_range::Key;
use crate::message::{Frame, KeyPart, Kind};

/// A worker in one incarnation.
pub(in crate::sim) type Who = (usize, u32);

/// A push, by the keys and by what may become of them.
struct Push {
    chain: Option<usize>,
    keys: Vec<Key>,
    expected: Vec<Expected>,
    /// Smallest and largest value there may be.
    range: (f64, f64),
    /// When each key was applied.
    applied: Vec<Option<u64>>,
}

/// One worker's chain.
#[derive(Default)]
struct Account {
    memory: Memory,
    /// By key what was pushed and not applied, how many pushes are under way, and the bound of the last one.
    owed: BTreeMap<Key, (Row, usize, f64)>,
}

/// A push that a shard is about to take in.
pub(in crate::sim) struct Taken {
    who: Who,
    time: u64,
    keys: Vec<Key>,
}

/// What came to pass, so that a schedule can be seen to have had it.
#[derive(Default, Clone, Copy)]
pub(in crate::sim) struct Seen {
    /// Frames to shards that were filtered.
    pub filtered: u64,
    /// Rows that `significant` held back.
    pub held_back: u64,
    /// Pulls of a stream that asked for everything once more.
    pub restarts: u64,
}

pub(in crate::sim) struct Oracle {
    chains: SimChains,
    frame_bytes_max: usize,
    updates: Updates,
    scratch: Scratch,
    /// What arrays each request brought, by worker, incarnation, shard and number.
    sent: HashMap<(Who, usize, u64), Vec<f64>>,
    pushes: HashMap<(Who, u64), Push>,
    accounts: HashMap<(Who, usize), Account>,
    /// Each row after each update, with the moment; updates are the moments.
    rows: BTreeMap<Key, Vec<(u64, Row)>>,
    moment: u64,
    range: (f64, f64),
    pub seen: Seen,
}

/// Whether all that `significant` does not hold back arrives as it was.
fn is_accounted(spec: &ChainSpec) -> bool {
    spec.filters.iter().all(|filter| filter.is_lossless() || matches!(filter, FilterSpec::Significant { .. }))
}

fn grow(range: &mut (f64, f64), rows: &[Row]) {
    for &x in rows.iter().flatten() {
        *range = (range.0.min(x), range.1.max(x));
    }
}

/// The values of one key: those of all arrays, one array after the other.
fn row_of(arrays: &[Vec<f64>], at: usize, width: usize) -> Row {
    row_from(arrays.iter().flat_map(|array| &array[at * width..][..width]))
}

fn row_from<'a>(values: impl IntoIterator<Item = &'a f64>) -> Row {
    let mut row = [0.0; ROW_MAX];
    row.iter_mut().zip(values).for_each(|(row, x)| *row = *x);
    row
}

impl Oracle {
    pub fn new(chains: SimChains, frame_bytes_max: usize, updates: Updates) -> Oracle {
        Oracle {
            chains,
            frame_bytes_max,
            updates,
            scratch: Scratch::default(),
            sent: HashMap::new(),
            pushes: HashMap::new(),
            accounts: HashMap::new(),
            rows: BTreeMap::new(),
            moment: 0,
            range: (0.0, 0.0),
            seen: Seen::default(),
        }
    }

    pub fn chains(&self) -> &SimChains {
        &self.chains
    }

    /// Now: what was applied so far.
    pub fn moment(&self) -> u64 {
        self.moment
    }

    fn push_spec(&self, chain: Option<usize>) -> ChainSpec {
        chain.map_or_else(ChainSpec::default, |chain| self.chains.lossy.push[chain].clone())
    }

    /// Notes a push that is being made.
    pub fn push(&mut self, who: Who, time: u64, chain: Option<usize>, keys: &[Key], arrays: &[Vec<f64>]) {
        let spec = self.push_spec(chain);
        let (width, mut expected, mut range) = (self.chains.width, Vec::new(), (0.0, 0.0));
        let account = self.accounts.entry((who, chain.unwrap_or(usize::MAX))).or_default();
        for (at, &key) in keys.iter().enumerate() {
            let row = row_of(arrays, at, width);
            let owed = account.owed.entry(key).or_insert(([0.0; ROW_MAX], 0, 0.0));
            owed.0.iter_mut().zip(&row).for_each(|(owed, x)| *owed += x);
            owed.1 += 1;
            owed.2 = spec.threshold().map_or(0.0, |threshold| threshold / time as f64);
            let row = account.memory.expect(&spec, time, key, row);
            grow(&mut range, &row.rows);
            expected.push(row);
        }
        let (keys, applied) = (keys.to_vec(), vec![None; keys.len()]);
        self.pushes.insert((who, time), Push { chain, keys, expected, range, applied });
    }

    /// Looks at a frame before a shard takes it in: one that comes again must bring what it brought before. Tells which
    /// push it is, if it is one to the lossy table.
    pub fn frame(&mut self, worker: usize, shard: usize, bytes: &[u8]) -> Result<Option<Taken>, String> {
        if self.chains.is_empty() {
            return Ok(None);
        }
        let frame = Frame::decode(bytes).map_err(|error| error.to_string())?;
        let header = frame.header;
        let is_push = matches!(frame.kind, Kind::Push | Kind::PushPull) && header.parts > 0;
        let width = if header.table == LOSSY { self.chains.width } else { 1 };
        let mut scratch = std::mem::take(&mut self.scratch);
        if let Some(wish) = frame.wish() {
            let (wish, _) = Wish::read(wish).map_err(|error| error.to_string())?;
            self.seen.restarts += u64::from(wish.whole && wish.number > 1);
        }
        let mut plain = frame;
        if plain.is_filtered() {
            self.seen.filtered += 1;
            let context = Context { width, frame_bytes_max: self.frame_bytes_max, pull: None };
            undo(&plain, &context, &mut scratch).map_err(|error| error.to_string())?;
            plain = Frame::decode(scratch.frame()).map_err(|error| error.to_string())?;
        }
        let mut taken = Ok(None);
        if is_push {
            let values = plain.values::<f64>(width).map_err(|error| error.to_string())?;
            let values = values[..usize::from(header.parts)].concat();
            let who = (worker, header.epoch);
            let before = self.sent.entry((who, shard, header.sequence)).or_insert_with(|| values.clone());
            // Compared as bits: none may change.
            if before.iter().map(|x| x.to_bits()).ne(values.iter().map(|x| x.to_bits())) {
                let (table, time) = (header.table, header.time);
                let request = format!("request {} to table {table} at time {time}", header.sequence);
                return Err(format!("{request} came again with {values:?}, before with {before:?}"));
            }
            if header.table == LOSSY {
                taken = self.keys_of(who, &plain).map(Some);
            }
        }
        self.scratch = scratch;
        taken
    }

    fn keys_of(&self, who: Who, frame: &Frame<'_>) -> Result<Taken, String> {
        let (time, count) = (frame.header.time, frame.header.key_count as usize);
        let push = self.pushes.get(&(who, time)).ok_or("a push that nobody made")?;
        let keys = match frame.keys() {
            KeyPart::List(keys) => keys.to_vec(),
            KeyPart::Contiguous(range) => (range.first()..=range.last()).collect(),
            KeyPart::Signature(signature) => {
                let slices = push.keys.windows(count.max(1));
                let mut named = slices.filter(|keys| keyrange_kernels::keys::signature(keys) == signature);
                named.next().ok_or("a signature of keys that the push does not have")?.to_vec()
            }
        };
        Ok(Taken { who, time, keys })
    }

    /// Checks what the shard did when it took the frame in.
    pub fn applied(&mut self, taken: Option<Taken>) -> Result<(), String> {
        let mut updates = self.updates.take();
        let Some(arrays) = updates.pop() else { return Ok(()) };
        let taken = taken.filter(|_| updates.is_empty()).ok_or("an update that no push asked for")?;
        let Taken { who, time, keys } = taken;
        let chain = self.pushes.get(&(who, time)).and_then(|push| push.chain);
        let (spec, width) = (self.push_spec(chain), self.chains.width);
        if arrays.len() != self.chains.parts || arrays.iter().any(|array| array.len() != keys.len() * width) {
            return Err(format!("an update of {} keys with arrays of other lengths", keys.len()));
        }
        self.moment += 1;
        for (at, &key) in keys.iter().enumerate() {
            let got = row_of(&arrays, at, width);
            self.settle(who, time, key, &got, &spec)
                .map_err(|text| format!("push {time} of worker {who:?}, key {key}: {text}"))?;
            let history = self.rows.entry(key).or_insert_with(|| vec![(0, [0.0; ROW_MAX])]);
            let mut row = history.last().map_or([0.0; ROW_MAX], |(_, row)| *row);
            for part in got[..width * arrays.len()].chunks_exact(width) {
                row.iter_mut().zip(part).for_each(|(row, x)| *row += x);
            }
            grow(&mut self.range, std::slice::from_ref(&row));
            history.push((self.moment, row));
        }
        Ok(())
    }

    /// Checks what a push applied to one key.
    fn settle(&mut self, who: Who, time: u64, key: Key, got: &Row, spec: &ChainSpec) -> Result<(), String> {
        let push = self.pushes.get_mut(&(who, time)).ok_or("nobody made it")?;
        let at = push.keys.binary_search(&key).map_err(|_| "it does not have this key")?;
        if push.applied[at].replace(self.moment).is_some() {
            return Err("applied 2 times".to_owned());
        }
        push.expected[at].check(spec, push.range, got)?;
        self.seen.held_back += u64::from(
            spec.threshold().is_some() && push.expected[at].rows.iter().flatten().all(|x| *x == 0.0),
        );
        let account = self.accounts.get_mut(&(who, push.chain.unwrap_or(usize::MAX)));
        let owed = account.and_then(|account| account.owed.get_mut(&key)).ok_or("it owes nothing")?;
        owed.0.iter_mut().zip(got).for_each(|(owed, x)| *owed -= x);
        owed.1 -= 1;
        let bound = owed.2;
        if is_accounted(spec) && owed.1 == 0 && owed.0.iter().any(|owed| owed.abs() > bound) {
            return Err(format!("{:?} is missing of what was pushed, and the bound is {bound}", owed.0));
        }
        Ok(())
    }

    /// Checks that all of an acknowledged push was applied.
    pub fn acknowledged(&self, who: Who, time: u64) -> Result<(), String> {
        let push = self.pushes.get(&(who, time)).ok_or("an acknowledged push that nobody made")?;
        match push.applied.iter().position(Option::is_none) {
            None => Ok(()),
            Some(at) => Err(format!(
                "push {time} of worker {who:?} is acknowledged and key {} missing",
                push.keys[at]
            )),
        }
    }

    /// Checks what a chain says it held back, with no push under way.
    pub fn check_held(
        &self,
        who: Who,
        chain: usize,
        keys: &[Key],
        arrays: &[Vec<f64>],
    ) -> Result<(), String> {
        let rows = keys.iter().enumerate();
        let got: BTreeMap<Key, Row> =
            rows.map(|(at, &key)| (key, row_of(arrays, at, self.chains.width))).collect();
        let Some(account) = self.accounts.get(&(who, chain)) else {
            return if got.is_empty() { Ok(()) } else { Err("held back what nobody pushed".to_owned()) };
        };
        let wrong = |what: &str, expected: &BTreeMap<Key, Row>| {
            let spec = &self.chains.lossy.push[chain];
            Err(format!("worker {who:?} holds back {got:?} by \"{spec}\", {what} {expected:?}"))
        };
        let held = account.memory.held();
        if got != held {
            return wrong("and the rule says", &held);
        }
        let owed = account.owed.iter().filter(|(_, owed)| owed.0.iter().any(|x| *x != 0.0));
        let owed = owed.map(|(key, owed)| (*key, owed.0)).collect();
        if is_accounted(&self.chains.lossy.push[chain]) && got != owed {
            return wrong("and of what was pushed is missing", &owed);
        }
        Ok(())
    }

    /// Checks values read of `keys` by a pull begun at `since`. With `own`, the time of the push that it followed, it saw
    /// that too.
    pub fn check_read(
        &self,
        (chain, time): (Option<usize>, u64),
        keys: &[Key],
        values: &[f64],
        since: u64,
        own: Option<(Who, u64)>,
    ) -> Result<(), String> {
        let width = self.chains.width;
        if values.len() != keys.len() * width {
            return Err(format!("{} values for {} keys of {width}", values.len(), keys.len()));
        }
        let spec = chain.map_or_else(ChainSpec::default, |chain| self.chains.lossy.pull[chain].clone());
        let own = own.and_then(|own| self.pushes.get(&own));
        let never = [(0, [0.0; ROW_MAX])];
        for (&key, got) in keys.iter().zip(values.chunks_exact(width)) {
            let history = self.rows.get(&key).map_or(&never[..], Vec::as_slice);
            let applied = own.and_then(|own| own.applied[own.keys.binary_search(&key).ok()?]);
            let since = since.max(applied.unwrap_or(0));
            let from = history.partition_point(|&(moment, _)| moment <= since).saturating_sub(1);
            expect_read(&spec, time, history, from)
                .check(&spec, self.range, &row_from(got))
                .map_err(|text| format!("pull {time}, key {key}: {text}"))?;
        }
        Ok(())
    }

    /// Checks that a pull of existing keys begun at `since` found those there were.
    pub fn check_found(&self, keys: &[Key], since: u64) -> Result<(), String> {
        let was_there = |history: &[(u64, Row)]| history.get(1).is_some_and(|&(moment, _)| moment <= since);
        match self.rows.iter().find(|(key, history)| was_there(history) && !keys.contains(key)) {
            None => Ok(()),
            Some((key, _)) => Err(format!("key {key} exists and was not found")),
        }
    }

    /// Compares the table's rows with the books.
    pub fn audit(&self, contents: &[(Key, Vec<f64>)]) -> Result<(), String> {
        let last = self.rows.iter().filter_map(|(key, history)| Some((*key, history.last()?.1)));
        let books: BTreeMap<Key, Row> = last.collect();
        let contents: BTreeMap<Key, Row> = contents.iter().map(|(key, row)| (*key, row_from(row))).collect();
        match books.iter().find(|&(key, row)| contents.get(key) != Some(row)) {
            None if books.len() == contents.len() => Ok(()),
            None => Err("the lossy table has keys that nobody pushed".to_owned()),
            Some((key, row)) => Err(format!(
                "key {key} of the lossy table is {:?}, pushes came to {row:?}",
                contents.get(key)
            )),
        }
    }
}
