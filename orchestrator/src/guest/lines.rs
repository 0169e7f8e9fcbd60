//! Splits the output of a guest into lines, whose length is bounded.

/// A line of journald has at most 48 KiB, of which JSON may make four times as many.
const LONGEST: usize = 1 << 20;

/// What arrived of the line that is not complete yet. The rest of one that is too long is skipped.
#[derive(Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// Passes each line that `bytes` complete to `line`; returns false once that returned false.
    pub(super) fn split(&mut self, bytes: &[u8], line: &mut impl FnMut(&str) -> bool) -> bool {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST.saturating_sub(self.0.len());
            let (text, complete) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            self.0.extend_from_slice(&text[..text.len().min(room)]);
            if complete {
                let text = String::from_utf8_lossy(&self.0);
                let wanted = line(text.trim_end());
                self.0.clear();
                if !wanted {
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_whole_and_bounded_however_they_are_cut() {
        let long = "x".repeat(LONGEST + 5);
        let text = format!("first\n\nsecond\r\n{long}\nlast\nincomplete");
        for size in [1, 3, 7, 1 << 16, text.len()] {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for part in text.as_bytes().chunks(size) {
                assert!(lines.split(part, &mut |line| {
                    seen.push(line.to_owned());
                    true
                }));
                assert!(lines.0.len() <= LONGEST);
            }
            assert_eq!(seen, ["first", "", "second", &long[..LONGEST], "last"]);
        }
        let mut count = 0;
        let more = Lines::default().split(b"a\nb\nc\n", &mut |_| {
            count += 1;
            count < 2
        });
        assert_eq!((more, count), (false, 2));
    }
}
