//! What is freed when nobody gives it back: every combination of what may be known, and random histories of pods.

mod rules;
mod table;
mod walk;
