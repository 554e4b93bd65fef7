//! The project's task runner as a library, so that its commands (test cluster, images, demo, tests) can use each other.
//!
//! `main.rs` only reads the command line. Nothing here ends up in an image.

pub mod artifact;
pub mod bench;
pub mod cache;
pub mod cargo;
pub mod cluster;
pub mod crds;
pub mod demo;
pub mod fuzz;
pub mod images;
pub mod paths;
pub mod sh;
pub mod test;
pub mod toolchain;
pub mod ui;
