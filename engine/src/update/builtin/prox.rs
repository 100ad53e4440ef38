//! Functions that take gradients and end each step with a proximal operator.

use keyrange_kernels::fused::{self, ProxL1};
use keyrange_kernels::{prox, update};

use super::{ElasticNetParams, ProxL1Params};
use crate::table::Value;
use crate::update::{Rows, ServerFn, UpdateError};

/// `prox_l1`: a proximal step for the L1 penalty in a diagonal metric. A push carries two arrays: the gradient and the
/// curvature bound, both summed over workers.
pub struct ProxL1Fn(ProxL1Params);

impl ProxL1Fn {
    /// # Errors
    /// A parameter outside its limits, by name.
    pub fn new(params: ProxL1Params) -> Result<Self, String> {
        params.checked().map(Self)
    }
}

impl<V: Value> ServerFn<V> for ProxL1Fn {
    fn name(&self) -> &str {
        "prox_l1"
    }
    fn push_parts(&self) -> usize {
        2
    }
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        let (eta, lambda) = (V::from_f64(self.0.eta), V::from_f64(self.0.lambda));
        rows.apply(|[w]| prox::l1_diag(w, parts[0], parts[1], eta, lambda));
        Ok(())
    }
    fn update_fused(&mut self, rows: &mut Rows<'_, V>, sources: &[&[&[V]]]) -> bool {
        let rule = ProxL1 { eta: V::from_f64(self.0.eta), lambda: V::from_f64(self.0.lambda) };
        rows.apply(|[w]| fused::sum_prox_l1(w, sources[0], sources[1], rule));
        true
    }
}

/// `elastic_net`: a gradient step, then the operator of `l1 |w| + l2 w^2 / 2` scaled by the rate.
pub struct ElasticNetFn(ElasticNetParams);

impl ElasticNetFn {
    /// # Errors
    /// A parameter outside its limits, by name.
    pub fn new(params: ElasticNetParams) -> Result<Self, String> {
        params.checked().map(Self)
    }
}

impl<V: Value> ServerFn<V> for ElasticNetFn {
    fn name(&self) -> &str {
        "elastic_net"
    }
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        let ElasticNetParams { rate, l1, l2 } = self.0;
        rows.apply(|[w]| {
            update::sgd(w, parts[0], V::from_f64(rate));
            prox::elastic_net(w, V::from_f64(rate * l1), V::from_f64(rate * l2));
        });
        Ok(())
    }
}
