//! What the server counts, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the classes of request times, in seconds.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Upper ends of the classes of batch sizes.
const IMAGES: [f64; 6] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0];

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Requests by method, route and status.
    requests: Mutex<BTreeMap<(String, String, u16), u64>>,
    seconds: Mutex<Histogram<{ SECONDS.len() }>>,
    pub in_flight: AtomicUsize,
    pub connections: AtomicUsize,
    /// Images that were classified or described.
    pub images: AtomicU64,
    pub batches: Batches,
}

/// Runs of the network.
#[derive(Debug, Default)]
pub(super) struct Batches(Mutex<Histogram<{ IMAGES.len() }>>);

impl Batches {
    pub fn record(&self, images: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record(&IMAGES, images as f64);
    }
}

#[derive(Debug)]
struct Histogram<const N: usize> {
    counts: [u64; N],
    count: u64,
    sum: f64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { counts: [0; N], count: 0, sum: 0.0 }
    }
}

impl<const N: usize> Histogram<N> {
    fn record(&mut self, ends: &[f64; N], value: f64) {
        let reached = ends.iter().zip(&mut self.counts).filter(|(end, _)| value <= **end);
        reached.for_each(|(_, count)| *count += 1);
        self.count += 1;
        self.sum += value;
    }

    fn write(&self, text: &mut String, name: &str, help: &str, ends: &[f64; N]) {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        for (end, count) in ends.iter().zip(&self.counts) {
            let _ = writeln!(text, "{name}_bucket{{le=\"{end}\"}} {count}");
        }
        let Self { count, sum, .. } = self;
        let _ =
            writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn answered(&self, method: &str, route: &str, status: u16, time: Duration) {
        let key = (method.to_owned(), route.to_owned(), status);
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner).record(&SECONDS, time.as_secs_f64());
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str("# HELP cnncodes_requests_total Requests that were answered.\n# TYPE cnncodes_requests_total counter\n");
        for ((method, route, status), count) in &*requests {
            let _ = writeln!(
                text,
                "cnncodes_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {count}"
            );
        }
        drop(requests);
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        seconds.write(&mut text, "cnncodes_request_seconds", "Time to the head of an answer.", &SECONDS);
        let batches = self.batches.0.lock().unwrap_or_else(PoisonError::into_inner);
        batches.write(&mut text, "cnncodes_batch_images", "Images of a run of the network.", &IMAGES);
        let images = self.images.load(Ordering::Relaxed);
        for (name, kind, help, value) in [
            ("cnncodes_images_total", "counter", "Images that were classified or described.", images),
            (
                "cnncodes_requests_in_flight",
                "gauge",
                "Requests that are being answered.",
                self.in_flight.load(Ordering::Relaxed) as u64,
            ),
            (
                "cnncodes_connections",
                "gauge",
                "Open connections.",
                self.connections.load(Ordering::Relaxed) as u64,
            ),
        ] {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_appear_in_the_text_format() {
        let metrics = Metrics::default();
        metrics.answered("GET", "/v1/photos", 200, Duration::from_millis(20));
        metrics.answered("GET", "/v1/photos", 200, Duration::from_secs(100));
        metrics.batches.record(3);
        metrics.images.store(3, Ordering::Relaxed);
        let text = metrics.text();
        for line in [
            "cnncodes_requests_total{method=\"GET\",route=\"/v1/photos\",status=\"200\"} 2",
            "cnncodes_request_seconds_bucket{le=\"0.01\"} 0",
            "cnncodes_request_seconds_bucket{le=\"0.025\"} 1",
            "cnncodes_request_seconds_bucket{le=\"60\"} 1",
            "cnncodes_request_seconds_bucket{le=\"+Inf\"} 2",
            "cnncodes_batch_images_bucket{le=\"2\"} 0",
            "cnncodes_batch_images_bucket{le=\"4\"} 1",
            "cnncodes_batch_images_sum 3",
            "cnncodes_images_total 3",
            "cnncodes_connections 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
