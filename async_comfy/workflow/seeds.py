"""The seeds of a workflow: where they are, and what to put there."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeGuard

from async_comfy.errors import WorkflowError
from async_comfy.workflow.declarations import InputDeclaration, inputs_of
from async_comfy.workflow.nodes import Nodes, NodeView
from async_comfy.workflow.values import linked

SeedRule = int | str
"""A seed, or "fixed", "random", "per-job", or "+N"."""

WIDE = 2**64 - 1  # what the core samplers take
NARROW = 2**31 - 1  # what any node takes that we know of, save two; for classes nobody declared to us
_WIDE_CLASSES = frozenset({"KSampler", "KSamplerAdvanced", "SamplerCustom", "RandomNoise"})


class Randomness(Protocol):
    """What draws a seed; `random.Random` does."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 up to, not including, `stop`."""
        ...


class Seed(NamedTuple):
    """One seed input. `max`: the largest that it takes, and whether that is `certain` or caution."""

    node: str
    input: str
    value: int
    max: int
    certain: bool

    @property
    def path(self) -> str:
        """Where it is, as `Workflow.set` takes it."""
        return f"{self.node}.{self.input}"


def found(nodes: Nodes, object_info: Mapping[str, Any] | None = None) -> list[Seed]:
    """Every literal seed: inputs named so or declared so, and numbers that such inputs are linked to."""
    seeds = {seed.path: seed for node in nodes.values() for seed in _of_node(node, nodes, object_info)}
    return list(seeds.values())


def _of_node(node: NodeView, nodes: Nodes, object_info: Mapping[str, Any] | None) -> Iterator[Seed]:
    declared = inputs_of(object_info, node.class_type) if object_info else {}
    for name, value in node.inputs.items():
        if not is_seed(name, declared.get(name)):
            continue
        most = _max(node.class_type, declared.get(name))
        if _is_int(value):
            yield Seed(node.id, name, value, *most)
        elif (source := linked(value)) in nodes and source is not None:
            number = nodes[source].inputs.get("value")  # a primitive node that feeds the seed
            if _is_int(number):
                yield Seed(source, "value", number, *most)


def is_seed(name: str, declared: InputDeclaration | None = None) -> bool:
    """Whether an input is a seed: by its name, or since the editor offers to vary it after each run.

    It offers the same for the number of a primitive node ("value"), which may be anybody's steps.
    """
    varied = (
        declared is not None and declared.type == "INT" and declared.options.get("control_after_generate")
    )
    return bool(varied and name != "value") or _named_so(name)


@lru_cache(maxsize=1024)
def _named_so(name: str) -> bool:
    return name.lower() == "seed" or name.lower().endswith("_seed")


def _max(class_type: str, declared: InputDeclaration | None) -> tuple[int, bool]:
    most = declared.options.get("max") if declared else None
    if isinstance(most, int) and most > 0:
        return most, True
    return (WIDE, True) if class_type in _WIDE_CLASSES else (NARROW, False)


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def planned(rule: SeedRule, seeds: Sequence[Seed], randomness: Randomness | None = None) -> list[Seed]:
    """The seeds as the rule wants them.

    Raises: `WorkflowError` for a rule that is none.
    """
    if rule == "fixed":
        return []
    if isinstance(rule, str) and re.fullmatch(r"\+\d{1,20}", rule):
        return [_cut(seed, seed.value + int(rule[1:])) for seed in seeds]
    if rule in ("random", "per-job"):
        number = (randomness or random.SystemRandom()).randrange(WIDE + 1)
        return [seed._replace(value=number % (seed.max + 1)) for seed in seeds]
    if _is_int(rule):
        return [_cut(seed, rule) for seed in seeds]
    raise WorkflowError(f"{rule!r} is no seed.", hint='Give a number, "fixed", "random", "per-job" or "+1".')


def _cut(seed: Seed, number: int) -> Seed:
    """What somebody chose goes in as it is, unless the input is known not to take it."""
    too_big = seed.certain and number > seed.max
    return seed._replace(value=number % (seed.max + 1) if too_big else number)
