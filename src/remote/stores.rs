//! The client of each bucket, made once from the usual variables of the environment.

use std::collections::HashMap;
use std::env;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};

use super::client::{innermost, retry_time};
use super::credentials;
use super::url::{RemoteUrl, Scheme};
use super::RemoteError;

/// What is said of the connections, unless the environment says otherwise: a large block may take its time, silence may not.
const CLIENT: [(ClientConfigKey, &str, &str); 3] = [
    (ClientConfigKey::ConnectTimeout, "CONNECT_TIMEOUT", "5 seconds"),
    (ClientConfigKey::ReadTimeout, "READ_TIMEOUT", "30 seconds"),
    (ClientConfigKey::Timeout, "TIMEOUT", "1 hour"),
];

/// The client of the bucket.
pub(super) fn of(place: &RemoteUrl<'_>) -> Result<Arc<dyn ObjectStore>, RemoteError> {
    static STORES: OnceLock<Mutex<HashMap<String, Arc<dyn ObjectStore>>>> = OnceLock::new();
    let stores = STORES.get_or_init(Mutex::default);
    let mut stores = stores.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(store) = stores.get(place.origin) {
        return Ok(Arc::clone(store));
    }
    let wrong = |why: String| RemoteError::Settings { url: place.origin.to_owned(), why };
    credentials::check(place).map_err(wrong)?;
    let store = build(place).map_err(|error| wrong(innermost(&error)))?;
    stores.insert(place.origin.to_owned(), Arc::clone(&store));
    Ok(store)
}

fn retries() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(10), base: 2.0 };
    RetryConfig { backoff, max_retries: usize::MAX, retry_timeout: retry_time() }
}

fn build(place: &RemoteUrl<'_>) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let unset = |prefix: &'static str| {
        CLIENT.into_iter().filter(move |(_, name, _)| env::var_os(format!("{prefix}_{name}")).is_none())
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
