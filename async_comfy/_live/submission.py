"""One prompt to the server, exactly once.

The job is registered before the POST, since its events can beat the answer. A lost answer is resolved by
asking, never by sending blindly: the server runs the same id twice (before its pull request 16242).
Absence proves something only while the server is the one that the prompt was sent to. A server that was
restarted has forgotten what it ran, so the event socket, open since before the POST, must still answer.
"""

import asyncio
import random
import time
from typing import Any

import anyio

from async_comfy._live.api import System
from async_comfy._live.http import Answer, Http, unexpected
from async_comfy._live.inquiry import Inquiry
from async_comfy._live.link import Pulse
from async_comfy.errors import ComfyError, Unreachable
from async_comfy.protocol import outcome, recovery
from async_comfy.protocol.backoff import Backoff, Budget, retry_after_s
from async_comfy.protocol.job import Fact, Life, State
from async_comfy.protocol.router import Router

TAKES_OUR_IDS = (0, 33)  # measured; 0.3.40 makes its own, and a doubt does less harm than a second run
AMBIGUOUS_S = 60.0  # of asking in vain what became of a prompt whose answer was lost
PROOF_S = 20.0  # for the event socket to answer; the server has just answered over HTTP
_UNANSWERED = frozenset({State.SUBMITTING})
_BUSY = frozenset({429, 503})  # said before the prompt was looked at; a 502 may come after


class Submissions:
    """The POSTs of one session."""

    def __init__(self, http: Http, router: Router, inquiry: Inquiry, answers: Pulse) -> None:
        self._http = http
        self._router = router
        self._inquiry = inquiry
        self._answers = answers
        self._budget = Budget()
        self._arrivals: dict[str, asyncio.Future[bool]] = {}
        self._ended = False

    def __repr__(self) -> str:
        return f"<Submissions {self._router.posting} unanswered>"

    async def send(self, life: Life, body: bytes) -> None:
        """POSTs a registered prompt; returns when the server has it.

        `life.problems` then names the outputs that the server dropped, if it did.

        Raises: Rejected, Denied, Unreachable (it was not sent), Ambiguous, UnexpectedAnswer
        """
        self._router.posting += 1
        self._budget.ask()
        try:
            await self._send(life, body)
        finally:
            self._router.posting -= 1

    def never_arrived(self, life: Life) -> bool:
        """The server does not know this prompt; whether somebody waits to hear so."""
        return self._arrive(life, arrived=False)

    def arrived(self, life: Life) -> None:
        """The server knows this prompt, whatever became of the answer."""
        self._arrive(life, arrived=True)

    def end(self) -> None:
        """The session is closed: the server is not asked any more, so nobody need wait for what it says."""
        self._ended = True
        for waiter in self._arrivals.values():
            if not waiter.done():
                waiter.set_result(False)

    async def _send(self, life: Life, body: bytes) -> None:
        backoff = Backoff()
        while life.state is State.SUBMITTING:
            sent_at = time.monotonic()
            try:
                answer = await self._http.deliver("/prompt", body)
            except Unreachable as error:
                if not error.sent:
                    raise
                if await self._ask_whether_it_arrived(life, str(error)):
                    return None
                if not self._budget.retry():
                    raise  # it is not there; that is all that can be said
            else:
                if answer.status not in _BUSY or not self._budget.retry():
                    return await self._read(life, answer, sent_at)
                await anyio.sleep(_pause_s(answer, backoff))
        return None

    async def _read(self, life: Life, answer: Answer, sent_at: float) -> None:
        now = time.monotonic()
        if answer.status == 200:
            self._accept(life, answer.json("POST /prompt"), now)
            self._inquiry.recovery.accepted(now, sent_at)
        elif answer.status == 409:
            life.learn(Fact.ACCEPTED, now)  # it has this id already: an earlier attempt arrived
        elif answer.status == 400:
            life.learn(Fact.REFUSED, now)
            raise outcome.rejected(answer.json("POST /prompt"), life.shape, 400, life.prompt_id)
        elif answer.status == 413:
            life.learn(Fact.REFUSED, now)
            raise _too_large(answer, life)
        elif answer.status >= 500 and answer.status not in _BUSY:
            await self._settle_500(life, answer)
        else:
            raise unexpected("POST", "/prompt", answer)

    def _accept(self, life: Life, body: Any, now: float) -> None:
        body = body if isinstance(body, dict) else {}
        prompt_id = body.get("prompt_id")
        if isinstance(prompt_id, str) and prompt_id != life.prompt_id:
            self._router.rename(life, prompt_id, now)
        life.number = body.get("number")
        life.problems = tuple(outcome.node_problems(body.get("node_errors"), life.shape))
        if life.learn(Fact.ACCEPTED, now):
            life.queued_at = now

    async def _settle_500(self, life: Life, answer: Answer) -> None:
        """The server stumbled; a prompt can be in its queue all the same."""
        if not await self._ask_whether_it_arrived(life, f"POST /prompt gave {answer.status}"):
            life.learn(Fact.REFUSED, time.monotonic())
            raise unexpected("POST", "/prompt", answer)

    async def _ask_whether_it_arrived(self, life: Life, reason: str) -> bool:
        """Looks until the server shows the prompt, or has not shown it for the settle window.

        An event of it, heard meanwhile, says the same.

        Raises: Ambiguous, when the server cannot be asked either.
        """
        if life.state not in _UNANSWERED:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._arrivals[life.prompt_id] = waiter
        self._inquiry.suspect(life, reason)
        if self._ended:
            waiter.set_result(False)
        try:
            with anyio.fail_after(AMBIGUOUS_S + recovery.SETTLE_S):
                arrived = await waiter
        except TimeoutError:
            seen = f"the server could not be asked for {AMBIGUOUS_S:.0f} s"
            raise self._give_up(life, reason, seen) from None
        finally:
            del self._arrivals[life.prompt_id]
        trouble = "" if arrived else await self._why_absence_is_no_proof(life)
        if life.state is State.AMBIGUOUS:
            raise outcome.error(life, life.evidence)
        if life.state not in _UNANSWERED:
            return True
        if trouble:
            raise self._give_up(life, reason, trouble)
        return arrived

    async def _why_absence_is_no_proof(self, life: Life) -> str:
        """Empty where it is."""
        if self._ended:
            return "the session was closed before the server could be asked"
        if not await self._takes_our_ids():
            return "the server knows its prompts by other ids than ours"
        with anyio.move_on_after(PROOF_S):
            if await self._answers() and not life.gap:
                return ""
        return "the event socket is dead: perhaps it ran, and the server was restarted since"

    async def _takes_our_ids(self) -> bool:
        """Whether the absence of our id means anything."""
        try:
            return await System(self._http).version() >= TAKES_OUR_IDS
        except ComfyError:
            return False

    def _give_up(self, life: Life, *evidence: str) -> ComfyError:
        life.learn(Fact.UNKNOWABLE, time.monotonic())
        life.evidence = evidence
        return outcome.error(life, life.evidence)

    def _arrive(self, life: Life, *, arrived: bool) -> bool:
        waiter = self._arrivals.get(life.prompt_id)
        if waiter is not None and not waiter.done():
            waiter.set_result(arrived)
        return waiter is not None


def _pause_s(answer: Answer, backoff: Backoff) -> float:
    """As long as the server asks for, where it asks for something sensible."""
    asked = retry_after_s(answer.headers.get("Retry-After"))
    return asked if asked is not None else backoff.next_s(random.random())  # noqa: S311  # jitter, no secret


def _too_large(answer: Answer, life: Life) -> ComfyError:
    error = outcome.rejected(
        {"error": {"type": "too_large", "message": "The prompt is larger than the server takes"}},
        life.shape,
        answer.status,
        life.prompt_id,
    )
    error.hint = "Upload files instead of embedding them (limit: `max_upload_size` in /features)."
    return error
