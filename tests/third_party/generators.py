"""What schemathesis cannot derive from the OpenAPI document: texts with a syntax of their own."""

import csv
import io
import json

import schemathesis
from hypothesis import strategies

words = strategies.text("abcdefg hij", min_size=1, max_size=20).filter(str.strip)
rows = strategies.lists(strategies.tuples(words, words), min_size=1, max_size=5)


def table(content):
    text = io.StringIO()
    csv.writer(text).writerows([("text", "label"), *content])
    return text.getvalue().encode()


schemathesis.openapi.media_type("text/csv", rows.map(table))
documents = strategies.dictionaries(words, words, max_size=3).map(json.dumps)
lines = strategies.lists(documents, min_size=1, max_size=5)
schemathesis.openapi.media_type("application/x-ndjson", lines.map(lambda lines: "\n".join(lines).encode()))
values = strategies.none() | strategies.booleans() | strategies.integers(-5, 5) | words
schemathesis.openapi.format("json-object", strategies.dictionaries(words, values, max_size=3).map(json.dumps))
