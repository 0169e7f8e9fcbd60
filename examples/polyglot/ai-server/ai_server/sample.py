"""The examples of a model: all of them, or a fair sample if they are too many.

Each example has a random rank, which it keeps. The examples with the lowest ranks are kept, so every example that the model
ever learned has the same chance, whenever it came.
"""

import base64
import dataclasses
import json
import random
import zlib

# The most text that is kept, in bytes: it bounds a model's memory, and the time to learn it.
MOST = 4 << 20
# What an example takes besides its text and label.
OVERHEAD = 64


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Example:
    rank: float
    text: str
    label: str

    def size(self) -> int:
        return len(self.text.encode()) + len(self.label.encode()) + OVERHEAD


class Sample:
    def __init__(self, examples=(), learned=0):
        # How many examples were added, with those that are not kept.
        self.learned = learned
        self.examples = list(examples)
        self.labels = {example.label for example in self.examples}
        self._size = sum(example.size() for example in self.examples)

    def add(self, text: str, label: str) -> None:
        example = Example(random.random(), text, label)
        self.examples.append(example)
        self.labels.add(label)
        self.learned += 1
        self._size += example.size()
        if self._size > 2 * MOST:
            self._shrink()

    def __add__(self, other: "Sample") -> "Sample":
        both = Sample(self.examples + other.examples, self.learned + other.learned)
        both._shrink()
        return both

    def _shrink(self) -> None:
        """Keeps the examples with the lowest ranks, in their order."""
        self.examples.sort()
        self._size = 0
        for count, example in enumerate(self.examples):
            if self._size + example.size() > MOST:
                del self.examples[count:]
                break
            self._size += example.size()

    def encode(self) -> str:
        rows = [dataclasses.astuple(example) for example in self.examples]
        text = json.dumps({"learned": self.learned, "examples": rows}, ensure_ascii=False)
        return base64.b64encode(zlib.compress(text.encode())).decode()

    @classmethod
    def decode(cls, data: str) -> "Sample":
        stored = json.loads(zlib.decompress(base64.b64decode(data, validate=True)))
        return cls((Example(*row) for row in stored["examples"]), stored["learned"])
