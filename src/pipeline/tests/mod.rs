//! The pipeline in simulated time: what the line does, whatever happens.

mod faults;
mod flow;
mod gate;
mod pairing;
mod recipes;
mod world;
