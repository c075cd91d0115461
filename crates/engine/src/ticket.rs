//! The wait for an answer of the writer: by blocking, or as a future of any runtime.

use crate::SubmitError;
use parking_lot::{Condvar, Mutex};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The claim to one answer. Dropping it does not take back what was submitted.
#[derive(Debug)]
pub struct Ticket<T>(Arc<Slot<T>>);

impl<T> Ticket<T> {
    /// Blocks until the answer is there.
    pub fn wait(self) -> Result<T, SubmitError> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(answer) = state.answer.take() {
                return answer;
            }
            self.0.ready.wait(&mut state);
        }
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T, SubmitError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state.lock();
        if let Some(answer) = state.answer.take() {
            return Poll::Ready(answer);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The duty to give one answer. Dropped without one, as when the writer dies, it answers `Unavailable`.
#[derive(Debug)]
pub(crate) struct Answer<T>(Arc<Slot<T>>);

impl<T> Answer<T> {
    pub(crate) fn pair() -> (Self, Ticket<T>) {
        let slot = Arc::new(Slot {
            state: Mutex::new(SlotState {
                answer: None,
                answered: false,
                waker: None,
            }),
            ready: Condvar::new(),
        });
        (Self(Arc::clone(&slot)), Ticket(slot))
    }

    pub(crate) fn give(self, answer: Result<T, SubmitError>) {
        self.0.fill(answer);
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        self.0.fill(Err(SubmitError::Unavailable));
    }
}

#[derive(Debug)]
struct Slot<T> {
    state: Mutex<SlotState<T>>,
    ready: Condvar,
}

#[derive(Debug)]
struct SlotState<T> {
    answer: Option<Result<T, SubmitError>>,
    answered: bool,
    waker: Option<Waker>,
}

impl<T> Slot<T> {
    /// The first answer stays; the waker runs outside the lock, since it may poll at once.
    fn fill(&self, answer: Result<T, SubmitError>) {
        let mut state = self.state.lock();
        if state.answered {
            return;
        }
        state.answered = true;
        state.answer = Some(answer);
        let waker = state.waker.take();
        drop(state);
        self.ready.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct CountWakes(AtomicUsize);

    impl Wake for CountWakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_future_is_woken_once_the_answer_is_there() {
        let count = Arc::new(CountWakes(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let (answer, mut ticket) = Answer::<u8>::pair();
        assert_eq!(Pin::new(&mut ticket).poll(&mut context), Poll::Pending);
        answer.give(Ok(7));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(Pin::new(&mut ticket).poll(&mut context), Poll::Ready(Ok(7)));
    }

    #[test]
    fn a_lost_answer_is_an_error_not_a_hang() {
        let (answer, ticket) = Answer::<u8>::pair();
        drop(answer);
        assert_eq!(ticket.wait(), Err(SubmitError::Unavailable));
    }

    #[test]
    fn waits_for_another_thread() {
        let (answer, ticket) = Answer::<u8>::pair();
        let waiter = std::thread::spawn(move || ticket.wait());
        answer.give(Ok(9));
        assert_eq!(waiter.join().unwrap(), Ok(9));
    }
}
