//! The tests of whole flows, and of the shape of the house.

mod blame;
mod carried;
mod cooldown;
mod damage;
mod departure;
mod faults;
mod hedge;
mod layers;
mod learning;
mod limits;
mod memory;
mod overload;
mod pace;
mod race;
mod readme;
mod records;
mod reload;
mod report;
mod seeds;
mod shutdown;
mod soak;
mod strategy;
mod support;
mod tail;
mod translate;
mod transport;
