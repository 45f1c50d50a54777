"""The servers of a pool, as they come, change, drain and go."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anyio

from async_comfy._live import discovery
from async_comfy._live.discovery import Discovery
from async_comfy._live.dispatch import Dispatch
from async_comfy._live.fleet import GIB, Fleet, Server, address, as_server
from async_comfy._live.member import Member, unload
from async_comfy._live.tasks import Tasks
from async_comfy.errors import CallerError, Unreachable
from async_comfy.protocol.host import Host
from async_comfy.protocol.scheduler import Scheduler
from async_comfy.workflow.spelling import nearest

TICK_S = 0.25  # between looks at the members: connected, strangers, silence
FIRST_LOOK_S = 0.02  # while opening: nobody likes to wait for a tick then
MOVING_S = 30.0  # for the jobs at an address that the fleet gave up and that does not answer

_log = logging.getLogger("async_comfy")


class Roster:
    """The members of a pool by name, and what happens to them. `options`: of every `Session`."""

    def __init__(
        self,
        scheduler: Scheduler,
        members: dict[str, Member],
        dispatch: Dispatch,
        tasks: Tasks,
        options: Mapping[str, Any],
    ) -> None:
        self.members = members
        self._scheduler = scheduler
        self._dispatch = dispatch
        self._tasks = tasks
        self._options = options
        self._leaving: set[str] = set()  # they are drained, to be taken out or to be connected anew
        self._requests = 0  # of members that are gone
        self._stays = ""  # why the last look changed nothing
        self._limits: Fleet | None = None  # lanes and limits, as they were last told

    def __repr__(self) -> str:
        return f"<Roster {self.up} of {len(self.members)} servers>"

    @property
    def up(self) -> int:
        """How many are connected."""
        return sum(member.up for member in self.members.values())

    @property
    def requests(self) -> int:
        """HTTP requests so far, to all that are and were members."""
        return self._requests + sum(member.requests for member in self.members.values())

    def name(self, server: str) -> str:
        """What the fleet calls a server, named by its name, host or URL. Raises: CallerError."""
        if server in self.members:
            return server
        if "://" in server:
            server = address(server)
        alike = [
            name
            for name, member in self.members.items()
            if server in {member.address, name.partition(":")[0]}
        ]
        if len(alike) == 1:
            return alike[0]
        if alike:
            raise CallerError(f"{server!r} may be any of {', '.join(alike[:10])}.", hint="Name one of them.")
        near = nearest(server, list(self.members), 1, 0.6)
        there = ", ".join(list(self.members)[:10]) or "none"
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {there}."
        raise CallerError(f"There is no server {server!r} in this pool.", hint=hint)

    # Coming and going

    def join(self, server: Server | str) -> str:
        """One more, from now on; its name. Raises: CallerError where that name is taken."""
        found = as_server(server, self._options)
        if found.name in self.members:
            raise CallerError(f"The pool has a server {found.name!r} already.", hint="Give it another name.")
        member = self.members[found.name] = Member(found, self._dispatch.gone)
        host = Host(found.name, labels=found.labels, lanes=found.lanes, room=found.models)
        host.health.draining = found.drain
        host.vram_bytes = member.vram_bytes
        self._scheduler.add(host)
        member.start()
        return found.name

    async def drain(self, name: str) -> None:
        """Gives it nothing new; returns when it has nothing of ours. Raises: Closed."""
        self._shut(name)
        await self._dispatch.empty(name)

    def resume(self, name: str) -> None:
        """It takes jobs again."""
        self._scheduler.drain(name, time.monotonic(), draining=False)
        self._dispatch.decide()

    async def remove(self, name: str, *, drain: bool) -> None:
        """Takes a server out. What it has is stopped and counts as lost, unless it is drained first."""
        member = self.members.get(name)
        if member is None:
            return
        self._shut(name)
        if drain:
            await self._dispatch.empty(name)
        elif member.up:
            await self._dispatch.recall(name)
        if self.members.get(name) is not member:
            return  # somebody else was quicker
        self._part(member)
        self._dispatch.unpin(name)
        self._dispatch.decide()
        await member.close()

    async def free(self, name: str) -> None:
        """Unloads its models once the running prompt is through."""
        member = self.members[name]
        if member.session is None:
            raise Unreachable(f"{name} is not connected.", hint="Wait until it is ready.")
        pause_s = await unload(member.session)
        self._scheduler.freed(name)
        await anyio.sleep(pause_s)

    async def close(self) -> None:
        """Ends the connections, not the jobs."""
        members = [member.close() for member in self.members.values()]
        await asyncio.gather(*members, return_exceptions=True)

    # Looking

    async def wait_for_the_first(self) -> None:
        """Returns when one is up. Raises: what the first said, when all were tried in vain."""
        while not self.up:
            self.tick()
            waiting = [member for member in self.members.values() if member.trouble is None]
            if not waiting and self.members:
                raise next(m.trouble for m in self.members.values() if m.trouble is not None)
            await anyio.sleep(FIRST_LOOK_S)

    async def keep_looking(self) -> None:
        """Until cancelled."""
        while True:
            await anyio.sleep(TICK_S)
            self.tick()

    def tick(self) -> None:
        """One look at every member."""
        now = time.monotonic()
        scheduler = self._scheduler
        for member in self.members.values():
            host = scheduler.hosts[member.name]
            changed = member.look()
            if changed:
                host.vram_bytes = member.vram_bytes
                scheduler.joined(member.name, now, renewed=member.renewed())
            elif changed is False:
                scheduler.left(member.name)
            scheduler.others(member.name, member.strangers_now(len(host.hand)), now)
            if host.health.stuck and member.remaining == 0:
                scheduler.recovered(member.name, now)
        self._dispatch.watch_silence(now)
        scheduler.reconsider(now)
        self._dispatch.decide()

    # Discovery

    async def keep_discovering(self, look: Discovery) -> None:
        """Until cancelled."""
        while True:
            await anyio.sleep(discovery.LOOK_S)
            await self.discover(look)

    async def discover(self, look: Discovery) -> None:
        """One look: servers join, change and leave."""
        try:
            found = await look()
            servers = discovery.named(found)
        except Exception as error:  # noqa: BLE001  # a callable of the user's may raise anything; the fleet stays
            self._stay(f"discovery failed: {error}")
            return
        if not servers:
            self._stay("discovery found no server")
            return
        self._stays = ""
        if self._dispatch.closed:
            return
        if isinstance(found, Fleet):
            self.limit(found)
        self._meet(as_server(server, self._options) for server in servers.values())
        for name in [name for name in self.members if name not in servers and name not in self._leaving]:
            self._leave(name, lambda name=name: self.remove(name, drain=True))  # type: ignore[misc]  # bound here
        self._dispatch.decide()

    def _stay(self, why: str) -> None:
        if why != self._stays:  # said once, however often it is looked
            _log.warning("the fleet stays as it is: %s", why)
        self._stays = why

    def limit(self, fleet: Fleet) -> None:
        """Lanes and limits, where they are others than those told last."""
        before, self._limits = self._limits, fleet
        if before is not None and (before.lanes, before.depth, before.ahead_s) != (
            fleet.lanes,
            fleet.depth,
            fleet.ahead_s,
        ):
            self._scheduler.limit(fleet.lanes, fleet.depth, fleet.ahead_s)

    def _meet(self, servers: Iterable[Server]) -> None:
        for server in servers:
            member = self.members.get(server.name)
            if member is None:
                self.join(server)
            elif server.name in self._leaving:
                continue  # looked at again when it has left
            elif member.server.reached_alike(server):
                self._amend(member, server)
            else:
                self._leave(server.name, lambda server=server: self._move(server))  # type: ignore[misc]  # bound here

    def _amend(self, member: Member, server: Server) -> None:
        """The same server, of which something else is said now."""
        before, member.server = member.server, server
        if before == server:
            return
        _log.info("%s changed in the fleet", server.name)
        now = time.monotonic()
        if server.vram_gb is not None:
            member.vram_bytes = int(server.vram_gb * GIB)
        self._scheduler.amend(server.name, now, server.labels, server.lanes, server.models, member.vram_bytes)
        if before.drain != server.drain:
            self._scheduler.drain(server.name, now, draining=server.drain)

    async def _move(self, server: Server) -> None:
        """Another address, or other credentials: a new connection, once what is at the old one has ended.

        Where the old one does not answer, what was there is given up after `MOVING_S`. Jobs that wait for
        this server go on waiting for it.
        """
        name, since = server.name, time.monotonic()
        member = self.members.get(name)
        if member is None:
            return  # taken out meanwhile; the next look meets it anew
        drained = self._scheduler.hosts[name].health.draining and not member.server.drain
        self._shut(name)
        while self.members.get(name) is member and self._scheduler.hosts[name].hand:
            with anyio.move_on_after(1.0):
                await self._dispatch.empty(name)
            if member.up:
                since = time.monotonic()
            elif time.monotonic() - since > MOVING_S:
                break
        if self.members.get(name) is not member:
            return
        self._part(member)
        self.join(server)  # at once: what is taken from the old one may be meant for this name alone
        if drained:  # by a call, and only a call takes it back
            self._shut(name)
        await member.close()

    def _shut(self, name: str) -> None:
        """It is given nothing new."""
        self._scheduler.drain(name, time.monotonic())
        self._dispatch.release(name)
        self._dispatch.decide()

    def _part(self, member: Member) -> None:
        del self.members[member.name]
        self._requests += member.requests
        self._dispatch.gone(member)
        self._scheduler.remove(member.name)
        self._dispatch.ledger.forget(member.name)

    def _leave(self, name: str, work: Callable[[], Any]) -> None:
        self._leaving.add(name)

        async def leave() -> None:
            try:
                await work()
            except CallerError as error:
                _log.info("%s", error)
            finally:
                self._leaving.discard(name)

        self._tasks.start(leave())
