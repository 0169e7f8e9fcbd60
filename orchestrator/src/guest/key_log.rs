//! Reads a service's TLS key log: the secrets of its connections, one per line.
//!
//! <https://www.ietf.org/archive/id/draft-ietf-tls-keylogfile-05.html> describes the format.

use pspd_model::spec::Name;

use super::session::ANSWER;
use super::{Guest, unit};

impl Guest {
    /// Whether a service has a TLS key log. Blocks.
    pub fn has_key_log(&self, service: &Name) -> anyhow::Result<bool> {
        let command = format!("test -e {}", unit::key_log(service));
        let output = self.session.exec(&command, &[][..])?;
        Ok(output.status == 0)
    }

    /// Passes each line of a service's TLS key log to `line`. Blocks.
    pub fn key_log(&self, service: &Name, mut line: impl FnMut(&str)) -> anyhow::Result<()> {
        let command = format!("cat {}", unit::key_log(service));
        self.session.lines(&command, Some(ANSWER), |text| {
            if is_secret(text) {
                line(text);
            }
            true
        })
    }
}

/// Whether a line is a label, the client's random and a secret.
fn is_secret(line: &str) -> bool {
    let is_label = |text: &str| {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !text.is_empty() && text.bytes().all(valid)
    };
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut fields = line.split(' ');
    fields.next().is_some_and(is_label)
        && fields.next().is_some_and(is_hex)
        && fields.next().is_some_and(is_hex)
        && fields.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secrets_are_taken() {
        for good in [
            "CLIENT_RANDOM 00ff 0A",
            "CLIENT_TRAFFIC_SECRET_0 00ff 0123456789abcdef",
        ] {
            assert!(is_secret(good), "{good}");
        }
        for bad in [
            "",
            "# a comment",
            "CLIENT_RANDOM 00ff",
            "CLIENT_RANDOM 00ff ",
            "CLIENT_RANDOM 00ff 0g",
            "CLIENT_RANDOM 00ff 00 00",
            "\x1b[31m 00ff 00",
        ] {
            assert!(!is_secret(bad), "{bad}");
        }
    }
}
