//! Where the rows of a key list lie: the result of a look-up, kept beside a cached list.

use keyrange_kernels::slots::SlotList;

/// The rows of a list of keys, in the list's order.
///
/// Cheap to keep: a run is two numbers, a list four bytes a key. It stays good while the table grows; ask
/// [`Table::is_current`](super::Table::is_current) before each later use.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub(super) at: Slots,
    /// The table's number of freezes when this was made: freezing moves rows.
    generation: u32,
    /// The table's number of rows when this was made: a missing key may have got a row since.
    rows: u32,
}

/// The shapes of a look-up's result.
#[derive(Clone, Debug)]
pub enum Slots {
    /// Consecutive rows.
    Run {
        /// The first row.
        start: u32,
        /// The number of rows.
        len: u32,
    },
    /// Any rows, each at most once.
    List(SlotList),
    /// Some keys have no row.
    Partial {
        /// The rows of the keys that have one.
        slots: SlotList,
        /// The places of those keys in the list, increasing.
        places: Vec<u32>,
        /// The number of keys asked for.
        keys: usize,
    },
}

impl Resolved {
    pub(crate) fn new(at: Slots, generation: u32, rows: usize) -> Self {
        Self { at, generation, rows: rows as u32 }
    }

    /// Whether this names the right rows of a table with that many freezes and rows.
    pub(crate) fn fits(&self, generation: u32, rows: usize) -> bool {
        let complete = self.missing() == 0 || self.rows as usize == rows;
        self.generation == generation && complete && self.at.end() <= rows
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        match &self.at {
            Slots::Run { len, .. } => *len as usize,
            Slots::List(slots) => slots.len(),
            Slots::Partial { keys, .. } => *keys,
        }
    }

    /// Whether the list of keys was empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of keys without a row.
    pub fn missing(&self) -> usize {
        match &self.at {
            Slots::Partial { slots, keys, .. } => keys - slots.len(),
            _ => 0,
        }
    }

    /// The rows themselves.
    pub fn slots(&self) -> &Slots {
        &self.at
    }

    /// Memory held, in bytes, for the accounts of a cache.
    pub fn bytes(&self) -> usize {
        let heap_values = match &self.at {
            Slots::Run { .. } => 0,
            Slots::List(slots) => slots.len(),
            Slots::Partial { slots, places, .. } => slots.len() + places.len(),
        };
        size_of::<Self>() + heap_values * size_of::<u32>()
    }
}

/// Marks a key without a row while a list is being looked up; never a slot.
pub(super) const NO_SLOT: u32 = u32::MAX;

impl Slots {
    /// The shape of a looked-up list in which [`NO_SLOT`] stands for "no row".
    pub(super) fn from_lookup(slots: Vec<u32>) -> Self {
        if slots.contains(&NO_SLOT) {
            let keys = slots.len();
            let present = |slot: &u32| *slot != NO_SLOT;
            let places = (0..keys as u32).filter(|&place| present(&slots[place as usize])).collect();
            let slots = slots.into_iter().filter(present).collect();
            return Self::Partial { slots: SlotList::new(slots), places, keys };
        }
        let start = slots.first().copied().unwrap_or(0);
        if slots.iter().zip(start..).all(|(&slot, expected)| slot == expected) {
            return Self::Run { start, len: slots.len() as u32 };
        }
        Self::List(SlotList::new(slots))
    }

    /// Whether both name the same rows in the same order.
    pub(super) fn same(&self, other: &Self) -> bool {
        if std::ptr::eq(self, other) {
            return true;
        }
        match (self, other) {
            (Self::Run { start, len }, Self::Run { start: other_start, len: other_len }) => {
                (start, len) == (other_start, other_len)
            }
            (Self::List(slots), Self::List(others)) => slots.as_slice() == others.as_slice(),
            _ => false,
        }
    }

    /// One past the greatest row.
    pub(super) fn end(&self) -> usize {
        match self {
            Self::Run { start, len } => *start as usize + *len as usize,
            Self::List(slots) | Self::Partial { slots, .. } => slots.end(),
        }
    }
}
