//! What the spill promises, against real files.

mod basic;
pub(crate) mod crash;
mod damage;
mod failing;
pub(crate) mod faults;
mod formats;
mod model;
mod rig;
mod speed;
