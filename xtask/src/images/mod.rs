//! Container images without an engine: docker-archive tars, written from scratch and the same for the same content.

pub mod archive;
pub mod product;
pub mod system;
