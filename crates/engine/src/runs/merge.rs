//! Makes one run of several.

use super::reader::Entries;
use super::{Run, RunEntry, RunError, RunMeta, RunWriter};
use std::io;
use std::sync::Arc;

/// Entries between two questions of whether to go on.
const STEP_ENTRIES: usize = 4_096;

/// Writes what several runs, oldest first, know together, as far as `keep` wants it. Of an id that several know, the
/// newest run's entry is the one that is kept or not. An error of `go_on` ends it.
pub(crate) fn merge(
    oldest_first: &[Arc<Run>],
    mut keep: impl FnMut(&RunEntry) -> bool,
    go_on: &dyn Fn() -> io::Result<()>,
    mut into: RunWriter,
) -> Result<RunMeta, RunError> {
    for (place, entry) in Merged::new(oldest_first).enumerate() {
        if place.is_multiple_of(STEP_ENTRIES) {
            go_on()?;
        }
        let entry = entry?;
        if keep(&entry) {
            into.push(&entry)?;
        }
    }
    Ok(into.finish()?)
}

/// The entries of several runs in order, each id once. Keeps a few pages of each run in memory.
#[derive(Debug)]
pub(crate) struct Merged<'a> {
    /// Newest first.
    sources: Vec<Source<'a>>,
}

#[derive(Debug)]
struct Source<'a> {
    head: Option<RunEntry>,
    rest: Entries<'a>,
    begun: bool,
}

impl<'a> Merged<'a> {
    pub(crate) fn new(oldest_first: &'a [Arc<Run>]) -> Self {
        let source = |run: &'a Arc<Run>| Source {
            head: None,
            rest: run.entries(),
            begun: false,
        };
        Self {
            sources: oldest_first.iter().rev().map(source).collect(),
        }
    }

    fn step(&mut self) -> Result<Option<RunEntry>, RunError> {
        let mut least: Option<RunEntry> = None;
        for source in &mut self.sources {
            if !source.begun {
                source.begun = true;
                source.head = source.rest.next().transpose()?;
            }
            // Of equal keys the first one stays: that of the newest run.
            if let Some(head) = source.head
                && least.is_none_or(|least| head.key() < least.key())
            {
                least = Some(head);
            }
        }
        if let Some(least) = least {
            for source in &mut self.sources {
                if source.head.is_some_and(|head| head.key() == least.key()) {
                    source.head = source.rest.next().transpose()?;
                }
            }
        }
        Ok(least)
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<RunEntry, RunError>;

    /// After an error there are no more.
    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().transpose();
        if let Some(Err(_)) = &step {
            self.sources.clear();
        }
        step
    }
}
