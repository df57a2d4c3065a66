//! Crash tests of the store in the simulator.
