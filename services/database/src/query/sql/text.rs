//! How text indexes find documents: those with the words, and those whose words the index does not have yet.

use std::fmt::Write as _;

use sea_orm::DbBackend;

use super::Writer;
use crate::query::search::Search;
use crate::text::{TOO_MANY, TextIndex};

impl Writer<'_> {
    pub(super) fn search(&mut self, search: &Search) {
        let Some(index) = self.indexes.text(self.collection) else {
            return self.text.push_str("TRUE");
        };
        self.indexed = true;
        self.text.push_str("id IN (");
        self.found(index, search);
        self.text.push_str(" UNION ALL ");
        self.others(index);
        self.text.push(')');
    }

    /// How many entries of the index [`Self::search`] reads, or more than `most`.
    pub(super) fn search_count(&mut self, search: &Search, most: u64) {
        let Some(index) = self.indexes.text(self.collection) else {
            return self.text.push('0');
        };
        let limit = most + 1;
        self.text.push_str("(SELECT count(*) FROM (");
        self.found(index, search);
        let _infallible = write!(
            self.text,
            " LIMIT {limit}) AS found) + (SELECT count(*) FROM ("
        );
        self.others(index);
        let _infallible = write!(self.text, " LIMIT {limit}) AS found)");
    }

    fn found(&mut self, index: &TextIndex, search: &Search) {
        let (name, collection) = (&index.name, self.collection);
        let expression = expression(self.engine, search);
        let _infallible = match self.sqlite() {
            true => write!(
                self.text,
                "SELECT ids.id FROM {name} JOIN {name}_ids AS ids ON ids.number = {name}.rowid \
                 WHERE {name} MATCH "
            ),
            false => write!(
                self.text,
                "SELECT id FROM documents WHERE collection = '{collection}' \
                 AND words_by = '{name}' AND words @@ "
            ),
        };
        self.bind(expression);
        if !self.sqlite() {
            self.text.push_str("::tsquery");
        }
    }

    fn others(&mut self, index: &TextIndex) {
        let (name, collection) = (&index.name, self.collection);
        let _infallible = match self.sqlite() {
            true => write!(self.text, "SELECT id FROM {name}_ids WHERE indexed = FALSE"),
            false => write!(
                self.text,
                "SELECT id FROM documents WHERE collection = '{collection}' \
                 AND words_by IS DISTINCT FROM '{name}'"
            ),
        };
    }
}

/// The search in the engine's own language. Words have letters, digits and marks only: nothing in them has a meaning there.
fn expression(engine: DbBackend, search: &Search) -> String {
    let (quote, and, or) = match engine {
        DbBackend::Sqlite => ('"', " AND ", " OR "),
        _ => ('\'', " & ", " | "),
    };
    let mut text = format!("{quote}{TOO_MANY}{quote}");
    for words in search.alternatives() {
        let words = words.iter().map(|word| format!("{quote}{word}{quote}"));
        let words = words.collect::<Vec<_>>().join(and);
        let _infallible = write!(text, "{or}({words})");
    }
    text
}
