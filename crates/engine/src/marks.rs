//! When sequences were given, coarsely: enough to tell which ids are older than a window.

use meterd_model::Timestamp;
use std::time::Duration;

/// Time between two marks, at least.
const MARK_MICROS: i64 = 3_600_000_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// See [`crate::manifest::Manifest::marks`].
    list: Vec<(i64, u64)>,
    /// The greatest time at which something was received, if that is known.
    last_received: Option<i64>,
    /// When the clock was last found set back.
    set_back: Option<i64>,
}

impl Marks {
    pub(crate) fn new(list: Vec<(i64, u64)>) -> Self {
        Self {
            list,
            last_received: None,
            set_back: None,
        }
    }

    pub(crate) fn list(&self) -> &[(i64, u64)] {
        &self.list
    }

    /// The latest time at which something is known to have been received; there may be an hour's worth later.
    pub(crate) fn latest(&self) -> Option<Timestamp> {
        let marked = self.list.last().map(|(time, _)| *time);
        marked
            .max(self.last_received)
            .and_then(Timestamp::from_micros)
    }

    /// Something is received, and `sequence` is the next to be given.
    pub(crate) fn note(&mut self, received: Timestamp, sequence: u64) {
        let received = received.micros();
        self.drop_later_than(received);
        let after_hour = |time: i64| received >= time.saturating_add(MARK_MICROS);
        let is_due = self.set_back.is_none_or(after_hour)
            && (self.list.last())
                .is_none_or(|(time, before)| after_hour(*time) && sequence > *before);
        if is_due {
            // What was given before came in no later than the last thing did, so that a pause counts in full.
            let begin = self
                .last_received
                .map_or(received, |last| last.saturating_add(1));
            let after_last = self.list.last().is_none_or(|(time, _)| begin > *time);
            let time = if after_last {
                begin.min(received)
            } else {
                received
            };
            self.list.push((time, sequence));
        }
        self.last_received = self.last_received.max(Some(received));
    }

    /// A clock that was set back by more than the hour that marks are apart had been ahead, so that its marks would keep
    /// later ones out. If instead it is wrong now, for less than an hour, nothing is marked, and the ids before are
    /// remembered longer.
    fn drop_later_than(&mut self, received: i64) {
        let is_ahead = |(time, _): &(i64, u64)| *time > received.saturating_add(MARK_MICROS);
        if self.list.last().is_some_and(is_ahead) {
            let kept = self.list.partition_point(|(time, _)| *time <= received);
            self.list.truncate(kept);
            self.set_back = Some(received);
        }
    }

    /// Lesser sequences were surely given more than `window` before `now`. Up to an hour's worth of others were too.
    pub(crate) fn sequence_before(&self, now: Timestamp, window: Duration) -> u64 {
        self.before(now.micros(), window)
    }

    /// As of the mark before the last: what a clock that has been ahead for less than an hour says is not yet for good.
    pub(crate) fn forgotten_below(&self, window: Duration) -> u64 {
        let settled = self.list.len().checked_sub(2);
        let settled = settled.and_then(|place| self.list.get(place));
        settled.map_or(0, |(now, _)| self.before(*now, window))
    }

    fn before(&self, now: i64, window: Duration) -> u64 {
        let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let begin = now.saturating_sub(window);
        let place = self.list.partition_point(|(time, _)| *time <= begin);
        let mark = place.checked_sub(1).and_then(|place| self.list.get(place));
        mark.map_or(0, |(_, sequence)| *sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_window_forgets_is_older_and_what_it_keeps_is_hardly_older() {
        const MINUTE: i64 = 60_000_000;
        let mut marks = Marks::default();
        let mut given = Vec::new();
        let mut time = 0;
        for step in [1, 3, 50, 70, 2_000, 1, 1, 59, 61, 600, 5, 5].repeat(4) {
            time += step * MINUTE;
            let sequence = u64::try_from(given.len()).unwrap() + 1;
            marks.note(Timestamp::from_micros(time).unwrap(), sequence);
            given.push(time);
        }
        assert!(marks.list().is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
        for now in [time, time + 500 * MINUTE] {
            for window in [1, 30, 61, 500, 3_000, 20_000] {
                let begin = now - window * MINUTE;
                let before = marks.sequence_before(
                    Timestamp::from_micros(now).unwrap(),
                    Duration::from_mins(u64::try_from(window).unwrap()),
                );
                for (sequence, received) in (1..).zip(&given) {
                    let is_forgotten = sequence < before;
                    assert!(!is_forgotten || *received < begin, "{sequence}");
                    // The last things given have no mark after them yet.
                    let is_followed = given.iter().any(|later| *later > received + 61 * MINUTE);
                    let long_ago = received + 2 * 61 * MINUTE < begin && is_followed;
                    assert!(is_forgotten || !long_ago, "{sequence} {window}");
                }
            }
        }
    }

    const HOUR: i64 = 3_600_000_000;
    const DAY: Duration = Duration::from_hours(24);

    fn note(marks: &mut Marks, hours: i64, sequence: u64) {
        marks.note(Timestamp::from_micros(hours * HOUR).unwrap(), sequence);
    }

    #[test]
    fn a_clock_that_was_ahead_forgets_nothing_for_good_and_keeps_no_mark_out() {
        let mut marks = Marks::default();
        for hour in 0..100 {
            note(&mut marks, hour, 1 + 2 * hour.cast_unsigned());
        }
        let before = marks.forgotten_below(DAY);
        assert!(before > 100);
        // Some batches within the hour, a hundred years ahead.
        for sequence in 300..310 {
            note(&mut marks, 876_000, sequence);
            assert!(marks.forgotten_below(DAY) <= 200 - 40, "{sequence}");
        }
        for hour in 100..200 {
            note(&mut marks, hour, 310 + 2 * (hour - 100).cast_unsigned());
            assert!(marks.list().is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
            assert!(marks.forgotten_below(DAY) >= before);
            let day_ago = marks.sequence_before(Timestamp::from_micros(hour * HOUR).unwrap(), DAY);
            assert!(day_ago <= 200 || hour > 123, "{hour} {day_ago}");
        }
        assert!(marks.forgotten_below(DAY) > 310 + 2 * 70);
    }

    #[test]
    fn a_clock_that_was_behind_forgets_nothing_early() {
        let mut marks = Marks::default();
        let start = 500_000;
        for hour in 0..100 {
            note(&mut marks, start + hour, 1 + hour.cast_unsigned());
        }
        for sequence in 200..210 {
            note(&mut marks, 0, sequence);
            assert_eq!(marks.forgotten_below(DAY), 0);
        }
        for hour in 100..200 {
            note(&mut marks, start + hour, 110 + hour.cast_unsigned());
            let now = Timestamp::from_micros((start + hour) * HOUR).unwrap();
            let day_ago = marks.sequence_before(now, DAY);
            assert!(day_ago <= 110 + hour.cast_unsigned().saturating_sub(23));
            assert!(hour >= 123 || day_ago == 0, "{hour} {day_ago}");
        }
        assert!(marks.forgotten_below(DAY) > 250);
    }
}
