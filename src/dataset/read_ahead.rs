//! Reading images before they are asked for, where they come from an object store or from the web.
//!
//! A request takes as long as the decoding of several images, so many are under way at a time, in the order in which the
//! images will be asked for: as many as [`REQUESTS`] and [`MEMORY`] allow. Members of a shard that lie side by side come in
//! one request. Whoever asks for an image is given it as soon as it is there; an image that somebody waits for is
//! requested whatever the memory. Files on disks are read when they are asked for, as ever.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rayon::prelude::*;

use super::{Sample, SampleContent};
use crate::remote::{self, Fetched, Outage, OutageWatch, RemoteError, RemoteUrl, Scheme, Wanted};

/// Requests under way at a time.
const REQUESTS: usize = 64;
/// Requests that wait for one of these to end: nobody asks for an image while the network runs.
const WAITING: usize = 3 * REQUESTS;
/// Bytes of images that were not asked for yet, or are on their way.
const MEMORY: u64 = 256 << 20;
/// Bytes of an image of unknown size, until some are known.
const USUAL: u64 = 256 << 10;
/// Bytes between two members that are read with them rather than by two requests.
const GAP: u64 = 128 << 10;
/// Bytes and images of a request for several members.
const SPAN: u64 = 4 << 20;
const MEMBERS: usize = 64;
/// Images that several threads share at a time. They begin far apart, and what lies between is requested for the last of them.
const SHARED: usize = 64;
/// How often whoever waits looks whether the run is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// The samples of a run, in the order in which they will be asked for.
pub(crate) struct ReadAhead<'f, 's> {
    sample: SampleAt<'f, 's>,
    count: usize,
    shared: Arc<Shared>,
    stop: &'f AtomicBool,
}

/// Gives the sample at a position.
type SampleAt<'f, 's> = &'f (dyn Fn(usize) -> Sample<'s> + Sync + 'f);

/// Why an image is not given.
#[derive(Debug)]
pub(crate) enum ReadFailure {
    /// It cannot be read.
    Image(io::Error),
    /// The run is over: it was told to stop, or nothing can be read any more.
    Over,
}

impl From<ReadFailure> for io::Error {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Image(error) => error,
            ReadFailure::Over => io::ErrorKind::Interrupted.into(),
        }
    }
}

/// What the threads that wait for answers know.
struct Shared {
    state: Mutex<State>,
    /// Told whenever a request ends.
    ended: Condvar,
}

struct State {
    /// The first position that was not looked at yet.
    next: usize,
    /// The last position that somebody waits for.
    demand: usize,
    /// What came, or is coming, of each position that was not asked for yet.
    images: HashMap<usize, Coming>,
    /// What is to be requested.
    waiting: VecDeque<Request>,
    running: usize,
    /// Bytes of what is in `images`.
    held: u64,
    /// Bytes of an image whose size was not known before, on average.
    usual: u64,
    watch: OutageWatch,
}

/// An image that was not asked for yet.
struct Coming {
    /// What it counts for in `held`.
    bytes: u64,
    content: Option<Result<Bytes, RemoteError>>,
}

/// A request for one image, or for several of one shard.
struct Request {
    wanted: Wanted,
    /// Position of each image, and where its bytes lie in the answer; all of it if absent.
    parts: Vec<(usize, Option<Range<usize>>)>,
}

impl<'f, 's> ReadAhead<'f, 's> {
    /// `sample` gives each of `count` samples by its position. Nothing is requested before the first image is asked for.
    pub(crate) fn new(sample: SampleAt<'f, 's>, count: usize, stop: &'f AtomicBool) -> Self {
        let state = State {
            next: 0,
            demand: 0,
            images: HashMap::new(),
            waiting: VecDeque::new(),
            running: 0,
            held: 0,
            usual: USUAL,
            watch: OutageWatch::new(has_several_hosts(sample, count)),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), ended: Condvar::new() });
        Self { sample, count, shared, stop }
    }

    /// The sample at a position.
    pub(crate) fn sample(&self, position: usize) -> Sample<'s> {
        (self.sample)(position)
    }

    /// The image of the sample at `position`, which is asked for once.
    pub(crate) fn read(&self, position: usize) -> Result<SampleContent<'s>, ReadFailure> {
        let sample = (self.sample)(position);
        if !sample.is_remote() {
            return sample.read().map_err(ReadFailure::Image);
        }
        let mut state = self.shared.lock();
        state.demand = state.demand.max(position);
        loop {
            self.request(&mut state);
            if state.watch.outage().is_some() {
                return Err(ReadFailure::Over);
            }
            if let Some(Coming { content: Some(_), .. }) = state.images.get(&position)
                && let Some(Coming { bytes, content: Some(content) }) = state.images.remove(&position)
            {
                state.held -= bytes;
                drop(state);
                let content = content.map_err(|error| ReadFailure::Image(error.into()))?;
                return Ok(SampleContent::Encoded(Vec::from(content).into()));
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(ReadFailure::Over);
            }
            if !state.images.contains_key(&position) && state.next > position {
                // Asked for again.
                drop(state);
                return sample.read().map_err(ReadFailure::Image);
            }
            let waited = self.shared.ended.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What `each` makes of every position, on the threads of the current pool.
    pub(crate) fn map<T: Send>(&self, each: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let mut all = Vec::with_capacity(self.count);
        for start in (0..self.count).step_by(SHARED) {
            all.par_extend((start..self.count.min(start + SHARED)).into_par_iter().map(&each));
        }
        all
    }

    /// Why nothing can be read any more, if it is so.
    pub(crate) fn outage(&self) -> Option<Outage> {
        self.shared.lock().watch.outage().cloned()
    }

    /// Requests what comes next, as far as there is room.
    fn request(&self, state: &mut MutexGuard<'_, State>) {
        while state.next < self.count
            && state.waiting.len() < WAITING
            && (state.held < MEMORY || state.next <= state.demand)
        {
            let Some(wanted) = (self.sample)(state.next).wanted() else {
                state.next += 1;
                continue;
            };
            let request = self.request_at(state.next, wanted);
            state.next += request.parts.len();
            let usual = state.usual;
            for (position, part) in &request.parts {
                let bytes = match part {
                    Some(part) => part.len() as u64,
                    None => request.wanted.version.size.unwrap_or(usual),
                };
                state.held += bytes;
                state.images.insert(*position, Coming { bytes, content: None });
            }
            state.waiting.push_back(request);
        }
        self.shared.begin(state);
    }

    /// The request for the sample at `position`, and for those after it that lie beside it in the same shard.
    fn request_at(&self, position: usize, first: Wanted) -> Request {
        let Some(Range { start, mut end }) = first.range else {
            return Request { wanted: first, parts: vec![(position, None)] };
        };
        let within =
            |member: &Range<u64>| Some((member.start - start) as usize..(member.end - start) as usize);
        let mut parts = vec![(position, within(&(start..end)))];
        for next in (position + 1..self.count).take(MEMBERS - 1) {
            let Some(Wanted { url, range: Some(member), .. }) = (self.sample)(next).wanted() else { break };
            if url != first.url || !(end..=end + GAP).contains(&member.start) || member.end - start > SPAN {
                break;
            }
            end = member.end;
            parts.push((next, within(&member)));
        }
        Request { wanted: Wanted { range: Some(start..end), ..first }, parts }
    }
}

impl Drop for ReadAhead<'_, '_> {
    fn drop(&mut self) {
        self.shared.lock().waiting.clear();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins as many of the waiting requests as may be under way.
    fn begin(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) {
        while state.running < REQUESTS
            && state.watch.outage().is_none()
            && let Some(Request { wanted, parts }) = state.waiting.pop_front()
        {
            state.running += 1;
            let shared = Arc::clone(self);
            let url = wanted.url.clone();
            let is_size_known = wanted.range.is_some() || wanted.version.size.is_some();
            remote::get_in_background(wanted, move |outcome| {
                shared.end(&url, is_size_known, &parts, outcome)
            });
        }
    }

    /// Takes the answer to a request.
    fn end(
        self: &Arc<Self>,
        url: &str,
        is_size_known: bool,
        parts: &[(usize, Option<Range<usize>>)],
        outcome: Result<Fetched, RemoteError>,
    ) {
        let mut state = self.lock();
        state.running -= 1;
        state.watch.record(url, outcome.as_ref().map(|_| ()));
        for (position, part) in parts {
            let Some(image) = state.images.get_mut(position) else { continue };
            let content = outcome.as_ref().map(|Fetched { bytes, .. }| match part {
                Some(part) => bytes.slice(part.clone()),
                None => bytes.clone(),
            });
            let (before, now) = (image.bytes, content.as_ref().map_or(0, |content| content.len() as u64));
            image.bytes = now;
            image.content = Some(content.map_err(Clone::clone));
            state.held = state.held - before + now;
            if !is_size_known && now > 0 {
                state.usual = (state.usual * 7 + now) / 8;
            }
        }
        self.begin(&mut state);
        drop(state);
        self.ended.notify_all();
    }
}

/// Whether the samples are files of several hosts of the web.
fn has_several_hosts(sample: SampleAt<'_, '_>, count: usize) -> bool {
    let mut first: Option<String> = None;
    for position in 0..count {
        let Some(wanted) = sample(position).wanted() else {
            // The images of a list may lie anywhere, but where the first is a file, the rest are files but for a few.
            if position == 0 {
                return false;
            }
            continue;
        };
        let Some(RemoteUrl { scheme: Scheme::Web, origin, .. }) = RemoteUrl::parse(&wanted.url) else {
            return false;
        };
        match &first {
            None => first = Some(origin.to_owned()),
            Some(first) if first != origin => return true,
            Some(_) => {}
        }
    }
    false
}
