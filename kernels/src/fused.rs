//! Aggregate and update in one pass over memory: the arrays of K workers are summed in the order given and
//! applied, block by block, while the sum is still in L1.
//!
//! Each is its unfused pair by construction (the same loops on the same elements), so the bits are equal:
//! `sum_into` a buffer, then the rule of [`crate::prox`] or [`crate::update`]. K may be any number; with no source
//! the sum is zero. No allocation: two blocks live on the stack.

use crate::dense::{BLOCK, add_loop, assert_same_length, sum_block};
use crate::isa::shells;
use crate::prefetch::{pays, prefetch};
use crate::prox::l1_diag_loop;
use crate::real::Real;
use crate::update::{AdaGrad, FtrlProximal, SgdMomentum, adagrad_loop, ftrl_loop, sgd_momentum_loop};

/// Parameters of [`sum_prox_l1`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProxL1<T> {
    /// Step size.
    pub eta: T,
    /// L1 penalty.
    pub lambda: T,
}

shells! {
    /// [`crate::prox::l1_diag`] with `g` and `u` the sums of the workers' arrays: `gs[k]` and `us[k]` are worker k's.
    ///
    /// # Panics
    /// If a source's length differs from `w`'s.
    pub fn sum_prox_l1<T>(w: &mut [T], gs: &[&[T]], us: &[&[T]], rule: ProxL1<T>) = sum_prox_l1_loop;

    /// `w <- w + sum of gs`: the workers' arrays are summed first, then added.
    ///
    /// # Panics
    /// If a source's length differs from `w`'s.
    pub fn sum_add<T>(w: &mut [T], gs: &[&[T]]) = sum_add_loop;

    /// [`crate::update::sgd_momentum`] with the summed gradient.
    ///
    /// # Panics
    /// If a length differs from `w`'s.
    pub fn sum_sgd<T>(w: &mut [T], m: &mut [T], gs: &[&[T]], rule: SgdMomentum<T>) = sum_sgd_loop;

    /// [`crate::update::adagrad`] with the summed gradient.
    ///
    /// # Panics
    /// If a length differs from `w`'s.
    pub fn sum_adagrad<T>(w: &mut [T], n: &mut [T], gs: &[&[T]], rule: AdaGrad<T>) = sum_adagrad_loop;

    /// [`crate::update::ftrl_proximal`] with the summed gradient.
    ///
    /// # Panics
    /// If a length differs from `w`'s.
    pub fn sum_ftrl<T>(w: &mut [T], z: &mut [T], n: &mut [T], gs: &[&[T]], rule: FtrlProximal<T>) = sum_ftrl_loop;
}

/// A block's worth of sums, aligned for the widest vector.
#[repr(align(64))]
struct Sums<T>([T; BLOCK]);

impl<T: Real> Sums<T> {
    #[inline(always)]
    fn new() -> Self {
        Sums([T::ZERO; BLOCK])
    }

    /// The sum of `sources[..][start..start + len]`. Large sources are hinted a block ahead: so many streams at once
    /// are more than a hardware prefetcher follows.
    #[inline(always)]
    fn of(&mut self, sources: &[&[T]], start: usize, len: usize) -> &[T] {
        for source in sources.iter().filter(|source| pays(source)) {
            for line in (start + BLOCK..start + 2 * BLOCK).step_by(T::LANES) {
                prefetch(source, line);
            }
        }
        let sums = &mut self.0[..len];
        sum_block(sums, sources, start);
        sums
    }
}

#[inline(always)]
fn sum_prox_l1_loop<T: Real>(w: &mut [T], gs: &[&[T]], us: &[&[T]], rule: ProxL1<T>) {
    assert_same_length(w.len(), gs);
    assert_same_length(w.len(), us);
    let (mut g, mut u) = (Sums::new(), Sums::new());
    for (block, w) in w.chunks_mut(BLOCK).enumerate() {
        let start = block * BLOCK;
        l1_diag_loop(w, g.of(gs, start, w.len()), u.of(us, start, w.len()), rule.eta, rule.lambda);
    }
}

#[inline(always)]
fn sum_add_loop<T: Real>(w: &mut [T], gs: &[&[T]]) {
    assert_same_length(w.len(), gs);
    let mut g = Sums::new();
    for (block, w) in w.chunks_mut(BLOCK).enumerate() {
        add_loop(w, g.of(gs, block * BLOCK, w.len()));
    }
}

#[inline(always)]
fn sum_sgd_loop<T: Real>(w: &mut [T], m: &mut [T], gs: &[&[T]], rule: SgdMomentum<T>) {
    assert_same_length(w.len(), gs);
    assert_eq!(w.len(), m.len(), "w and m must have the same length");
    let mut g = Sums::new();
    for (block, (w, m)) in w.chunks_mut(BLOCK).zip(m.chunks_mut(BLOCK)).enumerate() {
        sgd_momentum_loop(w, m, g.of(gs, block * BLOCK, w.len()), rule);
    }
}

#[inline(always)]
fn sum_adagrad_loop<T: Real>(w: &mut [T], n: &mut [T], gs: &[&[T]], rule: AdaGrad<T>) {
    assert_same_length(w.len(), gs);
    assert_eq!(w.len(), n.len(), "w and n must have the same length");
    let mut g = Sums::new();
    for (block, (w, n)) in w.chunks_mut(BLOCK).zip(n.chunks_mut(BLOCK)).enumerate() {
        adagrad_loop(w, n, g.of(gs, block * BLOCK, w.len()), rule);
    }
}

#[inline(always)]
fn sum_ftrl_loop<T: Real>(w: &mut [T], z: &mut [T], n: &mut [T], gs: &[&[T]], rule: FtrlProximal<T>) {
    assert_same_length(w.len(), gs);
    assert!(w.len() == z.len() && w.len() == n.len(), "w, z and n must have the same length");
    let mut g = Sums::new();
    for (block, ((w, z), n)) in
        w.chunks_mut(BLOCK).zip(z.chunks_mut(BLOCK)).zip(n.chunks_mut(BLOCK)).enumerate()
    {
        ftrl_loop(w, z, n, g.of(gs, block * BLOCK, w.len()), rule);
    }
}
