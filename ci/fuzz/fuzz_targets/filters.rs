//! Arbitrary bytes behind the headers of filtered messages; what must hold is said where the driver is.
#![no_main]

#[path = "../../../engine/tests/filter_driver/mod.rs"]
mod filter_driver;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| filter_driver::attack(data));
