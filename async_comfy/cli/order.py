"""What `run` was asked for, made ready to submit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

from async_comfy import Session, Workflow, WorkflowError
from async_comfy.cli.album import Album, batch_key, check_writable, open_record
from async_comfy.cli.batch import Variant
from async_comfy.cli.manifest import Record, Seed
from async_comfy.cli.naming import Naming
from async_comfy.workflow import parse_value

LARGEST_DRAW = 2**50  # the editor draws no larger seeds either: JavaScript would lose digits


@dataclass(frozen=True, slots=True)
class Order:
    """A workflow file, what to set in it, how its seeds vary over `count` runs, and where results go.

    `settings`: "NODE.INPUT=VALUE" each. `seed`: a rule of `run --seed`, None for the one that fits `count`.
    """

    file: str
    settings: Sequence[str]
    seed: str | None
    count: int
    output: Path
    naming: Naming

    @property
    def name(self) -> str:
        """The workflow's name: its file's."""
        return Path(self.file).stem

    def load(self) -> Workflow:
        """The workflow; with its settings unless it has to be converted first.

        Raises: WorkflowError, CallerError where the output folder cannot be written.
        """
        workflow = Workflow.load(self.file)
        if workflow.format == "api":
            self.prepare(workflow)
        check_writable(self.output)
        return workflow

    async def resolve(self, workflow: Workflow, session: Session) -> Workflow:
        """The editor's format converted with what this server says of its nodes; else the workflow itself."""
        if workflow.format == "api":
            return workflow
        converted = workflow.resolve(await session.nodes.some(sorted(workflow.class_types)))
        self.prepare(converted)
        return converted

    def prepare(self, workflow: Workflow) -> None:
        """Sets what is to be set. Raises: WorkflowError where that, or the seed, has no place in it."""
        for setting in self.settings:
            path, _, text = setting.partition("=")
            workflow.set(path, parse_value(text, like=workflow.get(path)))
        if self.seed not in {None, "fixed"} and not workflow.seeds():
            raise WorkflowError("it has no seed to vary.", place=self.file, hint="Leave --seed out.")

    def record(self, workflow: Workflow) -> Record:
        """The batch that this order goes on with, or begins. Raises: CallerError."""
        asked = (self.seed, self.count, self.naming.template, self.name)
        return open_record(self.output, batch_key(workflow, asked), self.seeds)

    def album(self, record: Record) -> Album:
        """Where its results go."""
        return Album(self.output, self.naming, self.name, record=record)

    def seeds(self) -> list[Seed]:
        """For each run what `Workflow.with_seed` takes. Random ones are drawn here and now."""
        rule = self.seed or ("random" if self.count > 1 else "fixed")
        if rule == "fixed":
            return ["fixed"] * self.count
        if rule == "random":
            return [SystemRandom().randrange(LARGEST_DRAW) for _ in range(self.count)]
        if rule.startswith("+"):
            return [f"+{int(rule) * turn}" for turn in range(self.count)]
        return [int(rule) + turn for turn in range(self.count)]


def variants(workflow: Workflow, record: Record) -> list[Variant]:
    """The runs that are not done yet, each with its seeds."""
    return [
        Variant(index, workflow.with_seed(seed))
        for index, seed in enumerate(record.seeds, start=1)
        if index not in record.done
    ]
