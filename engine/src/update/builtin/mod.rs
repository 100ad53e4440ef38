//! The built-in server functions: thin shells around the kernels, with checked parameters.
//!
//! `accumulate` keeps a combination of all pushes, `descend` takes gradients, `prox` takes gradients and keeps weights
//! sparse. Parameters are read from the table's description; an unknown or senseless one is refused by name.

mod accumulate;
mod descend;
mod params;
mod prox;

pub use accumulate::{AddFn, AssignFn, MaxFn, MinFn};
pub use descend::{AdaGradFn, AdamFn, FtrlFn, SgdFn};
pub use params::{
    AdaGradParams, AdamParams, ElasticNetParams, FtrlParams, NoParams, ProxL1Params, SgdParams,
};
pub use prox::{ElasticNetFn, ProxL1Fn};

use super::Registry;

pub(super) fn register_builtins(registry: &mut Registry) {
    registry.register("assign", |_: NoParams| Ok(AssignFn));
    registry.register("add", |_: NoParams| Ok(AddFn));
    registry.register("max", |_: NoParams| Ok(MaxFn));
    registry.register("min", |_: NoParams| Ok(MinFn));
    registry.register("sgd", SgdFn::new);
    registry.register("adagrad", AdaGradFn::new);
    registry.register("adam", AdamFn::new);
    registry.register("ftrl", FtrlFn::new);
    registry.register("prox_l1", ProxL1Fn::new);
    registry.register("elastic_net", ElasticNetFn::new);
}
