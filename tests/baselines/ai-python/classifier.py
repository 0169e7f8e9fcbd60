"""What people would take in Python: TF-IDF of words and pairs of words, and a linear model, by scikit-learn."""

import numpy
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

LEARNERS = {
    "LinearSVC": lambda: LinearSVC(C=1.0),
    "LogisticRegression": lambda: LogisticRegression(C=10.0, max_iter=300),
}


class Classifier:
    def __init__(self, texts: list[str], labels: list[str], learner: str = "LinearSVC"):
        self.vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        self.learner = LEARNERS[learner]().fit(self.vectorizer.fit_transform(texts), labels)

    def predict(self, texts: list[str]):
        return self.learner.predict(self.vectorizer.transform(texts))

    def predict_one(self, text: str) -> tuple[str, float]:
        scores = numpy.atleast_1d(self.learner.decision_function(self.vectorizer.transform([text])).squeeze())
        if scores.size == 1:
            scores = numpy.array([-scores[0], scores[0]])
        raised = numpy.exp(scores - scores.max())
        best = int(scores.argmax())
        return str(self.learner.classes_[best]), float(raised[best] / raised.sum())
