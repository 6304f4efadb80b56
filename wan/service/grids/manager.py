"""Takes grids, tells how far they are, and ends them; their tasks are ordinary ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from ...grid import combine, draw_seeds
from ..catalog import Catalog, CatalogApp
from ..inputs import Inputs
from ..problems import ApiError, FieldError
from ..records import File, Grid, Task, iso, now
from ..render import Renderer
from ..settings import Settings
from ..store import GridStore
from ..store.listing import ListQuery
from ..tasks import TaskManager
from ..tasks.manager import MAX_DRAWN_SEED
from ..tasks.starting import is_file
from .request import GridRequest
from .sheet import Sheets
from .state import grid_state

_COALESCE = 0.2
"""Seconds between two updates of a stream."""


class Grids:
    """All grids of a service. Every method is called in the server's loop.

    Args:
        sheets: shows the results of one beside each other.
    """

    def __init__(
        self,
        settings: Settings,
        store: GridStore,
        tasks: TaskManager,
        catalog: Catalog,
        inputs: Inputs,
        renderer: Renderer,
        sheets: Sheets,
    ) -> None:
        self._settings, self._store, self._tasks = settings, store, tasks
        self._catalog, self._inputs, self._renderer = catalog, inputs, renderer
        self._sheets = sheets

    @property
    def most(self) -> int:
        """Combinations that a grid may have."""
        return min(self._settings.max_grid, self._settings.max_queue)

    async def run(
        self,
        request: GridRequest,
        *,
        origin: str,
        key_id: str,
        idempotency: tuple[str, str] | None = None,
    ) -> tuple[Grid, list[dict[str, str]]]:
        """Take a request: all of its combinations are queued, or none.

        A seed that has to be drawn is drawn once for all combinations, or once for each place in
        the list of seeds, so that only the listed parameters differ.

        Args: as `TaskManager.run`.
        Returns:
            The grid, and warnings.
        Raises:
            ApiError: whatever is wrong with the request, or with this machine.
        """
        app = self._catalog.find(request.run.app)
        earlier = await self._tasks.earlier(key_id, idempotency)
        if earlier is not None:
            return await self.get(earlier), []
        _expect_names(app, request)
        places = combine({name: range(len(values)) for name, values in request.axes.items()})
        await self._tasks.expect_room(key_id, len(places))
        reading = self._inputs.read_grid(
            app, request.run.input, request.axes, origin=origin, key_id=key_id
        )
        found, warnings = await self._tasks.checked(request.run, reading)
        draw_seeds(found, places, MAX_DRAWN_SEED)
        tasks = [
            Task(
                app.full_name,
                app.version_id,
                values,
                webhook=request.run.webhook,
                setup=request.run.setup,
                metadata=request.run.metadata,
                run_at=request.run.run_at,
                key_id=key_id,
                origin=origin,
            )
            for values in found
        ]
        grid = _grid(app, request, tasks, places, key_id)
        kept = await self._take(grid, tasks, idempotency)
        return await self.get(kept), [*request.run.warnings, *warnings]

    async def get(self, grid_id: str) -> Grid:
        """A grid. Raises: ApiError not_found."""
        grid = await self._store.grid(grid_id)
        if grid is None:
            raise ApiError("not_found", f"There is no grid {grid_id[:100]!r}.")
        return grid

    async def state(self, grid: Grid, origin: str) -> dict[str, Any]:
        """A grid as answers carry it, with its items."""
        tasks = await self._found(grid)
        rendered = await self._renderer.tasks(list(tasks.values()), origin)
        return grid_state(grid, {task["id"]: task for task in rendered})

    async def page(self, query: ListQuery, origin: str) -> dict[str, Any]:
        """A page of grids."""
        page = await self._store.grids(query)
        items = [await self.state(grid, origin) for grid in page.items]
        return {**page.as_json(lambda _: None), "items": items}

    async def follow(self, grid_id: str, origin: str) -> AsyncIterator[dict[str, Any]]:
        """States of a grid: the present one, each change, the last one. Raises: ApiError.

        What has not changed for `settings.event_seconds` is said again.
        """
        grid = await self.get(grid_id)
        with self._tasks.watch(_ids(grid)) as watcher:
            while True:
                watcher.clear()
                state = await self.state(grid, origin)
                if _is_open(state):
                    state["updated_at"] = iso(now())
                yield state
                if not _is_open(state):
                    return
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(watcher.wait(), self._settings.event_seconds)
                await asyncio.sleep(_COALESCE)

    async def cancel(self, grid_id: str) -> Grid:
        """Ask all tasks that have not ended to stop. Raises: ApiError not_found,
        invalid_transition."""
        grid = await self.get(grid_id)
        found = await self._found(grid)
        open_ids = [i for i, task in found.items() if not task.status.is_terminal]
        if not open_ids:
            raise ApiError("invalid_transition", f"{grid.id} has ended.")
        # The last ones first: what is next in the queue must not begin in between.
        for task_id in reversed(open_ids):
            with suppress(ApiError):  # it ended meanwhile
                await self._tasks.cancel(task_id)
        return grid

    async def delete(self, grid_id: str, with_files: bool) -> None:
        """Forget an ended grid and its tasks. Raises: ApiError not_found, invalid_transition."""
        grid = await self._ended(grid_id, "Cancel it first.")
        for task_id in await self._found(grid):
            await self._tasks.delete(task_id, with_files)
        await self._sheets.forget(grid)
        await self._store.delete(grid.id)

    async def sheet(self, grid_id: str) -> File:
        """A video that shows the results beside each other; made when first asked for.

        Raises:
            ApiError: not_found; invalid_transition (it has not ended); conflict (no result).
        """
        grid = await self._ended(grid_id, "Its results are shown when all are there.")
        return await self._sheets.get(grid, await self._found(grid))

    async def clean_up(self) -> None:
        """Delete old grids whose tasks are gone."""
        before = now() - timedelta(days=self._settings.keep_days)
        for grid in await self._store.made_before(before):
            if not await self._found(grid):
                await self._sheets.forget(grid)
                await self._store.delete(grid.id)

    def close(self) -> None:
        """Stop making sheets."""
        self._sheets.close()

    async def _take(
        self, grid: Grid, tasks: Sequence[Task], idempotency: tuple[str, str] | None
    ) -> str:
        """Keep and begin it; the id of the grid that the idempotency key stands for."""
        links = [
            (task.id, value["$file"])
            for task in tasks
            for value in task.input.values()
            if is_file(value)
        ]

        async def keep() -> str:
            return await self._store.add(grid, tasks, links, idempotency)

        self._tasks.taker.expect_room(grid.key_id, len(tasks))  # others may have come meanwhile
        try:
            return await self._tasks.taker.take_all(tasks, keep, grid.id)
        except Exception:
            await self._store.delete(grid.id)
            raise

    async def _ended(self, grid_id: str, advice: str) -> Grid:
        grid = await self.get(grid_id)
        left = sum(not task.status.is_terminal for task in (await self._found(grid)).values())
        if left:
            raise ApiError(
                "invalid_transition", f"{left} tasks of {grid.id} have not ended. {advice}"
            )
        return grid

    async def _found(self, grid: Grid) -> dict[str, Task]:
        """Its tasks that are there, in its order."""
        found = await self._tasks.some(_ids(grid))
        return {i: found[i] for i in _ids(grid) if i in found}


def _ids(grid: Grid) -> list[str]:
    return [item["task_id"] for item in grid.items]


def _is_open(state: Mapping[str, Any]) -> bool:
    return bool(state["counts"]["waiting"] or state["counts"]["running"])


def _expect_names(app: CatalogApp, request: GridRequest) -> None:
    known = app.input_schema["properties"]
    wrong = [
        FieldError("grid", "invalid", f"{name[:100]!r} in grid is not a parameter of this app")
        for name in request.axes
        if name not in known
    ]
    if wrong:
        raise ApiError("validation_error", "; ".join(e.message for e in wrong), wrong)


def _grid(
    app: CatalogApp,
    request: GridRequest,
    tasks: Sequence[Task],
    places: Sequence[Mapping[str, int]],
    key_id: str,
) -> Grid:
    """The record, with the values as they were checked and drawn."""
    axes: dict[str, list[Any]] = {name: [None] * len(v) for name, v in request.axes.items()}
    items = []
    for task, place in zip(tasks, places, strict=True):
        for name, number in place.items():
            axes[name][number] = task.input[name]
        items.append({"task_id": task.id, "values": {name: task.input[name] for name in place}})
    return Grid(app.full_name, axes, items, key_id)
