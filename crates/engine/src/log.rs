//! The log: an append-only row of files that holds every decision in the order it was made.
//!
//! The format is written down in `docs/STORAGE-FORMAT.md`; [`frame`] knows files and frames, [`record`] what is in
//! them, [`reader`] reads a directory and [`writer`] adds to it.

pub(crate) mod frame;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod writer;
