//! The program as its users meet it: real processes, real files, exit codes and messages.
//!
//! [`program`] starts it and looks at what it leaves; [`train`] holds it against reference optima, [`settings`] against
//! its own promises on options, files and models, [`clocks`] trains with and checks clocked tables, [`bad_input`] gives it
//! what it must refuse, [`faults`] kills and stops its processes, [`doctor`] asks what there is. What lies inside the crates
//! is tested there, not here.

mod bad_input;
mod clocks;
mod doctor;
mod faults;
mod program;
mod reference;
mod settings;
mod train;
