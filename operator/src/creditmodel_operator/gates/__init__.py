"""The gates, in the order in which a model has to pass them."""

from creditmodel_operator.gates.approval import APPROVAL
from creditmodel_operator.gates.artifact import ARTIFACT
from creditmodel_operator.gates.base import Champion, Gate, Judgement, Subject, Verdict
from creditmodel_operator.gates.benchmark import BENCHMARK
from creditmodel_operator.gates.parity import PARITY
from creditmodel_operator.gates.quality import QUALITY

__all__ = [
    "APPROVAL",
    "ARTIFACT",
    "BENCHMARK",
    "GATES",
    "PARITY",
    "QUALITY",
    "Champion",
    "Gate",
    "Judgement",
    "Subject",
    "Verdict",
]

GATES: tuple[Gate, ...] = (
    ARTIFACT,
    PARITY,
    BENCHMARK,
    QUALITY,
    APPROVAL,
)
