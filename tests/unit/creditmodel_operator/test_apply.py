"""What carrying out a plan tells the worker."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import pytest

from creditmodel_operator.apply import carry_out
from creditmodel_operator.observed import Images
from creditmodel_operator.plan import Plan
from creditmodel_operator.store import Store

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

    from creditmodel_operator.client import Client

JSON = dict[str, Any]


class Answers:
    """Answers a write of status with the object as it is by then."""

    def __init__(self, body: JSON) -> None:
        self.body = body

    async def apply_status(self, manifest: JSON, _manager: str) -> JSON:
        return {**self.body, "status": manifest["status"]}


@pytest.mark.parametrize("edited", [False, True])
async def test_an_edit_that_the_answer_to_a_write_brings_is_looked_at(world: World, edited: bool) -> None:
    world.spec("v1")
    model, plan = world.observe().model, world.decide()
    body = copy.deepcopy(world.objects["CreditModel", "credit"])
    body["metadata"]["generation"] += edited
    body["metadata"]["resourceVersion"] = "1000"
    store = Store(Images())
    changed = await carry_out(Plan(status=plan.status), model, cast("Client", Answers(body)), store)
    assert changed is edited
