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
