"""What converting the official templates from the editor's format gives: score, differences, times."""

import gzip
import json
import sys
from collections import Counter
from importlib import import_module, resources
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from async_comfy.errors import WorkflowError
from async_comfy.workflow.convert import to_api

PACKAGE = "comfyui_workflow_templates_json"
DATA = Path(__file__).parents[1] / "tests" / "workflow" / "conversion"

Prompt = dict[str, dict[str, Any]]


def main() -> int:
    """Prints the report; 0 where every known result is met exactly, 1 otherwise."""
    try:
        import_module(PACKAGE)
    except ImportError:
        print(f"The templates come from the package {PACKAGE.replace('_', '-')}: see requirements-dev.txt.")
        return 2
    expected = packed("expected.json.gz")
    converted, refused, times = convert(packed("object_info.json.gz"))
    wrong = {name: list(differences(expected[name], converted.get(name, {}))) for name in expected}
    exact = sum(not found for found in wrong.values())
    print(f"exactly as the editor converts: {exact} of {len(expected)}")
    print(f"converted: {len(converted)}, refused: {len(refused)}")
    print(f"milliseconds a template: median {median(times) * 1e3:.2f}, most {max(times) * 1e3:.2f}")
    for what, count in Counter(found for each in wrong.values() for found in each).most_common():
        print(f"  differs {count} times: {what}")
    for name, why in refused.items():
        print(f"  refused {name}: {why}")
    return int(exact != len(expected))


def packed(name: str) -> dict[str, Any]:
    """A compressed JSON file of the test data."""
    return json.loads(gzip.decompress((DATA / name).read_bytes()))  # type: ignore[no-any-return]  # our own file


def convert(classes: dict[str, Any]) -> tuple[dict[str, Prompt], dict[str, WorkflowError], list[float]]:
    """All templates: the prompts, the refusals, and the seconds that each prompt took."""
    converted, refused, times = {}, {}, []
    for template in sorted((resources.files(PACKAGE) / "templates").iterdir(), key=lambda path: path.name):
        ui = json.loads(template.read_text(encoding="utf-8"))
        if not isinstance(ui, dict) or "nodes" not in ui:
            continue  # an index, not a workflow
        begun = perf_counter()
        try:
            converted[template.name] = to_api(ui, classes)
            times.append(perf_counter() - begun)
        except WorkflowError as error:
            refused[template.name] = error
    return converted, refused, times


def differences(wanted: Prompt, got: Prompt) -> list[str]:
    """What is not equal, by class and input."""
    found = [f"{wanted[key]['class_type']} is missing" for key in wanted.keys() - got.keys()]
    found += [f"{got[key]['class_type']} should not be there" for key in got.keys() - wanted.keys()]
    for key in wanted.keys() & got.keys():
        mine, theirs = got[key], wanted[key]
        kind = theirs["class_type"]
        found += [f"{kind}: {part}" for part in ("class_type", "_meta") if mine[part] != theirs.get(part)]
        names = mine["inputs"].keys() | theirs["inputs"].keys()
        found += [
            f"{kind}, input {n}" for n in names if mine["inputs"].get(n, ...) != theirs["inputs"].get(n, ...)
        ]
    return found


if __name__ == "__main__":
    sys.exit(main())
