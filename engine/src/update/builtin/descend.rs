//! Functions that take gradients.

use keyrange_kernels::fused;
use keyrange_kernels::update::{self, AdaGrad, Adam, FtrlProximal, SgdMomentum};

use super::{AdaGradParams, AdamParams, FtrlParams, SgdParams};
use crate::table::Value;
use crate::update::{Rows, ServerFn, UpdateError};

/// `sgd`: stochastic gradient descent, with momentum (one state column) if asked for.
pub struct SgdFn(SgdParams);

impl SgdFn {
    /// # Errors
    /// A parameter outside its limits, by name.
    pub fn new(params: SgdParams) -> Result<Self, String> {
        params.checked().map(Self)
    }

    /// Without momentum and decay there is no state to keep.
    fn is_plain(&self) -> bool {
        self.0.momentum == 0.0 && self.0.decay == 0.0
    }

    fn rule<V: Value>(&self) -> SgdMomentum<V> {
        let SgdParams { rate, momentum, decay } = self.0;
        SgdMomentum { rate: V::from_f64(rate), momentum: V::from_f64(momentum), decay: V::from_f64(decay) }
    }
}

impl<V: Value> ServerFn<V> for SgdFn {
    fn name(&self) -> &str {
        "sgd"
    }
    fn state_columns(&self) -> usize {
        usize::from(!self.is_plain())
    }
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        if self.is_plain() {
            rows.apply(|[w]| update::sgd(w, parts[0], V::from_f64(self.0.rate)));
        } else {
            rows.apply(|[w, m]| update::sgd_momentum(w, m, parts[0], self.rule()));
        }
        Ok(())
    }
    fn update_fused(&mut self, rows: &mut Rows<'_, V>, sources: &[&[&[V]]]) -> bool {
        if !self.is_plain() {
            rows.apply(|[w, m]| fused::sum_sgd(w, m, sources[0], self.rule()));
        }
        !self.is_plain()
    }
}

/// `adagrad`: a learning rate per value, from the sum of its squared gradients (one state column).
pub struct AdaGradFn(AdaGradParams);

impl AdaGradFn {
    /// # Errors
    /// A parameter outside its limits, by name.
    pub fn new(params: AdaGradParams) -> Result<Self, String> {
        params.checked().map(Self)
    }

    fn rule<V: Value>(&self) -> AdaGrad<V> {
        AdaGrad { rate: V::from_f64(self.0.rate), epsilon: V::from_f64(self.0.epsilon) }
    }
}

impl<V: Value> ServerFn<V> for AdaGradFn {
    fn name(&self) -> &str {
        "adagrad"
    }
    fn state_columns(&self) -> usize {
        1
    }
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        rows.apply(|[w, n]| update::adagrad(w, n, parts[0], self.rule()));
        Ok(())
    }
    fn update_fused(&mut self, rows: &mut Rows<'_, V>, sources: &[&[&[V]]]) -> bool {
        rows.apply(|[w, n]| fused::sum_adagrad(w, n, sources[0], self.rule()));
        true
    }
}

/// `adam`: both moments per value, and the number of its updates (three state columns). Counting per value and not per
/// table keeps the bias correction right for rows that are rarely pushed, and for pushes cut into several frames.
pub struct AdamFn(AdamParams);

impl AdamFn {
    /// # Errors
    /// A parameter outside its limits, by name.
    pub fn new(params: AdamParams) -> Result<Self, String> {
        params.checked().map(Self)
    }

    fn rule<V: Value>(&self) -> Adam<V> {
        let AdamParams { rate, beta1, beta2, epsilon } = self.0;
        Adam {
            rate: V::from_f64(rate),
            beta1: V::from_f64(beta1),
            beta2: V::from_f64(beta2),
            epsilon: V::from_f64(epsilon),
        }
    }
}

impl<V: Value> ServerFn<V> for AdamFn {
    fn name(&self) -> &str {
        "adam"
    }
    fn state_columns(&self) -> usize {
        3
    }
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        let rule = self.rule();
        rows.apply(|[w, m, v, steps]| {
            let mut begin = 0;
            while begin < steps.len() {
                let step = steps[begin] + V::ONE;
                let equal = steps[begin..].iter().take_while(|&&other| other == steps[begin]).count().max(1);
                let run = begin..begin + equal;
                let (w, m, v) = (&mut w[run.clone()], &mut m[run.clone()], &mut v[run.clone()]);
                update::adam(w, m, v, &parts[0][run.clone()], step.to_f64() as u64, rule);
                steps[run].fill(step);
                begin += equal;
            }
        });
        Ok(())
    }
}

/// `ftrl`: FTRL-Proximal (two state columns).
pub struct FtrlFn(FtrlParams);

impl FtrlFn {
    /// # Errors
    /// A parameter outside its limits, by name.
    pub fn new(params: FtrlParams) -> Result<Self, String> {
        params.checked().map(Self)
    }

    fn rule<V: Value>(&self) -> FtrlProximal<V> {
        let FtrlParams { alpha, beta, l1, l2 } = self.0;
        FtrlProximal {
            alpha: V::from_f64(alpha),
            beta: V::from_f64(beta),
            l1: V::from_f64(l1),
            l2: V::from_f64(l2),
        }
    }
}

impl<V: Value> ServerFn<V> for FtrlFn {
    fn name(&self) -> &str {
        "ftrl"
    }
    fn state_columns(&self) -> usize {
        2
    }
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        rows.apply(|[w, z, n]| update::ftrl_proximal(w, z, n, parts[0], self.rule()));
        Ok(())
    }
    fn update_fused(&mut self, rows: &mut Rows<'_, V>, sources: &[&[&[V]]]) -> bool {
        rows.apply(|[w, z, n]| fused::sum_ftrl(w, z, n, sources[0], self.rule()));
        true
    }
}
