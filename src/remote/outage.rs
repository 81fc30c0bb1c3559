//! Telling a store that is down from objects that are bad: a long run must not record ten million failures for one cause.

use super::error::RemoteError;
use super::url::{RemoteUrl, Scheme};

/// Failures in a row that make an outage.
const FAILURES: usize = 16;
/// So many hosts of the web do not fail together unless the network does.
const HOSTS: usize = 4;

/// Nothing can be read any more, whatever the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("images cannot be read any more")]
pub struct Outage(#[source] RemoteError);

/// Watches what becomes of the reads of a run.
#[derive(Debug)]
pub(crate) struct OutageWatch {
    /// Whether the run reads from several hosts of the web, one of which may be gone for good.
    has_several_hosts: bool,
    has_succeeded: bool,
    failures: usize,
    /// Where they were, up to [`HOSTS`] of these.
    origins: Vec<String>,
    outage: Option<Outage>,
}

impl OutageWatch {
    pub(crate) fn new(has_several_hosts: bool) -> Self {
        let (has_succeeded, failures, origins, outage) = Default::default();
        Self { has_several_hosts, has_succeeded, failures, origins, outage }
    }

    /// Takes note of what became of a read.
    pub(crate) fn record(&mut self, url: &str, outcome: Result<(), &RemoteError>) {
        let error = match outcome {
            Err(error @ (RemoteError::Settings { .. } | RemoteError::NotBuilt { .. })) => {
                self.outage.get_or_insert_with(|| Outage(error.clone()));
                return;
            }
            // Where nothing was ever let through, it is not for the object's sake.
            Err(error @ (RemoteError::Denied { .. } | RemoteError::Refused { .. }))
                if !self.has_succeeded =>
            {
                error
            }
            Err(error) if error.is_of_transport() => error,
            // An answer, if not the one that was hoped for.
            Err(_) => return self.forget_failures(),
            Ok(()) => {
                self.has_succeeded = true;
                return self.forget_failures();
            }
        };
        self.failures += 1;
        let url = RemoteUrl::parse(url);
        let origin = url.map_or("", |url| url.origin);
        if self.origins.len() < HOSTS && !self.origins.iter().any(|known| known == origin) {
            self.origins.push(origin.to_owned());
        }
        let may_be_one_host = self.has_several_hosts
            && url.is_some_and(|url| url.scheme == Scheme::Web)
            && self.origins.len() < HOSTS;
        if self.failures >= FAILURES && !may_be_one_host && self.outage.is_none() {
            self.outage = Some(Outage(error.clone()));
        }
    }

    fn forget_failures(&mut self) {
        self.failures = 0;
        self.origins.clear();
    }

    /// The outage, once there is one.
    pub(crate) fn outage(&self) -> Option<&Outage> {
        self.outage.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(url: &str) -> RemoteError {
        RemoteError::Unreachable { url: url.to_owned(), why: "connection refused".to_owned() }
    }

    fn fail(watch: &mut OutageWatch, url: &str, times: usize) {
        (0..times).for_each(|_| watch.record(url, Err(&unreachable(url))));
    }

    #[test]
    fn a_store_that_fails_again_and_again_is_down() {
        let mut watch = OutageWatch::new(false);
        fail(&mut watch, "s3://b/x", FAILURES - 1);
        assert_eq!(watch.outage(), None);
        watch.record("s3://b/x", Ok(()));
        fail(&mut watch, "s3://b/x", FAILURES - 1);
        // A missing object is an answer.
        watch.record("s3://b/x", Err(&RemoteError::NotFound { url: "s3://b/x".to_owned() }));
        fail(&mut watch, "s3://b/x", FAILURES - 1);
        assert_eq!(watch.outage(), None);
        fail(&mut watch, "s3://b/y", 1);
        assert_eq!(watch.outage(), Some(&Outage(unreachable("s3://b/y"))));
    }

    #[test]
    fn one_dead_host_of_several_is_no_outage() {
        let mut watch = OutageWatch::new(true);
        fail(&mut watch, "https://dead/x.jpg", 10 * FAILURES);
        assert_eq!(watch.outage(), None);
        for host in ["https://a/x", "https://b/x", "https://c/x"] {
            fail(&mut watch, host, 1);
        }
        assert_eq!(watch.outage(), Some(&Outage(unreachable("https://c/x"))));
        let mut only = OutageWatch::new(false);
        fail(&mut only, "https://dead/x.jpg", FAILURES);
        assert!(only.outage().is_some());
    }

    #[test]
    fn a_missing_setting_is_an_outage_at_once() {
        let missing = RemoteError::Settings { url: "s3://b".to_owned(), why: "no key".to_owned() };
        let mut watch = OutageWatch::new(true);
        watch.record("s3://b/x", Err(&missing));
        assert_eq!(watch.outage(), Some(&Outage(missing)));
    }

    #[test]
    fn access_that_was_never_granted_is_an_outage() {
        let denied = RemoteError::Denied { url: "s3://b/x".to_owned(), why: "403".to_owned() };
        let mut watch = OutageWatch::new(false);
        (0..FAILURES).for_each(|_| watch.record("s3://b/x", Err(&denied)));
        assert_eq!(watch.outage(), Some(&Outage(denied.clone())));
        let mut watch = OutageWatch::new(false);
        watch.record("s3://b/y", Ok(()));
        (0..10 * FAILURES).for_each(|_| watch.record("s3://b/x", Err(&denied)));
        assert_eq!(watch.outage(), None);
    }
}
