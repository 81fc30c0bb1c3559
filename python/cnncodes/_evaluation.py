"""How good a head is: the figures of a cross-validation, as data, as text and as tables for notebooks."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._html import CELL, NAME, TABLE

# Classes of which a confusion matrix is shown as a table.
_MOST_IN_MATRIX = 25
# Confusions that are listed otherwise.
_MOST_CONFUSIONS = 20


@dataclass(frozen=True)
class Proportion:
    """
    A share of successes with its 95 % interval.

    Attributes
    ----------
    value : float
        successes / trials, 0 to 1.
    low, high : float
        Ends of the interval.
    successes, trials : int
        What was counted.
    """

    value: float
    low: float
    high: float
    successes: int
    trials: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        counts = f"{self.successes} of {self.trials}"
        return f"{_percent(self.value)} ({counts}), 95 % interval {_percent(self.low)} to {_percent(self.high)}"


class Evaluation:
    """
    How good a head is: every image was classified by a head that had seen neither it nor a duplicate of it.

    In a notebook it shows itself as tables.

    Attributes
    ----------
    accuracy : Proportion
        Share of right answers.
    classes : list of str
        Names of the classes.
    confusion : ndarray of shape (n_classes, n_classes)
        Images of each class (rows) that were taken for each class (columns); int64.
    per_class : list of dict
        `name`, `precision`, `recall`, `f1` and `support` of each class.
    log_loss : float
        Mean -ln p of the right class.
    calibration : dict or None
        How far the probabilities can be trusted: `expected_error`, `brier` and the bins of a reliability diagram.
    fold_accuracies : list of float
        Accuracy in each fold.
    training_accuracy : float
        Accuracy of the final head on its own training images: no measure of skill.
    chance : float
        Share of the largest class.
    rows, groups, folds, seed : int
        Images, groups of images that stayed on one side of each split, folds, and the seed of their choice.
    leaky_accuracy : Proportion or None
        Accuracy with duplicates on both sides of the splits, if that was measured.
    duplicates : list of dict
        Sets of duplicates: `images` and `similarity`.
    test : dict or None
        Figures on the test images of a split.
    notes : list of dict
        What else to know: `severity` ("info" or "warning") and `text`.
    """

    def __init__(self, figures: dict[str, Any], text: str) -> None:
        self._figures = figures
        self._text = text
        self.accuracy = Proportion(**figures["accuracy"])
        self.classes: list[str] = figures["class_names"]
        self.confusion: NDArray[np.int64] = np.array(figures["confusion"]["counts"], dtype=np.int64)
        self.per_class: list[dict[str, Any]] = figures["per_class"]
        self.log_loss: float = figures["log_loss"]
        self.calibration: dict[str, Any] | None = figures["calibration"]
        self.fold_accuracies: list[float] = figures["fold_accuracies"]
        self.training_accuracy: float = figures["training_accuracy"]
        self.chance: float = figures["chance"]
        self.rows: int = figures["rows"]
        self.groups: int = figures["groups"]
        self.folds: int = figures["folds"]
        self.seed: int = figures["seed"]
        leaky = figures["leaky_accuracy"]
        self.leaky_accuracy = None if leaky is None else Proportion(**leaky)
        self.duplicates: list[dict[str, Any]] = figures["duplicates"]
        self.test: dict[str, Any] | None = figures.get("test")
        self.notes: list[dict[str, str]] = figures["notes"]

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data, as `cnncodes fit-head --format json` prints them."""
        figures: dict[str, Any] = json.loads(json.dumps(self._figures))
        return figures

    def to_text(self) -> str:
        """The report that `cnncodes fit-head` prints: summary, confusion matrix, a table of the classes, notes."""
        return self._text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Evaluation(accuracy {self.accuracy}; {self.rows} images, {self.folds} folds)"

    def _repr_html_(self) -> str:
        lines = [f"<b>accuracy {html.escape(str(self.accuracy))}</b>", f"log-loss {self.log_loss:.3f}"]
        if self.calibration is not None:
            lines.append(f"calibration error {_percent(self.calibration['expected_error'])}")
        lines.append(f"always the largest class: {_percent(self.chance)}")
        if self.test is not None:
            lines.append(f"on the test images {html.escape(str(Proportion(**self.test['accuracy'])))}")
        notes = "".join(
            f"<li>{'<b>warning:</b> ' if note['severity'] == 'warning' else ''}{html.escape(note['text'])}</li>"
            for note in self.notes
        )
        return (
            f'<div style="color:inherit;background:transparent"><p>{"<br>".join(lines)}</p>'
            f"{_class_table(self.per_class)}{_confusion_table(self.classes, self.confusion)}"
            f"{f'<ul>{notes}</ul>' if notes else ''}</div>"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _class_table(per_class: list[dict[str, Any]]) -> str:
    header = "".join(
        f'<th style="{NAME if name == "class" else CELL}">{name}</th>'
        for name in ("class", "precision", "recall", "F1", "images")
    )
    rows = "".join(
        f'<tr><td style="{NAME}">{html.escape(figures["name"])}</td>'
        + "".join(f'<td style="{CELL}">{_percent(figures[key])}</td>' for key in ("precision", "recall", "f1"))
        + f'<td style="{CELL}">{figures["support"]}</td></tr>'
        for figures in per_class
    )
    return f"{TABLE}<tr>{header}</tr>{rows}</table>"


def _confusion_table(classes: list[str], counts: NDArray[np.int64]) -> str:
    if len(classes) > _MOST_IN_MATRIX:
        return _confusion_list(classes, counts)
    header = "".join(f'<th style="{CELL}">{html.escape(name)}</th>' for name in classes)
    totals = np.maximum(counts.sum(axis=1), 1)
    rows = ""
    for i, name in enumerate(classes):
        cells = ""
        for j, count in enumerate(counts[i]):
            # Few mistakes are to be seen as well.
            colour, least = ("38,128,235", 0.0) if i == j else ("226,76,56", 0.2)
            opacity = least + (0.6 - least) * count / totals[i]
            tint = f"background:rgba({colour},{opacity:.2f})" if count else "opacity:.5"
            cells += f'<td style="{CELL};{tint}">{count}</td>'
        rows += f'<tr><th style="{NAME}">{html.escape(name)}</th>{cells}</tr>'
    return f'{TABLE}<tr><th style="{NAME}">true \\ predicted</th>{header}</tr>{rows}</table>'


def _confusion_list(classes: list[str], counts: NDArray[np.int64]) -> str:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    commonest = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS]
    rows = ""
    for place in commonest:
        i, j = np.unravel_index(place, wrong.shape)
        if wrong[i, j]:
            names = "".join(f'<td style="{NAME}">{html.escape(classes[k])}</td>' for k in (i, j))
            rows += f'<tr>{names}<td style="{CELL}">{wrong[i, j]}</td></tr>'
    header = "".join(f'<th style="{NAME}">{name}</th>' for name in ("true class", "taken for", "images"))
    return f"{TABLE}<tr>{header}</tr>{rows}</table>"
