"""CustomResourceDefinitions: schemas, rules, defaults, subresources, columns."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

JSON = dict[str, Any]
Define = Callable[..., str]

SPEC = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 10, "multipleOf": 1},
        "ratio": {"type": "number", "exclusiveMinimum": True, "minimum": 0},
        "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
        "word": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 5},
        "when": {"type": "string", "format": "date-time"},
        "maybe": {"type": "string", "nullable": True},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "maxItems": 3},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
            },
        },
        "limits": {
            "type": "object",
            "default": {},
            "properties": {"low": {"type": "integer", "default": 1}, "high": {"type": "integer", "default": 5}},
            "x-kubernetes-validations": [
                {  # it judges the default too, which is empty then
                    "rule": "!has(self.low) || !has(self.high) || self.low <= self.high",
                    "messageExpression": "'low is over ' + (self.high > 5 ? 'a great high' : 'high')",
                }
            ],
        },
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "port": {"x-kubernetes-int-or-string": True},
        "fixed": {
            "type": "string",
            "maxLength": 9,
            "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "fixed cannot change"}],
        },
    },
}


@pytest.fixture
def define(apiserver: Any, namespace: str) -> Iterator[Define]:
    """Makes a definition of its own group, and gives the path of its resources in the namespace."""
    made: list[str] = []

    def create(spec: JSON = SPEC, **version: Any) -> str:
        group = f"t{secrets.token_hex(4)}.example.com"
        status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        properties = {"spec": spec, "status": status}
        body = definition(group, {"type": "object", "properties": properties}, **version)
        apiserver.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
        made.append(body["metadata"]["name"])
        path = f"/apis/{group}/v1/namespaces/{namespace}/gadgets"
        wait_until_served(apiserver, path)
        return path

    yield create
    for name in made:
        apiserver.delete(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")


def definition(group: str, schema: JSON, **version: Any) -> JSON:
    entry = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
    names = {"plural": "gadgets", "kind": "Gadget", "shortNames": ["gd"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [entry]},
    }


def wait_until_served(apiserver: Any, path: str) -> None:
    deadline = time.monotonic() + 60
    while apiserver.request("GET", path).code != 200:
        assert time.monotonic() < deadline, f"{path} is not served"
        time.sleep(0.05)


def gadget(path: str, name: str = "g", **spec: Any) -> JSON:
    group = path.split("/")[2]
    return {"apiVersion": f"{group}/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": {"size": 1, **spec}}


def test_a_definition_is_established(apiserver: Any, define: Define) -> None:
    group = define().split("/")[2]
    found = apiserver.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gadgets.{group}")
    conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert found["status"]["acceptedNames"]["listKind"] == "GadgetList"
    assert found["status"]["storedVersions"] == ["v1"]
    wait_until_served(apiserver, f"/apis/{group}/v1")  # discovery follows a moment later
    resources = apiserver.get(f"/apis/{group}/v1")["resources"]
    assert resources[0]["shortNames"] == ["gd"]
    assert resources[0]["singularName"] == "gadget"


def test_defaults_apply_at_every_depth(apiserver: Any, define: Define) -> None:
    path = define()
    spec = apiserver.post(path, gadget(path, limits={"low": 2}))["spec"]
    assert spec == {"size": 1, "colour": "red", "limits": {"low": 2, "high": 5}}
    assert apiserver.post(path, gadget(path, "h"))["spec"]["limits"] == {"low": 1, "high": 5}


def test_undeclared_fields_are_pruned_unless_preserved(apiserver: Any, define: Define) -> None:
    path = define()
    spec = apiserver.post(path, gadget(path, unknown=1, free={"any": {"thing": [1]}}))["spec"]
    assert "unknown" not in spec
    assert spec["free"] == {"any": {"thing": [1]}}
    strict = apiserver.request("POST", f"{path}?fieldValidation=Strict", gadget(path, "h", unknown=1))
    assert strict.code == 400
    assert 'strict decoding error: unknown field "spec.unknown"' in strict.body["message"]


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"size": 0}, "spec.size", "Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        ({"size": 11}, "spec.size", "Invalid value: 11: spec.size in body should be less than or equal to 10"),
        ({"size": "x"}, "spec.size", 'Invalid value: "string": spec.size in body must be of type integer: "string"'),
        ({"ratio": 0}, "spec.ratio", "Invalid value: 0: spec.ratio in body should be greater than 0"),
        ({"colour": "pink"}, "spec.colour", 'Unsupported value: "pink": supported values: "red", "blue"'),
        ({"word": "A1"}, "spec.word", "Invalid value: \"A1\": spec.word in body should match '^[a-z]+$'"),
        ({"word": "a"}, "spec.word", 'Invalid value: "a": spec.word in body should be at least 2 chars long'),
        ({"word": "abcdef"}, "spec.word", "Too long: may not be more than 5"),
        ({"when": "noon"}, "spec.when", 'Invalid value: "noon": spec.when in body must be of type date-time: "noon"'),
        ({"tags": ["a", "a"]}, "spec.tags[1]", 'Duplicate value: "a"'),
        ({"tags": ["a", "b", "c", "d"]}, "spec.tags", "Too many: 4: must have at most 3 items"),
        ({"parts": [{"name": "a"}, {"name": "a"}]}, "spec.parts[1]", "Duplicate value"),
        ({"parts": [{"value": "a"}]}, "spec.parts[0].name", "Required value"),
        ({"limits": {"low": 9}}, "spec.limits", "low is over high"),
    ],
)
def test_a_value_outside_its_schema_is_refused_by_field(
    apiserver: Any, define: Define, spec: JSON, field: str, message: str
) -> None:
    path = define()
    answer = apiserver.request("POST", path, gadget(path, **spec))
    assert (answer.code, answer.body["reason"]) == (422, "Invalid")
    causes = {cause["field"]: cause["message"] for cause in answer.body["details"]["causes"]}
    assert message in causes[field]


def test_values_inside_their_schema_are_accepted(apiserver: Any, define: Define) -> None:
    path = define()
    spec: JSON = {
        "ratio": 0.5,
        "word": "abc",
        "when": "2026-01-01T00:00:00Z",
        "maybe": None,
        "port": "http",
        "tags": ["a"],
    }
    made = apiserver.post(path, gadget(path, **spec))["spec"]
    assert {name: made[name] for name in spec} == spec
    assert apiserver.post(path, gadget(path, "h", port=80))["spec"]["port"] == 80


def test_a_required_field_must_be_there(apiserver: Any, define: Define) -> None:
    path = define()
    body = gadget(path)
    del body["spec"]["size"]
    answer = apiserver.request("POST", path, body)
    causes = {cause["field"]: cause["message"] for cause in answer.body["details"]["causes"]}
    assert causes["spec.size"] == "Required value"
    assert answer.body["message"].startswith(f'Gadget.{path.split("/")[2]} "g" is invalid: ')
    assert "spec.size: Required value" in answer.body["message"]


def test_rules_are_not_asked_while_a_required_field_is_missing(apiserver: Any, define: Define) -> None:
    path = define()
    body = gadget(path, limits={"low": 9})
    del body["spec"]["size"]
    message = apiserver.request("POST", path, body).body["message"]
    assert "some validation rules were not checked because the object was invalid" in message
    assert "is over high" not in message


def test_a_transition_rule_compares_with_the_old_value(apiserver: Any, define: Define) -> None:
    path = define()
    apiserver.post(path, gadget(path, fixed="a"))
    answer = apiserver.request("PATCH", f"{path}/g", {"spec": {"fixed": "b"}}, "application/merge-patch+json")
    assert answer.code == 422
    assert "fixed cannot change" in answer.body["message"]
    assert apiserver.patch(f"{path}/g", {"spec": {"size": 2}})["spec"]["fixed"] == "a"


def test_rules_know_kubernetes_functions(apiserver: Any, define: Define) -> None:
    rules = [
        {"rule": "quantity(self.small).isLessThan(quantity(self.big))", "message": "small is not under big"},
        {"rule": "isURL(self.link) && url(self.link).getScheme() == 'https'", "message": "not https"},
        {"rule": "self.items.isSorted() && self.items.sum() < 10 && self.items.max() < 9", "message": "items"},
        {"rule": "self.text.find('[0-9]+') == '42'", "message": "text", "reason": "FieldValueForbidden"},
        {"rule": "!has(self.none) && self.?none.orValue('x') == 'x'", "message": "none"},
    ]
    strings = {name: {"type": "string"} for name in ("small", "big", "link", "text", "none")}
    items = {"type": "array", "items": {"type": "integer"}, "maxItems": 9}
    spec = {"type": "object", "properties": {**bounded(strings), "items": items, "size": {"type": "integer"}}}
    path = define(spec | {"x-kubernetes-validations": rules})
    good = {"small": "100Mi", "big": "1Gi", "link": "https://a.example/x", "items": [1, 2, 3], "text": "is 42"}
    apiserver.post(path, gadget(path, "good", **good))
    for change, message in (
        ({"small": "2Gi"}, "small is not under big"),
        ({"link": "http://a.example"}, "not https"),
        ({"items": [3, 1]}, "items"),
        ({"text": "is 43"}, "Forbidden: text"),
        ({"none": "y"}, "none"),
    ):
        answer = apiserver.request("POST", path, gadget(path, "bad", **{**good, **change}))
        assert answer.code == 422
        assert message in answer.body["message"]


def bounded(strings: JSON) -> JSON:
    return {name: {**schema, "maxLength": 64} for name, schema in strings.items()}


def ruled(rule: str) -> JSON:
    size = {"type": "integer"}
    return {"type": "object", "properties": {"size": size}, "x-kubernetes-validations": [{"rule": rule}]}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "object", "x-kubernetes-validations": [{"rule": "nonsense(self)"}]}, "undeclared reference"),
        ({"type": "object", "x-kubernetes-validations": [{"rule": "1 + 1"}]}, "must evaluate to a bool"),
        (ruled("self.size < 3 && self.sise > 1"), "undefined field 'sise'"),
        (ruled("self.size == 'three'"), "found no matching overload"),
        (
            {"type": "array", "maxItems": 3, "items": ruled("self.size == oldSelf.size")},
            "oldSelf cannot be used on the uncorrelatable portion of the schema",
        ),
        ({"type": "object", "properties": {"a": {}}}, "type: Required value"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, 'Unsupported value: "text"'),
        ({"type": "array"}, "items: Required value"),
        ({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}, "must be of type integer"),
        ({**ruled("self.size > 0"), "default": {}}, "no such key: size"),
    ],
)
def test_a_definition_that_cannot_be_is_refused(apiserver: Any, schema: JSON, text: str) -> None:
    root = {"type": "object", "properties": {"spec": schema}}
    body = definition(f"t{secrets.token_hex(4)}.example.com", root)
    answer = apiserver.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
    assert answer.code == 422
    assert text in answer.body["message"]


def test_a_definition_is_named_after_plural_and_group(apiserver: Any) -> None:
    body = definition("t.example.com", {"type": "object"})
    body["metadata"]["name"] = "other.t.example.com"
    answer = apiserver.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
    assert answer.code == 422
    assert 'must be spec.names.plural+"."+spec.group' in answer.body["message"]


def test_the_status_subresource_keeps_spec_and_status_apart(apiserver: Any, define: Define) -> None:
    path = define(subresources={"status": {}})
    made = apiserver.post(path, {**gadget(path), "status": {"ready": True}})
    assert "status" not in made
    after = apiserver.patch(f"{path}/g/status", {"status": {"ready": True}, "spec": {"size": 5}})
    assert (after["status"], after["spec"]["size"]) == ({"ready": True}, 1)
    assert after["metadata"]["generation"] == 1
    after = apiserver.patch(f"{path}/g", {"status": None, "spec": {"size": 5}})
    assert (after["status"], after["spec"]["size"]) == ({"ready": True}, 5)
    assert after["metadata"]["generation"] == 2


def test_without_the_subresource_status_is_like_any_field(apiserver: Any, define: Define) -> None:
    path = define()
    made = apiserver.post(path, {**gadget(path), "status": {"ready": True}})
    assert made["status"] == {"ready": True}
    assert apiserver.request("GET", f"{path}/g/status").code == 404


def test_the_scale_subresource_follows_the_declared_paths(apiserver: Any, define: Define) -> None:
    scale = {
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.count",
        "labelSelectorPath": ".status.selector",
    }
    path = define(subresources={"status": {}, "scale": scale})
    apiserver.post(path, gadget(path, size=3))
    apiserver.patch(f"{path}/g/status", {"status": {"count": 2, "selector": "app=g"}})
    found = apiserver.get(f"{path}/g/scale")
    assert found["spec"] == {"replicas": 3}
    assert found["status"] == {"replicas": 2, "selector": "app=g"}
    apiserver.patch(f"{path}/g/scale", {"spec": {"replicas": 4}})
    assert apiserver.get(f"{path}/g")["spec"]["size"] == 4


def test_printer_columns_make_the_table(apiserver: Any, define: Define) -> None:
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Part", "type": "string", "jsonPath": ".spec.parts[0].name", "priority": 1},
        {"name": "Born", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    path = define(additionalPrinterColumns=columns)
    conditions = [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]
    apiserver.post(path, {**gadget(path, parts=[{"name": "p"}]), "status": {"conditions": conditions}})
    accept = {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}
    table = apiserver.request("GET", path, headers=accept).body
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Size", "Ready", "Part", "Born"]
    assert [c["priority"] for c in table["columnDefinitions"]] == [0, 0, 0, 1, 0]
    assert table["rows"][0]["cells"][:4] == ["g", 1, "True", "p"]
    assert table["rows"][0]["cells"][4].endswith("s")


def test_lists_of_custom_resources_merge_by_their_declared_keys(apiserver: Any, define: Define) -> None:
    path = define()
    apiserver.apply(f"{path}/g", gadget(path, parts=[{"name": "a", "value": "1"}], tags=["x"]), "one")
    after = apiserver.apply(f"{path}/g", gadget(path, parts=[{"name": "b", "value": "2"}], tags=["y"]), "two").body
    assert [part["name"] for part in after["spec"]["parts"]] == ["a", "b"]
    assert after["spec"]["tags"] == ["x", "y"]
    answer = apiserver.apply(f"{path}/g", gadget(path, parts=[{"name": "a", "value": "3"}]), "two")
    assert answer.body["details"]["causes"][0]["field"] == '.spec.parts[name="a"].value'


def test_a_strategic_merge_patch_is_for_built_in_kinds_alone(apiserver: Any, define: Define) -> None:
    path = define()
    apiserver.post(path, gadget(path))
    answer = apiserver.request("PATCH", f"{path}/g", {"spec": {"size": 2}}, "application/strategic-merge-patch+json")
    assert answer.code == 415


def test_what_did_not_change_is_not_judged_again(apiserver: Any, define: Define) -> None:
    path = define()
    apiserver.post(path, gadget(path, word="abcde"))
    name = f"gadgets.{path.split('/')[2]}"
    crd = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
    limit = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/word/maxLength"
    apiserver.patch(crd, [{"op": "replace", "path": limit, "value": 3}], "json-patch+json")
    deadline = time.monotonic() + 60
    while apiserver.request("POST", f"{path}?dryRun=All", gadget(path, "h", word="abcd")).code != 422:
        assert time.monotonic() < deadline, "the new schema does not take effect"
        time.sleep(0.05)
    assert apiserver.patch(f"{path}/g", {"spec": {"size": 2}})["spec"]["word"] == "abcde"
    assert (
        apiserver.request("PATCH", f"{path}/g", {"spec": {"word": "edcba"}}, "application/merge-patch+json").code == 422
    )


def test_deleting_a_definition_deletes_its_objects(apiserver: Any, namespace: str) -> None:
    group = f"t{secrets.token_hex(4)}.example.com"
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    apiserver.post(definitions, definition(group, {"type": "object"}))
    path = f"/apis/{group}/v1/namespaces/{namespace}/gadgets"
    wait_until_served(apiserver, path)
    apiserver.post(path, {k: v for k, v in gadget(path).items() if k != "spec"})
    apiserver.delete(f"{definitions}/gadgets.{group}")
    deadline = time.monotonic() + 60
    while apiserver.request("GET", f"{definitions}/gadgets.{group}").code != 404:
        assert time.monotonic() < deadline, "the definition does not go"
        time.sleep(0.05)
    while apiserver.request("GET", path).code != 404:
        assert time.monotonic() < deadline, f"{path} is served still"
        time.sleep(0.05)


def test_openapi_describes_a_custom_resource(apiserver: Any, define: Define) -> None:
    group = define().split("/")[2]
    deadline = time.monotonic() + 60
    while f"apis/{group}/v1" not in (index := apiserver.get("/openapi/v3")["paths"]):
        assert time.monotonic() < deadline, f"{group} is not described"
        time.sleep(0.05)
    found = apiserver.get(index[f"apis/{group}/v1"]["serverRelativeURL"])
    reverse = ".".join(reversed(group.split(".")))
    schema = found["components"]["schemas"][f"{reverse}.v1.Gadget"]
    assert schema["properties"]["spec"]["properties"]["colour"]["default"] == "red"
    assert schema["x-kubernetes-group-version-kind"] == [{"group": group, "version": "v1", "kind": "Gadget"}]


def extended(**properties: JSON) -> JSON:
    """The schema of a spec with other properties."""
    return {"type": "object", "properties": {"size": {"type": "integer"}, **properties}}


def refusal(apiserver: Any, path: str, **spec: Any) -> str:
    """Why a gadget is invalid."""
    answer = apiserver.request("POST", path, gadget(path, "refused", **spec))
    assert (answer.code, answer.body["reason"]) == (422, "Invalid"), answer.body
    return str(answer.body["message"])


def test_an_embedded_object_has_version_kind_and_metadata(apiserver: Any, define: Define) -> None:
    embedded = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    path = define(extended(inner=embedded))
    inner = {"apiVersion": "v1", "kind": "Any", "metadata": {"name": "n", "unknown": 1}, "free": {"a": 1}}
    kept = apiserver.post(path, gadget(path, inner=inner))["spec"]["inner"]
    assert kept["free"] == {"a": 1}
    assert (kept["metadata"]["name"], "unknown" in kept["metadata"]) == ("n", False)
    message = refusal(apiserver, path, inner={"kind": "Any"})
    assert "spec.inner.apiVersion: Required value" in message


def test_an_integer_fits_its_format(apiserver: Any, define: Define) -> None:
    path = define(extended(count={"type": "integer", "format": "int32"}))
    assert "must be of type integer with format int32" in refusal(apiserver, path, count=2**31)
    assert apiserver.post(path, gadget(path, count=2**31 - 1))["spec"]["count"] == 2**31 - 1


def test_rules_apply_to_each_item_and_entry(apiserver: Any, define: Define) -> None:
    item = {"type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self != 'bad'", "message": "bad"}]}
    words = {"type": "array", "maxItems": 3, "items": item}
    path = define(extended(words=words, named={"type": "object", "maxProperties": 3, "additionalProperties": item}))
    assert "spec.words[1]: Invalid value:" in refusal(apiserver, path, words=["good", "bad"])
    assert "bad" in refusal(apiserver, path, named={"key": "bad"})
    assert apiserver.post(path, gadget(path, words=["good"], named={"key": "good"}))["spec"]["words"] == ["good"]


def test_a_rule_can_name_the_field_that_it_blames(apiserver: Any, define: Define) -> None:
    rule = {"rule": "self.low <= self.high", "fieldPath": ".high", "reason": "FieldValueForbidden", "message": "no"}
    number = {"type": "integer"}
    limits = {"type": "object", "properties": {"low": number, "high": number}, "x-kubernetes-validations": [rule]}
    path = define(extended(limits=limits))
    assert "spec.limits.high: Forbidden: no" in refusal(apiserver, path, limits={"low": 2, "high": 1})


def test_an_optional_old_value_lets_a_transition_rule_see_creation(apiserver: Any, define: Define) -> None:
    rule = {"rule": "oldSelf.hasValue() || self == 0", "optionalOldSelf": True, "message": "starts at 0"}
    path = define(extended(count={"type": "integer", "x-kubernetes-validations": [rule]}))
    assert "starts at 0" in refusal(apiserver, path, count=1)
    apiserver.post(path, gadget(path, count=0))
    assert apiserver.patch(f"{path}/g", {"spec": {"count": 1}})["spec"]["count"] == 1


def test_an_item_keeps_its_old_value_by_its_key(apiserver: Any, define: Define) -> None:
    rules = [{"rule": "self.value == oldSelf.value", "message": "value is fixed"}]
    text = {"type": "string", "maxLength": 9}
    item = {"type": "object", "required": ["name"], "properties": {"name": text, "value": text}}
    parts = {"type": "array", "maxItems": 3, "items": {**item, "x-kubernetes-validations": rules}}
    path = define(extended(parts={**parts, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}))
    apiserver.post(path, gadget(path, parts=[{"name": "a", "value": "1"}]))
    moved = {"spec": {"parts": [{"name": "b", "value": "2"}, {"name": "a", "value": "1"}]}}
    assert len(apiserver.patch(f"{path}/g", moved)["spec"]["parts"]) == 2
    moved["spec"]["parts"][1]["value"] = "3"
    answer = apiserver.request("PATCH", f"{path}/g", moved, "application/merge-patch+json")
    assert "spec.parts[1]: Invalid value:" in answer.body["message"]


def test_null_is_kept_where_it_may_be_and_gives_way_to_a_default_elsewhere(apiserver: Any, define: Define) -> None:
    word = {"type": "string", "default": "x"}
    path = define(extended(strict=word, loose={**word, "nullable": True}))
    spec = apiserver.post(path, gadget(path, strict=None, loose=None))["spec"]
    assert (spec["strict"], spec["loose"]) == ("x", None)


def test_declared_fields_can_be_selected(apiserver: Any, define: Define) -> None:
    path = define(selectableFields=[{"jsonPath": ".spec.colour"}])
    apiserver.post(path, gadget(path, "a", colour="red"))
    apiserver.post(path, gadget(path, "b", colour="blue"))
    found = apiserver.get(f"{path}?fieldSelector=spec.colour%3Dblue")["items"]
    assert [item["metadata"]["name"] for item in found] == ["b"]
    assert apiserver.request("GET", f"{path}?fieldSelector=spec.size%3D1").code == 400


def test_every_served_version_shows_the_same_objects(apiserver: Any, namespace: str, define: Define) -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    group = f"t{secrets.token_hex(4)}.example.com"
    body = definition(group, schema)
    old = {
        "name": "v1beta1",
        "served": True,
        "storage": False,
        "deprecated": True,
        "schema": {"openAPIV3Schema": schema},
    }
    body["spec"]["versions"].append(old)
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    apiserver.post(definitions, body)
    paths = [f"/apis/{group}/{version}/namespaces/{namespace}/gadgets" for version in ("v1", "v1beta1")]
    for path in paths:
        wait_until_served(apiserver, path)
    apiserver.post(paths[0], gadget(paths[0]))
    seen = apiserver.request("GET", f"{paths[1]}/g")
    assert (seen.body["apiVersion"], seen.body["spec"]) == (f"{group}/v1beta1", {"size": 1})
    assert seen.warnings == [f'299 - "{group}/v1beta1 Gadget is deprecated; use {group}/v1 Gadget"']
    assert apiserver.request("GET", f"{paths[0]}/g").warnings == []
    apiserver.delete(f"{definitions}/gadgets.{group}")


def test_a_column_shows_the_first_value_and_objects_as_json(apiserver: Any, define: Define) -> None:
    columns = [
        {"name": "Tags", "type": "string", "jsonPath": ".spec.tags[*]"},
        {"name": "Free", "type": "string", "jsonPath": ".spec.free"},
        {"name": "None", "type": "integer", "jsonPath": ".spec.none"},
        {"name": "When", "type": "date", "jsonPath": ".spec.word"},
    ]
    path = define(additionalPrinterColumns=columns)
    apiserver.post(path, gadget(path, tags=["a", "b"], free={"k": [1]}, word="abc"))
    accept = {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}
    table = apiserver.request("GET", path, headers=accept).body
    assert table["rows"][0]["cells"] == ["g", "a", '{"k":[1]}', None, "<invalid>"]


def test_a_replacement_names_the_version_that_it_replaces(apiserver: Any, define: Define) -> None:
    path = define()
    made = apiserver.post(path, gadget(path))
    for version in ({}, {"resourceVersion": "0"}):
        body = {**gadget(path, size=2), "metadata": {"name": "g", **version}}
        answer = apiserver.request("PUT", f"{path}/g", body)
        assert answer.code == 422
        assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in answer.body["message"]
    made["spec"]["size"] = 2
    assert apiserver.request("PUT", f"{path}/g", made).code == 200
    assert apiserver.request("PUT", f"{path}/g", {**made, "spec": {"size": 3}}).code == 409


def test_a_body_says_what_it_is(apiserver: Any, define: Define) -> None:
    path = define()
    texts = {"kind": "Object 'Kind' is missing", "apiVersion": "the API version in the data ()"}
    for field, text in texts.items():
        body = gadget(path)
        del body[field]
        answer = apiserver.request("POST", path, body)
        assert (answer.code, text in answer.body["message"]) == (400, True)
    answer = apiserver.request("POST", path, {**gadget(path), "kind": "Other"})
    assert (answer.code, answer.body["details"]["causes"][0]["field"]) == (422, "kind")


def test_an_applied_field_that_the_schema_has_not_is_refused_whatever_validation_is_asked_for(
    apiserver: Any, define: Define
) -> None:
    path = define()
    for validation in ("Strict", "Warn", "Ignore"):
        url = f"{path}/g?fieldManager=one&fieldValidation={validation}"
        answer = apiserver.request("PATCH", url, gadget(path, sise=1), "application/apply-patch+yaml")
        assert answer.code == 500
        assert ".spec.sise: field not declared in schema" in answer.body["message"]


def test_a_null_is_absent_from_what_is_sent_and_wrong_in_what_is_applied(apiserver: Any, define: Define) -> None:
    path = define()
    made = apiserver.post(path, gadget(path, word=None, tags=None))["spec"]
    assert set(made) == {"size", "colour", "limits"}
    answer = apiserver.apply(f"{path}/h", gadget(path, "h", word=None), "one")
    assert answer.code == 422
    assert 'spec.word in body must be of type string: "null"' in answer.body["message"]


def test_who_adds_a_struct_or_a_list_owns_it(apiserver: Any, define: Define) -> None:
    path = define()
    made = apiserver.post(path, gadget(path, parts=[{"name": "p"}], tags=["t"], limits={"low": 1}))
    owned = made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    for name in ("f:parts", "f:tags", "f:limits"):
        assert "." in owned[name]
    applied = apiserver.apply(f"{path}/h", gadget(path, "h", tags=["t"], limits={"low": 1}), "one").body
    assert applied["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] == {
        "f:limits": {"f:low": {}},
        "f:size": {},
        "f:tags": {'v:"t"': {}},
    }


def test_a_refused_value_is_shown(apiserver: Any, define: Define) -> None:
    path = define()
    apiserver.post(path, gadget(path, fixed="a"))
    answer = apiserver.request("PATCH", f"{path}/g", {"spec": {"fixed": "b"}}, "application/merge-patch+json")
    assert 'spec.fixed: Invalid value: "b": fixed cannot change' in answer.body["message"]
    assert "spec.limits: Invalid value: low is over" in refusal(apiserver, path, limits={"low": 9})


def test_lists_of_custom_resources_say_that_they_end(apiserver: Any, define: Define) -> None:
    path = define()
    assert apiserver.get(path)["metadata"]["continue"] == ""
