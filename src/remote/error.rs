//! What goes wrong with files that are elsewhere, in words that name the address, the cause and the remedy.

use super::url::{RemoteUrl, Scheme};

/// Why a file in an object store or on the web cannot be used.
///
/// The texts stay the same from one try to the next, so that a failure can be recognised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The program was built without object stores.
    #[error(
        "cannot open {url}: this build of cnncodes has no object stores; install the wheel, or build with \
         `cargo build --features object-store`"
    )]
    NotBuilt {
        /// What was named.
        url: String,
    },
    /// The address cannot be used.
    #[error("cannot use the address {url}: {why}")]
    Address {
        /// What was named.
        url: String,
        /// What is wrong with it, and the remedy.
        why: String,
    },
    /// A setting of the environment is missing or wrong.
    #[error("cannot open {url}: {why}")]
    Settings {
        /// The bucket.
        url: String,
        /// Which variable, and the remedy.
        why: String,
    },
    /// There is no such object.
    #[error("{url} does not exist; check the name, or remove it from the list")]
    NotFound {
        /// The object.
        url: String,
    },
    /// The store does not let this user.
    #[error("{url}: access denied ({why}); {}", remedy_for_access(url))]
    Denied {
        /// The object or the prefix.
        url: String,
        /// The store's answer.
        why: String,
    },
    /// The object is not what it was.
    #[error("{url} changed after it was listed; run the same command again, or make a new plan")]
    Changed {
        /// The object.
        url: String,
    },
    /// The server sends whole files only.
    #[error(
        "{url}: the server sends no parts of files (HTTP ranges), which tar shards need; download the file \
         and name the copy"
    )]
    Unranged {
        /// The file.
        url: String,
    },
    /// The store does not do what was asked, and will not do it the next time.
    #[error("{url}: the store refused the request ({why})")]
    Refused {
        /// The object or the prefix.
        url: String,
        /// The store's answer.
        why: String,
    },
    /// The store did not answer, not in full, or with a failure of its own, in any of several tries.
    #[error(
        "{url}: no complete answer in any try ({why}); check the network and the store, then run the same command again"
    )]
    Unreachable {
        /// The object or the prefix.
        url: String,
        /// What happened in the last try.
        why: String,
    },
}

impl RemoteError {
    /// Whether the failure says nothing of the object, so that it may be another one's as well.
    pub(crate) fn is_of_transport(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The address without a query, which may hold a signature.
    pub(crate) fn shown(url: &str) -> String {
        match (RemoteUrl::parse(url), url.split_once('?')) {
            (Some(RemoteUrl { scheme: Scheme::Web, .. }), Some((before, _))) => format!("{before}?…"),
            _ => url.to_owned(),
        }
    }
}

impl From<RemoteError> for std::io::Error {
    fn from(error: RemoteError) -> Self {
        let kind = match error {
            RemoteError::NotFound { .. } => std::io::ErrorKind::NotFound,
            _ => std::io::ErrorKind::Other,
        };
        std::io::Error::new(kind, error)
    }
}

/// Which variables let a user in.
fn remedy_for_access(url: &str) -> &'static str {
    match RemoteUrl::parse(url).map(|url| url.scheme) {
        Some(Scheme::S3) => {
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION, and that they \
             may read and list the bucket"
        }
        Some(Scheme::Google) => {
            "check GOOGLE_APPLICATION_CREDENTIALS, and that the account may read and list the bucket"
        }
        Some(Scheme::Azure) => {
            "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_KEY), and \
             that they may read and list the container"
        }
        Some(Scheme::Web) | None => "check that the address can be opened without a login",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_in_an_address_is_not_shown() {
        assert_eq!(RemoteError::shown("https://h/x.jpg?sig=secret"), "https://h/x.jpg?…");
        assert_eq!(RemoteError::shown("s3://b/what?.jpg"), "s3://b/what?.jpg");
    }

    #[test]
    fn a_denied_request_names_the_variables_of_its_store() {
        let text = |url: &str| {
            RemoteError::Denied { url: url.to_owned(), why: "403 Forbidden".to_owned() }.to_string()
        };
        assert!(
            text("s3://b/x").starts_with("s3://b/x: access denied (403 Forbidden); check AWS_ACCESS_KEY_ID")
        );
        assert!(text("gs://b/x").contains("GOOGLE_APPLICATION_CREDENTIALS"));
        assert!(text("az://b/x").contains("AZURE_STORAGE_ACCOUNT_NAME"));
        assert!(text("https://h/x").contains("without a login"));
    }
}
