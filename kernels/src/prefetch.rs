//! A hint to fetch a cache line that will be needed soon. Never reads, never faults.

/// Hint distance in list elements: enough misses in flight to hide DRAM latency on one core.
pub(crate) const AHEAD: usize = 64;

/// Tables of at least this many bytes are worth the hint; smaller ones sit in L2.
pub(crate) const LARGE_BYTES: usize = 1 << 20;

/// Whether a table is worth prefetching.
#[inline(always)]
pub(crate) fn pays<T>(table: &[T]) -> bool {
    size_of_val(table) >= LARGE_BYTES
}

/// Hints that `table[index]` will be used. Any index is fine.
#[inline(always)]
pub(crate) fn prefetch<T>(table: &[T], index: usize) {
    #[cfg(all(target_arch = "x86_64", not(keyrange_portable)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = table.as_ptr().wrapping_add(index).cast::<i8>();
        // SAFETY: a prefetch of any address is allowed: it neither reads architecturally nor faults, and SSE is baseline.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(keyrange_portable))))]
    let _ = (table, index);
}
