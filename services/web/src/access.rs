//! Who may use the API: everyone, or the callers that have the token.
//!
//! A program sends the token itself (`Authorization: Bearer`). A browser sends the cookie of the session that it signed
//! in to; it counts for the host and port where it signed in. Sessions are in memory: a restart ends them. Which paths need
//! access is [`crate::edge`]'s to know.
//!
//! Answers to wrong tokens leave the server one after another, so trying many takes long. Right ones never wait.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};
use serving::Problem;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tonic::{Code, Status};
use uuid::Uuid;

const SHORTEST_TOKEN: usize = 16;
const COOKIE: &str = "pspd_session";
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// Between two answers to wrong tokens.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

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
    /// By their ids.
    sessions: Mutex<HashMap<String, Session>>,
    /// When the latest answer to a wrong token leaves.
    answered: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Session {
    end: Instant,
    host: Authority,
}

impl Access {
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self {
            token,
            ..Self::default()
        }
    }

    pub(crate) fn required(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a request to `host` with these headers may pass.
    pub(crate) fn admits(&self, headers: &HeaderMap, host: &Authority, now: Instant) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        bearer(headers).is_some_and(|shown| token.is(shown))
            || session(headers).is_some_and(|id| {
                let sessions = self.sessions();
                let session = sessions.get(id);
                session.is_some_and(|session| now < session.end && session.host == *host)
            })
    }

    /// Waits for the turn of an answer to a wrong token.
    pub(crate) async fn slow_down(&self) {
        let now = Instant::now();
        let turn = {
            let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
            let next = answered.map_or(now, |last| last.max(now)) + PAUSE;
            *answered.insert(next.min(now + LONGEST_PAUSE))
        };
        tokio::time::sleep_until(turn.into()).await;
    }

    /// Begins a session at `host` for a caller that has the token.
    pub(crate) async fn sign_in(
        &self,
        shown: &str,
        host: Authority,
        now: Instant,
    ) -> Result<String, Status> {
        if !self
            .token
            .as_ref()
            .is_none_or(|token| token.is(shown.trim()))
        {
            self.slow_down().await;
            let message = "the token is wrong";
            return Err(Problem::new(Code::Unauthenticated, "TOKEN_WRONG", message).into());
        }
        let id = Uuid::new_v4().simple().to_string();
        let mut sessions = self.sessions();
        sessions.retain(|_, session| now < session.end);
        let end = now + SESSION;
        sessions.insert(id.clone(), Session { end, host });
        Ok(id)
    }

    pub(crate) fn sign_out(&self, headers: &HeaderMap) {
        if let Some(id) = session(headers) {
            self.sessions().remove(id);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Session>> {
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

/// The cookie of a session; `Secure` if the browser uses HTTPS.
pub(crate) fn cookie(session: &str, https: bool) -> String {
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

    const HOST: Authority = Authority::from_static("127.0.0.1:8080");

    #[tokio::test]
    async fn callers_need_the_token_or_a_session() {
        let now = Instant::now();
        assert!(Access::default().admits(&HeaderMap::new(), &HOST, now));

        let access = Access::new(Some(Token(digest(SECRET))));
        let shown = format!("bearer {SECRET}");
        assert!(access.admits(&headers("authorization", &shown), &HOST, now));
        for wrong in ["Bearer x", SECRET, "Basic eA==", "Bearer "] {
            let shown = headers("authorization", wrong);
            assert!(!access.admits(&shown, &HOST, now), "{wrong}");
        }
        let refused = access.sign_in("wrong", HOST, now).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let id = access.sign_in(SECRET, HOST, now).await.unwrap();
        let cookies = headers("cookie", &format!("a=b; {COOKIE}={id}"));
        assert!(access.admits(&cookies, &HOST, now));
        let other = Authority::from_static("127.0.0.1:8081");
        assert!(!access.admits(&cookies, &other, now));
        let unknown = headers("cookie", &format!("{COOKIE}=x"));
        assert!(!access.admits(&unknown, &HOST, now));
        access.sign_out(&cookies);
        assert!(!access.admits(&cookies, &HOST, now));
    }

    #[tokio::test]
    async fn a_session_expires() {
        let now = Instant::now();
        let access = Access::new(Some(Token(digest(SECRET))));
        let id = access.sign_in(SECRET, HOST, now).await.unwrap();
        let cookies = headers("cookie", &format!("{COOKIE}={id}"));
        assert!(access.admits(&cookies, &HOST, now + SESSION - Duration::from_secs(1)));
        assert!(!access.admits(&cookies, &HOST, now + SESSION));
    }

    #[tokio::test]
    async fn wrong_tokens_wait_for_each_other_and_right_ones_do_not() {
        let access = Access::new(Some(Token(digest(SECRET))));
        let now = Instant::now();
        let wrong = (0..3).map(|_| access.sign_in("wrong", HOST, now));
        let wrong = futures::future::join_all(wrong);
        tokio::pin!(wrong);
        tokio::select! {
            biased;
            _ = &mut wrong => panic!("the wrong ones were faster"),
            right = access.sign_in(SECRET, HOST, now) => assert!(right.is_ok()),
        }
        assert!(wrong.await.iter().all(Result::is_err));
        assert!(now.elapsed() >= 3 * PAUSE);
    }
}
