"""A text classifier by scikit-learn: TF-IDF of words and pairs of words, and a linear support vector machine."""

import numpy
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from ai_server.sample import Example

FEATURES = 1 << 17
# A sign is a word too: no text is without words.
WORDS = r"\w+|[^\w\s]"
# One of this many examples is held out to measure the accuracy.
HELD_OUT = 5


class Classifier:
    """Scores texts for each label."""

    def __init__(self, examples: list[Example]):
        self.labels = sorted({example.label for example in examples})
        self.vectorizer = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORDS, max_features=FEATURES, dtype=numpy.float32
        )
        features = self.vectorizer.fit_transform(example.text for example in examples)
        if len(self.labels) == 1:
            # There is nothing to decide.
            self.weights, self.offsets = numpy.zeros((features.shape[1], 1), numpy.float32), numpy.ones(1)
            return
        machine = LinearSVC(random_state=0).fit(features, [self.labels.index(example.label) for example in examples])
        weights, offsets = machine.coef_, machine.intercept_
        if len(self.labels) == 2:
            # The library has one score for both.
            weights, offsets = numpy.vstack([-weights, weights]), numpy.hstack([-offsets, offsets])
        self.weights, self.offsets = numpy.ascontiguousarray(weights.T, numpy.float32), offsets

    def predict(self, texts: list[str]) -> tuple[list[str], numpy.ndarray]:
        """The best label of each text, and the lead of its score over the second best."""
        scores = self.vectorizer.transform(texts) @ self.weights + self.offsets
        best = scores.argmax(axis=1)
        ordered = numpy.sort(scores, axis=1)
        second = ordered[:, -2] if len(self.labels) > 1 else -1
        return [self.labels[one] for one in best], ordered[:, -1] - second


class Model:
    """A classifier, its accuracy, and a curve from leads to the probability that the prediction is right.

    Accuracy and curve come from a classifier that did not learn the examples that it is asked for.
    """

    def __init__(self, examples: list[Example]):
        self.classifier = Classifier(examples)
        held_out, rest = examples[::HELD_OUT], [one for n, one in enumerate(examples) if n % HELD_OUT]
        # Two predictions give a curve also where all others were right, or all wrong.
        leads, right = [0, 2], [False, True]
        self.accuracy = 0.0
        if rest:
            labels, measured = Classifier(rest).predict([example.text for example in held_out])
            hits = [label == example.label for label, example in zip(labels, held_out)]
            self.accuracy = sum(hits) / len(hits)
            leads, right = [*leads, *measured], [*right, *hits]
        self.curve = LogisticRegression().fit(numpy.reshape(leads, (-1, 1)), right)

    def predict(self, text: str) -> tuple[str, float]:
        """The most likely label, and the probability that it is right."""
        labels, leads = self.classifier.predict([text])
        return labels[0], float(self.curve.predict_proba([[leads[0]]])[0, 1])
