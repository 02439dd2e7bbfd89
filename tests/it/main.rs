//! The behaviours of the library, seen from outside.
