//! The client of each bucket, made once from the usual variables of the environment.

use std::collections::HashMap;
use std::env;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};

use super::RemoteError;
use super::client::{innermost, retry_time};
use super::credentials;
use super::url::{RemoteUrl, Scheme};

/// What a client is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Read,
    Write,
}

impl Purpose {
    /// What is said of the connections, unless the environment says otherwise: a large block may take its time, silence may
    /// not. A store is silent while a large object is sent to it.
    fn settings(self) -> [(ClientConfigKey, &'static str, &'static str); 3] {
        let silence = match self {
            Self::Read => "30 seconds",
            Self::Write => "1 hour",
        };
        [
            (ClientConfigKey::ConnectTimeout, "CONNECT_TIMEOUT", "5 seconds"),
            (ClientConfigKey::ReadTimeout, "READ_TIMEOUT", silence),
            (ClientConfigKey::Timeout, "TIMEOUT", "1 hour"),
        ]
    }
}

/// The clients that were made, by purpose and bucket.
type Stores = Mutex<HashMap<(Purpose, String), Arc<dyn ObjectStore>>>;

/// The client of the bucket.
pub(super) fn of(place: &RemoteUrl<'_>, purpose: Purpose) -> Result<Arc<dyn ObjectStore>, RemoteError> {
    static STORES: OnceLock<Stores> = OnceLock::new();
    let stores = STORES.get_or_init(Mutex::default);
    let mut stores = stores.lock().unwrap_or_else(PoisonError::into_inner);
    let name = (purpose, place.origin.to_owned());
    if let Some(store) = stores.get(&name) {
        return Ok(Arc::clone(store));
    }
    let wrong = |why: String| RemoteError::Settings { url: place.origin.to_owned(), why };
    credentials::check(place).map_err(wrong)?;
    let store = build(place, purpose).map_err(|error| wrong(innermost(&error)))?;
    stores.insert(name, Arc::clone(&store));
    Ok(store)
}

fn retries() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(10),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: usize::MAX, retry_timeout: retry_time() }
}

fn build(place: &RemoteUrl<'_>, purpose: Purpose) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let unset = |prefix: &'static str| {
        purpose
            .settings()
            .into_iter()
            .filter(move |(_, name, _)| env::var_os(format!("{prefix}_{name}")).is_none())
    };
    Ok(match place.scheme {
        Scheme::S3 => {
            let builder = AmazonS3Builder::from_env().with_bucket_name(place.bucket).with_retry(retries());
            Arc::new(
                unset("AWS")
                    .fold(builder, |builder, (key, _, value)| {
                        builder.with_config(AmazonS3ConfigKey::Client(key), value)
                    })
                    .build()?,
            )
        }
        Scheme::Google => {
            let builder =
                GoogleCloudStorageBuilder::from_env().with_bucket_name(place.bucket).with_retry(retries());
            Arc::new(
                unset("GOOGLE")
                    .fold(builder, |builder, (key, _, value)| {
                        builder.with_config(GoogleConfigKey::Client(key), value)
                    })
                    .build()?,
            )
        }
        // No client is made for the web; a bucket of it would be refused here.
        Scheme::Azure | Scheme::Web => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(place.origin).with_retry(retries());
            Arc::new(
                unset("AZURE")
                    .fold(builder, |builder, (key, _, value)| {
                        builder.with_config(AzureConfigKey::Client(key), value)
                    })
                    .build()?,
            )
        }
    })
}
