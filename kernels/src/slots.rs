//! Where scattered values go: resolved slots, checked once, and the contiguous runs among them.

/// A list of row numbers in a table, with its bound computed once, so that the kernels of [`crate::sparse`] check a
/// whole list by one comparison each time it is used.
///
/// Meant to be cached beside a key list. Slots of a list used to write should be unique; with duplicates the
/// kernels stay within the table and add in list order, but an assignment keeps the last value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotList {
    slots: Vec<u32>,
    end: usize,
}

impl SlotList {
    /// Takes the slots and finds their bound. One pass.
    pub fn new(slots: Vec<u32>) -> Self {
        let end = slots.iter().max().map_or(0, |&slot| slot as usize + 1);
        SlotList { slots, end }
    }

    /// The slots in list order.
    pub fn as_slice(&self) -> &[u32] {
        &self.slots
    }

    /// How many slots.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The largest slot plus one, 0 for an empty list: the rows a table must have at least.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Gives the slots back.
    pub fn into_vec(self) -> Vec<u32> {
        self.slots
    }
}

impl From<Vec<u32>> for SlotList {
    fn from(slots: Vec<u32>) -> Self {
        SlotList::new(slots)
    }
}

/// Consecutive slots `start, start + 1, ... start + len - 1` in consecutive places of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first slot.
    pub start: u32,
    /// How many, at least 1.
    pub len: u32,
}

/// The maximal runs of a list, in list order; their lengths add up to the list's.
pub fn runs(slots: &[u32]) -> Vec<Run> {
    let mut found: Vec<Run> = Vec::new();
    for &slot in slots {
        match found.last_mut() {
            Some(run)
                if u64::from(run.start) + u64::from(run.len) == u64::from(slot) && run.len < u32::MAX =>
            {
                run.len += 1;
            }
            _ => found.push(Run { start: slot, len: 1 }),
        }
    }
    found
}

/// The whole list as one run, or `None` if it is empty or has a gap. Stops at the first gap.
pub fn as_single_run(slots: &[u32]) -> Option<Run> {
    let (&start, &last) = (slots.first()?, slots.last()?);
    let len = u32::try_from(slots.len()).ok()?;
    let spans = u64::from(start) + u64::from(len) == u64::from(last) + 1;
    let whole = spans && slots.windows(2).all(|pair| u64::from(pair[0]) + 1 == u64::from(pair[1]));
    whole.then_some(Run { start, len })
}
