//! Whether the environment holds what lets a user into a store. Without it, the client would ask the cloud's own machines for
//! an identity, and elsewhere fail late and in words that nobody understands.

use std::env;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::url::{RemoteUrl, Scheme};

/// How a store is opened.
struct Access {
    /// Variables each of which, or what goes with it, is enough.
    any: &'static [&'static str],
    /// Gives the cloud's own machines their identity.
    metadata: &'static str,
    /// What to set.
    remedy: &'static str,
}

const S3: Access = Access {
    any: &[
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_METADATA_ENDPOINT",
    ],
    metadata: "169.254.169.254:80",
    remedy: "AWS_ACCESS_KEY_ID is not set, and this machine has no role; set AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY (the files in ~/.aws are not read: `eval \"$(aws configure \
             export-credentials --format env)\"` sets both), or AWS_SKIP_SIGNATURE=true for a public bucket",
};

const GOOGLE: Access = Access {
    any: &[
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "SERVICE_ACCOUNT",
    ],
    metadata: "metadata.google.internal:80",
    remedy: "GOOGLE_APPLICATION_CREDENTIALS is not set, and this machine has no service account; let it name \
             a key file, run `gcloud auth application-default login`, or set GOOGLE_SKIP_SIGNATURE=true for a \
             public bucket",
};

const AZURE: Access = Access {
    any: &[
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_MASTER_KEY",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_TOKEN",
        "AZURE_STORAGE_CLIENT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_STORAGE_USE_EMULATOR",
        "AZURE_USE_AZURE_CLI",
        "AZURE_MSI_ENDPOINT",
        "MSI_ENDPOINT",
        "IDENTITY_ENDPOINT",
    ],
    metadata: "169.254.169.254:80",
    remedy: "AZURE_STORAGE_ACCOUNT_KEY is not set, and this machine has no identity; set it, or \
             AZURE_STORAGE_SAS_KEY, or AZURE_SKIP_SIGNATURE=true for a public container",
};

/// Whether the store may be tried.
///
/// # Errors
/// Which variable is missing, and what to do.
pub(super) fn check(place: &RemoteUrl<'_>) -> Result<(), String> {
    let scheme = place.scheme;
    let (prefix, access) = match scheme {
        Scheme::S3 => ("AWS", S3),
        Scheme::Google => ("GOOGLE", GOOGLE),
        Scheme::Azure => ("AZURE", AZURE),
        Scheme::Web => return Ok(()),
    };
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let is_true = |name: &str| {
        variable(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y"))
    };
    if scheme == Scheme::S3 {
        let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")).or_else(|| variable("AWS_ENDPOINT"));
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.starts_with("http://"))
            && !is_true("AWS_ALLOW_HTTP")
        {
            return Err(format!("AWS_ENDPOINT_URL is {endpoint}, which is not encrypted; set AWS_ALLOW_HTTP=true to allow that"));
        }
        for (one, other) in [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")] {
            if variable(one).is_some() && variable(other).is_none() && !is_true("AWS_SKIP_SIGNATURE") {
                return Err(format!("{one} is set, but {other} is not; set both"));
            }
        }
    }
    if scheme == Scheme::Azure
        && !place.bucket.contains('@')
        && !is_true("AZURE_STORAGE_USE_EMULATOR")
        && variable("AZURE_STORAGE_ACCOUNT_NAME").is_none()
    {
        return Err("AZURE_STORAGE_ACCOUNT_NAME is not set; set it to the account that holds the container".to_owned());
    }
    let is_given = access.any.iter().any(|name| variable(name).is_some())
        || is_true(&format!("{prefix}_SKIP_SIGNATURE"))
        || scheme == Scheme::Google && has_login_of_gcloud();
    if is_given || answers(access.metadata) { Ok(()) } else { Err(access.remedy.to_owned()) }
}

/// Whether `gcloud auth application-default login` has left its file.
fn has_login_of_gcloud() -> bool {
    let file = "gcloud/application_default_credentials.json";
    let home = dirs::home_dir().map(|home| home.join(".config").join(file));
    let roaming = env::var_os("APPDATA").map(|folder| std::path::Path::new(&folder).join(file));
    [home, roaming].into_iter().flatten().any(|path| path.is_file())
}

/// Whether something listens there; on the machines of a cloud it does at once.
fn answers(address: &str) -> bool {
    let addresses = address.to_socket_addrs().into_iter().flatten();
    addresses.take(2).any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}
