//! The windows that a query touches, each worked out once.

use meterd_model::{Timestamp, Window, Zone};

/// Finds the window of a time: most often that of the time before, else one known already, else by the calendar.
pub(super) struct WindowFinder {
    window: Option<Window>,
    zone: Zone,
    from: Timestamp,
    to: Timestamp,
    /// Starts and ends in microseconds, in order.
    known: Vec<(i64, i64)>,
    /// Which of them was found last.
    last: usize,
}

impl WindowFinder {
    pub(super) fn new(window: Option<Window>, zone: Zone, from: Timestamp, to: Timestamp) -> Self {
        Self {
            window,
            zone,
            from,
            to,
            known: Vec::new(),
            last: 0,
        }
    }

    /// Start and end of the clipped window around a time of the query's range.
    pub(super) fn around(&mut self, time: i64) -> (i64, i64) {
        // That of the row before or the next two, since rows stand sorted by time within a subject.
        const NEAR: usize = 3;
        let near = self.known.iter().enumerate().skip(self.last).take(NEAR);
        let mut near = near.filter(|(_, window)| contains(**window, time));
        if let Some((place, window)) = near.next() {
            self.last = place;
            return *window;
        }
        let after = self.known.partition_point(|(start, _)| *start <= time);
        let before = after.checked_sub(1);
        let known = before.and_then(|place| Some((place, *self.known.get(place)?)));
        if let Some((place, window)) = known
            && contains(window, time)
        {
            self.last = place;
            return window;
        }
        let window = self.work_out(time);
        let place = (self.known).binary_search_by_key(&window.0, |(start, _)| *start);
        match place {
            Ok(place) => self.last = place,
            Err(place) => {
                self.last = place;
                self.known.insert(place, window);
            }
        }
        window
    }

    /// End of the window that begins at `start`.
    pub(super) fn end(&self, start: i64) -> Timestamp {
        let place = (self.known).binary_search_by_key(&start, |(start, _)| *start);
        let window = place.ok().and_then(|place| self.known.get(place));
        window
            .and_then(|(_, end)| Timestamp::from_micros(*end))
            .unwrap_or(self.to)
    }

    /// About how much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.known.capacity() * size_of::<(i64, i64)>()
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

fn contains((start, end): (i64, i64), time: i64) -> bool {
    start <= time && time < end
}
