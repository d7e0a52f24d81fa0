//! What supervision decides, as pure functions; who acts on it are the actors.

pub mod intensity;
