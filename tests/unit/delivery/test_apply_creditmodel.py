"""The action apply-creditmodel: its decision, its summary, and its dealings with kubectl and the runner."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Load = Callable[[str], ModuleType]
LIMITED = {"name": "decisionFlips", "value": 197, "limit": 0}
FORBIDDEN = 'creditmodels.creditmodel.dev "loans" is forbidden'


class TestJudge:
    def test_ready_at_this_generation_is_ready(self, action: Load, resource: Any) -> None:
        found = resource(generation=2).says("Ready", "True", "loans-aa serves").build()
        assert action("judge").judge(found, 2) == action("judge").Judgement(
            action("judge").Outcome.READY, "loans-aa serves"
        )

    def test_ready_of_an_earlier_generation_says_nothing(self, action: Load, resource: Any) -> None:
        found = resource(generation=2).says("Ready", "True", at=1).build()
        judgement = action("judge").judge(found, 2)
        assert judgement.outcome.value == "pending"
        assert "has not looked at generation 2" in judgement.message

    def test_stalled_is_explained_with_readys_gate_and_number(self, action: Load, resource: Any) -> None:
        found = (
            resource().says("Ready", "False", "parity: 197 flips, limit 0").says("Stalled", "True", "obstacle").build()
        )
        judgement = action("judge").judge(found, 1)
        assert (judgement.outcome.value, judgement.message) == ("stalled", "parity: 197 flips, limit 0")

    def test_stalled_of_an_earlier_generation_does_not_reject_the_new_one(self, action: Load, resource: Any) -> None:
        found = resource(generation=2).says("Stalled", "True", at=1).says("Ready", "False", "working").build()
        judgement = action("judge").judge(found, 2)
        assert (judgement.outcome.value, judgement.message) == ("pending", "working")

    def test_another_spec_meanwhile_is_neither_success_nor_rejection(self, action: Load, resource: Any) -> None:
        found = resource(generation=3).says("Ready", "True").build()
        assert action("judge").judge(found, 2).outcome.value == "superseded"

    @pytest.mark.parametrize(("at", "outcome"), [(2, "waiting-for-approval"), (1, "pending")])
    def test_only_this_generation_can_wait_for_an_approval(
        self, action: Load, resource: Any, at: int, outcome: str
    ) -> None:
        found = resource(generation=2).says("Ready", "False", "no approval stands", at, "AwaitingApproval").build()
        assert action("judge").judge(found, 2).outcome.value == outcome

    def test_no_status_yet_is_pending(self, action: Load) -> None:
        assert action("judge").judge({"metadata": {"generation": 1}}, 1).outcome.value == "pending"


class TestSummary:
    def write(self, action: Load, outcome: str, found: Any, message: str = "why", diff: str = "") -> str:
        judge = action("judge")
        text: str = action("report").summary("loans", judge.Judgement(judge.Outcome(outcome), message), diff, found)
        return text

    def test_a_gate_shows_its_number_beside_its_limit(self, action: Load, resource: Any) -> None:
        found = resource().gate("parity", "Failed", "they differ", LIMITED, {"name": "rows", "value": 4096}).build()
        text = self.write(action, "stalled", found)
        assert "| parity | ❌ Failed | decisionFlips 197 (limit 0) | they differ |" in text
        assert "4096" not in text

    def test_a_rejection_says_that_the_champion_serves_on(self, action: Load, resource: Any) -> None:
        text = self.write(action, "stalled", resource().serving("loans-aa").build())
        assert "❌ was rejected" in text
        assert "`loans-aa`, `sha256:aa`, at `http://loans.lending.svc` (the champion, unchanged)" in text

    def test_a_first_model_that_is_rejected_leaves_nothing_serving(self, action: Load, resource: Any) -> None:
        assert "No model serves." in self.write(action, "stalled", resource().build())

    def test_messages_are_text_and_never_markup(self, action: Load, resource: Any) -> None:
        evil = "<img src=x>|](http://evil)\n# heading @team"
        text = self.write(action, "stalled", resource().gate("parity", "Failed", evil).build(), message=evil)
        assert "<img" not in text
        assert "\\](http" in text
        assert "\n# heading" not in text
        assert "\\@team" in text
        assert next(line for line in text.splitlines() if line.startswith("| parity")).count(" | ") == 3

    def test_a_diff_cannot_close_its_own_fence(self, action: Load) -> None:
        text = self.write(action, "validated", None, diff="+ note: ````\n+ more")
        assert "`````diff\n+ note: ````\n+ more\n`````" in text

    def test_a_huge_diff_is_cut(self, action: Load) -> None:
        text = self.write(action, "validated", None, diff="+x\n" * 100_000)
        assert "… cut here" in text
        assert len(text) < 61_000


class TestRun:
    def test_a_model_that_becomes_ready_exits_zero_and_names_what_serves(self, runner: Any, resource: Any) -> None:
        before, after = resource().build(), resource().says("Ready", "True", "serving").serving("loans-aa").build()
        runner.answer("validate", before).answer("diff", "+spec", code=1).answer("apply", before).answer(
            "get", before, after
        )
        assert runner.run() == 0
        assert runner.outputs["outcome"] == "ready"
        assert runner.outputs["revision"] == "loans-aa"
        assert "✅ serves" in runner.summary
        assert "+spec" in runner.summary

    def test_a_rejected_model_exits_one_with_an_error_annotation(
        self, runner: Any, resource: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = resource().says("Ready", "False", "parity: 100% off\nlimit 0").says("Stalled", "True").build()
        runner.answer("validate", found).answer("diff").answer("apply", found).answer("get", found)
        assert runner.run() == 1
        assert "::error title=CreditModel stalled::loans: parity: 100%25 off%0Alimit 0" in capsys.readouterr().out
        assert runner.outputs["message"] == "parity: 100% off\nlimit 0"

    def test_a_model_that_only_an_approval_is_missing_for_ends_at_once_with_a_warning_and_no_failure(
        self, runner: Any, resource: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        gating = resource().says("Ready", "False", "parity: Job is running").build()
        waiting = (
            resource()
            .says("Ready", "False", "no approval of sha256:bb stands", reason="AwaitingApproval")
            .says("Stalled", "False")
            .gate("approval", "Waiting", "no approval of sha256:bb stands")
            .serving("loans-aa")
            .build()
        )
        runner.answer("validate", gating).answer("diff").answer("apply", gating).answer("get", gating, waiting)
        assert runner.run() == 0
        assert runner.outputs["outcome"] == "waiting-for-approval"
        assert runner.outputs["revision"] == "loans-aa"
        assert "no approval of sha256:bb stands" in runner.outputs["message"]
        assert "::warning title=CreditModel waiting-for-approval::" in capsys.readouterr().out
        assert "✋ waits for an approval" in runner.summary
        assert "(the champion, unchanged)" in runner.summary
        assert "| approval | ✋ Waiting |" in runner.summary

    def test_what_the_api_server_refuses_exits_two_and_is_never_applied(self, runner: Any) -> None:
        runner.answer("validate", code=1, err="spec.serving.replicas: min must not exceed max")
        assert runner.run() == 2
        assert runner.outputs["outcome"] == "invalid"
        assert "min must not exceed max" in runner.summary
        assert [call[0] for call in runner.calls] == ["apply"]
        assert "--dry-run=server" in runner.calls[0]

    @pytest.mark.parametrize(
        ("found", "named"),
        [
            ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}, "v1 Secret"),
            ({"kind": "List", "items": []}, "nothing"),
        ],
    )
    def test_a_file_that_is_not_one_creditmodel_is_never_applied(self, runner: Any, found: Any, named: str) -> None:
        runner.answer("validate", found)
        assert runner.run() == 2
        assert f"the file holds {named}; it must hold exactly one CreditModel" in runner.outputs["message"]
        assert len(runner.calls) == 1

    def test_mode_diff_stores_nothing(self, runner: Any, resource: Any) -> None:
        runner.answer("validate", resource().build()).answer("diff", "+spec", code=1)
        assert runner.run(mode="diff") == 0
        assert [call[0] for call in runner.calls] == ["apply", "diff"]
        assert runner.outputs["outcome"] == "validated"

    def test_a_diff_that_fails_stops_before_anything_is_applied(self, runner: Any, resource: Any) -> None:
        runner.answer("validate", resource().build()).answer("diff", code=2, err=FORBIDDEN)
        assert runner.run() == 2
        assert runner.outputs["message"] == FORBIDDEN

    def test_an_object_made_anew_under_the_same_name_is_not_ours(self, runner: Any, resource: Any) -> None:
        ours, other = resource().build(), resource(uid="0002").says("Ready", "True").build()
        runner.answer("validate", ours).answer("diff").answer("apply", ours).answer("get", other)
        assert runner.run() == 1
        assert runner.outputs["outcome"] == "deleted"

    def test_a_cluster_that_does_not_answer_is_asked_again(
        self, runner: Any, resource: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ready = resource().says("Ready", "True", "serving").build()
        runner.answer("validate", ready).answer("diff").answer("apply", ready)
        runner.answers["get"] = [(1, "", "connection refused"), *runner.answer("get", ready).answers["get"]]
        assert runner.run() == 0
        assert "cannot ask the cluster: connection refused" in capsys.readouterr().out

    def test_time_that_runs_out_is_a_failure_that_tells_the_last_word(
        self, runner: Any, resource: Any, action: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = resource().says("Ready", "False", "benchmark: Job loans-1 is running").build()
        runner.answer("validate", found).answer("diff").answer("apply", found).answer("get", found)
        clock = iter(range(0, 1000, 6))
        monkeypatch.setattr(action("apply_creditmodel").time, "monotonic", lambda: next(clock))
        monkeypatch.setattr(action("apply_creditmodel").time, "sleep", lambda _: None)
        monkeypatch.setattr(action("apply_creditmodel").subprocess, "run", Answers(runner))
        assert runner.run() == 1
        assert runner.outputs["outcome"] == "timeout"
        assert "after 10 s; last: benchmark: Job loans-1 is running" in runner.outputs["message"]

    def test_conflicts_are_forced_only_where_asked(self, runner: Any, resource: Any) -> None:
        runner.answer("validate", resource().build()).answer("diff")
        runner.run(mode="diff")
        assert not any("--force-conflicts" in call for call in runner.calls)
        runner.run(mode="diff", force_conflicts="true")
        assert sum("--force-conflicts" in call for call in runner.calls) == 2

    @pytest.mark.parametrize(
        ("inputs", "sentence"),
        [
            ({"file": "missing.yaml"}, "'missing.yaml' is not a file"),
            ({"namespace": "Lending; rm"}, "not a name that Kubernetes takes"),
            ({"mode": "destroy"}, "neither apply nor diff"),
            ({"timeout_seconds": "soon"}, "whole number of seconds from 1 to 21600"),
            ({"timeout_seconds": "0"}, "whole number of seconds from 1 to 21600"),
            ({"force_conflicts": "yes"}, "neither true nor false"),
        ],
    )
    def test_a_bad_input_exits_two_and_says_how_to_mend_it(
        self, runner: Any, inputs: dict[str, str], sentence: str
    ) -> None:
        assert runner.run(**inputs) == 2
        assert sentence in runner.outputs["message"]
        assert runner.calls == []

    def test_a_diff_cannot_give_the_runner_commands(
        self, runner: Any, resource: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        runner.answer("validate", resource().build()).answer("diff", " ::add-mask::x\n", code=1)
        runner.run(mode="diff")
        lines = capsys.readouterr().out.splitlines()
        token = lines[0].removeprefix("::stop-commands::")
        assert len(token) == 32
        assert lines.index(" ::add-mask::x") < lines.index(f"::{token}::")

    def test_a_message_cannot_add_outputs_of_its_own(self, runner: Any) -> None:
        runner.answer("validate", code=1, err="bad\nEOF\noutcome=ready")
        runner.run()
        assert runner.outputs["outcome"] == "invalid"
        assert runner.outputs["message"] == "bad\nEOF\noutcome=ready"


class Answers:
    """subprocess.run for a test that owns the clock, which the real one would read too."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner

    def __call__(self, command: list[str], **_: object) -> Any:
        verb = "validate" if "--dry-run=server" in command else command[3]
        code, out, err = self.runner.answers[verb][0]
        return type("Done", (), {"returncode": code, "stdout": out, "stderr": err})
