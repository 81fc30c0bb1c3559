//! Who may ask. A page of another origin, and a name that a stranger's DNS points here, get nothing; with a token, nobody else does
//! either.
//!
//! - **Host** must be a name or an address of this machine's loopback, or what the server listens on. A page whose own name was
//!   rebound to 127.0.0.1 sends that name.
//! - **Origin**, if it is sent, must be the origin of the host, and **Sec-Fetch-Site** must be `same-origin` or `none`. Without
//!   these headers the client is no browser of today, or a link was followed.
//! - What changes something needs the header **X-Cnncodes**, which a form of another page cannot send, and no other page may,
//!   because nothing here answers a preflight of CORS.
//! - The **token** is compared in constant time. It comes as a bearer token, or as the cookie that `POST /v1/session` gives the page
//!   for it. The page itself holds no data and needs none.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::api_error::ApiError;

/// The header that goes with every change.
pub(super) const CHANGE_HEADER: HeaderName = HeaderName::from_static("x-cnncodes");

/// Random bytes of a token.
const TOKEN_BYTES: usize = 24;
/// Characters of a token at least.
const SHORTEST_TOKEN: usize = 16;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// A file of the page: no data.
    Page,
    /// Exchanging the token for a cookie.
    Session,
    /// Data, or work that changes nothing.
    Read,
    /// A change.
    Change,
}

/// Lets requests pass, or not.
#[derive(Debug)]
pub(super) struct Guard {
    address: SocketAddr,
    token: Option<Token>,
}

#[derive(Debug)]
struct Token {
    text: String,
    /// What the cookie holds: the token cannot be told from it.
    session: String,
    cookie: String,
}

/// A token that nobody guesses.
///
/// # Errors
/// The system has no random numbers.
pub(super) fn random_token() -> Result<String, getrandom::Error> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a token is long enough, and made of characters that a header can hold.
pub(super) fn is_sound_token(token: &str) -> bool {
    token.len() >= SHORTEST_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Guard {
    /// For a server at `address`, with a token if one is required.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(address: SocketAddr, token: Option<String>) -> Result<Self, getrandom::Error> {
        let token = match token {
            None => None,
            Some(text) => {
                // Cookies do not tell ports apart.
                Some(Token { text, session: random_token()?, cookie: format!("cnncodes-{}", address.port()) })
            }
        };
        Ok(Self { address, token })
    }

    /// Whether the request may pass.
    ///
    /// # Errors
    /// It may not, and why.
    pub fn check(&self, method: &Method, headers: &HeaderMap, access: Access) -> Result<(), ApiError> {
        let host = self.check_host(headers)?;
        if access != Access::Page {
            check_origin(headers, &host)?;
        }
        let needs_token = !matches!(access, Access::Page | Access::Session);
        if needs_token && !self.token.as_ref().is_none_or(|token| token.is_in(headers)) {
            return Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "the token is missing or wrong; open the address that the program printed, with its #token, or send \
                 Authorization: Bearer TOKEN",
            ));
        }
        let changes = access == Access::Change && !matches!(*method, Method::GET | Method::HEAD);
        if (changes || access == Access::Session) && !headers.contains_key(CHANGE_HEADER) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "missing_header",
                "the request changes something and lacks the header X-Cnncodes: 1; send it",
            ));
        }
        Ok(())
    }

    /// The host that the client asked, which is one of ours.
    fn check_host(&self, headers: &HeaderMap) -> Result<Authority, ApiError> {
        let mut given = headers.get_all(header::HOST).iter();
        let host = given.next().and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let host = host.filter(|host| given.next().is_none() && !host.as_str().contains('@'));
        host.filter(|host| self.is_ours(host.host())).ok_or_else(|| {
            ApiError::forbidden(format!(
                "the request's Host is not an address of this server; open http://{} or http://localhost:{}",
                self.address,
                self.address.port()
            ))
        })
    }

    fn is_ours(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let Ok(ip) = host.parse::<IpAddr>() else { return false };
        // A name can be rebound, an address cannot: with a token, and so with another address than loopback, any will do.
        ip.is_loopback() || ip == self.address.ip() || self.token.is_some()
    }

    /// The cookie for who knows the token.
    ///
    /// # Errors
    /// The token is wrong.
    pub fn session_cookie(&self, token: &str) -> Result<Option<HeaderValue>, ApiError> {
        let Some(known) = &self.token else { return Ok(None) };
        if !same(token.as_bytes(), known.text.as_bytes()) {
            return Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "the token is wrong; open the address that the program printed, with its #token",
            ));
        }
        let cookie = format!("{}={}; HttpOnly; SameSite=Strict; Path=/", known.cookie, known.session);
        Ok(HeaderValue::from_str(&cookie).ok())
    }
}

impl Token {
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut sessions = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == self.cookie).then_some(value)
        });
        bearer.is_some_and(|bearer| same(bearer.as_bytes(), self.text.as_bytes()))
            || sessions.any(|session| same(session.as_bytes(), self.session.as_bytes()))
    }
}

/// Whether two secrets are equal, in a time that does not depend on where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    // The black box keeps the optimiser from ending the loop at the first difference.
    let different = a.iter().zip(b).fold(0, |different, (a, b)| std::hint::black_box(different | (a ^ b)));
    a.len() == b.len() && different == 0
}

/// Makes sure that no page of another origin asks.
fn check_origin(headers: &HeaderMap, host: &Authority) -> Result<(), ApiError> {
    let other = || {
        ApiError::forbidden(
            "the request comes from a page of another origin; open this server's own page, or use a program",
        )
    };
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().map_err(|_| other())?;
        let is_ours = ["http://", "https://"].iter().any(|scheme| {
            origin.strip_prefix(scheme).is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_str()))
        });
        if !is_ours {
            return Err(other());
        }
    }
    for site in headers.get_all("sec-fetch-site") {
        if site != "same-origin" && site != "none" {
            return Err(other());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123";

    fn guard(address: &str, token: Option<&str>) -> Guard {
        Guard::new(address.parse().unwrap(), token.map(str::to_owned)).unwrap()
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn status(guard: &Guard, method: Method, access: Access, fields: &[(&'static str, &str)]) -> u16 {
        guard.check(&method, &headers(fields), access).map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_names_of_this_machine_are_hosts() {
        let local = guard("127.0.0.1:8080", None);
        let host = |guard: &Guard, host: &str| status(guard, Method::GET, Access::Page, &[("host", host)]);
        for ours in
            ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.0.0.2", "localhost:9000"]
        {
            assert_eq!(host(&local, ours), 200, "{ours}");
        }
        for other in
            ["evil.example", "localhost.evil.example", "192.168.1.5:8080", "a@localhost", "127.0.0.1.nip.io"]
        {
            assert_eq!(host(&local, other), 403, "{other}");
        }
        assert_eq!(status(&local, Method::GET, Access::Read, &[]), 403, "no host");
        let two = &[("host", "localhost"), ("host", "evil.example")];
        let mut both = HeaderMap::new();
        for (name, value) in two {
            both.append(*name, value.parse().unwrap());
        }
        assert!(local.check(&Method::GET, &both, Access::Page).is_err(), "two hosts");
        let open = guard("0.0.0.0:8080", Some(TOKEN));
        assert_eq!(host(&open, "192.168.1.5:8080"), 200);
        assert_eq!(host(&open, "evil.example"), 403);
    }

    #[test]
    fn pages_of_other_origins_neither_read_nor_change() {
        let local = guard("127.0.0.1:8080", None);
        let ask = |fields: &[(&'static str, &str)]| {
            let fields = [&[("host", "localhost:8080"), ("x-cnncodes", "1")], fields].concat();
            [(Method::GET, Access::Read), (Method::POST, Access::Change)]
                .map(|(m, a)| status(&local, m, a, &fields))
        };
        for own in [
            &[][..],
            &[("origin", "http://localhost:8080")],
            &[("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
        ] {
            assert_eq!(ask(own), [200, 200], "{own:?}");
        }
        for other in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "http://localhost:3000")],
            &[("origin", "http://localhost:8080.evil.example")],
            &[("origin", "http://127.0.0.1:8080")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "http://localhost:8080"), ("sec-fetch-site", "cross-site")],
        ] {
            assert_eq!(ask(other), [403, 403], "{other:?}");
        }
    }

    #[test]
    fn a_change_needs_the_header_that_a_form_cannot_send() {
        let local = guard("127.0.0.1:8080", None);
        let host = ("host", "localhost:8080");
        assert_eq!(status(&local, Method::POST, Access::Change, &[host]), 403);
        assert_eq!(status(&local, Method::DELETE, Access::Change, &[host]), 403);
        assert_eq!(status(&local, Method::POST, Access::Change, &[host, ("x-cnncodes", "1")]), 200);
        assert_eq!(status(&local, Method::POST, Access::Read, &[host]), 200);
    }

    #[test]
    fn nothing_but_the_page_works_without_the_token() {
        let open = guard("0.0.0.0:8080", Some(TOKEN));
        let ask = |access: Access, fields: &[(&'static str, &str)]| {
            status(&open, Method::GET, access, &[&[("host", "10.0.0.1:8080")], fields].concat())
        };
        assert_eq!(
            (ask(Access::Page, &[]), ask(Access::Read, &[]), ask(Access::Change, &[])),
            (200, 401, 401)
        );
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(ask(Access::Read, &[("authorization", &bearer)]), 200);
        for wrong in
            ["Bearer ", "Bearer 0123456789abcdef0124", "Basic x", TOKEN, "Bearer 0123456789abcdef01234"]
        {
            assert_eq!(ask(Access::Read, &[("authorization", wrong)]), 401, "{wrong}");
        }
        let cookie = open.session_cookie(TOKEN).unwrap().unwrap();
        let cookie = cookie.to_str().unwrap();
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
        assert!(!cookie.contains(TOKEN));
        let sent = format!("other=1; {}", cookie.split(';').next().unwrap());
        assert_eq!(ask(Access::Read, &[("cookie", &sent)]), 200);
        assert_eq!(ask(Access::Read, &[("cookie", &format!("cnncodes-8080={TOKEN}"))]), 401);
        assert!(open.session_cookie("").is_err());
        assert_eq!(guard("127.0.0.1:8080", None).session_cookie("x").unwrap(), None);
    }

    #[test]
    fn tokens_are_random_and_sound() {
        let (a, b) = (random_token().unwrap(), random_token().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 48);
        assert!(is_sound_token(&a) && !is_sound_token("short") && !is_sound_token("with a space in it ..."));
        assert!(same(b"abc", b"abc") && !same(b"abc", b"abd") && !same(b"abc", b"abcd") && !same(b"", b"a"));
    }
}
