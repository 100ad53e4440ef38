//! The active features, cut into blocks that all workers agree on.
//!
//! The table's keys are cut into [`BINS`] equal ranges; the workers sum their active nonzeros per bin, and every
//! worker derives the same blocks from the sums: consecutive bins with about the same nonzeros each. One block holds
//! about one nonzero of each `ratio`-th example, so two features of one block seldom meet in one example.

use std::ops::Range;

use keyrange::key_list::KeyList;
use keyrange::key_range::KeyRange;

use super::local::{Columns, Local};

/// Key ranges of equal size from which blocks are made: the most blocks there can be.
pub const BINS: usize = 4096;

const BIN_SHIFT: u32 = u64::BITS - BINS.trailing_zeros();

/// The bin of a table key.
pub fn bin_of(key: u64) -> usize {
    (key >> BIN_SHIFT) as usize
}

/// How many bins are counted as one while there are `blocks` blocks: eight counts a block are enough to make them equal,
/// and every count travels.
pub fn bins_together(blocks: usize) -> usize {
    BINS / (8 * blocks).next_power_of_two().clamp(64, BINS)
}

/// Consecutive bins that make up a block.
pub type BinSpan = Range<usize>;

/// Adds this worker's active nonzeros per bin to `bins`.
pub fn count_active(local: &Local, bins: &mut [f64]) {
    for (column, (&key, weight)) in local.keys.iter().zip(&local.weights).enumerate() {
        if !weight.is_nan() {
            bins[bin_of(key)] += (local.columns.offsets[column + 1] - local.columns.offsets[column]) as f64;
        }
    }
}

/// Cuts the bins into blocks: `ratio` blocks per active nonzero of an example, at least one, none empty.
pub fn cut(bins: &[f64], rows: f64, ratio: f64) -> Vec<BinSpan> {
    let total: f64 = bins.iter().sum();
    if total == 0.0 {
        return Vec::new();
    }
    let blocks = (total / rows * ratio).ceil().clamp(1.0, BINS as f64);
    let share = total / blocks;
    let mut spans = Vec::new();
    let (mut start, mut sum, mut goal) = (0, 0.0, share);
    for (bin, &count) in bins.iter().enumerate() {
        sum += count;
        if count > 0.0 && (sum >= goal - 1e-9 * total || sum == total) {
            spans.push(start..bin + 1);
            start = bin + 1;
            goal = (sum / share).floor() * share + share;
        }
    }
    spans
}

/// One block as this worker sees it.
pub struct Block {
    /// The table keys of the block.
    pub range: KeyRange,
    /// This worker's active features of it: columns of [`ActiveSet::matrix`].
    pub part: Range<usize>,
    /// Their keys.
    pub keys: KeyList,
}

/// The active features of one worker, copied together so that a block is a run of columns.
pub struct ActiveSet {
    /// The number of each column in [`Local`].
    pub columns: Vec<u32>,
    /// The columns.
    pub matrix: Columns,
    /// Per column: how far the block's diagonal curvature must be raised to bound its full Hessian.
    pub spread: Vec<f64>,
    /// The blocks, in key order.
    pub blocks: Vec<Block>,
    /// The bins of each block.
    pub spans: Vec<BinSpan>,
}

impl ActiveSet {
    /// Gathers the active columns of `local` and cuts them by `spans`.
    pub fn new(local: &Local, spans: Vec<BinSpan>) -> ActiveSet {
        let is_active = |column: &u32| !local.weights[*column as usize].is_nan();
        let columns: Vec<u32> = (0..local.keys.len() as u32).filter(is_active).collect();
        let matrix = Columns::select(&local.columns, &columns);
        let mut blocks = Vec::with_capacity(spans.len());
        let mut start = 0;
        for span in &spans {
            let last = ((span.end as u64) << BIN_SHIFT).wrapping_sub(1);
            let first = (span.start as u64) << BIN_SHIFT;
            let in_block = |column: &u32| local.keys[*column as usize] <= last;
            let end = start + columns[start..].partition_point(in_block);
            let keys = columns[start..end].iter().map(|&column| local.keys[column as usize]).collect();
            blocks.push(Block {
                range: KeyRange::new(first, last).expect("a span has bins"),
                part: start..end,
                keys: KeyList::new(keys).expect("columns are in key order"),
            });
            start = end;
        }
        let spread = spread(&matrix, &blocks, local.labels.len());
        ActiveSet { columns, matrix, spread, blocks, spans }
    }

    /// No features.
    pub fn empty() -> ActiveSet {
        let matrix = Columns { offsets: vec![0], ..Columns::default() };
        ActiveSet { columns: Vec::new(), matrix, spread: Vec::new(), blocks: Vec::new(), spans: Vec::new() }
    }

    /// One block of the given columns of `local`, in key order, which concerns all servers.
    pub fn of_columns(local: &Local, columns: Vec<u32>) -> ActiveSet {
        let matrix = Columns::select(&local.columns, &columns);
        let keys = columns.iter().map(|&column| local.keys[column as usize]).collect();
        let keys = KeyList::new(keys).expect("columns are in key order");
        let blocks = vec![Block { range: KeyRange::ALL, part: 0..columns.len(), keys }];
        let spread = spread(&matrix, &blocks, local.labels.len());
        ActiveSet { columns, matrix, spread, blocks, spans: Vec::new() }
    }
}

/// Raising each diagonal entry of a block's Hessian `sum_i h_i x_ij^2` by the factor
/// `sum_i |x_ij| t_i / sum_i x_ij^2`, with `t_i` the sum of `|x_ik|` over the block, makes it an upper bound of
/// the whole block for equal `h_i` (diagonal dominance), so that all features of a block may step at once.
fn spread(matrix: &Columns, blocks: &[Block], rows: usize) -> Vec<f64> {
    let mut spread = vec![1.0; matrix.count()];
    let mut row_sums = vec![0.0; rows];
    for block in blocks {
        if block.part.len() < 2 {
            continue;
        }
        for column in block.part.clone() {
            matrix.column(column).for_each(|(row, x)| row_sums[row] += x.abs());
        }
        for column in block.part.clone() {
            let (mut joint, mut own) = (0.0, 0.0);
            for (row, x) in matrix.column(column) {
                joint += x.abs() * row_sums[row];
                own += x * x;
            }
            if own > 0.0 {
                spread[column] = joint / own;
            }
        }
        for column in block.part.clone() {
            matrix.column(column).for_each(|(row, _)| row_sums[row] = 0.0);
        }
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_counted_bins_in_order_and_none_is_empty() {
        for ratio in [0.01, 1.0, 4.0, 1e6] {
            let bins: Vec<f64> = (0..BINS).map(|bin| f64::from((bin as u32 * 7919) % 13 / 9 * 50)).collect();
            let spans = cut(&bins, 1000.0, ratio);
            assert!(spans.windows(2).all(|pair| pair[0].end == pair[1].start));
            let covered: f64 = spans.iter().flat_map(|span| &bins[span.clone()]).sum();
            assert_eq!(covered, bins.iter().sum::<f64>());
            assert!(spans.iter().all(|span| bins[span.clone()].iter().any(|&count| count > 0.0)));
        }
        assert!(cut(&[0.0; BINS], 10.0, 4.0).is_empty());
    }

    #[test]
    fn blocks_hold_about_equal_shares() {
        let spans = cut(&[1.0; BINS], 1024.0, 4.0);
        assert_eq!(spans.len(), 16);
        assert!(spans.iter().all(|span| span.len() == BINS / 16));
    }
}
