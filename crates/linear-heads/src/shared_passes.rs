//! Several solvers side by side that share their passes over the rows: reading them once answers all.
//!
//! A solver is plain code that asks for a pass at its own weights and waits. When all that are still at work have asked,
//! one pass is made for all of them. Only one computes at a time: the matrix routines below use all cores anyway, and some
//! of them wait for each other's threads, which two at once would do for ever.

use std::{
    cell::RefCell,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use super::batched::Sums;

/// Where a solver wants to know the sums.
pub(super) struct PassRequest {
    pub problem: usize,
    /// Problems' weights (classes x d).
    pub weights: Vec<f32>,
    pub bias: Vec<f64>,
}

enum PassMessage {
    Ask(PassRequest),
    Done,
}

/// A solver's line to the passes.
pub(super) struct PassHandle<'a> {
    problem: usize,
    ask: Sender<PassMessage>,
    answers: Receiver<Sums>,
    turn: &'a Mutex<()>,
    /// Held while the solver computes.
    held: RefCell<Option<MutexGuard<'a, ()>>>,
}

impl<'a> PassHandle<'a> {
    fn take_turn(&self) {
        // What the lock keeps apart is no data that a panic could leave half done.
        let turn: &'a Mutex<()> = self.turn;
        *self.held.borrow_mut() = Some(turn.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The sums at these weights; `None` when a pass failed.
    pub fn sums(&self, weights: &[f32], bias: &[f64]) -> Option<Sums> {
        let request = PassRequest { problem: self.problem, weights: weights.to_vec(), bias: bias.to_vec() };
        self.held.borrow_mut().take();
        let answer = self.ask.send(PassMessage::Ask(request)).ok().and_then(|()| self.answers.recv().ok());
        self.take_turn();
        answer
    }
}

impl Drop for PassHandle<'_> {
    fn drop(&mut self) {
        // Also when the solver panicked, so that the others are not kept waiting.
        let _ = self.ask.send(PassMessage::Done);
    }
}

/// Runs `solve` for each of `count` problems. `pass` answers requests, in their order, which is that of the problems.
///
/// # Errors
/// The first error of `pass`; the solvers are then told to give up.
pub(super) fn shared_passes<T: Send, E>(
    count: usize,
    solve: impl Fn(usize, &PassHandle<'_>) -> T + Sync,
    mut pass: impl FnMut(&[PassRequest]) -> Result<Vec<Sums>, E>,
) -> Result<Vec<T>, E> {
    let turn = Mutex::new(());
    thread::scope(|scope| {
        let (ask, asked) = channel();
        let mut answers = Vec::with_capacity(count);
        let solvers: Vec<_> = (0..count)
            .map(|problem| {
                let (answer, received) = channel();
                answers.push(answer);
                let (ask, turn, solve) = (ask.clone(), &turn, &solve);
                scope.spawn(move || {
                    let line = PassHandle { problem, ask, answers: received, turn, held: RefCell::new(None) };
                    line.take_turn();
                    solve(problem, &line)
                })
            })
            .collect();
        drop(ask);
        let mut working = count;
        let mut waiting: Vec<PassRequest> = Vec::with_capacity(count);
        for message in asked {
            match message {
                PassMessage::Ask(request) => waiting.push(request),
                PassMessage::Done => working -= 1,
            }
            if waiting.is_empty() || waiting.len() < working {
                continue;
            }
            waiting.sort_by_key(|request| request.problem);
            // On an error the answers' senders are dropped, and whoever waits is told.
            let sums = pass(&waiting)?;
            for (request, sums) in waiting.drain(..).zip(sums) {
                // A solver that waits is there to receive.
                let _ = answers[request.problem].send(sums);
            }
        }
        let finished = solvers.into_iter().map(|solver| match solver.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        Ok(finished.collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Problem p wants p + 1 answers, each one more than the last.
    fn count_up(problem: usize, line: &PassHandle<'_>) -> Option<f64> {
        let mut at = 0.0;
        for _ in 0..=problem {
            at = line.sums(&[], &[at])?.loss[0];
        }
        Some(at)
    }

    #[test]
    fn problems_share_their_passes_and_get_their_own_answers() {
        let mut passes = Vec::new();
        let found = shared_passes(3, count_up, |requests| {
            passes.push(requests.iter().map(|request| request.problem).collect::<Vec<_>>());
            let answer =
                |request: &PassRequest| Sums { loss: vec![request.bias[0] + 1.0], ..Sums::zeros(1, 0) };
            Ok::<_, ()>(requests.iter().map(answer).collect())
        });
        assert_eq!(found, Ok(vec![Some(1.0), Some(2.0), Some(3.0)]));
        assert_eq!(passes, [vec![0, 1, 2], vec![1, 2], vec![2]]);
    }

    #[test]
    fn a_pass_that_fails_ends_all() {
        assert_eq!(shared_passes(3, count_up, |_| Err("no")), Err("no"));
    }
}
