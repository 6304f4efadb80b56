import asyncio
from datetime import timedelta

import pytest
from wan_local.wan.service.problems import ApiError
from wan_local.wan.service.records import Delivery, Event, File, LogLine, Session, Task, now
from wan_local.wan.service.statuses import Status
from wan_local.wan.service.store import Store
from wan_local.wan.service.store.listing import ListQuery


@pytest.fixture
def with_store(tmp_path):
    """Runs a coroutine function with an open store."""

    def run(work):
        async def inside():
            store = await Store.open(tmp_path / "a" / "service.db")
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(inside())

    return run


def task(**changes):
    return Task(**{"app": "infsh/wan2-1-i2v", "version_id": "v1", "input": {"seed": 7}, **changes})


def test_records_come_back_as_they_were(with_store):
    given = task(
        run_at=now(), output={"video": {"$file": "file_1"}}, error="a\u2028 'b' \U0001f600"
    )
    file, session = File("a \u00e9.png", "image/png", upload_expires=5), Session("infsh/x")

    async def work(store):
        await store.add_task(given, [Event(given.id, Status.RECEIVED)])
        await store.add_file(file)
        await store.save_session(session)
        assert await store.task(given.id) == given
        assert await store.file(file.id) == file
        assert await store.session(session.id) == session
        assert [e.status for e in await store.events(given.id)] == [Status.RECEIVED]
        assert await store.task("task_none") is None

    with_store(work)


def test_everything_is_there_after_opening_again(with_store):
    given = task()

    async def end(store):
        await store.add_task(given)
        given.status = Status.COMPLETED
        event, delivery = Event(given.id, given.status), Delivery(given.id, "http://a", "{}")
        await store.save_task(given, event=event, delivery=delivery, links=[("file_1", "output")])

    async def look(store):
        assert (await store.task(given.id)).status is Status.COMPLETED
        assert (
            len(await store.due_deliveries(now())) == 1 and len(await store.events(given.id)) == 1
        )
        assert await store.open_tasks() == []

    with_store(end)
    with_store(look)


def test_a_failed_transaction_leaves_nothing(with_store):
    given = task()

    async def work(store):
        await store.add_task(given)
        given.status = Status.COMPLETED
        with pytest.raises(AttributeError):
            await store.save_task(given, delivery=object())
        assert (await store.task(given.id)).status is Status.RECEIVED

    with_store(work)


def test_an_upload_link_is_used_once(with_store):
    file = File("a.png", "image/png", upload_expires=99)

    async def work(store):
        await store.add_file(file)
        assert sorted(await asyncio.gather(*(store.use_upload(file.id) for _ in range(8)))) == [
            *[False] * 7,
            True,
        ]
        assert (await store.file(file.id)).upload_expires is None
        assert not await store.use_upload("file_none")

    with_store(work)


def test_an_idempotency_key_gives_the_first_task(with_store):
    first, second = task(), task()

    async def work(store):
        assert await store.add_task(first, idempotency=("key", "k", "hash")) == first.id
        assert await store.add_task(second, idempotency=("key", "k", "hash")) == first.id
        assert await store.add_task(second, idempotency=("other key", "k", "hash")) == second.id
        assert await store.idempotent("key", "k") == ("hash", first.id)
        assert len((await store.tasks()).items) == 2

    with_store(work)


def test_logs_are_capped_and_the_last_ones_kept(with_store):
    given = task()

    async def work(store):
        await store.add_logs([LogLine(given.id, str(i)) for i in range(1990)])
        await store.add_logs([LogLine(given.id, str(i)) for i in range(1990, 2010)])
        await store.add_logs([LogLine("task_other", "x")])
        found = await store.logs(given.id)
        assert len(found) == 2000 and found[0].content == "10" and found[-1].content == "2009"
        assert [line.content for line in await store.logs(given.id, 2)] == ["2008", "2009"]

    with_store(work)


def test_deliveries_wait_for_their_time(with_store):
    async def work(store):
        later = Delivery("task_1", "http://a", "{}", next_at=now() + timedelta(minutes=5))
        await store.save_delivery(later)
        assert await store.due_deliveries(now()) == []
        assert await store.due_deliveries(now() + timedelta(minutes=6)) == [later]
        later.next_at, later.delivered = None, True
        await store.save_delivery(later)
        assert await store.next_delivery_at() is None
        assert await store.deliveries("task_1") == [later]

    with_store(work)


def filled(count=7):
    start = now()
    for i in range(count):
        yield task(
            app="infsh/a" if i % 2 else "infsh/b",
            status=Status.COMPLETED if i < 3 else Status.QUEUED,
            input={"prompt": f"cat {i}", "seed": i},
            error="" if i else "it broke",
            created_at=start + timedelta(seconds=i),
        )


FILTERS = [
    ("app", "eq", "infsh/a", [1, 3, 5]),
    ("app", "neq", "infsh/a", [0, 2, 4, 6]),
    ("app", "in", ["infsh/a", "x"], [1, 3, 5]),
    ("status", "not_in", [10, "11"], [3, 4, 5, 6]),
    ("status", "gte", "10", [0, 1, 2]),
    ("status", "lt", 10, [3, 4, 5, 6]),
    ("app", "like", "%/b", [0, 2, 4, 6]),
    ("error", "contains", "BROKE", [0]),
    ("error", "not_contains", "broke", [1, 2, 3, 4, 5, 6]),
    ("error", "is_empty", None, [1, 2, 3, 4, 5, 6]),
    ("error", "is_not_empty", None, [0]),
    ("session_id", "is_null", None, [0, 1, 2, 3, 4, 5, 6]),
    ("session_id", "is_not_null", None, []),
]


@pytest.mark.parametrize(("field", "operator", "value", "wanted"), FILTERS)
def test_lists_are_filtered(with_store, field, operator, value, wanted):
    async def work(store):
        for one in filled():
            await store.add_task(one)
        one = {"field": field, "operator": operator, "value": value}
        page = await store.tasks(ListQuery(filters=(one,)))
        assert sorted(t.input["seed"] for t in page.items) == wanted

    with_store(work)


@pytest.mark.parametrize("way", ["asc", "desc"])
def test_cursors_walk_a_list_there_and_back(with_store, way):
    async def work(store):
        for one in filled(7):
            await store.add_task(one)
        query = {"limit": 3, "sort": ({"field": "created_at", "dir": way},)}
        pages, cursor = [], ""
        while True:
            page = await store.tasks(ListQuery(cursor=cursor, **query))
            pages.append([t.input["seed"] for t in page.items])
            if not page.next_cursor:
                break
            cursor = page.next_cursor
        walked = [seed for page in pages for seed in page]
        assert walked == sorted(range(7), reverse=way == "desc")
        assert [len(p) for p in pages] == [3, 3, 1]
        back = await store.tasks(ListQuery(cursor=page.prev_cursor, **query))
        assert [t.input["seed"] for t in back.items] == pages[1]
        first = await store.tasks(ListQuery(cursor=back.prev_cursor, **query))
        assert [t.input["seed"] for t in first.items] == pages[0] and not first.prev_cursor

    with_store(work)


def test_search_finds_text_anywhere(with_store):
    async def work(store):
        for one in filled():
            await store.add_task(one)
        page = await store.tasks(ListQuery(search="CAT 4"))
        assert [t.input["seed"] for t in page.items] == [4]

    with_store(work)


@pytest.mark.parametrize(
    "query",
    [
        {"filters": ({"field": "a'; DROP TABLE tasks; --", "operator": "eq", "value": 1},)},
        {"filters": ({"field": "app", "operator": "matches", "value": 1},)},
        {"filters": ({"field": "app", "operator": "eq", "value": {"a": 1}},)},
        {"filters": ({"operator": "eq", "value": 1},)},
        {"sort": ({"field": "1=1"},)},
        {"cursor": "abc"},
        {"cursor": "WzEsMiwzXQ=="},
    ],
)
def test_a_query_that_cannot_be_answered_is_named(with_store, query):
    async def work(store):
        await store.add_task(task())
        with pytest.raises(ApiError) as raised:
            await store.tasks(ListQuery(**query))
        assert raised.value.status == 400
        assert len((await store.tasks()).items) == 1

    with_store(work)


def test_deleting_a_task_takes_what_belongs_to_it(with_store):
    given, file = task(), File("a.png", "image/png")

    async def work(store):
        await store.add_file(file)
        await store.add_task(given, [Event(given.id, Status.QUEUED)], links=[(file.id, "input")])
        await store.add_logs([LogLine(given.id, "x")])
        assert [(r, f.id) for r, f in await store.files_of(given.id)] == [("input", file.id)]
        assert await store.files_of(given.id, "output") == []
        assert [t.id for t in await store.tasks_of(file.id)] == [given.id]
        await store.delete_task(given.id)
        assert await store.task(given.id) is None and await store.events(given.id) == []
        assert await store.logs(given.id) == [] and await store.files_of(given.id) == []
        assert await store.file(file.id) == file

    with_store(work)


def test_timings_are_newest_first(with_store):
    async def work(store):
        for seconds in range(60):
            await store.add_timing("infsh/a", "sample", 2.0, float(seconds))
        found = await store.timings("infsh/a")
        assert len(found) == 50 and found[0] == ("sample", 2.0, 59.0)

    with_store(work)
