//! The values that tables hold.

use bytemuck::Pod;
use keyrange_kernels::real::Real;

use super::ValueType;

/// A value type of tables: f32 or f64 (as [`Real`], no other type can have it).
pub trait Value: Real + Pod {
    /// Its code.
    const TYPE: ValueType;
    /// The neutral element of addition: -0 + x is x for every x, the sign of zero included.
    const NEGATIVE_ZERO: Self;
}

impl Value for f32 {
    const TYPE: ValueType = ValueType::F32;
    const NEGATIVE_ZERO: Self = -0.0;
}

impl Value for f64 {
    const TYPE: ValueType = ValueType::F64;
    const NEGATIVE_ZERO: Self = -0.0;
}
