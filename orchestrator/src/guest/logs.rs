//! Reads services' logs from journald, with the times used to merge the logs of several guests.
//!
//! A guest's journal is in memory only, so logs are gathered to the host. Each gathering continues behind the entry where
//! the previous one ended, independent of the guest's clock: it may go backwards, and each boot has a journal of its own.

use pspd_model::spec::Name;
use serde::Deserialize;

use super::Guest;
use super::session::ANSWER;
use crate::state::{LogLine, Logbook};

/// Returns the command that prints the entries of a service's log behind a cursor as JSON; with `follow`, also new ones.
fn logs_command(service: &Name, cursor: Option<&str>, follow: bool) -> String {
    let follow = if follow { " -f -n all" } else { "" };
    let journalctl =
        format!("journalctl --no-pager -q -a -o json --output-fields=MESSAGE -u {service}{follow}");
    let Some((cursor, boot)) = cursor.and_then(|cursor| Some((cursor, boot(cursor)?))) else {
        return journalctl;
    };
    // In the journal of another boot, journald would look for the cursor's time.
    format!(
        "if [ \"$(tr -d - </proc/sys/kernel/random/boot_id)\" = {boot} ] || \
         [ -n \"$(journalctl -q -n 1 -o cat -b {boot} 2>/dev/null)\" ]; then set -- '--after-cursor={cursor}'; fi; \
         exec {journalctl} \"$@\""
    )
}

/// The boot of a cursor; `None` if it is not a cursor of journald.
fn boot(cursor: &str) -> Option<&str> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b';');
    let mut fields = cursor.split(';').filter(|_| cursor.bytes().all(valid));
    let boot = fields.find_map(|field| field.strip_prefix("b="))?;
    (boot.len() == 32).then_some(boot)
}

/// An entry of the journal: <https://systemd.io/JOURNAL_EXPORT_FORMATS/#journal-json-format>.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    micros: String,
    #[serde(rename = "MESSAGE")]
    message: Message,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    Text(String),
    /// What is not printable.
    Bytes(Vec<u8>),
}

impl Entry {
    fn parse(line: &str) -> Option<Entry> {
        let entry: Entry = serde_json::from_str(line).ok()?;
        boot(&entry.cursor)?;
        Some(entry)
    }

    /// The lines of its message.
    fn lines(&self) -> Vec<LogLine> {
        let Ok(micros) = self.micros.parse::<u64>() else {
            return Vec::new();
        };
        let text = match &self.message {
            Message::Text(text) => text.into(),
            Message::Bytes(bytes) => String::from_utf8_lossy(bytes),
        };
        let line = |message: &str| LogLine {
            seconds: micros as f64 / 1e6,
            message: message.to_owned(),
        };
        text.split('\n').map(line).collect()
    }
}

impl Guest {
    /// Saves the lines that a service logged since the last call, and returns the cursor of the last one. Blocks.
    pub fn gather(&self, service: &Name, book: &Logbook) -> anyhow::Result<Option<String>> {
        let mut entries = book.write()?;
        let mut added = Ok(());
        let command = logs_command(service, entries.cursor(), false);
        self.session.lines(&command, Some(ANSWER), |text| {
            if let Some(entry) = Entry::parse(text) {
                added = entries.add(&entry.lines(), entry.cursor);
            }
            added.is_ok()
        })?;
        added?;
        entries.end()
    }

    /// Passes the lines that a service logs behind `cursor` to `line`, until it returns false, and moves the cursor. Blocks.
    pub fn follow(
        &self,
        service: &Name,
        cursor: &mut Option<String>,
        mut line: impl FnMut(LogLine) -> bool,
    ) -> anyhow::Result<()> {
        let command = logs_command(service, cursor.as_deref(), true);
        self.session.lines(&command, None, |text| {
            let Some(entry) = Entry::parse(text) else {
                return true;
            };
            let wanted = entry.lines().into_iter().all(&mut line);
            *cursor = Some(entry.cursor);
            wanted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURSOR: &str = "s=7f0c;i=4f;b=00112233445566778899aabbccddeeff;m=1f;t=60a;x=9";

    fn lines(message: &str) -> Vec<(f64, String)> {
        let text = format!(
            r#"{{"__CURSOR":"{CURSOR}","__REALTIME_TIMESTAMP":"1763881234123456","_BOOT_ID":"0","MESSAGE":{message}}}"#
        );
        let lines = Entry::parse(&text).unwrap().lines().into_iter();
        lines.map(|line| (line.seconds, line.message)).collect()
    }

    #[test]
    fn entries_of_the_journal_are_parsed() {
        let line = |text: &str| (1_763_881_234.123_456, text.to_owned());
        assert_eq!(lines(r#""{\"a\":1}""#), [line(r#"{"a":1}"#)]);
        assert_eq!(lines("[27,91,109]"), [line("\x1b[m")]);
        assert_eq!(lines(r#""a\nb""#), [line("a"), line("b")]);
        assert!(Entry::parse("-- Boot 1 --").is_none());
    }

    #[test]
    fn gathering_continues_behind_the_entry_where_the_last_one_ended() {
        let web = Name::new("web").unwrap();
        insta::assert_snapshot!(logs_command(&web, None, true), @"journalctl --no-pager -q -a -o json --output-fields=MESSAGE -u web -f -n all");
        insta::assert_snapshot!(logs_command(&web, Some(CURSOR), false), @r#"if [ "$(tr -d - </proc/sys/kernel/random/boot_id)" = 00112233445566778899aabbccddeeff ] || [ -n "$(journalctl -q -n 1 -o cat -b 00112233445566778899aabbccddeeff 2>/dev/null)" ]; then set -- '--after-cursor=s=7f0c;i=4f;b=00112233445566778899aabbccddeeff;m=1f;t=60a;x=9'; fi; exec journalctl --no-pager -q -a -o json --output-fields=MESSAGE -u web "$@""#);
    }

    #[test]
    fn what_is_not_a_cursor_is_not_passed_to_the_shell() {
        for text in ["", "b=0", "s=1;b=00112233445566778899aabbccddeeff'; reboot"] {
            assert_eq!(boot(text), None, "{text}");
        }
    }
}
