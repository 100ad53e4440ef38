//! The tables of a shard, and what surrounds each: open updates, finished times, pulls that wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clocked::Clocks;
use super::key_cache::{KeysRef, Located};
use super::requests::Refusal;
use super::updates::OpenUpdate;
use crate::key_range::{Key, KeyRange};
use crate::message::{Header, RefusalCode};
use crate::table::{AnyTable, Resolved, StoreKind, TableError, TableSpec};
use crate::update::Registry;

/// Finished times remembered one by one; everything older counts as finished.
const FINISHED_MAX: usize = 4096;

pub(super) struct TableSlot {
    /// As asked for; the table itself may hold only this shard's part of a dense interval.
    pub spec: TableSpec,
    pub table: AnyTable,
    /// The keys of a dense table, over all shards.
    interval: Option<KeyRange>,
    pub open: BTreeMap<u64, OpenUpdate>,
    pub finished: Finished,
    pub parked: Vec<Parked>,
    pub is_frozen: bool,
    /// Of a clocked table.
    pub clocks: Option<Box<Clocks>>,
}

/// A pull that waits for an update.
pub(super) struct Parked {
    pub rank: u32,
    pub header: Header,
    pub located: Located,
}

impl Parked {
    /// Who asked, and by which request.
    pub fn request(&self) -> (u32, u64) {
        (self.rank, self.header.sequence)
    }
}

impl TableSlot {
    /// The part of the table that falls to the shard that owns `owned`.
    pub fn create(spec: TableSpec, owned: KeyRange, registry: &Registry) -> Result<TableSlot, TableError> {
        let mut own = spec.clone();
        let mut interval = None;
        if let StoreKind::Dense { first, last } = spec.store
            && let Ok(whole) = KeyRange::new(first, last)
        {
            interval = Some(whole);
            own.store = match whole.intersect(owned) {
                Some(part) => StoreKind::Dense { first: part.first(), last: part.last() },
                // None of its keys fall to this shard: an empty table that answers empty requests.
                None => StoreKind::Sparse,
            };
        }
        Ok(TableSlot::with_table(spec, AnyTable::new(own, registry)?, interval))
    }

    /// Around a table made elsewhere.
    pub fn with_table(spec: TableSpec, table: AnyTable, interval: Option<KeyRange>) -> TableSlot {
        let (open, finished, parked) = (BTreeMap::new(), Finished::default(), Vec::new());
        TableSlot { spec, table, interval, open, finished, parked, is_frozen: false, clocks: None }
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.spec.width as usize * self.spec.value_type.bytes()
    }

    /// Finds the rows of all keys of `range`.
    pub fn locate_range(&mut self, range: KeyRange, insert: bool) -> Result<Located, Refusal> {
        self.check_interval(range)?;
        let at = if range.count() == 1 {
            self.resolve_one(range.first(), insert)
        } else {
            self.table.resolve_range(range.first(), range.last(), insert).map_err(Refusal::table)
        };
        Ok(Located { keys: KeysRef::Range(range), at: at?.into() })
    }

    /// Finds the row of one key.
    #[inline]
    pub fn resolve_one(&mut self, key: Key, insert: bool) -> Result<Resolved, Refusal> {
        self.check_interval(KeyRange::one(key))?;
        let at = match &mut self.table {
            AnyTable::F32(table) => table.resolve_one(key, insert),
            AnyTable::F64(table) => table.resolve_one(key, insert),
        };
        at.map_err(Refusal::table)
    }

    /// Finds the rows of checked keys. `shared` gives the keys to keep, if they must be.
    #[inline]
    pub fn locate_list(
        &mut self,
        keys: &[Key],
        shared: impl FnOnce() -> Arc<[Key]>,
        insert: bool,
    ) -> Result<Located, Refusal> {
        if let (Some(&first), Some(&last)) = (keys.first(), keys.last())
            && let Ok(span) = KeyRange::new(first, last)
        {
            self.check_interval(span)?;
        }
        let at = self.table.resolve(keys, insert).map_err(Refusal::table)?;
        let rows_may_move = self.spec.store == StoreKind::Frozen && !self.is_frozen;
        let keys_matter = at.missing() > 0 || rows_may_move || self.clocks.is_some();
        let keys = if keys_matter { KeysRef::List(shared()) } else { KeysRef::Settled };
        Ok(Located { keys, at: at.into() })
    }

    /// Whether the keys must be sent again, their rows being out of date: the table has been replaced by another.
    pub fn has_lost(&self, located: &Located) -> bool {
        matches!(located.keys, KeysRef::Settled) && !self.table.is_current(&located.at)
    }

    /// Looks the rows up again if the table has changed so that `located` is out of date.
    pub fn refresh(&mut self, located: &mut Located, insert: bool) -> Result<(), Refusal> {
        if self.table.is_current(&located.at) && !(insert && located.at.missing() > 0) {
            return Ok(());
        }
        *located = match &located.keys {
            KeysRef::Range(range) => self.locate_range(*range, insert)?,
            KeysRef::List(keys) => self.locate_list(keys, || Arc::clone(keys), insert)?,
            KeysRef::Settled => return Err(Refusal::table(TableError::Stale)),
        };
        Ok(())
    }

    #[inline]
    pub fn check_interval(&self, range: KeyRange) -> Result<(), Refusal> {
        match self.interval {
            Some(interval) if !interval.covers(range) => Err(Refusal::new(
                RefusalCode::NotOwned,
                format!("table {} has keys {interval}, got {range}", self.spec.name),
            )),
            _ => Ok(()),
        }
    }
}

/// Which updates of a table are finished.
#[derive(Default)]
pub(super) struct Finished {
    /// Everything below counts as finished.
    floor: u64,
    times: BTreeSet<u64>,
    /// Times and workers whose contributions the server function refused.
    refused: BTreeSet<(u64, u32)>,
}

impl Finished {
    pub fn contains(&self, time: u64) -> bool {
        time < self.floor || self.times.contains(&time)
    }

    /// Whether `time` is so old that nobody can tell any more.
    pub fn forgot(&self, time: u64) -> bool {
        time < self.floor
    }

    pub fn insert(&mut self, time: u64) {
        self.times.insert(time);
        if self.times.len() > FINISHED_MAX
            && let Some(oldest) = self.times.pop_first()
        {
            self.floor = oldest + 1;
            self.refused = self.refused.split_off(&(self.floor, 0));
        }
    }

    /// Remembers, of a finished time, that the contribution of worker `rank` was refused.
    pub fn refuse(&mut self, time: u64, rank: u32) {
        if self.times.contains(&time) {
            self.refused.insert((time, rank));
        }
    }

    /// Whether the contribution of worker `rank` to a finished time was refused.
    pub fn is_refused(&self, time: u64, rank: u32) -> bool {
        self.refused.contains(&(time, rank))
    }
}
