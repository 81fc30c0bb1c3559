//! How a sweep that runs is shown.

use indicatif::ProgressBar;

use crate::cli::{interrupt, show};
use crate::extract;
use crate::sweep::SweepEvent;

/// The bar of what is going on.
#[derive(Default)]
pub(super) struct SweepProgress(Option<(&'static str, ProgressBar)>);

impl SweepProgress {
    pub(super) fn show(&mut self, event: SweepEvent<'_>) {
        match event {
            SweepEvent::Extracted(progress) => self.advance("extracting", show::progress_bar, progress),
            SweepEvent::Timed(progress) => self.advance("timing", show::steps, progress),
            SweepEvent::Fitted(progress) => {
                interrupt::says("the features of all layers are kept, and the same command resumes");
                self.advance("fitting heads", show::steps, progress);
            }
            SweepEvent::Note(note) => match &self.0 {
                // A line in the middle of the bar would tear it.
                Some((_, bar)) => bar.suspend(|| show::warning(note)),
                None => show::warning(note),
            },
        }
    }

    fn advance(
        &mut self,
        what: &'static str,
        new: fn(&'static str) -> ProgressBar,
        extract::ExtractProgress { done, total }: extract::ExtractProgress,
    ) {
        if self.0.as_ref().is_none_or(|(shown, _)| *shown != what) {
            self.end();
        }
        let (_, bar) = self.0.get_or_insert_with(|| (what, new(what)));
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        if done == total {
            self.end();
        }
    }

    /// Removes the bar.
    pub(super) fn end(&mut self) {
        if let Some((_, bar)) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}
