"""What a life amounts to: a `Result`, or the one error that says what went wrong."""

import mimetypes
from collections.abc import Iterator, Mapping
from typing import Any

from async_comfy import errors
from async_comfy.errors import ComfyError, NodeProblem
from async_comfy.events import ExecutionError, Preview
from async_comfy.protocol.job import Life, Shape, State
from async_comfy.results import FileSource, OutputFile, Result

_DEEPEST = 6  # levels below an output's kind at which a file may be named
_MEDIA = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".obj": "model/obj",
    ".stl": "model/stl",
    ".ply": "model/ply",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".opus": "audio/ogg",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".latent": "application/x-latent",
    ".safetensors": "application/x-safetensors",
}
_MEMORY_SIGNS = ("outofmemory", "out of memory", "alloc_failed", "not enough memory")


def result(life: Life, source: FileSource | None, server: str, seeds: Mapping[str, int]) -> Result:
    """What a completed life made."""
    run = life.running(life.queued_at)
    outputs = {node: output for node, output in run.outputs.items() if output}
    cached = frozenset(run.cached)
    return Result(
        prompt_id=life.prompt_id,
        outputs=outputs,
        files=tuple(_files(life, outputs, cached, source)),
        cached=cached,
        dropped=life.problems,
        blocked=tuple(run.errors),
        titles={node: shape.title for node, shape in life.shape.items()},
        seeds=seeds,
        number=life.number,
        queued_s=None if life.gap else run.since - life.queued_at,
        ran_s=None if life.gap or life.ended_at is None else life.ended_at - run.since,
        server=server,
    )


def error(life: Life, evidence: tuple[str, ...]) -> ComfyError:
    """What to raise to those who await a life that ended otherwise. A fresh one at each call."""
    match life.state:
        case State.FAILED:
            return _failed(life)
        case State.CANCELLED:
            return errors.Cancelled(
                f"The job {life.prompt_id} was cancelled.",
                hint="" if life.withdrawn else "It was interrupted at the server.",
                prompt_id=life.prompt_id,
            )
        case State.REJECTED:
            return errors.Rejected(
                "The server refused the prompt.", problems=life.problems, prompt_id=life.prompt_id
            )
        case State.AMBIGUOUS:
            return errors.Ambiguous(
                f"Nobody can say whether the job {life.prompt_id} runs or ran.",
                evidence=evidence,
                hint="Look at the server before sending it again.",
                prompt_id=life.prompt_id,
            )
        case _ if life.pictures_gone():
            return errors.Lost(
                f"Pictures of the job {life.prompt_id} were lost: they come over the socket, once.",
                evidence=evidence,
                hint="Run it again, or let a node save them on the server.",
                prompt_id=life.prompt_id,
            )
        case _:
            return errors.Lost(
                f"The server no longer knows the job {life.prompt_id}.",
                evidence=evidence,
                hint="It was restarted, or somebody cleared its queue or history.",
                prompt_id=life.prompt_id,
            )


def rejected(body: Any, shape: Shape, status: int, prompt_id: str | None) -> errors.Rejected:
    """The server's 400, readable: which node, which input, what was given, what is allowed."""
    body = body if isinstance(body, dict) else {}
    said = body.get("error")
    said = said if isinstance(said, dict) else {"message": str(said or "The server refused the prompt.")}
    problems = tuple(node_problems(body.get("node_errors"), shape))
    message = str(said.get("message") or "The server refused the prompt.").rstrip()
    details = str(said.get("details") or "").strip()
    if details and not problems:
        message = f"{message.rstrip('.')}: {details}"
    return errors.Rejected(
        message if message.endswith((".", "!", "?")) else f"{message}.",
        kind=str(said.get("type") or ""),
        problems=problems,
        status=status,
        details=details,
        hint=_REJECTION_HINTS.get(str(said.get("type")), ""),
        prompt_id=prompt_id,
    )


_REJECTION_HINTS = {
    "missing_node_type": "Install the custom node that brings this class, or use another server.",
    "prompt_no_outputs": "Add a node that saves or shows something, such as SaveImage.",
    "no_prompt": "Send the API format: in the editor, File > Export (API).",
}


def node_problems(node_errors: Any, shape: Shape) -> Iterator[NodeProblem]:
    """The server's `node_errors`, one problem at a time."""
    if not isinstance(node_errors, dict):
        return
    for node, found in node_errors.items():
        told = found.get("errors") if isinstance(found, dict) else None
        for problem in told if isinstance(told, list) else ():
            if isinstance(problem, dict):
                yield _problem(str(node), found.get("class_type"), problem, shape)


def _problem(node: str, class_type: Any, problem: dict[str, Any], shape: Shape) -> NodeProblem:
    extra = problem.get("extra_info")
    extra = extra if isinstance(extra, dict) else {}
    known = shape.get(node)
    return NodeProblem(
        node=node,
        kind=str(problem.get("type") or ""),
        message=str(problem.get("message") or "refused"),
        details=str(problem.get("details") or ""),
        title=known.title if known else None,
        class_type=str(class_type) if class_type else known.class_type if known else None,
        input=extra.get("input_name"),
        given=extra.get("received_value"),
        allowed=_allowed(extra.get("input_config")),
    )


def _allowed(config: Any) -> Any:
    """Choices, or a range, out of an input's declaration (a pair of type and options)."""
    if not isinstance(config, list | tuple) or not config:
        return None
    kind, options = config[0], config[1] if len(config) > 1 and isinstance(config[1], dict) else {}
    if isinstance(kind, list):
        return kind
    if isinstance(options.get("options"), list):
        return options["options"]
    bounds = [f"{word} {options[key]}" for key, word in (("min", "from"), ("max", "to")) if key in options]
    return f"{kind} {' '.join(bounds)}" if bounds else kind


def choices(declaration: Mapping[str, Any], name: str | None) -> Any:
    """What an input may be, by its class's declaration in object_info; None where that says nothing."""
    groups = declaration.get("input")
    for group in groups.values() if isinstance(groups, dict) else ():
        if isinstance(group, dict) and name in group:
            return _allowed(group[name])
    return None


def _failed(life: Life) -> errors.Failed:
    told = life.run.errors[-1] if life.run and life.run.errors else ExecutionError()
    shape = life.shape.get(told.node_id or "")
    title = shape.title if shape else None
    class_type = told.node_type or (shape.class_type if shape else None)
    reason = told.exception_message.strip()
    name = f"{title} ({class_type})" if title and title != class_type else class_type or "?"
    kind = errors.OutOfMemory if _is_memory(told) else errors.Failed
    return kind(
        f"Node {told.node_id} {name} failed: {told.exception_type or 'error'}: {reason or 'no message'}",
        node=told.node_id,
        title=title,
        class_type=class_type,
        exception_type=told.exception_type,
        reason=reason,
        remote_traceback=told.traceback,
        inputs=told.current_inputs,
        hint=_MEMORY_HINT if kind is errors.OutOfMemory else "",
        prompt_id=life.prompt_id,
    )


_MEMORY_HINT = "Use a smaller picture, batch or model, or free the server's memory first."


def _is_memory(told: ExecutionError) -> bool:
    text = f"{told.exception_type} {told.exception_message}".lower()
    return any(sign in text for sign in _MEMORY_SIGNS)


def _files(
    life: Life, outputs: Mapping[str, Mapping[str, Any]], cached: frozenset[str], source: FileSource | None
) -> Iterator[OutputFile]:
    for node, output in outputs.items():
        shape = life.shape.get(node)
        for kind, value in output.items():
            for found in _named_files(value, _DEEPEST):
                yield _file(node, kind, found, shape.title if shape else None, node in cached, source)
    for index, picture in enumerate(life.run.images if life.run else ()):
        yield _sent(index, picture, life.shape)


def _named_files(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Custom nodes nest as they like: what names a file is one, down to `_DEEPEST` levels."""
    if isinstance(value, dict):
        if isinstance(value.get("filename"), str) and value["filename"]:
            yield value
            return
        value = list(value.values())
    if isinstance(value, list) and depth:
        for item in value:
            yield from _named_files(item, depth - 1)


def _file(
    node: str, kind: str, found: dict[str, Any], title: str | None, cached: bool, source: FileSource | None
) -> OutputFile:
    named = {"filename", "subfolder", "type"}
    return OutputFile(
        node=node,
        kind=kind,
        filename=found["filename"],
        subfolder=str(found.get("subfolder") or ""),
        folder=str(found.get("type") or "output"),
        title=title,
        cached=cached,
        media_type=media_type(found["filename"]),
        more={key: value for key, value in found.items() if key not in named},
        source=source,
    )


def _sent(index: int, picture: Preview, shape: Shape) -> OutputFile:
    node = picture.node or ""
    suffix = ".png" if picture.media_type == "image/png" else ".jpg"
    return OutputFile(
        node=node,
        kind="images",
        filename=f"websocket_{node.replace(':', '_')}_{index + 1:05}{suffix}",
        folder="socket",
        title=shape[node].title if node in shape else None,
        media_type=picture.media_type,
        data=picture.data,
    )


def media_type(filename: str) -> str:
    """By the suffix; "application/octet-stream" where that says nothing."""
    _, dot, ending = filename.rpartition(".")
    suffix = dot + ending.lower() if dot else ""
    return _MEDIA.get(suffix) or mimetypes.types_map.get(suffix) or "application/octet-stream"
