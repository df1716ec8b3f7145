"""Whether a live object still is what was asked for.

Two tests, and both must hold. The mark: a fingerprint of what was applied, so that a field which is no longer wanted
is noticed. The fields: everything wanted is in the live object with the same value, so that an edit by hand is noticed.
What others add (defaults, replicas, their annotations) is theirs and is left alone.

An admission webhook may also change what was asked for: an image becomes that of a mirror. The answer to the apply
shows it, and asking again would change nothing. So what came of the manifest is noted on the object, and is as good.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

from creditmodel_operator.children.common import Manifest
from creditmodel_operator.names import fingerprint
from creditmodel_operator.observed import Child

__all__ = ["ADMITTED", "APPLIED", "admitted", "contains", "differs", "holds", "marked"]

APPLIED = "creditmodel.dev/applied"
"""Annotation: fingerprint of the manifest as it was applied."""
ADMITTED = "creditmodel.dev/admitted"
"""Annotation: fingerprint of what admission made of the manifest, where it changed it."""

_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]*)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
_FACTOR = {"": Decimal(1), "m": Decimal("1e-3"), "u": Decimal("1e-6"), "n": Decimal("1e-9")}
_FACTOR |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)}
_FACTOR |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)}


def marked(manifest: Manifest) -> Manifest:
    """The manifest with the fingerprint of itself."""
    meta = manifest["metadata"]
    annotations = meta["annotations"] | {APPLIED: fingerprint(manifest, 16)}
    return manifest | {"metadata": meta | {"annotations": annotations}}


def differs(wanted: Manifest, live: Child | None) -> bool:
    """Whether the marked manifest has to be applied."""
    if live is None:
        return True
    meta = wanted["metadata"]
    return not (
        contains(live.meta.annotations, meta["annotations"])
        and contains(live.meta.labels, meta["labels"])
        and live.meta.owner == meta["ownerReferences"][0]["uid"]
        and holds(live, wanted["spec"])
    )


def holds(live: Child, wanted: Mapping[str, Any]) -> bool:
    """Whether the object's spec is what was asked for, or what admission made of it."""
    spec = live.spec
    return contains(spec, wanted) or live.meta.annotations.get(ADMITTED) == admitted(wanted, spec)


def admitted(wanted: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """Fingerprint of a wanted spec and of the values that `spec` has in its places."""
    return fingerprint([wanted, _in_its_places(spec, wanted)], 16)


def _in_its_places(live: Any, wanted: Any) -> Any:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        return {key: _in_its_places(live.get(key), value) for key, value in wanted.items()}
    if _named(wanted) and isinstance(live, Sequence):
        by_name = _by_name(live)
        return [_in_its_places(by_name.get(item["name"]), item) for item in wanted]
    return live


def contains(live: Any, wanted: Any) -> bool:
    """Whether every value in `wanted` is in `live`; a list of named things may have more of them.

    An API server does not keep an empty map or list, so nothing is as good as an empty one.
    """
    if live is None and wanted in ({}, []):
        return True
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(contains(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return isinstance(live, Sequence) and _contains_items(live, wanted)
    return bool(live == wanted) or _same_quantity(live, wanted)


def _contains_items(live: Sequence[Any], wanted: Sequence[Any]) -> bool:
    if _named(wanted):
        by_name = _by_name(live)
        return all(contains(by_name.get(item["name"]), item) for item in wanted)
    return len(live) == len(wanted) and all(contains(a, b) for a, b in zip(live, wanted, strict=True))


def _named(items: Any) -> bool:
    """Whether this is a list of things that have names."""
    return isinstance(items, list) and bool(items) and all(isinstance(i, Mapping) and "name" in i for i in items)


def _by_name(items: Sequence[Any]) -> dict[Any, Any]:
    return {item.get("name"): item for item in items if isinstance(item, Mapping)}


def _same_quantity(live: Any, wanted: Any) -> bool:
    """1000m is 1, and 0.0001 is 1m: the API server writes it in its shortest form, rounded up to thousandths."""
    first, second = _quantity(live), _quantity(wanted)
    return first is not None and first == second


def _quantity(value: Any) -> Decimal | None:
    match = _QUANTITY.match(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if match is None:
        return None
    return (Decimal(match[1]) * _FACTOR[match[2] or ""]).quantize(Decimal("0.001"), rounding=ROUND_CEILING)
