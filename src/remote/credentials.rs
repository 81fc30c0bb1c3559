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

impl Access {
    /// The prefix of the store's variables, and how it is opened; nothing is needed for the web.
    fn of(scheme: Scheme) -> Option<(&'static str, Access)> {
        match scheme {
            Scheme::S3 => Some(("AWS", S3)),
            Scheme::Google => Some(("GOOGLE", GOOGLE)),
            Scheme::Azure => Some(("AZURE", AZURE)),
            Scheme::Web => None,
        }
    }
}

/// The value of a variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_true(name: &str) -> bool {
    variable(name)
        .is_some_and(|value| ["1", "true", "on", "yes", "y"].contains(&value.to_ascii_lowercase().as_str()))
}

/// The variable that lets a user into the store, where neither it nor another one that does is set.
pub(super) fn unset(place: &RemoteUrl<'_>) -> Option<&'static str> {
    let (prefix, access) = Access::of(place.scheme)?;
    let is_given = access.any.iter().any(|name| variable(name).is_some())
        || is_true(&format!("{prefix}_SKIP_SIGNATURE"))
        || place.scheme == Scheme::Google && has_login_of_gcloud();
    (!is_given).then_some(access.any[0])
}

/// Whether the store may be tried.
///
/// # Errors
/// Which variable is missing, and what to do.
pub(super) fn check(place: &RemoteUrl<'_>) -> Result<(), String> {
    match place.scheme {
        Scheme::S3 => check_s3()?,
        Scheme::Azure => check_azure(place)?,
        Scheme::Google | Scheme::Web => {}
    }
    let Some((_, access)) = Access::of(place.scheme).filter(|_| unset(place).is_some()) else {
        return Ok(());
    };
    let may_ask_machine = !is_true("AWS_EC2_METADATA_DISABLED") || place.scheme != Scheme::S3;
    if may_ask_machine && answers(access.metadata) { Ok(()) } else { Err(access.remedy.to_owned()) }
}

fn check_s3() -> Result<(), String> {
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
        .iter()
        .find_map(|name| Some((name, variable(name).filter(|endpoint| endpoint.starts_with("http://"))?)));
    if let Some((name, endpoint)) = endpoint.filter(|_| !is_true("AWS_ALLOW_HTTP")) {
        return Err(format!(
            "{name} is {endpoint}, which is not encrypted; set AWS_ALLOW_HTTP=true to allow that"
        ));
    }
    let (key, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    for (one, other) in [(key, secret), (secret, key)] {
        if variable(one).is_some() && variable(other).is_none() && !is_true("AWS_SKIP_SIGNATURE") {
            return Err(format!("{one} is set, but {other} is not; set both"));
        }
    }
    Ok(())
}

fn check_azure(place: &RemoteUrl<'_>) -> Result<(), String> {
    let is_named = place.bucket.contains('@')
        || is_true("AZURE_STORAGE_USE_EMULATOR")
        || variable("AZURE_STORAGE_ACCOUNT_NAME").is_some();
    if is_named {
        return Ok(());
    }
    Err("AZURE_STORAGE_ACCOUNT_NAME is not set; set it to the account that holds the container".to_owned())
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
