//! Parameters of the built-in functions, with their defaults and limits.

use serde::{Deserialize, Serialize};

/// The parameters of functions that have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// A parameter's name, its value, and whether that is allowed, with the words for it.
type Limit = (&'static str, f64, fn(f64) -> bool, &'static str);

fn check(limits: &[Limit]) -> Result<(), String> {
    match limits.iter().find(|(_, value, allowed, _)| !value.is_finite() || !allowed(*value)) {
        Some((name, value, _, expected)) => Err(format!("{name}: expected {expected}, got {value}")),
        None => Ok(()),
    }
}

const POSITIVE: (fn(f64) -> bool, &str) = (|value| value > 0.0, "a finite number above 0");
const NOT_NEGATIVE: (fn(f64) -> bool, &str) = (|value| value >= 0.0, "a finite number, 0 or more");
const FRACTION: (fn(f64) -> bool, &str) = (|value| (0.0..1.0).contains(&value), "a number from 0 to below 1");

/// Declares a parameter struct: fields with defaults and limits.
macro_rules! params {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident = $default:literal, $limit:ident;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$field_meta])* pub $field: f64,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }

        impl $name {
            /// Refuses values outside their limits, by name.
            pub(super) fn checked(self) -> Result<Self, String> {
                check(&[$((stringify!($field), self.$field, $limit.0, $limit.1)),*])?;
                Ok(self)
            }
        }
    };
}

params! {
    /// Of `sgd`.
    SgdParams {
        /// Learning rate.
        rate = 0.01, POSITIVE;
        /// How much of the last step is kept.
        momentum = 0.0, FRACTION;
        /// L2 penalty, added to the gradient as `decay * w`.
        decay = 0.0, NOT_NEGATIVE;
    }
}

params! {
    /// Of `adagrad`.
    AdaGradParams {
        /// Learning rate.
        rate = 0.01, POSITIVE;
        /// Added to the root, against division by zero.
        epsilon = 1e-10, POSITIVE;
    }
}

params! {
    /// Of `adam`.
    AdamParams {
        /// Learning rate.
        rate = 0.001, POSITIVE;
        /// Decay of the first moment.
        beta1 = 0.9, FRACTION;
        /// Decay of the second moment.
        beta2 = 0.999, FRACTION;
        /// Added to the root, against division by zero.
        epsilon = 1e-8, POSITIVE;
    }
}

params! {
    /// Of `ftrl`.
    FtrlParams {
        /// Scale of the per-coordinate learning rate.
        alpha = 0.1, POSITIVE;
        /// Damps early steps.
        beta = 1.0, POSITIVE;
        /// L1 penalty.
        l1 = 1.0, NOT_NEGATIVE;
        /// L2 penalty.
        l2 = 0.0, NOT_NEGATIVE;
    }
}

params! {
    /// Of `prox_l1`.
    ProxL1Params {
        /// Step size.
        eta = 1.0, POSITIVE;
        /// L1 penalty.
        lambda = 1.0, NOT_NEGATIVE;
    }
}

params! {
    /// Of `elastic_net`.
    ElasticNetParams {
        /// Learning rate.
        rate = 0.01, POSITIVE;
        /// L1 penalty.
        l1 = 1.0, NOT_NEGATIVE;
        /// L2 penalty.
        l2 = 0.0, NOT_NEGATIVE;
    }
}
