//! The windows that a query touches, each worked out once.

use meterd_model::{Timestamp, Window, Zone};
use std::collections::BTreeMap;

/// Finds the window of a time: most often that of the time before, else one known already, else by the calendar.
pub(super) struct WindowFinder {
    window: Option<Window>,
    zone: Zone,
    from: Timestamp,
    to: Timestamp,
    /// The window found last, in microseconds.
    last: (i64, i64),
    /// Start to end, in microseconds.
    known: BTreeMap<i64, i64>,
}

impl WindowFinder {
    pub(super) fn new(window: Option<Window>, zone: Zone, from: Timestamp, to: Timestamp) -> Self {
        Self {
            window,
            zone,
            from,
            to,
            last: (0, 0),
            known: BTreeMap::new(),
        }
    }

    /// Start of the clipped window around a time of the query's range.
    pub(super) fn start(&mut self, time: i64) -> i64 {
        if self.last.0 <= time && time < self.last.1 {
            return self.last.0;
        }
        let known = self
            .known
            .range(..=time)
            .next_back()
            .filter(|(_, end)| time < **end);
        if let Some((start, end)) = known {
            self.last = (*start, *end);
        } else {
            self.last = self.work_out(time);
            self.known.insert(self.last.0, self.last.1);
        }
        self.last.0
    }

    /// End of the window that begins at `start`.
    pub(super) fn end(&self, start: i64) -> Timestamp {
        let end = self.known.get(&start).copied();
        end.and_then(Timestamp::from_micros).unwrap_or(self.to)
    }

    /// About how much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.known.len() * size_of::<(i64, i64)>() * 2
    }

    fn work_out(&self, time: i64) -> (i64, i64) {
        let around = self
            .window
            .zip(Timestamp::from_micros(time))
            .map(|(window, time)| {
                let (start, end) = window.around(time, &self.zone);
                (start.max(self.from), end.min(self.to))
            });
        let (start, end) = around.unwrap_or((self.from, self.to));
        (start.micros(), end.micros())
    }
}
