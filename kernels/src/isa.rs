//! Which instruction set the kernels run on: found once, overridable, and the macro that makes the shells.
//!
//! # Why one dispatch point, and why here
//!
//! Every algorithm of this crate is written once, as an `#[inline(always)]` loop in plain Rust. What differs
//! between machines is only which instructions the compiler may use for that loop, so the same loop is compiled
//! into three thin shells (`#[target_feature]`), and one `match` chooses among them. That gives three things:
//!
//! * **Equal bits.** Rust never fuses or reorders floating-point operations on its own, and every reduction here
//!   uses a fixed number of lanes whatever the register width. So the three shells return the same bits, a model
//!   does not change when a job moves to another node, and the scalar shell is a true oracle for the others.
//!   Where a fused multiply-add is wanted it is written `mul_add`, which rounds once on every machine.
//! * **One place to test.** [`with`] forces a path for the calling thread, so that a test or a benchmark runs every
//!   path this machine has, through the same public functions everybody calls.
//! * **A cheap choice.** The choice costs one thread-local load, one atomic load and a predictable jump per call
//!   of a kernel, which is noise beside a slice. Kernels never dispatch per element, and loops call loops, not shells.
//!
//! The AVX-512 shell is not 256-bit on purpose: these loops are bound by loads and stores, where the wide
//! registers halve the instruction count, and the frequency licences that once punished them are gone.
//! Other targets than x86-64 have the loops alone. `--cfg keyrange_portable` builds just that on any machine, so that what
//! aarch64 compiles is compiled and tested where no aarch64 is at hand (`ci/isa.sh`).
//! Where LLVM does not find the good code (lane compression), the kernel calls intrinsics from its AVX-512 body.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use thiserror::Error;

/// The environment variable that overrides the choice for the whole process: `scalar`, `avx2` or `avx512`.
pub const ISA_VARIABLE: &str = "KEYRANGE_ISA";

/// A set of instructions the kernels were compiled for, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What the target's baseline offers (SSE2 on x86-64, NEON on aarch64). The reference.
    Scalar,
    /// AVX2 with FMA, BMI1/2, LZCNT and POPCNT.
    Avx2,
    /// AVX-512 F, VL, DQ, BW and CD on top of [`Isa::Avx2`].
    Avx512,
}

/// A word that names no instruction set, or one this machine lacks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IsaError {
    /// Not a name of an instruction set.
    #[error("unknown instruction set '{0}': expected scalar, avx2 or avx512")]
    Unknown(String),
    /// A name this machine cannot honour.
    #[error("this machine has no {got}; the strongest it offers is {best}")]
    Unavailable {
        /// The instruction set asked for.
        got: Isa,
        /// The strongest this machine offers.
        best: Isa,
    },
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        })
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(word: &str) -> Result<Self, IsaError> {
        match word {
            "scalar" => Ok(Isa::Scalar),
            "avx2" => Ok(Isa::Avx2),
            "avx512" => Ok(Isa::Avx512),
            _ => Err(IsaError::Unknown(word.to_owned())),
        }
    }
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// The strongest instruction set of this machine, whatever the override says.
pub fn detected() -> Isa {
    static DETECTED: OnceLock<Isa> = OnceLock::new();
    *DETECTED.get_or_init(detect)
}

#[cfg(all(target_arch = "x86_64", not(keyrange_portable)))]
fn detect() -> Isa {
    macro_rules! all { ($($feature:tt),*) => { $(is_x86_feature_detected!($feature))&&* }; }
    let avx2 = all!("avx2", "fma", "bmi1", "bmi2", "lzcnt", "popcnt");
    let avx512 = avx2 && all!("avx512f", "avx512vl", "avx512dq", "avx512bw", "avx512cd");
    match (avx2, avx512) {
        (_, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        (false, false) => Isa::Scalar,
    }
}

#[cfg(not(all(target_arch = "x86_64", not(keyrange_portable))))]
fn detect() -> Isa {
    Isa::Scalar
}

/// Every instruction set this machine can run, weakest first. Tests and benchmarks walk this list.
pub fn available() -> impl Iterator<Item = Isa> {
    [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|&isa| isa <= detected())
}

/// What [`ISA_VARIABLE`] asks for: `Ok(None)` when unset or empty. Programs call this at start, so that a word
/// without effect is reported to the user instead of being ignored.
pub fn requested() -> Result<Option<Isa>, IsaError> {
    let Some(word) = std::env::var_os(ISA_VARIABLE).filter(|word| !word.is_empty()) else { return Ok(None) };
    let isa: Isa = word.to_string_lossy().parse()?;
    if isa > detected() {
        return Err(IsaError::Unavailable { got: isa, best: detected() });
    }
    Ok(Some(isa))
}

/// The instruction set kernels called from this thread use: the one forced by [`with`], else the process's
/// ([`ISA_VARIABLE`] if it is valid, else [`detected`]), read once.
#[inline]
pub fn current() -> Isa {
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    match FORCED.get() {
        Some(isa) => isa,
        None => *CHOSEN.get_or_init(|| requested().ok().flatten().unwrap_or_else(detected)),
    }
}

/// Runs `work` with kernels of this thread forced onto `isa`, and restores the former choice, even on unwinding.
///
/// # Panics
/// If this machine does not have `isa` (ask [`available`] first).
pub fn with<R>(isa: Isa, work: impl FnOnce() -> R) -> R {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    assert!(isa <= detected(), "this machine has no {isa}; the strongest it offers is {}", detected());
    let _restore = Restore(FORCED.replace(Some(isa)));
    work()
}

/// Makes the public functions from their loops: `pub fn name<T>(args) -> R = loop_name;`.
///
/// Each becomes a function that chooses by [`current`] among the loop itself and two copies of it compiled for
/// AVX2 and AVX-512. An own AVX-512 body is named after a bar: `= loop_name | avx512_loop_name;`.
macro_rules! shells {
    ($( $(#[$meta:meta])* pub fn $name:ident $(<$t:ident>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?
        = $body:path $(| $wide:path)?; )*) => {$(
        $(#[$meta])*
        pub fn $name $(<$t: $crate::real::Real>)? ($($arg: $ty),*) $(-> $ret)? {
            #[cfg(all(target_arch = "x86_64", not(keyrange_portable)))]
            {
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                fn avx2 $(<$t: $crate::real::Real>)? ($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512cd")]
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                fn avx512 $(<$t: $crate::real::Real>)? ($($arg: $ty),*) $(-> $ret)? {
                    $crate::isa::wide_body!($body $(| $wide)?)($($arg),*)
                }
                match $crate::isa::current() {
                    // SAFETY: `current` answers Avx512 only on a machine where `detect` saw each of these features.
                    $crate::isa::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: `current` answers Avx2 only on a machine where `detect` saw each of these features.
                    $crate::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::isa::Isa::Scalar => {}
                }
            }
            $body($($arg),*)
        }
    )*};
}

/// The AVX-512 body if one was named, else the loop.
#[cfg(all(target_arch = "x86_64", not(keyrange_portable)))]
macro_rules! wide_body {
    ($body:path | $wide:path) => {
        $wide
    };
    ($body:path) => {
        $body
    };
}

pub(crate) use shells;
#[cfg(all(target_arch = "x86_64", not(keyrange_portable)))]
pub(crate) use wide_body;
