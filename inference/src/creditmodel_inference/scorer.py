"""One loaded model: from a verified bundle to verdicts, golden rows reproduced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.documents import Golden, GoldenRow
from creditmodel_bundle.encoder import Encoder
from creditmodel_bundle.errors import BundleError, ContractViolation
from creditmodel_bundle.manifest import CONTRACT, GOLDEN, ONNX
from creditmodel_bundle.storage import Bundle, fetch
from creditmodel_inference.answers import Answers, Identity, Verdict
from creditmodel_inference.blocks import Blocks, Outputs
from creditmodel_inference.columns import ColumnAnswers, Columns
from creditmodel_inference.errors import Refusal
from creditmodel_inference.sheets import Sheets
from creditmodel_inference.writer import writer

__all__ = ["Scorer", "load"]

REVISION_DIGITS = 10
"""Hex digits of the digest that name a revision where none is given."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model that is fit to serve."""

    contract: Contract
    identity: Identity
    blocks: Blocks
    answers: Answers
    column_answers: ColumnAnswers
    sheets: Sheets

    @property
    def width(self) -> int:
        """Columns of a row."""
        return len(self.contract.features)

    def verdict(self, row: list[float]) -> Verdict:
        """The verdict of one encoded row. Raises Unscorable."""
        outputs = self.blocks.run(np.array([row], np.float64))
        return self.answers.verdict(
            float(outputs.probability[0]), float(outputs.log_odds[0]), outputs.contributions[0].tolist()
        )

    def columns(self, outputs: Outputs) -> Columns:
        """Verdicts of all rows of the graph's outputs. Raises Unscorable."""
        return self.column_answers.columns(outputs)


def load(uri: str, digest: str | None, revision: str | None, directory: Path) -> Scorer:
    """Fetch a bundle into `directory`, verify it, load its graph and reproduce its golden rows.

    Raises Refusal naming what is wrong: nothing is served by halves.
    """
    try:
        bundle = fetch(uri, directory, digest)
        contract = Contract.read(bundle.path(CONTRACT))
        golden = Golden.read(bundle.path(GOLDEN))
    except BundleError as e:
        raise Refusal(e.reason, str(e)) from e
    blocks = Blocks(bundle.path(ONNX), len(contract.features))
    identity = _identity(bundle, revision)
    answers = Answers(contract, identity)
    in_c = writer(answers)
    scorer = Scorer(contract, identity, blocks, answers, ColumnAnswers(answers, in_c), Sheets(answers, in_c))
    _reproduce(scorer, golden)
    return scorer


def _identity(bundle: Bundle, revision: str | None) -> Identity:
    short = bundle.digest.removeprefix("sha256:")[:REVISION_DIGITS]
    return Identity(
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        revision=revision or f"{bundle.manifest.name}-{short}",
        digest=bundle.digest,
    )


def _reproduce(scorer: Scorer, golden: Golden) -> None:
    """Score the golden rows. Raises Refusal naming the first that this machine does not reproduce."""
    encoder = Encoder(scorer.contract)
    for index, row in enumerate(golden.rows):
        try:
            encoded = encoder.encode(row.features)
        except ContractViolation as e:
            raise Refusal("GoldenRowsDiffer", f"golden row {index} breaks the bundle's own contract: {e}") from e
        verdict = scorer.verdict(encoded)
        if difference := _difference(scorer.contract, verdict, row, golden.tolerance):
            raise Refusal("GoldenRowsDiffer", f"golden row {index} is not reproduced: {difference}")


def _difference(contract: Contract, verdict: Verdict, row: GoldenRow, tolerance: float) -> str | None:
    """What differs between an answer and what the bundle expects, or None."""
    if abs(verdict.probability - row.probability) > tolerance:
        return f"probability {verdict.probability:.9g}, expected {row.probability:.9g} within {tolerance:g}"
    decision = contract.cutoffs[verdict.decision].decision
    if decision != row.decision:
        return f"decision {decision!r}, expected {row.decision!r}"
    if abs(verdict.points - row.points) > 1:
        # One point either way is rounding: the tolerance on the probability does not pin it down further.
        return f"{verdict.points} points, expected {row.points}"
    reasons = [contract.features[i].reason.code for i in verdict.reasons]
    if reasons != row.reasons:
        return f"reasons {reasons}, expected {row.reasons}"
    return None
