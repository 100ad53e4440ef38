//! Arrays of values that change hands.

use super::Element;

/// An owned array of either value type. Calls take arrays by value and give the same memory back.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// 32-bit values.
    F32(Vec<f32>),
    /// 64-bit values.
    F64(Vec<f64>),
}

impl Default for Values {
    fn default() -> Values {
        Values::F32(Vec::new())
    }
}

impl Values {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
        }
    }

    /// The code of the value type.
    pub fn value_type(&self) -> u8 {
        match self {
            Values::F32(_) => f32::CODE,
            Values::F64(_) => f64::CODE,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values, if they are of type `V`.
    pub fn as_slice<V: Element>(&self) -> Option<&[V]> {
        V::slice_of(self)
    }

    /// The values with their memory, if they are of type `V`; else an empty vector.
    pub fn into_vec<V: Element>(self) -> Vec<V> {
        V::vec_from(self).unwrap_or_default()
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Values {
        Values::F32(values)
    }
}

impl From<Vec<f64>> for Values {
    fn from(values: Vec<f64>) -> Values {
        Values::F64(values)
    }
}
