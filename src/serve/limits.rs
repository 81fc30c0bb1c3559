//! What the server takes on at once, and the permits for it. What is more is refused at once, so that memory stays bounded and
//! nobody waits for an answer that comes too late.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::api_error::ApiError;

/// Bytes that a permit of [`Admission::bytes`] stands for.
const BLOCK: u64 = 1 << 16;

/// What the server takes on at once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: u64,
    /// Bytes of all bodies that are held at a time.
    pub held_bytes: u64,
    /// Pixels of an image.
    pub pixels: u64,
    /// Images of a request.
    pub images_per_request: usize,
    /// Images that are worked on or wait at a time.
    pub images: usize,
    /// Connections at a time.
    pub connections: usize,
    /// How long the work for a request may take once its body is there.
    pub time: Duration,
    /// How long a request's head may take, and how long a connection may be idle.
    pub head_time: Duration,
    /// How long a body may take before its speed counts, and how long nothing of it may come.
    pub body_time: Duration,
    /// Bytes a second of a body at least, on average.
    pub body_speed: u64,
}

impl Default for Limits {
    /// Bodies of 64 MiB and 512 MiB in all, 50 million pixels, 32 images a request and 128 in all, 512 connections, 60 s of work,
    /// 20 s for a head, 10 s for a body of which 16 KiB a second come.
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            held_bytes: 512 << 20,
            pixels: 50_000_000,
            images_per_request: 32,
            images: 128,
            connections: 512,
            time: Duration::from_secs(60),
            head_time: Duration::from_secs(20),
            body_time: Duration::from_secs(10),
            body_speed: 16 << 10,
        }
    }
}

/// The permits.
#[derive(Debug)]
pub(super) struct Admission {
    bytes: Arc<Semaphore>,
    images: Arc<Semaphore>,
    /// Decoding and encoding of pictures: as many at a time as there are processors. These wait for their turn.
    processors: Arc<Semaphore>,
}

impl Admission {
    pub fn new(limits: &Limits, threads: usize) -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(blocks(limits.held_bytes) as usize)),
            images: Arc::new(Semaphore::new(limits.images)),
            processors: Arc::new(Semaphore::new(threads.max(1))),
        }
    }

    /// Room for a body of so many bytes.
    pub fn body(&self, bytes: u64) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.bytes).try_acquire_many_owned(blocks(bytes)).map_err(|_| ApiError::overloaded())
    }

    /// Room for so many images.
    pub fn images(&self, images: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let images = u32::try_from(images).unwrap_or(u32::MAX);
        Arc::clone(&self.images).try_acquire_many_owned(images).map_err(|_| ApiError::overloaded())
    }

    /// Runs `work`, which keeps a processor busy, on a thread that may block, when a processor is free.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let processor = Arc::clone(&self.processors).acquire_owned().await;
        let processor = processor.map_err(|_| ApiError::broken("the server"))?;
        blocking(move || {
            // Work goes on when nobody waits for it any more, and keeps its processor.
            let done = work();
            drop(processor);
            done
        })
        .await
    }
}

/// Runs `work` on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::broken("a thread of the server"))
}

fn blocks(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BLOCK)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_than_the_limit_is_refused_until_something_is_done() {
        let limits = Limits { held_bytes: 10 * BLOCK, images: 3, ..Limits::default() };
        let admission = Admission::new(&limits, 1);
        let body = admission.body(9 * BLOCK + 1).unwrap();
        assert_eq!(admission.body(1).unwrap_err(), ApiError::overloaded());
        drop(body);
        assert!(admission.body(1).is_ok());
        let two = admission.images(2).unwrap();
        assert_eq!(admission.images(2).unwrap_err().status, 503);
        drop(two);
        assert!(admission.images(3).is_ok());
        assert!(admission.images(4).is_err(), "never");
    }
}
