//! Supervision with OTP's meaning: what it decides, as pure functions. Who acts on it are the actors.

pub mod intensity;
pub mod spec;
pub mod strategy;

#[cfg(test)]
mod suite;
