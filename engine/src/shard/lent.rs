//! Values that did not come with their frame: the worker lent the memory they lie in.
//!
//! Pushes that are applied at once read them there. Contributions to aggregated updates are copied like any other.

use super::buffers::Buffer;
use super::core::ShardCore;
use super::requests::Refusal;
use crate::message::{Element, Frame, PARTS_MAX, RefusalCode};
use crate::session::{Outbox, PeerId};
use crate::table::AnyTable;

/// The frame's value arrays (the first `parts` entries), in the frame or where the worker lent them.
pub(super) fn arrays<'a, V: Element>(
    frame: &Frame<'a>,
    width: usize,
    from: PeerId,
    out: &'a dyn Outbox,
) -> Result<[&'a [V]; PARTS_MAX], Refusal> {
    if !frame.is_lent() {
        return frame.values::<V>(width).map_err(Refusal::mismatch);
    }
    let ranges = frame.lent_ranges::<V>(width).map_err(Refusal::mismatch)?;
    let mut arrays: [&[V]; PARTS_MAX] = [&[]; PARTS_MAX];
    for (array, range) in arrays.iter_mut().zip(&ranges).take(frame.header.parts as usize) {
        let bytes = out.resolve(from, range);
        // Any address may come; one that values of this type cannot have is as good as none.
        let values = bytes.and_then(|bytes| bytemuck::try_cast_slice(bytes).ok());
        *array = values.ok_or_else(|| {
            let text = format!("expected values in lent memory, got {range:?}, which was not lent");
            Refusal::new(RefusalCode::Mismatch, text)
        })?;
    }
    Ok(arrays)
}

impl ShardCore {
    /// A copy of a contribution's lent values, laid out as in a frame.
    pub(super) fn hold_lent(
        &mut self,
        rank: u32,
        frame: &Frame<'_>,
        out: &dyn Outbox,
    ) -> Result<Buffer, Refusal> {
        let id = frame.header.table;
        let slot = self.slot(id).ok_or_else(|| Refusal::no_table(id))?;
        slot.check_parts(frame)?;
        let (width, from) = (slot.spec.width as usize, PeerId(rank));
        let parts = frame.header.parts as usize;
        let copy = match slot.table {
            AnyTable::F32(_) => {
                let arrays = arrays::<f32>(frame, width, from, out)?.map(bytemuck::cast_slice);
                self.buffers.gather(&arrays[..parts])
            }
            AnyTable::F64(_) => {
                let arrays = arrays::<f64>(frame, width, from, out)?.map(bytemuck::cast_slice);
                self.buffers.gather(&arrays[..parts])
            }
        };
        self.count_held(rank, copy.bytes().len());
        Ok(copy)
    }
}
