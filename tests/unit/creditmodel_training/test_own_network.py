"""A network that is not ours: docs/own-network.md as it stands, and what is refused on the way."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from torch import Tensor

from creditmodel_bundle.contract import Contract, ScoreScale
from creditmodel_bundle.manifest import seal
from creditmodel_bundle.storage import Bundle, fetch
from creditmodel_inference.scorer import load as serve
from creditmodel_training.bundling import Meaning, default_cutoffs, write_bundle
from creditmodel_training.cli.parity import main as parity
from creditmodel_training.errors import ModelFileError, NetworkError
from creditmodel_training.evaluation.report import evaluate
from creditmodel_training.explained import baseline_of
from creditmodel_training.export import export
from creditmodel_training.fit.loop import Settings
from creditmodel_training.model import CreditNetwork, attributed, load
from creditmodel_training.prepare import HOLDOUT, Prepared, prepare
from creditmodel_training.retrain import Material, retrain
from creditmodel_training.schema import read_schema

PAGE = Path(__file__).parents[3] / "docs" / "own-network.md"
ROWS = 1200
SCHEMA = """
label = "bad"
[[features]]
name = "income"
dtype = "number"
monotonic = "decreasing"
[[features]]
name = "home"
dtype = "category"
[[features]]
name = "arrears"
dtype = "integer"
"""


def loans() -> pa.Table:
    random = np.random.default_rng(0)
    income, arrears = random.lognormal(7, 0.5, ROWS), random.poisson(1, ROWS)
    home = random.choice(["own", "rent"], ROWS)
    risk = 2 * (7 - np.log(income)) + 1.5 * arrears - 2 + (home == "rent")
    bad = (random.random(ROWS) < 1 / (1 + np.exp(-risk))).astype(int)
    gaps = [None if i % 12 == 0 else value for i, value in enumerate(income.tolist())]
    return pa.table({"income": gaps, "home": home.tolist(), "arrears": arrears.tolist(), "bad": bad.tolist()})


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the page's package is installed, and its second program has run."""
    directory = tmp_path_factory.mktemp("own")
    network, program = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (directory / "acme.py").write_text(network)
    information = directory / "acme-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    toml = re.findall(r"```toml\n\[project\.entry-points\.\"(.*?)\"\]\n\"(.*?)\" = \"(.*?)\"\n", PAGE.read_text())
    group, name, value = toml[0]
    others = "nothing.1 = acme:nosuch\nfunction.1 = acme:attributed\n"
    (information / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n{others}")
    pyarrow.csv.write_csv(loans(), directory / "loans.csv")
    (directory / "schema.toml").write_text(SCHEMA)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        patch.chdir(directory)
        exec(compile(program, str(PAGE), "exec"), {})  # noqa: S102 - the page's own program
        yield directory
        sys.modules.pop("acme", None)


@pytest.fixture
def acme(directory: Path) -> ModuleType:
    return sys.modules["acme"]


@pytest.fixture(scope="module")
def bundle(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fetch(str(directory / "bundle"), tmp_path_factory.mktemp("fetched"))


@pytest.fixture(scope="module")
def data(directory: Path) -> Prepared:
    return prepare(loans(), read_schema(directory / "schema.toml"))


def test_the_page_s_network_passes_parity_and_is_served(
    directory: Path, bundle: Bundle, data: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parity(["--bundle", str(directory / "bundle"), "--fail-on-breach", "--atol", "1e-5"]) == 0
    assert "decision flips      0" in capsys.readouterr().out
    scorer = serve(str(directory / "bundle"), bundle.digest, None, tmp_path)
    row = data.x[0].astype(float).tolist()
    expected = load(bundle.path("model.pt"))(torch.tensor(data.x[:1]))[1].item()
    assert scorer.verdict(row).probability == pytest.approx(expected, abs=1e-6)


def pairwise(rows: Tensor) -> Tensor:
    """A network whose features interact in pairs at most."""
    a, b, c = rows.unbind(1)
    return torch.tanh(a) * 2 + a * b - b * c + torch.relu(c)


def shapley(value: Callable[[Tensor], Tensor], row: Tensor, neutral: Tensor) -> list[float]:
    """By definition: the mean of a feature's step over every order in which features may change."""
    orders = list(itertools.permutations(range(len(row))))
    steps = torch.zeros(len(row))
    for order in orders:
        at = neutral.clone()
        for feature in order:
            before = value(at[None])[0]
            at[feature] = row[feature]
            steps[feature] += value(at[None])[0] - before
    return cast(list[float], (steps / len(orders)).tolist())


def test_attributed_contributions_are_shapley_values_where_features_interact_in_pairs() -> None:
    torch.manual_seed(0)
    rows, neutral = torch.randn(5, 3) * 2, torch.tensor([0.5, -1.0, 0.2])
    log_odds, contributions = attributed(pairwise, rows, neutral)
    assert torch.equal(log_odds, pairwise(rows))
    for row, found in zip(rows, contributions, strict=True):
        assert found.tolist() == pytest.approx(shapley(pairwise, row, neutral), abs=1e-5)


def test_attributed_contributions_add_up_for_any_network_and_any_number_of_features() -> None:
    torch.manual_seed(1)
    for features in (1, 2, 7):
        layers = [torch.nn.Linear(features, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1), torch.nn.Flatten(0)]
        network = torch.nn.Sequential(*layers)
        rows, neutral = torch.randn(9, features), torch.randn(features)
        with torch.no_grad():
            log_odds, contributions = attributed(network, rows, neutral)
            baseline = network(neutral[None])
        assert contributions.shape == rows.shape
        torch.testing.assert_close(contributions.sum(1) + baseline, log_odds, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("other.2", "no installed package registers the architecture 'other.2'.*image of the Jobs"),
        ("nothing.1", "'nothing.1' cannot be imported: AttributeError"),
        ("function.1", "'function.1' is registered as no CreditNetwork"),
    ],
)
def test_a_network_that_no_package_brings_is_refused_by_name(
    architecture: str, message: str, bundle: Bundle, tmp_path: Path
) -> None:
    document = torch.load(bundle.path("model.pt"), weights_only=True)
    document["config"]["architecture"] = architecture
    torch.save(document, tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path / "model.pt")


def test_a_state_without_an_architecture_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 1).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match=r"says no architecture: write it with creditmodel_training\.model\.save"):
        load(tmp_path / "model.pt")


def faulty(acme: ModuleType, answer: Callable[[CreditNetwork, Tensor], Any]) -> CreditNetwork:
    """The page's network with another forward."""
    kind = type("Faulty", (acme.AcmeNetwork,), {"forward": answer})
    network: CreditNetwork = kind(inputs=3, hidden=4)
    network.high = torch.full((3,), 1e4)
    return network.eval()


def even(network: Any, x: Tensor) -> Any:
    z = network.log_odds(x)
    return z, torch.sigmoid(z), x.nan_to_num() * 1e-3


def doubled(network: Any, x: Tensor) -> Any:
    z, contributions = attributed(network.log_odds, x, network.neutral)
    return z, torch.sigmoid(2 * z) / 2, contributions


def rising(network: Any, x: Tensor) -> Any:
    z, contributions = attributed(lambda rows: rows.nan_to_num()[:, 0] / 1e3, x, network.neutral)
    return z, torch.sigmoid(z), contributions


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (even, "sum of contributions is no constant"),
        (doubled, "probability is not the sigmoid of log_odds"),
        (rising, "the PD is decreasing in income, but between .* log-odds move the other way"),
        (lambda _, x: (x, x, x), r"the answers have the shapes .* not \[B\]"),
        (lambda network, x: network.log_odds(x), "the network fails on"),
    ],
)
def test_a_network_that_does_not_keep_its_word_becomes_no_bundle(
    answer: Callable[[CreditNetwork, Tensor], Any], message: str, acme: ModuleType, data: Prepared, tmp_path: Path
) -> None:
    held = data.rows(HOLDOUT)
    evaluation = evaluate(data.x[held], data.y[held], np.full(len(held), 0.5), [])
    meaning = Meaning("loans", "1", default_cutoffs(0.2), ScoreScale())
    with pytest.raises(NetworkError, match=message):
        write_bundle(tmp_path / "out", data, faulty(acme, answer), evaluation, meaning)
    assert list(tmp_path.iterdir()) == []


def test_what_the_exporter_stumbles_over_is_said_without_its_advice(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise torch.onnx.OnnxExporterError("advice") from ValueError("aten.nonesuch is not supported\nadvice")

    monkeypatch.setattr(torch.onnx, "export", stumble)
    with pytest.raises(NetworkError, match=r"cannot export the network to ONNX: aten\.nonesuch is not supported$"):
        export(load(bundle.path("model.pt")), tmp_path / "model.onnx", {})


def test_the_baseline_is_what_contributions_leave_over(bundle: Bundle, data: Prepared) -> None:
    contract = Contract.read(bundle.path("contract.json"))
    assert baseline_of(load(bundle.path("model.pt")), data.x) == pytest.approx(contract.baseline_log_odds, abs=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("features", "input", "the graph's input is called 'input'; the server gives it 'features'"),
        ("contributions", "shap", "the graph gives log_odds, probability, shap, and not contributions"),
    ],
)
def test_a_graph_that_the_server_would_refuse_is_named_by_parity_already(
    old: str, new: str, message: str, directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (directory / "bundle").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    graph = onnx.load(tmp_path / "model.onnx")
    for value in (*graph.graph.input, *graph.graph.output):
        value.name = new if value.name == old else value.name
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    onnx.save(graph, tmp_path / "model.onnx")
    seal(tmp_path, "loans", "2")
    assert parity(["--bundle", str(tmp_path)]) == 2
    assert f"ModelMismatch: {message}" in capsys.readouterr().err


def test_retraining_never_puts_another_architecture_in_place_of_a_network(bundle: Bundle, tmp_path: Path) -> None:
    material = Material(cast(Prepared, None), 0, 0, 0)
    with pytest.raises(NetworkError, match=r"'acme-mlp\.1', which only its own pipeline trains"):
        retrain(material, bundle, tmp_path / "out", "2", Settings())
