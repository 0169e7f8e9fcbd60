//! Hints: what the user can do about an error, apart from what happened and where.
//!
//! The text of an error (`Display`) never contains its hint. An error that is a type has a method `hint`; [`Hinted`] is for
//! all others. What shows an error puts the two together with [`joined`].

use std::borrow::Cow;
use std::error::Error;
use std::{fmt, io};

use crate::plan::PlanError;

/// An error with a hint. Its text and its causes are those of the error alone.
#[derive(Debug)]
pub struct Hinted {
    error: Box<dyn Error + Send + Sync>,
    hint: Cow<'static, str>,
}

impl Hinted {
    /// Adds a hint to an error or to a message. The hint is a sentence without a full stop.
    pub fn new(
        error: impl Into<Box<dyn Error + Send + Sync>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Hinted {
        Hinted {
            error: error.into(),
            hint: hint.into(),
        }
    }

    /// Returns what the user can do.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl Error for Hinted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Adds a hint to the error of a result.
pub trait Hint<T> {
    fn hint(self, hint: impl Into<Cow<'static, str>>) -> Result<T, Hinted>;

    /// [`Hint::hint`] with a hint that is made only for an error.
    fn with_hint<H: Into<Cow<'static, str>>>(self, hint: impl FnOnce() -> H) -> Result<T, Hinted>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Hint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<Cow<'static, str>>) -> Result<T, Hinted> {
        self.map_err(|error| Hinted::new(error, hint))
    }

    fn with_hint<H: Into<Cow<'static, str>>>(self, hint: impl FnOnce() -> H) -> Result<T, Hinted> {
        self.map_err(|error| Hinted::new(error, hint()))
    }
}

/// Returns the hint of one error, without those of its causes, if it is of a type that this crate knows.
pub fn of<'a>(error: &'a (dyn Error + 'static)) -> Option<Cow<'a, str>> {
    if let Some(hinted) = error.downcast_ref::<Hinted>() {
        return Some(Cow::Borrowed(hinted.hint()));
    }
    if let Some(error) = error.downcast_ref::<PlanError>() {
        return error.hint();
    }
    // The chain of an I/O error does not contain the error that it wraps.
    let wrapped = error.downcast_ref::<io::Error>()?.get_ref()?;
    of(wrapped)
}

/// Returns the hint of one error: [`of`], or a function that knows more types.
pub type Of = for<'a> fn(&'a (dyn Error + 'static)) -> Option<Cow<'a, str>>;

/// Returns an error with its causes as one line, and the hints of all of them.
pub fn apart(error: &(dyn Error + 'static), of: Of) -> (String, Option<String>) {
    let chain = || std::iter::successors(Some(error), |&error| error.source());
    let messages: Vec<String> = chain().map(ToString::to_string).collect();
    let hints: Vec<_> = chain().filter_map(of).collect();
    let hint = (!hints.is_empty()).then(|| hints.join(". "));
    (messages.join(": "), hint)
}

/// Puts a message and its hint together: as two sentences, or as two paragraphs if the message ends with a line break.
pub fn joined(message: &str, hint: Option<&str>) -> String {
    match hint {
        None => message.to_owned(),
        Some(hint) if message.ends_with('\n') => format!("{}\n\n{hint}", message.trim_end()),
        Some(hint) => format!("{message}. {hint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_text_and_its_causes() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = Hinted::new(io::Error::other(denied), "Run it as root");
        assert_eq!(error.to_string(), "permission denied");
        assert_eq!(error.hint(), "Run it as root");
        let result: Result<(), Hinted> = Err("no `ssh`").hint("Install openssh-client");
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "no `ssh`");
        assert!(error.source().is_none());
    }

    #[test]
    fn a_hint_is_found_in_each_kind_of_error() {
        let name = |text: &str| crate::spec::Name::new(text).unwrap();
        let planned = PlanError::NotUp {
            deployment: name("demo"),
        };
        assert_eq!(of(&planned).unwrap(), "Run `pspd up` to start it");
        let hinted = || Hinted::new("`haproxy` is missing", "Install it");
        assert_eq!(of(&hinted()).unwrap(), "Install it");
        assert_eq!(of(&io::Error::other(hinted())).unwrap(), "Install it");
        assert_eq!(of(&io::Error::other("anything else")), None);
        assert_eq!(of(&fmt::Error), None);
    }

    #[test]
    fn an_error_and_its_causes_are_one_line_and_their_hints_another() {
        let cause = Hinted::new("`haproxy` is missing", "Install it");
        let middle = Hinted::new(Box::new(Outer(cause)), "Then try again");
        let (message, hint) = apart(&Outer(middle), of);
        assert_eq!(message, "outer: outer: `haproxy` is missing");
        assert_eq!(hint.unwrap(), "Then try again. Install it");
        assert_eq!(apart(&fmt::Error, of).1, None);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Hinted);

    #[test]
    fn a_hint_is_a_sentence_of_its_own_or_a_paragraph() {
        assert_eq!(joined("it failed", None), "it failed");
        let hint = Some("Try again");
        assert_eq!(joined("it failed", hint), "it failed. Try again");
        assert_eq!(joined("a\nb", hint), "a\nb. Try again");
        assert_eq!(
            joined("1 error in `a`\n\na:1:1: no\n", hint),
            "1 error in `a`\n\na:1:1: no\n\nTry again"
        );
    }
}
