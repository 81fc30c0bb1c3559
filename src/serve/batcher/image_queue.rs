//! [`ImageQueue`]: the images that wait for a worker, and who may work on what.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use tokio::sync::oneshot;

use super::batch::ImageFeatures;

/// An image whose features somebody wants.
pub(super) struct WantedImage {
    pub name: String,
    pub bytes: Bytes,
    pub asker: Box<dyn Asker>,
}

/// Who wants the features of an image.
pub(super) trait Asker: Send {
    /// Whether nobody waits for them any more.
    fn is_gone(&self) -> bool;

    /// Takes them, or why the network has failed.
    fn take(self: Box<Self>, features: Result<ImageFeatures, String>);
}

struct Asking<F, T> {
    then: F,
    answer: oneshot::Sender<Result<T, String>>,
    in_flight: InFlight,
}

impl<T: Send, F: FnOnce(ImageFeatures) -> T + Send> Asker for Asking<F, T> {
    fn is_gone(&self) -> bool {
        self.answer.is_closed()
    }

    fn take(self: Box<Self>, features: Result<ImageFeatures, String>) {
        let Self { then, answer, in_flight } = *self;
        // Who gets an answer may ask again at once, and is alone then.
        drop(in_flight);
        // Somebody who has gone meanwhile needs none.
        let _ = answer.send(features.map(then));
    }
}

/// Counts an image from the moment when it is asked for until its features are there.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a worker with a batch for the shared session does next.
pub(super) enum Next<'a> {
    /// It reads these as well.
    Images(Vec<WantedImage>),
    /// It runs the session.
    Session(SessionPermit<'a>),
}

/// Who has it runs the session that has all processors.
pub(super) struct SessionPermit<'a>(&'a ImageQueue);

impl Drop for SessionPermit<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.session_runs = false;
        if !state.turns.is_empty() {
            self.0.ready.notify_all();
        }
    }
}

/// The images that wait, and what the workers do.
#[derive(Default)]
pub(super) struct ImageQueue {
    state: Mutex<State>,
    in_flight: Arc<AtomicUsize>,
    /// For workers without a batch: an image has come, or they are to end.
    came: Condvar,
    /// For workers with a batch for the shared session: it is free, or an image has come.
    ready: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<WantedImage>,
    /// Workers with a session of their own that have nothing to do.
    idle: usize,
    /// Whether the session that has all processors runs.
    session_runs: bool,
    /// Who waits for it, by turn: the number of its batch.
    turns: BTreeSet<u64>,
    /// Those of them whose batches have room.
    with_room: usize,
    /// Batches for the shared session so far.
    batches: u64,
    /// The workers that share a session are to end.
    sharing_ended: bool,
    /// No further image will come.
    closed: bool,
}

impl State {
    /// Takes at most `most` of what waits, and leaves out what nobody waits for any more.
    fn take(&mut self, most: usize) -> Vec<WantedImage> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(image) = self.waiting.pop_front()
        {
            if !image.asker.is_gone() {
                taken.push(image);
            }
        }
        taken
    }
}

impl ImageQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an image. `answer` gets what `then` makes of its features.
    pub fn push<T: Send + 'static>(
        &self,
        name: String,
        bytes: Bytes,
        then: impl FnOnce(ImageFeatures) -> T + Send + 'static,
        answer: oneshot::Sender<Result<T, String>>,
    ) {
        let in_flight = InFlight::new(&self.in_flight);
        let image = WantedImage { name, bytes, asker: Box::new(Asking { then, answer, in_flight }) };
        let mut state = self.lock();
        state.waiting.push_back(image);
        if state.with_room > 0 {
            self.ready.notify_all();
        } else {
            self.came.notify_one();
        }
    }

    /// No further image will come: the workers end when none is left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.came.notify_all();
    }

    /// Workers with sessions of their own are there: those that share one are to end.
    pub fn end_sharing(&self) {
        self.lock().sharing_ended = true;
        self.came.notify_all();
    }

    /// Images that wait or are worked on.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// The first images of a batch for the shared session, at most `most`, and its turn. None when the worker is to end.
    pub fn next_of_shared(&self, most: usize) -> Option<(u64, Vec<WantedImage>)> {
        let mut state = self.lock();
        loop {
            if state.sharing_ended {
                return None;
            }
            // A batch that waits for the session takes them sooner.
            if state.with_room == 0 {
                let images = state.take(most);
                if !images.is_empty() {
                    state.batches += 1;
                    return Some((state.batches, images));
                }
            }
            if state.closed && state.waiting.is_empty() {
                return None;
            }
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What a worker does with a batch for the shared session that has room for `room` images more. It waits until it can do
    /// something; of those that wait, the earliest batch gets the session.
    pub fn more_or_session(&self, turn: u64, room: usize) -> Next<'_> {
        let mut state = self.lock();
        loop {
            let images = state.take(room);
            if !images.is_empty() {
                if !state.waiting.is_empty() {
                    self.came.notify_one();
                }
                return Next::Images(images);
            }
            if !state.session_runs && state.turns.first().is_none_or(|first| *first > turn) {
                state.session_runs = true;
                return Next::Session(SessionPermit(self));
            }
            state.turns.insert(turn);
            state.with_room += usize::from(room > 0);
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.turns.remove(&turn);
            state.with_room -= usize::from(room > 0);
        }
    }

    /// The first image of a batch for a worker's own session. None when the worker is to end.
    pub fn next(&self) -> Option<WantedImage> {
        let mut state = self.lock();
        loop {
            if let Some(image) = state.take(1).pop() {
                return Some(image);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Another image for such a batch, if there are more than the workers that have nothing to do are about to take.
    pub fn more(&self) -> Option<WantedImage> {
        let mut state = self.lock();
        if state.waiting.len() > state.idle { state.take(1).pop() } else { None }
    }

    /// The session that has all processors, for the only image that there is.
    pub fn session_for_one(&self) -> Option<SessionPermit<'_>> {
        let mut state = self.lock();
        if state.session_runs || self.in_flight() > 1 {
            return None;
        }
        state.session_runs = true;
        Some(SessionPermit(self))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Adds images of these names; nobody is told of them before the receivers are dropped.
    fn push(queue: &ImageQueue, names: &[&str]) -> Vec<oneshot::Receiver<Result<(), String>>> {
        let push = |name: &&str| {
            let (answer, receiver) = oneshot::channel();
            queue.push((*name).to_owned(), Bytes::new(), |_| (), answer);
            receiver
        };
        names.iter().map(push).collect()
    }

    fn names(images: &[WantedImage]) -> Vec<&str> {
        images.iter().map(|image| image.name.as_str()).collect()
    }

    /// A batch for the shared session of so many images at most: its turn and what it holds.
    fn shared(queue: &ImageQueue, most: usize) -> (u64, Vec<WantedImage>) {
        queue.next_of_shared(most).unwrap()
    }

    fn until(queue: &ImageQueue, holds: impl Fn(&State) -> bool) {
        while !holds(&queue.lock()) {
            thread::yield_now();
        }
    }

    #[test]
    fn images_that_nobody_waits_for_are_left_out() {
        let queue = ImageQueue::default();
        let mut waiting = push(&queue, &["a", "b", "c"]);
        drop(waiting.remove(1));
        let (_, images) = shared(&queue, 8);
        assert_eq!(names(&images), ["a", "c"]);
        assert_eq!(queue.in_flight(), 2);
        drop(images);
        assert_eq!(queue.in_flight(), 0);
    }

    #[test]
    fn a_worker_leaves_an_image_to_another_that_has_nothing_to_do() {
        let queue = ImageQueue::default();
        let _waiting = push(&queue, &["a", "b", "c"]);
        let first = queue.next().unwrap();
        queue.lock().idle = 1;
        let second = queue.more().unwrap();
        assert_eq!(names(&[first, second]), ["a", "b"]);
        assert!(queue.more().is_none(), "the other one takes it");
        queue.lock().idle = 0;
        assert_eq!(queue.more().unwrap().name, "c");
        assert!(queue.more().is_none());
    }

    #[test]
    fn all_processors_are_for_an_image_that_is_alone() {
        let queue = ImageQueue::default();
        let _waiting = push(&queue, &["a"]);
        let only = queue.next().unwrap();
        let permit = queue.session_for_one().unwrap();
        assert!(queue.session_for_one().is_none(), "it runs");
        drop(permit);
        let _other = push(&queue, &["b"]);
        assert!(queue.session_for_one().is_none(), "b waits");
        only.asker.take(Err("no network".to_owned()));
        let _last = queue.next().unwrap();
        assert!(queue.session_for_one().is_some(), "a is done");
    }

    #[test]
    fn the_earliest_batch_gets_the_session() {
        let queue = ImageQueue::default();
        let _waiting = push(&queue, &["a", "b", "c"]);
        let batches = [shared(&queue, 1), shared(&queue, 1), shared(&queue, 1)];
        let [first, second, third] = batches.each_ref().map(|(turn, _)| *turn);
        let Next::Session(permit) = queue.more_or_session(first, 0) else { panic!("nothing waits") };
        let order = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for (waiting, turn) in [(1, third), (2, second)] {
                let (queue, order) = (&queue, &order);
                scope.spawn(move || {
                    let Next::Session(permit) = queue.more_or_session(turn, 0) else {
                        panic!("nothing waits")
                    };
                    order.lock().unwrap().push(turn);
                    drop(permit);
                });
                until(queue, |state| state.turns.len() == waiting);
            }
            drop(permit);
        });
        assert_eq!(order.into_inner().unwrap(), [second, third]);
    }

    #[test]
    fn a_batch_that_waits_for_the_session_takes_what_comes() {
        let queue = ImageQueue::default();
        let _waiting = push(&queue, &["a", "b"]);
        let [(first, _a), (second, _b)] = [shared(&queue, 1), shared(&queue, 1)];
        let Next::Session(permit) = queue.more_or_session(first, 1) else { panic!("nothing waits") };
        thread::scope(|scope| {
            let grown = scope.spawn(|| match queue.more_or_session(second, 1) {
                Next::Images(images) => names(&images).join(" "),
                Next::Session(_) => "the session".to_owned(),
            });
            until(&queue, |state| state.with_room == 1);
            let _more = push(&queue, &["c"]);
            assert_eq!(grown.join().unwrap(), "c");
        });
        drop(permit);
    }

    #[test]
    fn workers_end_when_they_are_not_needed() {
        let queue = ImageQueue::default();
        let _waiting = push(&queue, &["a"]);
        queue.end_sharing();
        assert!(queue.next_of_shared(1).is_none(), "a is for those with sessions of their own");
        queue.close();
        assert_eq!(queue.next().unwrap().name, "a", "it came before the end");
        assert!(queue.next().is_none());
    }
}
