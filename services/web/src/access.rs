//! Who may use the API: everyone, or the callers that have the token.
//!
//! A program sends the token itself (`Authorization: Bearer`). A browser sends the cookie of the session that it signed
//! in to. Sessions are in memory: a restart ends them. Which paths need access is [`crate::edge`]'s to know.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use serving::Problem;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tonic::{Code, Status};
use uuid::Uuid;

const SHORTEST_TOKEN: usize = 16;
const COOKIE: &str = "pspd_session";
const SESSION: Duration = Duration::from_secs(12 * 3600);

/// The secret that callers send, kept as its digest.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl FromStr for Token {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        let valid =
            text.len() >= SHORTEST_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic());
        valid.then(|| Self(digest(text))).ok_or(())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Compares digests in constant time.
    fn is(&self, shown: &str) -> bool {
        self.0.ct_eq(&digest(shown)).into()
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The token, if one is required, and the open sessions.
#[derive(Debug, Default)]
pub(crate) struct Access {
    token: Option<Token>,
    /// Each session's id, and when it ends.
    sessions: Mutex<HashMap<String, Instant>>,
}

impl Access {
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self {
            token,
            sessions: Mutex::default(),
        }
    }

    pub(crate) fn required(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a request with these headers may pass.
    pub(crate) fn admits(&self, headers: &HeaderMap, now: Instant) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        bearer(headers).is_some_and(|shown| token.is(shown))
            || session(headers).is_some_and(|id| {
                let end = self.sessions().get(id).copied();
                end.is_some_and(|end| now < end)
            })
    }

    /// Begins a session for a caller that has the token.
    pub(crate) fn sign_in(&self, shown: &str, now: Instant) -> Result<String, Status> {
        if !self
            .token
            .as_ref()
            .is_none_or(|token| token.is(shown.trim()))
        {
            let message = "the token is wrong";
            return Err(Problem::new(Code::Unauthenticated, "TOKEN_WRONG", message).into());
        }
        let id = Uuid::new_v4().simple().to_string();
        let mut sessions = self.sessions();
        sessions.retain(|_, end| now < *end);
        sessions.insert(id.clone(), now + SESSION);
        Ok(id)
    }

    pub(crate) fn sign_out(&self, headers: &HeaderMap) {
        if let Some(id) = session(headers) {
            self.sessions().remove(id);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter();
    let pairs = cookies.filter_map(|value| value.to_str().ok());
    pairs
        .flat_map(|pairs| pairs.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// The cookie of a session; `Secure` if a proxy in front of this server reports that the browser uses HTTPS.
pub(crate) fn cookie(session: &str, headers: &HeaderMap) -> String {
    let https = headers
        .get("x-forwarded-proto")
        .is_some_and(|scheme| scheme == "https");
    let secure = if https { "; Secure" } else { "" };
    format!(
        "{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
        SESSION.as_secs()
    )
}

/// A cookie that makes the browser delete the session's.
pub(crate) fn no_cookie() -> String {
    format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn a_token_is_long_and_has_no_spaces() {
        let table = [
            ("0123456789abcdef", true),
            ("0123456789abcdef\n", true),
            ("0123456789abcde", false),
            ("0123456789 abcdef", false),
            ("", false),
        ];
        for (text, valid) in table {
            assert_eq!(text.parse::<Token>().is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn callers_need_the_token_or_a_session() {
        let now = Instant::now();
        assert!(Access::default().admits(&HeaderMap::new(), now));

        let access = Access::new(Some(Token(digest(SECRET))));
        let shown = format!("bearer {SECRET}");
        assert!(access.admits(&headers("authorization", &shown), now));
        for wrong in ["Bearer x", SECRET, "Basic eA==", "Bearer "] {
            let shown = headers("authorization", wrong);
            assert!(!access.admits(&shown, now), "{wrong}");
        }
        let refused = access.sign_in("wrong", now).unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let id = access.sign_in(SECRET, now).unwrap();
        let cookies = headers("cookie", &format!("a=b; {COOKIE}={id}"));
        assert!(access.admits(&cookies, now));
        assert!(!access.admits(&headers("cookie", &format!("{COOKIE}=x")), now));
        access.sign_out(&cookies);
        assert!(!access.admits(&cookies, now));
    }

    #[test]
    fn a_session_expires() {
        let now = Instant::now();
        let access = Access::new(Some(Token(digest(SECRET))));
        let id = access.sign_in(SECRET, now).unwrap();
        let cookies = headers("cookie", &format!("{COOKIE}={id}"));
        assert!(access.admits(&cookies, now + SESSION - Duration::from_secs(1)));
        assert!(!access.admits(&cookies, now + SESSION));
    }
}
