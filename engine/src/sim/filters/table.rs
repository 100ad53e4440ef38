//! The table that lossy chains are about, and filters of the simulator's own.

use std::sync::{Arc, Mutex, PoisonError};

use super::chains::SimChains;
use crate::filter::{FilterRegistry, PartView, RowView, UserFilter};
use crate::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use crate::update::{Registry, Rows, ServerFn, UpdateError};

/// The table that lossy chains are about.
pub(in crate::sim) const LOSSY: u16 = 4;
/// What `user:trim` takes for a row to drop.
pub(super) const DROPPED: f64 = 1.0;

/// What the table did since it was asked last: per update its arrays, one per part.
#[derive(Clone, Default)]
pub(in crate::sim) struct Updates(Arc<Mutex<Vec<Vec<Vec<f64>>>>>);

impl Updates {
    pub fn take(&self) -> Vec<Vec<Vec<f64>>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(in crate::sim) fn table_spec(chains: &SimChains) -> TableSpec {
    TableSpec {
        id: LOSSY,
        name: "lossy".to_owned(),
        value_type: ValueType::F64,
        width: chains.width as u32,
        store: StoreKind::Sparse,
        function: FunctionSpec::named("recorded add"),
        aggregation: Aggregation::Immediate,
    }
}

/// Registers the table's function and the filters that its chains name.
pub(in crate::sim) fn register(registry: &mut Registry, chains: &SimChains, updates: &Updates) {
    let (updates, parts) = (updates.clone(), chains.parts);
    registry
        .register_f64("recorded add", move |_| Ok(Box::new(RecordedAdd { updates: updates.clone(), parts })));
    registry.filters = users();
}

/// Adds all parts, and says so.
struct RecordedAdd {
    updates: Updates,
    parts: usize,
}

impl ServerFn<f64> for RecordedAdd {
    fn name(&self) -> &str {
        "recorded add"
    }

    fn push_parts(&self) -> usize {
        self.parts
    }

    fn update(&mut self, rows: &mut Rows<'_, f64>, parts: &[&[f64]]) -> Result<(), UpdateError> {
        parts.iter().for_each(|part| rows.scatter_add(0, part));
        let arrays = parts.iter().map(|part| part.to_vec()).collect();
        self.updates.0.lock().unwrap_or_else(PoisonError::into_inner).push(arrays);
        Ok(())
    }
}

pub(super) fn users() -> FilterRegistry {
    let mut users = FilterRegistry::default();
    users.register("same", |_| Ok(Box::new(Same)));
    users.register("trim", |_| Ok(Box::new(Trim)));
    users
}

/// Changes nothing.
struct Same;

impl UserFilter for Same {
    fn rows(&mut self, _: &mut RowView<'_>) -> Result<(), String> {
        Ok(())
    }
}

/// Drops rows that begin with [`DROPPED`] and halves the others.
struct Trim;

impl UserFilter for Trim {
    fn rows(&mut self, rows: &mut RowView<'_>) -> Result<(), String> {
        let width = rows.width();
        for row in (0..rows.rows()).filter(|&row| rows.is_present(row)).collect::<Vec<_>>() {
            let starts =
                |part: &PartView<'_>| matches!(part, PartView::F64(all) if all[row * width] == DROPPED);
            if rows.parts().first().is_some_and(starts) {
                rows.drop_row(row);
                continue;
            }
            for part in rows.parts() {
                let PartView::F64(all) = part else { continue };
                all[row * width..][..width].iter_mut().for_each(|value| *value *= 0.5);
            }
        }
        Ok(())
    }
}
