//! Panics of other crates' readers, which become errors about a file and are not printed.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static HANDLED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives; `None` where it panics.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = HANDLED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    HANDLED.set(outer);
    result.ok()
}

/// From now on the process prints no panic that becomes an error. Programs call it once; a library has no business with the
/// hook.
#[cfg(feature = "cli")]
pub fn print_only_unhandled() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !HANDLED.get() {
            print(panic);
        }
    }));
}
