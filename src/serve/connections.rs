//! Connections: accepted up to a limit, given a time for the head of each request, and ended in order when the server is to stop:
//! requests that have begun get their answers, and nothing new is accepted.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::app::Shared;

/// Bytes of the head of a request at most.
const HEAD_BYTES: usize = 64 << 10;
/// How long requests that have begun may still take when the server is to stop.
const LAST_ANSWERS: Duration = Duration::from_secs(30);
/// Pause after an accept that failed, such as for want of file descriptors.
const RECOVERY: Duration = Duration::from_millis(100);
/// How long a client that is refused is listened to.
const REFUSAL: Duration = Duration::from_secs(1);

/// The answer to a connection that is one too many.
const REFUSED: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
     connection: close\r\ncontent-length: 111\r\n\r\n\
     {\"error\":{\"code\":\"overloaded\",\"message\":\"the server has too many connections; close some, or try again later\"}}";

/// Serves until `stopping` is true and the last answers are given.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    app: Shared,
    mut stopping: watch::Receiver<bool>,
) {
    let most = app.limits.connections;
    let free = Arc::new(Semaphore::new(most));
    loop {
        let stop = async { drop(stopping.wait_for(|stop| *stop).await) };
        let accepted = match select(pin!(listener.accept()), pin!(stop)).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(_) => break,
        };
        let Ok((stream, _)) = accepted else {
            sleep(RECOVERY).await;
            continue;
        };
        // Small answers are sent at once. Where that cannot be set they come a little later.
        let _ = stream.set_nodelay(true);
        let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
            tokio::spawn(timeout(REFUSAL, refuse(stream)));
            continue;
        };
        let (router, app, stopping) = (router.clone(), Arc::clone(&app), app.stopping.clone());
        tokio::spawn(async move {
            app.metrics.connections.fetch_add(1, Ordering::Relaxed);
            answer(stream, router, app.limits.head_time, stopping).await;
            app.metrics.connections.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
    drop(listener);
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    // Who takes longer is cut off.
    let _ = timeout(LAST_ANSWERS, free.acquire_many(most)).await;
}

/// Answers the requests of a connection.
async fn answer(stream: TcpStream, router: Router, head_time: Duration, mut stopping: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let stop = async { drop(stopping.wait_for(|stop| *stop).await) };
    // What is wrong with a connection is the client's doing, and known to it.
    if let Either::Right(_) = select(connection.as_mut(), pin!(stop)).await {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Tells a client that there are too many, and listens until it has heard it.
async fn refuse(mut stream: TcpStream) -> Result<Infallible, std::io::Error> {
    stream.write_all(REFUSED.as_bytes()).await?;
    stream.shutdown().await?;
    let mut unheard = [0; 4096];
    loop {
        if stream.read(&mut unheard).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_refusal_has_the_length_that_it_announces() {
        let (head, body) = super::REFUSED.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len()))
                || head.ends_with(&format!("content-length: {}", body.len()))
        );
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
