"""What connects the frames of one session with its jobs, and its jobs with those who wait."""

import time
from collections.abc import Mapping

from async_comfy._live.api import History, Nodes, Queue
from async_comfy._live.http import Http
from async_comfy._live.inquiry import Inquiry
from async_comfy._live.journal import Journal
from async_comfy._live.link import Pulse
from async_comfy._live.submission import Submissions
from async_comfy.errors import Closed, ComfyError
from async_comfy.events import Gap
from async_comfy.protocol import outcome
from async_comfy.protocol.job import Fact, Life
from async_comfy.protocol.progress import measure
from async_comfy.protocol.recovery import AWAY, Verdict, adopt
from async_comfy.protocol.router import Router
from async_comfy.results import FileSource, JobProgress, Result


class Switchboard:
    """Router, inquiry and submissions of one session, and what they have to tell each other.

    It is the router's attendant, the link's keeper, and whom the handles ask. `failure` is what ended the
    session, None while it lives. `answers` asks whether the event socket does.
    """

    def __init__(
        self,
        http: Http,
        queue: Queue,
        history: History,
        nodes: Nodes,
        files: FileSource,
        journal: Journal | None,
        answers: Pulse,
    ) -> None:
        self.url = str(http.access)
        self.router = Router(attendant=self)
        self.inquiry = Inquiry(self.router, queue, history, self.tell)
        self.submissions = Submissions(http, self.router, self.inquiry, answers)
        self.opened = False
        self.up = False
        self.failure: ComfyError | None = None
        self._down_at = 0.0
        self._nodes = nodes
        self._files = files
        self._journal = journal

    def __repr__(self) -> str:
        return f"<Switchboard of {self.url}, {len(self.router.lives)} jobs>"

    def check(self) -> None:
        """Raises: `Closed`, or what ended this session; a fresh exception each time."""
        if self.failure is not None:
            raise another(self.failure) from self.failure
        if not self.opened:
            raise Closed("This session is not open.", hint="Use it inside `async with Session(...)`.")

    def measure(self, life: Life) -> JobProgress:
        """How far a job is."""
        return measure(life, time.monotonic(), self.router.ahead(life))

    def result(self, life: Life, seeds: Mapping[str, int]) -> Result:
        """What a completed job made."""
        return outcome.result(life, self._files, self.url, seeds)

    def error(self, life: Life) -> ComfyError:
        """What went wrong with a job; a fresh exception each time."""
        return outcome.error(life, life.evidence)

    def told(self, life: Life) -> None:
        """Somebody was told the outcome: only now the journal may forget it."""
        if self._journal is not None:
            self._journal.forget(life.prompt_id)

    def give_up(self, life: Life) -> None:
        """Nobody will be told how it ends."""
        life.learn(Fact.UNKNOWABLE, time.monotonic())
        self.router.close(life)

    def unsettled(self, life: Life) -> None:
        """Attendant: it ended, and how was not heard."""
        self.inquiry.poke()

    def arrived(self, life: Life) -> None:
        """Attendant: the server knows this prompt, whatever becomes of the answer to its POST."""
        self.submissions.arrived(life)

    def link_up(self) -> None:
        """Keeper: connected; of what happened meanwhile nobody told us."""
        self.up = True
        self._nodes.forget()
        self.router.connected()
        for life in self.router.open():
            if life.gap:
                self.inquiry.suspect(life, AWAY)
                self._tell_of_gap(life)
        self.inquiry.hurry()

    def link_down(self) -> None:
        """Keeper: the connection was lost."""
        self.up = False
        self._down_at = time.monotonic()
        self.router.disconnected()

    def link_moved(self) -> None:
        """Keeper: what was sent so far tells its events to nobody."""
        self.inquiry.recovery.orphan(self.router.open(), "its client id was given up", time.monotonic())

    def link_failed(self, error: ComfyError) -> None:
        """Keeper: no event will come any more. Whoever waits is failed."""
        self.failure = self.failure or error
        for life in self.router.open():
            if life.listener is not None:
                life.listener.ended()

    def tell(self, verdict: Verdict) -> None:
        """What a look found of one job."""
        life, now = verdict.life, time.monotonic()
        if verdict.fact is None:
            if not self.submissions.never_arrived(life):
                self._end(life, Fact.UNKNOWABLE, verdict)
            return
        if verdict.fact is Fact.SEEN_PENDING and life.run is None and self.up:
            # It has not begun, so nothing of it was missed; unless its events go to somebody else.
            life.gap = not self.inquiry.recovery.hears(life)
        if verdict.entry is not None:
            adopt(life, verdict.entry, self.router, now)
        self._end(life, verdict.fact, verdict)
        self.submissions.arrived(life)

    def _tell_of_gap(self, life: Life) -> None:
        if life.listener is not None:
            life.listener.heard(Gap(prompt_id=life.prompt_id, seconds=time.monotonic() - self._down_at))

    def _end(self, life: Life, fact: Fact, verdict: Verdict) -> None:
        if life.learn(fact, time.monotonic()) and life.over:
            life.evidence = verdict.evidence
            self.router.close(life)


def another(error: ComfyError) -> ComfyError:
    """The same error once more, since a traceback belongs to one raise."""
    twin = type(error).__new__(type(error), *error.args)
    twin.__dict__.update(error.__dict__)
    return twin
