"""From what the graph says to what a client is told: points, decision, reasons, JSON.

The rules are creditmodel_bundle's (`ScoreScale.to_points`, `Contract.cutoff`, `top_reasons`). Here they are laid out
for speed, with the same results: where a short cut could differ by rounding, the rule itself is asked.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.reasons import DECIMALS, MAX_REASONS, top_reasons
from creditmodel_inference.errors import Unscorable

__all__ = ["MAX_LOG_ODDS", "Answers", "Identity", "Verdict", "reasons_of"]

MAX_LOG_ODDS = 1e6
"""No model means more than this: beyond it, points would leave every integer column."""

_STEP = 10.0**-DECIMALS

_APART = 1.001 * _STEP
"""Two contributions further apart than this are in the same order before and after rounding."""

_NOTHING, _SOMETHING = 0.499 * _STEP, 0.501 * _STEP
"""A contribution below the first rounds to nothing, one above the second does not."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model answers."""

    name: str
    version: str
    revision: str
    digest: str

    def document(self) -> dict[str, str]:
        """As every answer carries it."""
        return {"name": self.name, "version": self.version, "revision": self.revision, "digest": self.digest}


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The answer for one applicant. `decision` and `reasons` are indices into the contract's lists."""

    probability: float
    log_odds: float
    points: int
    decision: int
    reasons: tuple[int, ...]
    json: bytes


class Answers:
    """Makes verdicts and response bodies for one model.

    `bounds` are the cut-offs' probabilities; `decisions` and `reasons` are their pieces of JSON, by index.
    """

    def __init__(self, contract: Contract, identity: Identity) -> None:
        self.bounds = [cutoff.min_probability for cutoff in contract.cutoffs]
        scale = contract.scale
        self._points, self._factor, self._shift = scale.points, scale.pdo / math.log(2), math.log(scale.odds)
        self.decisions = [
            "," + _text({"decision": c.decision})[1:-1] + ',"cutoff":' + _text(c.model_dump()) + ',"reasons":['
            for c in contract.cutoffs
        ]
        self.reasons = [
            _text({"code": f.reason.code, "text": f.reason.text, "feature": f.name})[:-1] + ',"contribution":'
            for f in contract.features
        ]
        model = msgspec.json.encode(identity.document())
        self._opening, self._middle = b'{"request_id":"', b'","model":' + model + b',"results":['

    def verdict(self, probability: float, log_odds: float, contributions: list[float]) -> Verdict:
        """The answer for one row of the graph's outputs, as doubles. Raises Unscorable where they make no sense."""
        if not (0.0 <= probability <= 1.0 and abs(log_odds) <= MAX_LOG_ODDS and math.isfinite(sum(contributions))):
            raise Unscorable("The model gave no finite answer for this applicant.")
        points = math.floor(self._points - self._factor * (log_odds + self._shift) + 0.5)
        decision = bisect_right(self.bounds, probability) - 1
        reasons = reasons_of(contributions)
        texts = self.reasons
        told = ",".join([f"{texts[index]}{contributions[index]:.6f}}}" for index in reasons])
        json = (
            f'{{"probability":{_text(probability)},"log_odds":{_text(log_odds)},"points":{points}'
            f"{self.decisions[decision]}{told}]}}"
        )
        return Verdict(probability, log_odds, points, decision, tuple(reasons), json.encode())

    def points_of(self, log_odds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Score points of many log-odds: the same operations in the same order as for one."""
        return np.floor(self._points - self._factor * (log_odds + self._shift) + 0.5).astype(np.int64)

    def head(self, request_id: bytes) -> bytes:
        """A response body up to its list of results."""
        return b"".join((self._opening, request_id, self._middle))

    def body(self, request_id: bytes, results: Sequence[bytes]) -> bytes:
        """The response body for rows already written as JSON."""
        return b"".join((self._opening, request_id, self._middle, b",".join(results), b"]}"))


def reasons_of(contributions: list[float]) -> list[int]:
    """What `top_reasons` says of these contributions, without rounding them all.

    Rounding keeps the order of two values unless they lie within one step of each other. So the largest few are taken
    as they are, and rounded only when two neighbours among them are that close, or one of them is about half a step.
    """
    ordered = sorted(range(len(contributions)), key=contributions.__getitem__, reverse=True)
    previous = math.inf
    for count, index in enumerate(ordered[: MAX_REASONS + 1]):
        value = contributions[index]
        if value < _NOTHING:
            return ordered[:count]
        if value < _SOMETHING or previous - value <= _APART:
            return _rounded(contributions, ordered)
        previous = value
    return ordered[:MAX_REASONS]


def _rounded(contributions: list[float], ordered: list[int]) -> list[int]:
    """The same by the rule itself, over those of the `ordered` indices that rounding could move to the front."""
    end = min(MAX_REASONS, len(ordered))
    while end < len(ordered) and contributions[ordered[end - 1]] - contributions[ordered[end]] <= _APART:
        end += 1
    candidates = sorted(ordered[:end])
    return [candidates[place] for place in top_reasons([contributions[index] for index in candidates])]


def _text(document: object) -> str:
    return msgspec.json.encode(document).decode()
