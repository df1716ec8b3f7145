"""The OpenAPI document, as generators of typed clients read it."""

from __future__ import annotations

from typing import Any

import pytest

from creditmodel_bundle.contract import Category, Contract, Feature, Reason
from creditmodel_inference.answers import Identity
from creditmodel_inference.openapi import openapi_document
from creditmodel_inference.settings import Limits

IDENTITY = Identity("loans", "1", "loans-1", "sha256:0")


def document(contract: Contract, *features: Feature) -> dict[str, Any]:
    return openapi_document(contract.model_copy(update={"features": [*features]}), IDENTITY, Limits())


def feature(dtype: Any, **options: Any) -> Feature:
    return Feature(name="x", dtype=dtype, reason=Reason(code="X", text="x"), **options)


def categories(*values: str | int) -> list[Category]:
    return [Category(value=value, code=code) for code, value in enumerate(values)]


# (case, feature, its schema in part)
PROPERTIES = [
    ("a category names the type of its values", feature("category", categories=categories("a", "b")),
     {"type": "string", "enum": ["a", "b"]}),
    ("a category may be missing", feature("category", categories=categories(1, 2), missing="allowed"),
     {"type": ["integer", "null"], "enum": [1, 2, None]}),
    ("a category has values of two types", feature("category", categories=categories("a", 2)),
     {"type": ["string", "integer"]}),
    ("an integer without bounds has those of a type that every language has", feature("integer"),
     {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1}),
    ("an integer's bounds are integers", feature("integer", minimum=0.5, maximum=20.5, missing="allowed"),
     {"type": ["integer", "null"], "format": "int64", "minimum": 1, "maximum": 20}),
    ("a number has the graph's bounds", feature("number", minimum=0.5),
     {"type": "number", "minimum": 0.5, "maximum": 3e38}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), [c[1:] for c in PROPERTIES], ids=[c[0] for c in PROPERTIES])
def test_a_propertys_schema(contract: Contract, given: Feature, expected: dict[str, Any]) -> None:
    schema = document(contract, given)["components"]["schemas"]["Applicant"]["properties"]["x"]
    assert {name: schema[name] for name in expected} == expected


def test_every_operation_has_a_name_of_its_own_without_the_models(contract: Contract) -> None:
    operations = [
        operation for path in document(contract, feature("number"))["paths"].values() for operation in path.values()
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert not any("loans" in name for name in names)
