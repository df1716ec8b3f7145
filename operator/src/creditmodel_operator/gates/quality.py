"""The quality gate: the hold-out figures are good enough, in themselves and beside the champion's. It needs no Job."""

from __future__ import annotations

import math
from collections.abc import Iterator

from creditmodel_bundle.documents import Incumbent
from creditmodel_bundle.measurement import EvaluationSummary, Measurement
from creditmodel_operator import reasons
from creditmodel_operator.api.spec import Quality
from creditmodel_operator.api.status import Number
from creditmodel_operator.gates.base import Champion, Gate, Judgement, Subject, Verdict
from creditmodel_operator.narrow import present

__all__ = ["QUALITY"]


def _judge(subject: Subject, _measurement: Measurement | None) -> Judgement:
    limits = subject.spec.gates.quality
    if limits is None:
        return Judgement(Verdict.NOT_CONFIGURED, reasons.NOT_CONFIGURED, "spec.gates.quality is not set")
    if _incomparable(limits, subject.opponent):
        message = (
            "the champion's hold-out figures are not known, so a drop cannot be judged; remove maxAUCDrop and maxKSDrop"
        )
        return Judgement(Verdict.ERROR, reasons.NO_MEASUREMENT, message)
    found = present(subject.artifact).evaluation
    checks = [*_floors(found, limits), *_drops(found, limits, subject.opponent)]
    failed = [text for text, number in checks if _breached(number)]
    numbers = tuple(number for _, number in checks)
    summary = f"AUC {found.auc:.4f}"
    if failed:
        return Judgement(Verdict.FAILED, reasons.LIMIT_EXCEEDED, "; ".join(failed), summary, numbers)
    message = (
        "; ".join(text for text, _ in checks) or f"no champion to compare with; AUC {found.auc:.4f}, KS {found.ks:.4f}"
    )
    return Judgement(Verdict.PASSED, reasons.PASSED, message, summary, numbers)


def _incomparable(limits: Quality, champion: Champion | None) -> bool:
    asked = limits.max_auc_drop is not None or limits.max_ks_drop is not None
    return asked and champion is not None and champion.evaluation is None


def _breached(number: Number) -> bool:
    limit = present(number.limit)
    return number.value > limit if number.name.endswith("Drop") else number.value < limit


def _floors(found: EvaluationSummary, limits: Quality) -> Iterator[tuple[str, Number]]:
    for name, value, limit in (("auc", found.auc, limits.min_auc), ("ks", found.ks, limits.min_ks)):
        if limit is not None:
            chance = f" ± {_chance(found):.3f}" if name == "auc" and _chance(found) else ""
            text = f"{name.upper()} {value:.4f}{chance} on {found.rows:,} hold-out rows, at least {limit:g}"
            yield text, Number(name=name, value=value, limit=limit)


def _drops(found: EvaluationSummary, limits: Quality, champion: Champion | None) -> Iterator[tuple[str, Number]]:
    if champion is None or champion.evaluation is None:
        return
    before, other = _beside(found, champion.digest, champion.evaluation)
    pairs = (("auc", found.auc, before.auc, limits.max_auc_drop), ("ks", found.ks, before.ks, limits.max_ks_drop))
    for name, value, old, limit in pairs:
        if limit is not None:
            drop = round(old - value, 6)
            below = f"{drop:.4f} below {champion.revision}'s {old:.4f}{other}"
            text = f"{name.upper()} {value:.4f} is {below}, at most {limit:g}"
            if name == "auc" and _chance(found):
                text += f" (an AUC on {found.rows:,} such rows is known to ± {_chance(found):.3f})"
            yield text, Number(name=f"{name}Drop", value=drop, limit=limit)


def _chance(found: EvaluationSummary) -> float | None:
    """Half the 95 % interval of the AUC on so many rows (Hanley and McNeil 1982); None where it cannot be told.

    It is said and not judged by: a limit means what it says, and whoever set it should see what chance does to it.
    """
    if found.bad_rate is None:
        return None
    bad = found.bad_rate * found.rows
    good, auc = found.rows - bad, found.auc
    if bad < 1 or good < 1:
        return None
    of_bad, of_good = auc / (2 - auc) - auc**2, 2 * auc**2 / (1 + auc) - auc**2
    variance = (auc * (1 - auc) + (bad - 1) * of_bad + (good - 1) * of_good) / (bad * good)
    return 1.96 * math.sqrt(max(variance, 0.0))


def _beside(
    found: EvaluationSummary, champion: str, known: EvaluationSummary
) -> tuple[EvaluationSummary | Incumbent, str]:
    """The champion's figures that these may be compared with: on the same rows where both were judged on them."""
    if found.champion is not None and found.champion.digest == champion:
        return found.champion, " on the same hold-out"
    return known, "" if known.holdout_sha256 == found.holdout_sha256 else ", on different hold-outs"


QUALITY = Gate(name="quality", condition="QualityPassed", judge=_judge)
