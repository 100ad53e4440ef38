//! Arbitrary bytes as messages to a shard and a worker; what must hold is said where the driver is.
#![no_main]

#[path = "../../../engine/tests/hostile_driver/mod.rs"]
mod hostile_driver;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| hostile_driver::attack(data));
