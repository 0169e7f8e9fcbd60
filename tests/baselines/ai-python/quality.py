"""Prints how many percent of a test set each of scikit-learn's learners gets right, or that it took too long.

Usage: quality.py TRAIN.csv TEST.csv
"""

import csv
import multiprocessing
import sys

from classifier import LEARNERS, Classifier

# Seconds that a learner may take.
LIMIT = 600


def read(path: str) -> tuple[list[str], list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    return [text for text, _ in rows], [label for _, label in rows]


def measure(learner: str) -> None:
    texts, labels = read(sys.argv[1])
    test, expected = read(sys.argv[2])
    predicted = Classifier(texts, labels, learner).predict(test)
    right = sum(said == was for said, was in zip(predicted, expected))
    print(f"{learner} {100 * right / len(test):.2f} %", flush=True)


def main() -> None:
    for learner in LEARNERS:
        measuring = multiprocessing.Process(target=measure, args=(learner,))
        measuring.start()
        measuring.join(LIMIT)
        if measuring.is_alive():
            measuring.kill()
            print(f"{learner} unfinished", flush=True)
        elif measuring.exitcode != 0:
            sys.exit(f"{learner} failed")


if __name__ == "__main__":
    main()
