//! The tests of whole flows, and of the shape of the house.

mod blame;
mod carried;
mod cooldown;
mod departure;
mod faults;
mod hedge;
mod layers;
mod learning;
mod limits;
mod pace;
mod race;
mod readme;
mod records;
mod recovery;
mod reload;
mod report;
mod shutdown;
mod strategy;
mod support;
mod tail;
mod translate;
mod transport;
