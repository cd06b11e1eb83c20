//! Small components through the whole of this crate.
//!
//! Owns guests that are written here as text, each with one fault or one question. Never needs a toolchain for guests.

mod attempts;
mod grants;
mod guest;
mod loading;
