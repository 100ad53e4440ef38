//! Scattered rows: add or assign values to the slots of a list, and gather them back.
//!
//! A table is a slice of rows of `width` elements; the values of slot `slots[k]` are
//! `values[k * width..(k + 1) * width]`. The bound of the whole list is checked once ([`SlotList::end`]); the loops then
//! run without checks, and hint the cache a few dozen slots ahead when the table exceeds L2.
//!
//! Elements are written in list order, so duplicate slots add up (and an assignment keeps the last).
//!
//! All panic if `width` is 0, if `values` (or `out`) is not `slots * width` long, or if the table ends before the list does.

use crate::isa::shells;
use crate::prefetch::{AHEAD, pays, prefetch};
use crate::real::Real;
use crate::slots::{Run, SlotList};

shells! {
    /// `table[slot] += value`, row by row.
    pub fn scatter_add<T>(table: &mut [T], slots: &SlotList, width: usize, values: &[T]) = scatter_add_loop;

    /// `table[slot] = value`, row by row.
    pub fn scatter_assign<T>(table: &mut [T], slots: &SlotList, width: usize, values: &[T]) = scatter_assign_loop;

    /// `out[k] = table[slots[k]]`, row by row.
    pub fn gather<T>(out: &mut [T], table: &[T], slots: &SlotList, width: usize) = gather_loop;

    /// [`scatter_add`] for a list given as its contiguous runs.
    pub fn add_runs<T>(table: &mut [T], runs: &[Run], width: usize, values: &[T]) = add_runs_loop;

    /// [`scatter_assign`] for a list given as its contiguous runs.
    pub fn assign_runs<T>(table: &mut [T], runs: &[Run], width: usize, values: &[T]) = assign_runs_loop;

    /// [`gather`] for a list given as its contiguous runs.
    pub fn gather_runs<T>(out: &mut [T], table: &[T], runs: &[Run], width: usize) = gather_runs_loop;
}

/// Panics unless the list's rows exist in a table of `table_len` elements and match `values_len`.
#[inline(always)]
fn check(table_len: usize, slots: &SlotList, width: usize, values_len: usize) {
    assert!(width > 0, "a row must have at least one element");
    let rows = table_len / width;
    assert!(slots.end() <= rows, "slot {} is beyond the table's {rows} rows", slots.end().wrapping_sub(1));
    assert_eq!(Some(values_len), slots.len().checked_mul(width), "values must be slots x width long");
}

/// Calls `body(k, slots[k])` for all k in order; hints `table` ahead if that pays.
#[inline(always)]
fn each<T: Real>(table: &mut [T], slots: &[u32], width: usize, mut body: impl FnMut(&mut [T], usize, usize)) {
    let hinted = if pays(table) { slots.len().saturating_sub(AHEAD) } else { 0 };
    for k in 0..hinted {
        prefetch(table, slots[k + AHEAD] as usize * width);
        body(table, k, slots[k] as usize);
    }
    for (k, &slot) in slots.iter().enumerate().skip(hinted) {
        body(table, k, slot as usize);
    }
}

#[inline(always)]
fn scatter_add_loop<T: Real>(table: &mut [T], slots: &SlotList, width: usize, values: &[T]) {
    check(table.len(), slots, width, values.len());
    if width == 1 {
        return each(table, slots.as_slice(), 1, |table, k, slot| {
            // SAFETY: `check` proved slot < slots.end() <= table.len() and values.len() == slots.len() > k.
            unsafe { *table.get_unchecked_mut(slot) += *values.get_unchecked(k) };
        });
    }
    each(table, slots.as_slice(), width, |table, k, slot| {
        let row = &mut table[slot * width..][..width];
        for (t, &v) in row.iter_mut().zip(&values[k * width..][..width]) {
            *t += v;
        }
    });
}

#[inline(always)]
fn scatter_assign_loop<T: Real>(table: &mut [T], slots: &SlotList, width: usize, values: &[T]) {
    check(table.len(), slots, width, values.len());
    if width == 1 {
        return each(table, slots.as_slice(), 1, |table, k, slot| {
            // SAFETY: `check` proved slot < slots.end() <= table.len() and values.len() == slots.len() > k.
            unsafe { *table.get_unchecked_mut(slot) = *values.get_unchecked(k) };
        });
    }
    each(table, slots.as_slice(), width, |table, k, slot| {
        table[slot * width..][..width].copy_from_slice(&values[k * width..][..width]);
    });
}

#[inline(always)]
fn gather_loop<T: Real>(out: &mut [T], table: &[T], slots: &SlotList, width: usize) {
    check(table.len(), slots, width, out.len());
    let list = slots.as_slice();
    let hinted = if pays(table) { list.len().saturating_sub(AHEAD) } else { 0 };
    let mut step = |k: usize| {
        let slot = list[k] as usize;
        if width == 1 {
            // SAFETY: `check` proved slot < slots.end() <= table.len() and out.len() == slots.len() > k.
            unsafe { *out.get_unchecked_mut(k) = *table.get_unchecked(slot) };
        } else {
            out[k * width..][..width].copy_from_slice(&table[slot * width..][..width]);
        }
    };
    for k in 0..hinted {
        prefetch(table, list[k + AHEAD] as usize * width);
        step(k);
    }
    (hinted..list.len()).for_each(step);
}

/// Calls `body(table element range, values element range)` for each run and checks that the values are used up.
#[inline(always)]
fn each_run(
    runs: &[Run],
    width: usize,
    values_len: usize,
    mut body: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>),
) {
    assert!(width > 0, "a row must have at least one element");
    let mut done = 0;
    for run in runs {
        let (start, len) = (run.start as usize * width, run.len as usize * width);
        body(start..start + len, done..done + len);
        done += len;
    }
    assert_eq!(done, values_len, "values must be as long as all runs together, times the width");
}

#[inline(always)]
fn add_runs_loop<T: Real>(table: &mut [T], runs: &[Run], width: usize, values: &[T]) {
    each_run(runs, width, values.len(), |to, from| {
        for (t, &v) in table[to].iter_mut().zip(&values[from]) {
            *t += v;
        }
    });
}

#[inline(always)]
fn assign_runs_loop<T: Real>(table: &mut [T], runs: &[Run], width: usize, values: &[T]) {
    each_run(runs, width, values.len(), |to, from| table[to].copy_from_slice(&values[from]));
}

#[inline(always)]
fn gather_runs_loop<T: Real>(out: &mut [T], table: &[T], runs: &[Run], width: usize) {
    each_run(runs, width, out.len(), |from, to| out[to].copy_from_slice(&table[from]));
}
