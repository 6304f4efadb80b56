"""Sessions: records only, since models stay in memory between runs anyway."""

from __future__ import annotations

from datetime import timedelta

from ..problems import ApiError
from ..records import Session, now
from ..store import Store


class Sessions:
    """Begins, finds and ends sessions."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def for_run(self, wanted: str | None, app: str, timeout: int, key_id: str) -> str | None:
        """The session of a run.

        Args:
            wanted: "new", an id, or None.
            timeout: idle seconds of a new one.
        Returns:
            Its id, or None.
        Raises:
            ApiError: SESSION_NOT_FOUND, SESSION_EXPIRED, SESSION_ENDED.
        """
        if wanted is None:
            return None
        if wanted == "new":
            session = Session(app, key_id=key_id, idle_timeout=timeout)
        else:
            session = await self.active(wanted)
        session.call_count += 1
        session.last_call_at = now()
        await self._store.save_session(session)
        return session.id

    async def get(self, session_id: str) -> Session:
        """A session, with the status of the moment. Raises: ApiError SESSION_NOT_FOUND."""
        session = await self._store.session(session_id)
        if session is None:
            raise ApiError("SESSION_NOT_FOUND", f"There is no session {session_id[:100]!r}.")
        if session.status == "active":
            idle = now() - session.last_call_at
            if idle > timedelta(seconds=session.idle_timeout):
                session.status = "expired"
                await self._store.save_session(session)
        return session

    async def active(self, session_id: str) -> Session:
        """A session that still goes on. Raises: ApiError, as `for_run`."""
        session = await self.get(session_id)
        if session.status != "active":
            code = "SESSION_ENDED" if session.status == "ended" else "SESSION_EXPIRED"
            raise ApiError(
                code, f'Session {session.id} has {session.status}. Begin another: session "new".'
            )
        return session

    async def keep_alive(self, session_id: str) -> Session:
        """Count its idle time from now. Raises: ApiError, as `for_run`."""
        session = await self.active(session_id)
        session.last_call_at = now()
        await self._store.save_session(session)
        return session

    async def end(self, session_id: str) -> None:
        """End it. Raises: ApiError, as `for_run`."""
        session = await self.active(session_id)
        session.status = "ended"
        await self._store.save_session(session)

    async def all(self) -> list[Session]:
        """The newest ones, with the status of the moment."""
        return [await self.get(session.id) for session in await self._store.sessions()]
