"""What `run` was asked for, made ready to submit: workflows, rows of parameters, seeds."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from async_comfy import CallerError, Workflow, WorkflowError
from async_comfy.cli.album import Album, check_writable, digest, new_record
from async_comfy.cli.each import Columns, Row, Sheet
from async_comfy.cli.manifest import Manifest, Record
from async_comfy.cli.naming import Naming
from async_comfy.workflow import ObjectInfo, SeedRule, parse_value

LARGEST_DRAW = 2**50  # the editor draws no larger seeds either: JavaScript would lose digits


@dataclass(frozen=True, slots=True)
class Variant:
    """Run number `index`, from 1: a workflow with that run's values and seeds.

    `name`: its file's. `row`: of the sheet, from 1; None without one. `digest`: of all but the seeds.
    """

    index: int
    workflow: Workflow
    name: str
    row: int | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """A workflow that runs at the servers, where its seeds are, and what the sheet's columns are in it."""

    name: str
    workflow: Workflow
    digest: str
    seeds: frozenset[str]
    columns: Columns | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """What there is to do: so many runs, of which so many are done, and so many failed."""

    total: int
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class Order:
    """Workflow files, what to set in them, how seeds vary over `count` runs of each, and where results go.

    `files`: a folder stands for the workflows in it. `settings`: "NODE.INPUT=VALUE" each. `seed`: a rule of
    `run --seed`, None for the one that fits `count`. `sheet`: each workflow runs for each of its rows.
    `retry_failed`: failed runs of an earlier call are to be done, too. `limit`: so many runs at most.
    """

    files: Sequence[str]
    settings: Sequence[str]
    seed: str | None
    count: int
    output: Path
    naming: Naming
    sheet: Sheet | None = None
    retry_failed: bool = False
    limit: int | None = None
    loaded: dict[str, Workflow] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the whole is called: the workflow, or its folder."""
        first = Path(self.files[0])
        return first.stem or first.resolve().name

    @property
    def is_single(self) -> bool:
        """One workflow with nothing but seeds to vary: such a batch begins anew once it is done."""
        return self.sheet is None and len(self.loaded) == 1 and not Path(self.files[0]).is_dir()

    def load(self) -> None:
        """The workflows; with their settings unless they have to be converted first.

        Raises: WorkflowError, CallerError where the output folder cannot be written.
        """
        for file in self._expanded():
            workflow = Workflow.load(file)
            if workflow.format == "api":
                self._prepare(workflow, file)
            self.loaded[file] = workflow
        if self.sheet is not None and next(iter(self.sheet), None) is None:
            raise CallerError(f"{self.sheet.path} has no rows.", hint="Below the header, one run a line.")
        check_writable(self.output)

    @property
    def class_types(self) -> list[str]:
        """The node classes whose declarations are needed: for ranges and choices, or to convert a file."""
        needed = self.loaded.values()
        wanted = [one for one in needed if self.sheet is not None or one.format != "api"]
        return sorted({name for workflow in wanted for name in workflow.class_types})

    def templates(self, known: Sequence[ObjectInfo]) -> list[Template]:
        """The workflows in a form that runs. `known`: what each server says of its nodes.

        Raises: CallerError
        """
        return [self._template(file, workflow, known) for file, workflow in self.loaded.items()]

    def key(self, templates: Sequence[Template]) -> str:
        """What its batch is called in the manifest: the same for the same order."""
        asked = (self.seed, self.count, self.naming.template, self.name, self.is_single)
        sheet = str(self.sheet.path) if self.sheet is not None else ""
        # Of one workflow its content counts. Of many, and of rows, each run is compared on its own.
        content = templates[0].digest if self.is_single else [*self.loaded, list(self.settings)]
        return digest(asked, sheet, content)

    def record(self, key: str) -> Record:
        """The batch of that key to go on with, or one that begins. Raises: CallerError."""
        found = Manifest(self.output).latest(key)
        if found is None or (self.is_single and len(found.done) >= self.count):
            return new_record(key)
        return found

    def album(self, record: Record) -> Album:
        """Where its results go."""
        return Album(self.output, self.naming, record=record)

    def inspected(self, templates: Sequence[Template], record: Record) -> Left:
        """Goes through all runs without sending any. Raises: CallerError for the first row that is wrong."""
        total = done = failed = 0
        for variant in self._all(templates, record, seeded=False):
            total += 1
            done += record.done.get(variant.index) == variant.digest
            failed += record.failed.get(variant.index) == variant.digest
        return Left(total, done, failed)

    def variants(self, templates: Sequence[Template], record: Record) -> Iterator[Variant]:
        """The runs that are to be done, made as they are asked for."""
        left = self.limit
        for variant in self._all(templates, record, seeded=True):
            if record.done.get(variant.index) == variant.digest:
                continue
            if not self.tries_again and record.failed.get(variant.index) == variant.digest:
                continue
            if left is not None and (left := left - 1) < 0:
                return
            yield variant

    @property
    def tries_again(self) -> bool:
        """Whether runs that failed in an earlier call are to be done."""
        return self.retry_failed or self.is_single

    def _all(self, templates: Sequence[Template], record: Record, *, seeded: bool) -> Iterator[Variant]:
        index = 0
        for template in templates:
            for row in self.sheet if self.sheet is not None else (None,):
                base = _filled(template, row, seeded=seeded)
                for _ in range(self.count):
                    index += 1
                    if seeded and not base.keeps_seed:
                        yield _seeded(base.variant, index, self.seed_of(index, record.root))
                    else:
                        yield replace(base.variant, index=index)

    def seed_of(self, index: int, root: int) -> SeedRule:
        """What `Workflow.with_seed` takes for that run. Random ones are drawn from `root`."""
        rule = self.seed or ("random" if self.count > 1 else "fixed")
        if rule == "fixed":
            return "fixed"
        if rule == "random":
            drawn = hashlib.sha256(f"{root}/{index}".encode()).digest()
            return int.from_bytes(drawn[:8]) % LARGEST_DRAW
        if rule.startswith("+"):
            return f"+{int(rule) * (index - 1)}"
        return int(rule) + index - 1

    def _expanded(self) -> list[str]:
        """The files, each once; a folder's in the order of their names."""
        found: list[str] = []
        for file in self.files:
            folder = Path(file)
            if folder.is_dir():
                inside = sorted(str(path) for path in folder.glob("*.json") if path.is_file())
                if not inside:
                    hint = "Workflows in it are called *.json; or name files."
                    raise CallerError(f"The folder {folder} holds no workflow.", hint=hint)
                found += inside
            else:
                found.append(file)
        return list(dict.fromkeys(found))

    def _template(self, file: str, workflow: Workflow, known: Sequence[ObjectInfo]) -> Template:
        if workflow.format != "api":
            workflow = _resolved(workflow, known)
            self._prepare(workflow, file)
        files = {(item.node, item.input): repr(item.file) for item in workflow.files()}
        columns = Columns(self.sheet, workflow, known) if self.sheet is not None else None
        prompt = digest(workflow.encode(files=files))
        return Template(Path(file).stem, workflow, prompt, frozenset(workflow.seeds()), columns)

    def _prepare(self, workflow: Workflow, file: str) -> None:
        """Sets what is to be set. Raises: WorkflowError where that, or the seed, has no place in it."""
        for setting in self.settings:
            path, _, text = setting.partition("=")
            workflow.set(path, parse_value(text, like=workflow.get(path)))
        if self.seed not in {None, "fixed"} and not workflow.seeds():
            raise WorkflowError("it has no seed to vary.", place=file, hint="Leave --seed out.")


@dataclass(frozen=True, slots=True)
class _Filled:
    """A row in its workflow. `keeps_seed`: it says which seed."""

    variant: Variant
    keeps_seed: bool


def _filled(template: Template, row: Row | None, *, seeded: bool) -> _Filled:
    if row is None or template.columns is None:
        return _Filled(Variant(0, template.workflow, template.name, None, template.digest), False)
    values = template.columns.settled(row)
    made = digest(template.digest, sorted((path, repr(value)) for path, value in values.items()))
    workflow = template.workflow
    if seeded:
        workflow = workflow.copy()
        for path, value in values.items():
            workflow.set(path, value)
    keeps = not values.keys().isdisjoint(template.seeds)
    return _Filled(Variant(0, workflow, template.name, row.number, made), keeps)


def _seeded(variant: Variant, index: int, rule: SeedRule) -> Variant:
    """The same as run `index`, with the seed that the rule gives."""
    return replace(variant, index=index, workflow=variant.workflow.with_seed(rule))


def _resolved(workflow: Workflow, known: Sequence[ObjectInfo]) -> Workflow:
    """Converted with the nodes of the first server that knows them all. Raises: WorkflowError."""
    trouble: WorkflowError | None = None
    for object_info in known:
        try:
            return workflow.resolve(object_info)
        except WorkflowError as error:
            trouble = trouble or error
    raise trouble or WorkflowError("it cannot be converted without a server's list of nodes.")
