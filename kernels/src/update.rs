//! Update rules: what a server does with an aggregated gradient. In place, element by element, one pass.
//!
//! Slices of one call have equal lengths (else a panic). Rules are applied literally, each operation rounded once,
//! in the order written. NaN in a gradient makes its own coordinate NaN and no other.

use crate::dense::add_loop;
use crate::isa::shells;
use crate::real::Real;

/// Stochastic gradient descent with momentum (heavy ball) and weight decay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdMomentum<T> {
    /// Learning rate.
    pub rate: T,
    /// How much of the last step is kept, 0 for none.
    pub momentum: T,
    /// L2 penalty added to the gradient as `decay * w`, 0 for none.
    pub decay: T,
}

/// AdaGrad (Duchi, Hazan, Singer, JMLR 2011), diagonal form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaGrad<T> {
    /// Learning rate.
    pub rate: T,
    /// Added to the root, against division by zero.
    pub epsilon: T,
}

/// Adam (Kingma, Ba, ICLR 2015, algorithm 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam<T> {
    /// Learning rate.
    pub rate: T,
    /// Decay of the first moment.
    pub beta1: T,
    /// Decay of the second moment.
    pub beta2: T,
    /// Added to the root, against division by zero.
    pub epsilon: T,
}

/// FTRL-Proximal (McMahan et al., KDD 2013, algorithm 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FtrlProximal<T> {
    /// Per-coordinate learning rate scale, positive.
    pub alpha: T,
    /// Damps early steps; 1 is usual.
    pub beta: T,
    /// L1 penalty.
    pub l1: T,
    /// L2 penalty.
    pub l2: T,
}

shells! {
    /// `y[i] = x[i]`.
    pub fn assign<T>(y: &mut [T], x: &[T]) = assign_loop;

    /// `y[i] += x[i]`.
    pub fn add<T>(y: &mut [T], x: &[T]) = add_loop;

    /// `y[i] = max(y[i], x[i])`. NaN in either wins; among `+0` and `-0` the one in `y` stays.
    pub fn max<T>(y: &mut [T], x: &[T]) = max_loop;

    /// `y[i] = min(y[i], x[i])`. NaN in either wins; among `+0` and `-0` the one in `y` stays.
    pub fn min<T>(y: &mut [T], x: &[T]) = min_loop;

    /// `m <- momentum m + (g + decay w); w <- w - rate m`. `m` starts at zero.
    pub fn sgd_momentum<T>(w: &mut [T], m: &mut [T], g: &[T], rule: SgdMomentum<T>) = sgd_momentum_loop;

    /// `w <- w - rate g`.
    pub fn sgd<T>(w: &mut [T], g: &[T], rate: T) = sgd_loop;

    /// `n <- n + g^2; w <- w - rate g / (sqrt(n) + epsilon)`. `n` starts at zero.
    pub fn adagrad<T>(w: &mut [T], n: &mut [T], g: &[T], rule: AdaGrad<T>) = adagrad_loop;

    /// `m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2;
    /// w <- w - rate m' / (sqrt(v') + epsilon)` with `m' = m / (1 - beta1^step)`, `v' = v / (1 - beta2^step)`.
    /// `m` and `v` start at zero, `step` at 1 (0 counts as 1).
    pub fn adam<T>(w: &mut [T], m: &mut [T], v: &mut [T], g: &[T], step: u64, rule: Adam<T>) = adam_loop;

    /// `s <- (sqrt(n + g^2) - sqrt(n)) / alpha; z <- z + g - s w; n <- n + g^2;
    /// w <- -(z - sign(z) l1) / ((beta + sqrt(n)) / alpha + l2)`, or `+0` where `|z| <= l1`.
    /// `z`, `n` and `w` start at zero. A NaN gradient leaves NaN in all three.
    pub fn ftrl_proximal<T>(w: &mut [T], z: &mut [T], n: &mut [T], g: &[T], rule: FtrlProximal<T>) = ftrl_loop;
}

const LENGTHS: &str = "all slices of an update must have the same length";

#[inline(always)]
fn assign_loop<T: Real>(y: &mut [T], x: &[T]) {
    assert_eq!(y.len(), x.len(), "{LENGTHS}");
    y.copy_from_slice(x);
}

#[inline(always)]
fn max_loop<T: Real>(y: &mut [T], x: &[T]) {
    assert_eq!(y.len(), x.len(), "{LENGTHS}");
    for (y, &x) in y.iter_mut().zip(x) {
        *y = if x.is_nan() | (x > *y) { x } else { *y };
    }
}

#[inline(always)]
fn min_loop<T: Real>(y: &mut [T], x: &[T]) {
    assert_eq!(y.len(), x.len(), "{LENGTHS}");
    for (y, &x) in y.iter_mut().zip(x) {
        *y = if x.is_nan() | (x < *y) { x } else { *y };
    }
}

#[inline(always)]
pub(crate) fn sgd_loop<T: Real>(w: &mut [T], g: &[T], rate: T) {
    assert_eq!(w.len(), g.len(), "{LENGTHS}");
    for (w, &g) in w.iter_mut().zip(g) {
        *w = *w - rate * g;
    }
}

#[inline(always)]
pub(crate) fn sgd_momentum_loop<T: Real>(w: &mut [T], m: &mut [T], g: &[T], rule: SgdMomentum<T>) {
    assert!(w.len() == g.len() && m.len() == g.len(), "{LENGTHS}");
    for ((w, m), &g) in w.iter_mut().zip(m).zip(g) {
        *m = rule.momentum * *m + (g + rule.decay * *w);
        *w = *w - rule.rate * *m;
    }
}

#[inline(always)]
pub(crate) fn adagrad_loop<T: Real>(w: &mut [T], n: &mut [T], g: &[T], rule: AdaGrad<T>) {
    assert!(w.len() == g.len() && n.len() == g.len(), "{LENGTHS}");
    for ((w, n), &g) in w.iter_mut().zip(n).zip(g) {
        *n += g * g;
        *w = *w - rule.rate * g / (n.sqrt() + rule.epsilon);
    }
}

#[inline(always)]
fn adam_loop<T: Real>(w: &mut [T], m: &mut [T], v: &mut [T], g: &[T], step: u64, rule: Adam<T>) {
    assert!(w.len() == g.len() && m.len() == g.len() && v.len() == g.len(), "{LENGTHS}");
    // Powers in f64: beta^step must not lose the difference to 1.
    let step = i32::try_from(step.max(1)).unwrap_or(i32::MAX);
    let correction = |beta: T| T::from_f64(1.0 / (1.0 - beta.to_f64().powi(step)));
    let (first, second) = (correction(rule.beta1), correction(rule.beta2));
    let (keep1, keep2) = (T::ONE - rule.beta1, T::ONE - rule.beta2);
    for (((w, m), v), &g) in w.iter_mut().zip(m).zip(v).zip(g) {
        *m = rule.beta1 * *m + keep1 * g;
        *v = rule.beta2 * *v + keep2 * (g * g);
        *w = *w - rule.rate * (*m * first) / ((*v * second).sqrt() + rule.epsilon);
    }
}

#[inline(always)]
pub(crate) fn ftrl_loop<T: Real>(w: &mut [T], z: &mut [T], n: &mut [T], g: &[T], rule: FtrlProximal<T>) {
    assert!(w.len() == g.len() && z.len() == g.len() && n.len() == g.len(), "{LENGTHS}");
    let per_alpha = T::ONE / rule.alpha;
    for (((w, z), n), &g) in w.iter_mut().zip(z).zip(n).zip(g) {
        let squares = *n + g * g;
        let root = squares.sqrt();
        *z += g - (root - n.sqrt()) * per_alpha * *w;
        *n = squares;
        let shrunk = crate::prox::shrink(*z, rule.l1);
        *w = T::ZERO - shrunk / ((rule.beta + root) * per_alpha + rule.l2);
    }
}
