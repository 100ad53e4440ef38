//! The second stage: the values of the rows that are left, as codes; and back.

use std::time::Instant;

use keyrange_kernels::random::Seed;
use keyrange_kernels::{presence, quantise};

use super::admission::mix;
use super::chain::Chain;
use super::rows::{Outgoing, Work};
use super::spec::{FilterSpec, FilterSpecError, Stage};
use crate::message::Element;

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Raw = 0,
    F16 = 1,
    Bf16 = 2,
    Q2x13 = 3,
    Fixed1 = 4,
    Fixed2 = 5,
    Fixed3 = 6,
}

/// Smallest value and step of an array in fixed point, f64 each.
const RANGE_BYTES: usize = 16;

impl Code {
    pub fn from_code(code: u8) -> Option<Code> {
        use Code::*;
        [Raw, F16, Bf16, Q2x13, Fixed1, Fixed2, Fixed3].into_iter().find(|&known| known as u8 == code)
    }

    fn of(filter: &FilterSpec) -> Code {
        match filter {
            FilterSpec::F16 => Code::F16,
            FilterSpec::Bf16 => Code::Bf16,
            FilterSpec::Q2x13 => Code::Q2x13,
            FilterSpec::Fixed { bytes: 1 } => Code::Fixed1,
            FilterSpec::Fixed { bytes: 2 } => Code::Fixed2,
            FilterSpec::Fixed { .. } => Code::Fixed3,
            _ => Code::Raw,
        }
    }

    /// Bytes of one value of type `V`.
    fn value_bytes<V>(self) -> usize {
        match self {
            Code::Raw => size_of::<V>(),
            Code::Fixed1 => 1,
            Code::F16 | Code::Bf16 | Code::Q2x13 | Code::Fixed2 => 2,
            Code::Fixed3 => 3,
        }
    }

    fn is_fixed(self) -> bool {
        self as u8 >= Code::Fixed1 as u8
    }

    /// Bytes of an array of `values` values.
    pub fn array_bytes<V>(self, values: usize) -> usize {
        values * self.value_bytes::<V>() + if self.is_fixed() { RANGE_BYTES } else { 0 }
    }

    /// Whether these values can be written so: fixed point needs a finite range, and q2.13 has no NaN.
    fn fits<V: Element>(self, values: &[V]) -> bool {
        let range = || quantise::finite_range(values);
        match self {
            Code::Q2x13 => values.is_empty() || range().is_some(),
            code if code.is_fixed() => {
                values.is_empty() || range().is_some_and(|(low, high)| (high - low).is_finite())
            }
            _ => true,
        }
    }

    fn encode<V: Element>(self, values: &[V], seed: Seed, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.array_bytes::<V>(values.len()), 0);
        let into = &mut out[start..];
        match self {
            Code::Raw => into.copy_from_slice(bytemuck::cast_slice(values)),
            Code::F16 => quantise::f16_encode(values, seed, into),
            Code::Bf16 => quantise::bf16_encode(values, seed, into),
            Code::Q2x13 => quantise::q2x13_encode(values, seed, into),
            _ => {
                let bytes = self.value_bytes::<V>();
                let (low, high) = quantise::finite_range(values).unwrap_or_default();
                let step = (high - low) / f64::from(quantise::fixed_top(bytes));
                into[..8].copy_from_slice(&low.to_le_bytes());
                into[8..RANGE_BYTES].copy_from_slice(&step.to_le_bytes());
                quantise::fixed_encode(values, bytes, low, step, seed, &mut into[RANGE_BYTES..]);
            }
        }
    }

    /// Undoes `encode` on bytes of exactly the right length; any bytes give some values.
    pub fn decode<V: Element>(self, bytes: &[u8], values: &mut [V]) {
        match self {
            Code::Raw => bytemuck::cast_slice_mut(values).copy_from_slice(bytes),
            Code::F16 => quantise::f16_decode(bytes, values),
            Code::Bf16 => quantise::bf16_decode(bytes, values),
            Code::Q2x13 => quantise::q2x13_decode(bytes, values),
            _ => {
                let (range, codes) = bytes.split_at(RANGE_BYTES);
                let number =
                    |at: usize| range[at..].first_chunk().map_or(0.0, |&bytes| f64::from_le_bytes(bytes));
                quantise::fixed_decode(codes, self.value_bytes::<V>(), number(0), number(8), values);
            }
        }
    }
}

/// What is to be sent in the place of value arrays.
#[derive(Debug, Clone)]
pub(crate) struct Coded {
    pub code: Code,
    pub has_bitmap: bool,
    pub is_delta: bool,
    /// Rows that are not there are missing from a sum, or some are there for others.
    pub is_partial: bool,
    /// Rows there are.
    pub rows: u32,
    /// Number of the answer within its stream, or 0.
    pub number: u32,
    /// Bitmap, then the arrays.
    pub body: Vec<u8>,
}

impl Coded {
    /// Of `rows` rows of values as they are, which are not in its body.
    pub fn plain(rows: usize) -> Coded {
        let (code, rows) = (Code::Raw, rows as u32);
        Coded {
            code,
            has_bitmap: false,
            is_delta: false,
            is_partial: false,
            rows,
            number: 0,
            body: Vec::new(),
        }
    }
}

impl Chain {
    /// The first two stages; `None` if they leave everything as it is, so that it may as well go plain.
    ///
    /// # Errors
    /// What a filter of the program's own says against it.
    pub(crate) fn code<V: Element>(&self, out: &Outgoing<'_, V>) -> Result<Option<Coded>, FilterSpecError> {
        if !self.traits().codes {
            return Ok(None);
        }
        let mut state = self.state();
        let mut work = self.run_rows(out, &mut state)?;
        if work.count() == work.rows && !work.is_delta {
            work.present = None;
        }
        let coder = self.spec().filters.iter().position(|filter| filter.stage() == Some(Stage::Codes));
        let mut code = coder.map_or(Code::Raw, |at| Code::of(&self.spec().filters[at]));
        let start = Instant::now();
        let packed: Vec<_> = work.arrays.iter().map(|array| pack_rows(&work, array)).collect();
        if !packed.iter().all(|array| code.fits(array)) {
            code = Code::Raw;
        }
        let touched = work.present.is_some() || work.is_changed() || out.stream.is_some();
        if code == Code::Raw && !touched && !self.remembers() {
            return Ok(None);
        }
        let mut body = Vec::with_capacity(work.bytes());
        if let Some(bitmap) = &work.present {
            body.extend_from_slice(bytemuck::cast_slice(bitmap));
        }
        for (part, array) in packed.iter().enumerate() {
            let seed = Seed::new(mix(out.seed ^ (part as u64 + 1) << 48));
            code.encode(array, seed, &mut body);
        }
        if let Some(counter) = coder.and_then(|at| self.counters().get(at)) {
            counter.add(work.bytes(), body.len(), 0);
            counter.time(start);
        }
        let number = out.stream.map_or(0, |(_, number, _)| number);
        let (has_bitmap, rows) = (work.present.is_some(), work.count() as u32);
        let (is_delta, is_partial) = (work.is_delta, work.is_partial);
        Ok(Some(Coded { code, has_bitmap, is_delta, is_partial, rows, number, body }))
    }
}

/// The rows of `array` that are there, one after the other.
fn pack_rows<'a, V: Element>(work: &Work<'_, V>, array: &'a [V]) -> std::borrow::Cow<'a, [V]> {
    let Some(bitmap) = &work.present else { return array.into() };
    let mut packed = vec![V::zeroed(); presence::count(bitmap) * work.width];
    presence::compact(array, work.width, bitmap, &mut packed);
    packed.into()
}
