//! Addresses of files in object stores and on the web, as people write them.

use std::path::Path;

/// What kind of place an address names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Amazon S3, and what speaks its language.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
    /// A server that answers GET.
    Web,
}

const SCHEMES: [(&str, Scheme); 7] = [
    ("s3://", Scheme::S3),
    ("gs://", Scheme::Google),
    ("az://", Scheme::Azure),
    ("abfs://", Scheme::Azure),
    ("abfss://", Scheme::Azure),
    ("https://", Scheme::Web),
    ("http://", Scheme::Web),
];

/// An address in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RemoteUrl<'a> {
    pub scheme: Scheme,
    /// As written.
    pub text: &'a str,
    /// The scheme with the bucket, container or host: `s3://bucket`.
    pub origin: &'a str,
    /// The bucket, container or host.
    pub bucket: &'a str,
    /// What follows, without the slash: the object's key as it is, or the path of a web address with its escapes and its query.
    pub key: &'a str,
}

impl<'a> RemoteUrl<'a> {
    /// `None` for what is no address of a known kind.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (prefix, scheme) = SCHEMES.into_iter().find(|(prefix, _)| text.starts_with(prefix))?;
        let rest = &text[prefix.len()..];
        let bucket = rest.split('/').next().filter(|bucket| !bucket.is_empty())?;
        let origin = &text[..prefix.len() + bucket.len()];
        let key = text[origin.len()..].strip_prefix('/').unwrap_or_default();
        Some(Self { scheme, text, origin, bucket, key })
    }

    /// The address of another object in the same bucket.
    pub(crate) fn sibling(&self, key: &str) -> String {
        format!("{}/{key}", self.origin)
    }
}

/// Whether the path is an address of a known kind.
pub(crate) fn is_url(path: impl AsRef<Path>) -> bool {
    path.as_ref().to_str().and_then(RemoteUrl::parse).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_bucket_and_a_key() {
        let parts = |text| RemoteUrl::parse(text).map(|url| (url.scheme, url.origin, url.bucket, url.key));
        assert_eq!(parts("s3://b/a dir/x%20.jpg"), Some((Scheme::S3, "s3://b", "b", "a dir/x%20.jpg")));
        assert_eq!(parts("gs://b"), Some((Scheme::Google, "gs://b", "b", "")));
        assert_eq!(parts("az://c/x/"), Some((Scheme::Azure, "az://c", "c", "x/")));
        let host = "https://h.example:8080";
        assert_eq!(
            parts("https://h.example:8080/x.jpg?w=3/4"),
            Some((Scheme::Web, host, "h.example:8080", "x.jpg?w=3/4"))
        );
        for other in ["x.jpg", "/s3/x", "s3:/b/x", "s3:///x", "ftp://h/x", "c:\\x", "S3"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
