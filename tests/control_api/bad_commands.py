"""Bad commands, made from the commands' own schema: every argument, wrong in every way.

In: a good command of each kind and the JSON schema of the union. Out: the same commands with one
thing wrong, each under the name of what is wrong. What is right and only does not fit the run at
hand is added by hand.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from trainer.commands.kinds import AnyCommand

Bad = tuple[str, str, dict[str, Any]]  # what is wrong, the kind, its arguments
Schema = Mapping[str, Any]

COURSE = {"shape": "cosine", "to": 0.1, "steps": 10, "warm_up_steps": 2}
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("set_lr", {"value": 0.1}),
    ("set_lr", {"factor": 0.5, "group": "decay"}),
    ("set_lr", {"schedule": COURSE}),
    ("set_optimizer", {"betas": [0.8, 0.9], "eps": 1e-6, "weight_decay": 0.1, "group": "decay"}),
    ("set_optimizer", {"max_grad_norm": 0.5}),
    ("set_optimizer", {"momentum": 0.5}),
    ("set_mix", {"name": "fresh", "version": 1}),
    ("set_mix", {"weights": {"fresh": 1.0}}),
    ("pause", {}),
    ("resume", {}),
    ("stop", {}),
    ("save", {"name": "mine", "note": "n"}),
    (
        "rollback",
        {
            "checkpoint": "good",
            "branch": "b",
            "set_lr": {"schedule": COURSE},
            "set_mix": {"name": "fresh"},
            "hold_data": True,
        },
    ),
    ("evaluate", {"suite": "fresh"}),
    ("freeze", {"modules": ["layers.0"]}),
    ("unfreeze", {"modules": ["layers.0"]}),
    ("reset_parameters", {"modules": ["layers.0"]}),
    ("undo", {"command": "0" * 32}),
]
# Well-formed, but the tiny run with AdamW and its two mixes can't do it.
UNFIT: list[Bad] = [
    ("a group that is not there", "set_lr", {"value": 0.1, "group": "head"}),
    ("a group that is not there", "set_optimizer", {"eps": 0.1, "group": "head"}),
    ("a rate beyond the largest", "set_lr", {"factor": 1e5}),
    ("a rate beyond the largest", "set_lr", {"factor": 1e5, "group": "decay"}),
    (
        "a rate beyond the largest",
        "rollback",
        {"checkpoint": "good", "set_lr": {"factor": 1e5}},
    ),
    (
        "a group that is not there",
        "rollback",
        {"checkpoint": "good", "set_lr": {"value": 0.1, "group": "head"}},
    ),
    ("a setting that AdamW has not", "set_optimizer", {"momentum": 0.5}),
    ("a setting that AdamW has not", "set_optimizer", {"momentum": 0.5, "eps": 0.1}),
    ("a module that is not there", "freeze", {"modules": ["layers.0", "head"]}),
    ("a module that is not there", "unfreeze", {"modules": ["../layers"]}),
    ("a module that is not there", "reset_parameters", {"modules": ["head"]}),
    ("a module without parameters", "freeze", {"modules": ["layers.1"]}),
    ("nothing left to train", "freeze", {"modules": ["layers"]}),
    ("a part that can't be reset", "reset_parameters", {"modules": ["layers.0", "layers.1"]}),
    ("a mix that is not there", "set_mix", {"name": "nothing"}),
    ("a mix that is not there", "set_mix", {"name": "fresh", "version": 7}),
    ("a mix that is not there", "rollback", {"checkpoint": "good", "set_mix": {"name": "no"}}),
    ("a slice that is not there", "set_mix", {"weights": {"fresh": 1.0, "no": 1.0}}),
    ("weights of nothing", "set_mix", {"weights": {"fresh": 0.0}}),
    ("a checkpoint that is not there", "rollback", {"checkpoint": "bad"}),
    ("a branch that is taken", "rollback", {"checkpoint": "good", "branch": "main"}),
    ("a name that is taken", "save", {"name": "good"}),
    ("a command that was never asked for", "undo", {"command": "0" * 32}),
    ("two at once", "set_lr", {"value": 0.1, "factor": 0.5}),
    ("two at once", "set_lr", {"factor": 0.1, "schedule": COURSE}),
    ("two at once", "set_mix", {"name": "fresh", "weights": {"fresh": 1.0}}),
    ("an argument alone that goes with another", "set_lr", {"group": "decay"}),
    ("an argument alone that goes with another", "set_optimizer", {"group": "decay"}),
    ("an argument alone that goes with another", "set_mix", {"version": 1}),
    ("an argument where it does not go", "set_mix", {"version": 1, "weights": {"fresh": 1.0}}),
    ("an argument where it does not go", "set_optimizer", {"max_grad_norm": 1.0, "group": "decay"}),
    ("more warm-up than steps", "set_lr", {"schedule": COURSE | {"warm_up_steps": 10}}),
    ("a kind among the arguments", "pause", {"kind": "stop"}),
    ("an unknown kind", "explode", {}),
    ("an unknown kind", "", {}),
    ("a kind in capitals", "PAUSE", {}),
]


def bad_commands() -> Iterator[Bad]:
    """All of them."""
    schema = TypeAdapter(AnyCommand).json_schema()
    definitions = schema["$defs"]
    by_kind = {
        kind: definitions[reference.rpartition("/")[2]]
        for kind, reference in schema["discriminator"]["mapping"].items()
    }
    assert {kind for kind, _ in GOOD} == set(by_kind)
    for kind, good in GOOD:
        spoilt = [
            (wrong, arguments)
            for wrong, arguments in _spoilt_object(by_kind[kind], good, definitions)
            if arguments.get("kind", kind) == kind
        ]
        for wrong, arguments in [*spoilt, *_spoilt_twice(good, spoilt)]:
            yield wrong, kind, arguments
    yield from _exchanged()
    yield from UNFIT


def _spoilt_twice(
    good: Mapping[str, Any], spoilt: list[tuple[str, dict[str, Any]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Two arguments wrong at once: each with some of those after it."""
    for first, (wrong, arguments) in enumerate(spoilt):
        change = _change(good, arguments)
        others = [(also, _change(good, more)) for also, more in spoilt[first + 1 :]]
        apart = [(also, more) for also, more in others if not set(more) & set(change)]
        for also, more in apart[::7]:
            yield f"{wrong}, and {also}", {**good, **change, **more}


def _change(good: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if good.get(name) is not value}


def _exchanged() -> Iterator[Bad]:
    """Each kind with another one's arguments, where it does not understand them."""
    understood: dict[str, set[str]] = {}
    for kind, good in GOOD:
        understood[kind] = understood.get(kind, set()) | set(good)
    for kind, names in understood.items():
        for other, arguments in GOOD:
            if not set(arguments) <= names:
                yield f"the arguments of {other}", kind, arguments


def _spoilt_object(
    schema: Schema, good: Mapping[str, Any], definitions: Schema
) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "an unknown argument", {**good, "speed": 1}
    yield "an argument's name in capitals", {**good, "VALUE": 0.1}
    for name in set(schema.get("required", ())) - {"kind"}:
        yield "a missing argument", {other: good[other] for other in good if other != name}
        yield "nothing where something is needed", {**good, name: None}
    for name, node in schema["properties"].items():
        if name != "kind" and name in good:
            for wrong, value in _spoilt(_resolved(node, definitions), good[name], definitions):
                yield wrong, {**good, name: value}


def _resolved(node: Schema, definitions: Schema) -> Schema:
    """The schema itself: without null and references."""
    if "anyOf" in node:
        node = next(option for option in node["anyOf"] if option.get("type") != "null")
    return definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _spoilt(node: Schema, good: object, definitions: Schema) -> Iterator[tuple[str, Any]]:
    match node.get("type"):
        case "number":
            yield from _spoilt_number(node)
        case "integer":
            yield from _spoilt_integer(node)
        case "string":
            yield from _spoilt_text(node)
        case "boolean":
            yield from {"a text for a truth": "yes", "a number for a truth": 1}.items()
        case "array":
            assert isinstance(good, list)
            yield from _spoilt_list(node, good, definitions)
        case "object":
            assert isinstance(good, dict)
            yield from _wrong_types({"a list for an object": [], "a text for an object": "x"})
            if "properties" in node:
                yield from _spoilt_object(node, good, definitions)
            else:
                yield from _spoilt_mapping(node, good, definitions)


def _wrong_types(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from values.items()


def _spoilt_number(node: Schema) -> Iterator[tuple[str, Any]]:
    yield from {
        "a text for a number": "0.1",
        "a truth for a number": True,
        "a list for a number": [0.1],
        "an object for a number": {"value": 0.1},
        "not a number": math.nan,
        "infinite": math.inf,
        "minus infinite": -math.inf,
        "negative": -1.0,
    }.items()
    if "exclusiveMinimum" in node:
        yield "the bound itself", node["exclusiveMinimum"]
    if "exclusiveMaximum" in node:
        yield "the bound itself", node["exclusiveMaximum"]
    if "maximum" in node:
        yield "too large", node["maximum"] * 1.001
        yield "far too large", 1e300


def _spoilt_integer(node: Schema) -> Iterator[tuple[str, Any]]:
    yield from {
        "a text for a number": "1",
        "a truth for a number": True,
        "a broken number": 1.5,
        "not a number": math.nan,
        "too small": node["minimum"] - 1,
    }.items()
    if "maximum" in node:
        yield "too large", node["maximum"] + 1
    if "exclusiveMaximum" in node:
        yield "the bound itself", node["exclusiveMaximum"]


def _spoilt_text(node: Schema) -> Iterator[tuple[str, Any]]:
    yield from {
        "a number for a text": 5,
        "a truth for a text": True,
        "a list for a text": ["x"],
        "an object for a text": {"name": "x"},
    }.items()
    if "enum" in node:
        yield "an unknown choice", "square"
    if "maxLength" in node:
        yield "a text too long", "x" * (node["maxLength"] + 1)
    if "minLength" in node or "pattern" in node:
        yield "an empty text", ""
    if "pattern" in node:
        yield from {
            "a text too long": "x" * 65,
            "a path": "../../etc/passwd",
            "a newline": "x\n",
            "a nul": "x\x00",
            "letters of another script": "\u0436",
        }.items()


def _spoilt_list(node: Schema, good: list[Any], definitions: Schema) -> Iterator[tuple[str, Any]]:
    yield from {
        "a text for a list": "layers.0",
        "an object for a list": {"0": good[0]},
        "an empty list": [],
        "too many in a list": good * (node["maxItems"] + 1),
        "nothing in a list": [None],
    }.items()
    items = node["items"] if "items" in node else node["prefixItems"][0]
    for wrong, value in _spoilt(items, good[0], definitions):
        yield f"{wrong}, in a list", [value, *good[1:]]


def _spoilt_mapping(
    node: Schema, good: dict[str, Any], definitions: Schema
) -> Iterator[tuple[str, Any]]:
    yield "an empty object", {}
    yield "too many in an object", {f"s{i}": 1.0 for i in range(node["maxProperties"] + 1)}
    name = next(iter(good))
    for wrong, value in _spoilt(node["additionalProperties"], good[name], definitions):
        yield f"{wrong}, in an object", {**good, name: value}
