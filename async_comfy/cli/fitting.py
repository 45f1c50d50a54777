"""Whether a workflow fits a server, told before anything is sent: above all, which models it lacks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from async_comfy import NodeProblem, Rejected, Workflow
from async_comfy.workflow import parse_value

if TYPE_CHECKING:
    from async_comfy import Session
    from async_comfy.workflow import Finding

SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".pkl", ".bin", ".gguf", ".onnx")
DEEPEST = 12  # levels of a document at which a model may be described; subgraphs take four


async def fit(session: "Session", document: Mapping[str, Any], name: str, settings: Sequence[str]) -> None:
    """Converts and checks it, as `run` will send it.

    Raises: Rejected where a model is missing or the server would refuse it, WorkflowError
    """
    workflow = Workflow.load(document)
    known = await session.nodes.some(sorted(workflow.class_types))
    prompt = workflow.resolve(known)
    for setting in settings:
        path, _, text = setting.partition("=")
        prompt.set(path, parse_value(text, like=prompt.get(path)))
    errors = [one for one in prompt.check(known) if one.severity == "error"]
    missing = sorted({str(one.given) for one in errors if _is_model(one)})
    if missing:
        raise Rejected(
            f"The server lacks models that {name} needs: {', '.join(missing)}.",
            kind="missing_models",
            hint=_remedy(missing, dict(_sources(document))),
        )
    if errors:
        whole = "".join(f": {one.message}" for one in errors if one.node is None)
        found = [_problem(one) for one in errors if one.node is not None]
        raise Rejected(f"The server would refuse {name}{whole or '.'}", problems=found)


def _is_model(finding: "Finding") -> bool:
    given = finding.given
    return finding.kind == "value_not_in_list" and isinstance(given, str) and given.lower().endswith(SUFFIXES)


def _remedy(missing: Sequence[str], sources: Mapping[str, str]) -> str:
    known = [f"{sources[name]}" for name in missing if name in sources]
    lines = ["Put them into its folders of models, or choose others with --set."]
    return "\n  ".join([*lines, *known])


def _sources(value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """File name, and folder and address, of each model that the document describes: not to be trusted."""
    if depth > DEEPEST:
        return
    if isinstance(value, dict):
        name, url, folder = (value.get(key) for key in ("name", "url", "directory"))
        if isinstance(name, str) and isinstance(url, str) and isinstance(folder, str):
            yield name, f"models/{folder}/{name}: {url}"
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(inner, dict | list):
            yield from _sources(inner, depth + 1)


def _problem(finding: "Finding") -> NodeProblem:
    return NodeProblem(
        node=finding.node or "",
        kind=finding.kind,
        message=finding.message,
        title=finding.title,
        class_type=finding.class_type,
        input=finding.input,
    )
