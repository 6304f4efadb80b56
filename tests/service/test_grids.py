"""Several values for some parameters as one request."""

import asyncio
import base64
import io
import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import pytest
from small_media import small_picture, small_video
from wan_local.wan.service.executor import Outcome
from wan_local.wan.service.problems import ApiError
from wan_local.wan.service.statuses import Status


def body(service, grid, **values):
    """The body of a good request."""
    return {**service.i2v(**values), "grid": grid}


def start(service, grid, **values):
    return service.data("POST", "/grids", json=body(service, grid, **values))


def follow(service, grid_id):
    """All states of a grid's stream."""
    with service.ask("GET", f"/grids/{grid_id}/stream", stream=True) as answer:
        assert answer.ok, answer.text
        return [json.loads(line) for line in answer.iter_lines() if line]


def wrong_fields(answer):
    assert answer.status_code == 422, answer.text
    return {e["field"]: e["message"] for e in answer.json()["errors"]}


def tasks_of(service):
    return service.data("POST", "/tasks/list", json={})["items"]


@pytest.fixture
def busy(service):
    """A service whose executor has jobs under way until `go_on` is set."""
    go_on = threading.Event()

    async def script(job, tell):
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return service.executor.completed(job)

    service.executor.script = script
    service.go_on = go_on
    yield service
    go_on.set()


def test_all_combinations_run_in_the_order_given(service):
    grid = start(service, {"seed": [1, 2, 3], "guidance_scale": [3.5, 5]}, num_inference_steps=9)
    assert [item["number"] for item in grid["items"]] == [1, 2, 3, 4, 5, 6]
    end = follow(service, grid["id"])[-1]
    pairs = [(1, 3.5), (1, 5), (2, 3.5), (2, 5), (3, 3.5), (3, 5)]
    assert [tuple(item["values"].values()) for item in end["items"]] == pairs
    jobs = service.executor.jobs
    assert [(j.values["seed"], j.values["guidance_scale"]) for j in jobs] == pairs
    assert {j.values["num_inference_steps"] for j in jobs} == {9}
    assert [j.task_id for j in jobs] == [item["task_id"] for item in end["items"]]
    assert end["status"] == 10 and end["progress"] == 100 and end["counts"]["completed"] == 6
    assert end["grid"] == {"seed": [1, 2, 3], "guidance_scale": [3.5, 5]}
    assert end["items"][0]["output"]["video"]["size"] > 100


def test_its_tasks_are_ordinary_ones(service):
    grid = start(service, {"seed": [4, 5]})
    follow(service, grid["id"])
    for item in grid["items"]:
        task = service.data("GET", f"/tasks/{item['task_id']}")
        assert task["status"] == 10 and task["input"]["seed"] == item["values"]["seed"]
        assert [e["status"] for e in task["events"]] == [1, 2, 7, 10]


def test_a_seed_that_is_not_listed_is_drawn_once(service):
    follow(service, start(service, {"shift": [3, 5, 8]})["id"])
    seeds = {job.values["seed"] for job in service.executor.jobs}
    assert len(service.executor.jobs) == 3 and len(seeds) == 1 and seeds.pop() >= 0


def test_listed_seeds_of_minus_one_are_drawn_once_for_each_place(service):
    end = follow(service, start(service, {"seed": [-1, -1, 7], "shift": [3, 5]})["id"])[-1]
    seeds = [item["values"]["seed"] for item in end["items"]]
    assert seeds[0] == seeds[1] and seeds[2] == seeds[3] and seeds[4:] == [7, 7]
    assert seeds[0] != seeds[2] and min(seeds) >= 0
    assert end["grid"]["seed"] == [seeds[0], seeds[2], 7]


def test_all_that_is_wrong_is_named_with_its_combinations(service):
    wanted = body(service, {"seed": [1, "x"], "num_frames": [5, -3, 9]}, num_inference_steps=-1)
    del wanted["input"]["prompt"]
    found = wrong_fields(service.ask("POST", "/grids", json=wanted))
    assert set(found) == {"prompt", "num_inference_steps", "seed", "num_frames"}
    assert "(combinations 4, 5, 6 of 6)" in found["seed"]
    assert "(combinations 2, 5 of 6)" in found["num_frames"]
    assert "combination" not in found["prompt"] + found["num_inference_steps"]
    assert tasks_of(service) == [] and service.data("GET", "/grids")["items"] == []


@pytest.mark.parametrize(
    ("grid", "field", "words"),
    [
        (None, "grid", "must be an object"),
        ({}, "grid", "must be an object"),
        ({"seed": []}, "grid", "at least one value"),
        ({"seed": 3}, "grid", "must be a list"),
        ({"shift": [3, 5, 3]}, "grid", "lists a value twice"),
        ({"sead": [3]}, "grid", "'sead' in grid is not a parameter"),
        ({"seed": list(range(13)), "shift": [1, 2, 3, 4, 5]}, "grid", "13 x 5 = 65 combinations"),
        ({"prompt": ["a", "b"]}, "prompt", "in input and in grid"),
    ],
)
def test_a_grid_that_cannot_be_run_is_refused_whole(service, grid, field, words):
    answer = service.ask("POST", "/grids", json=body(service, grid))
    assert words in wrong_fields(answer)[field]
    assert tasks_of(service) == []


def test_grid_and_request_are_refused_together(service):
    wanted = {**body(service, {"seed": []}), "session": "new", "webhook": 3}
    assert set(wrong_fields(service.ask("POST", "/grids", json=wanted))) == {
        "grid",
        "session",
        "webhook",
    }


def test_there_must_be_room_for_all_of_it(make_service):
    service = make_service(max_queue=5)
    go_on = threading.Event()

    async def script(job, tell):
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return service.executor.completed(job)

    service.executor.script = script
    answer = service.ask("POST", "/grids", json=body(service, {"seed": [1, 2, 3, 4, 5, 6]}))
    assert "most are 5" in wrong_fields(answer)["grid"]
    start(service, {"seed": [1, 2, 3]})
    answer = service.ask("POST", "/grids", json=body(service, {"seed": [1, 2, 3, 4]}))
    assert answer.status_code == 429 and "Retry-After" in answer.headers
    assert "4 more are asked for" in answer.json()["detail"]
    assert len(tasks_of(service)) == 3
    go_on.set()


def test_what_the_executor_refuses_is_refused_whole(service):
    submit, refused = service.executor.submit, ApiError("validation_error", "No such node.")

    async def picky(job):
        if job.values["shift"] == 5:
            raise refused
        await submit(job)

    service.executor.submit = picky
    answer = service.ask("POST", "/grids", json=body(service, {"shift": [3, 4, 5]}))
    assert answer.status_code == 422 and answer.json()["detail"] == "No such node."
    assert service.data("GET", "/grids")["items"] == []
    left = tasks_of(service)
    assert all(task["status"] in (10, 12) for task in left)
    del service.executor.submit
    service.wait(service.run()["id"])  # nothing is in the way


def test_files_are_kept_once(service):
    picture = "data:image/png;base64," + base64.b64encode(small_picture()).decode()
    end = follow(service, start(service, {"seed": [1, 2, 3]}, input_image=picture)["id"])[-1]
    assert end["counts"]["completed"] == 3
    inputs = {str(job.values["input_image"]) for job in service.executor.jobs}
    assert len(inputs) == 1
    files = service.data("POST", "/files/list", json={})["items"]
    assert sum(f["content_type"] == "image/png" for f in files) == 1


def test_files_can_be_listed_too(service):
    pictures = [service.upload(small_picture((n, n, n))) for n in (10, 200)]
    wanted = body(service, {"input_image": pictures})
    del wanted["input"]["input_image"]
    end = follow(service, service.data("POST", "/grids", json=wanted)["id"])[-1]
    assert [item["values"]["input_image"] for item in end["items"]] == end["grid"]["input_image"]
    assert len({job.values["input_image"] for job in service.executor.jobs}) == 2


def test_the_stream_tells_how_far_the_whole_is(busy):
    grid = start(busy, {"seed": [1, 2]})
    assert grid["status"] in (2, 7) and grid["counts"]["completed"] == 0
    states = []
    with busy.ask("GET", f"/grids/{grid['id']}/stream", stream=True) as answer:
        for line in answer.iter_lines():
            states.append(json.loads(line))
            busy.go_on.set()
    shares = [state["progress"] for state in states]
    assert shares == sorted(shares) and shares[0] < 100 and shares[-1] == 100
    assert [s["status"] for s in states if s["counts"]["waiting"] + s["counts"]["running"]]
    assert states[-1]["status"] == 10


def test_cancelling_a_grid_ends_all_of_it(busy):
    grid = start(busy, {"seed": [1, 2, 3]})
    state = busy.data("POST", f"/grids/{grid['id']}/cancel")
    assert state["counts"]["completed"] == 0
    end = follow(busy, grid["id"])[-1]
    assert end["status"] == 12 and end["counts"]["cancelled"] == 3
    again = busy.ask("POST", f"/grids/{grid['id']}/cancel")
    assert again.status_code == 409 and again.json()["code"] == "invalid_transition"


def test_a_failed_combination_fails_no_other(service):
    async def script(job, tell):
        if job.values["seed"] == 2:
            return Outcome(Status.FAILED, error="It broke.")
        return service.executor.completed(job)

    service.executor.script = script
    end = follow(service, start(service, {"seed": [1, 2, 3]})["id"])[-1]
    assert [item["status"] for item in end["items"]] == [10, 11, 10]
    assert end["status"] == 11 and end["items"][1]["error"] == "It broke."


def test_a_grid_survives_the_end_of_the_server(busy):
    grid = start(busy, {"seed": [1, 2, 3]})
    busy.restart(requeue=True)
    end = follow(busy, grid["id"])[-1]
    assert end["counts"]["completed"] == 3
    assert [item["task_id"] for item in end["items"]] == [i["task_id"] for i in grid["items"]]


def test_the_same_request_twice_is_one_grid(service):
    wanted, headers = body(service, {"seed": [1, 2]}), {"Idempotency-Key": "a"}
    first = service.data("POST", "/grids", json=wanted, headers=headers)
    again = service.data("POST", "/grids", json=wanted, headers=headers)
    assert first["id"] == again["id"] and len(tasks_of(service)) == 2
    other = {**wanted, "grid": {"seed": [1, 3]}}
    assert service.ask("POST", "/grids", json=other, headers=headers).status_code == 409
    # A single run takes such a body too, and is something else.
    assert service.ask("POST", "/apps/run", json=wanted, headers=headers).status_code == 409


def test_deleting_a_grid_deletes_tasks_and_files(service):
    grid = start(service, {"seed": [1, 2]})
    follow(service, grid["id"])
    assert service.data("GET", f"/grids/{grid['id']}/sheet")["size"] > 0
    assert service.ask("DELETE", f"/grids/{grid['id']}?files=true").status_code == 204
    assert service.ask("GET", f"/grids/{grid['id']}").status_code == 404
    assert tasks_of(service) == []
    assert service.data("POST", "/files/list", json={})["items"] == []


def test_a_grid_that_runs_cannot_be_deleted(busy):
    grid = start(busy, {"seed": [1, 2]})
    answer = busy.ask("DELETE", f"/grids/{grid['id']}")
    assert answer.status_code == 409 and "Cancel it first" in answer.json()["detail"]
    assert busy.ask("GET", f"/grids/{grid['id']}/sheet").status_code == 409


def test_a_deleted_task_leaves_its_place(service):
    grid = start(service, {"seed": [1, 2]})
    follow(service, grid["id"])
    service.ask("DELETE", f"/tasks/{grid['items'][0]['task_id']}")
    found = service.data("GET", f"/grids/{grid['id']}")
    assert [item["status"] for item in found["items"]] == [0, 10]
    assert found["items"][0]["values"] == {"seed": 1} and found["status"] == 10
    assert found["progress"] == 100 and found["grid"] == {"seed": [1, 2]}


def test_old_grids_go_with_their_tasks(service):
    grid = start(service, {"seed": [1, 2]})
    follow(service, grid["id"])
    service.restart(keep_days=0.0)
    service.call(service.service.tasks.clean_up())
    service.call(service.service.grids.clean_up())
    assert service.ask("GET", f"/grids/{grid['id']}").status_code == 404


def test_grids_are_listed_newest_first(service):
    made = [start(service, {"seed": [n]})["id"] for n in range(3)]
    first = service.data("GET", "/grids?limit=2")
    assert [grid["id"] for grid in first["items"]] == made[:0:-1]
    rest = service.data("GET", "/grids", params={"limit": 2, "cursor": first["next_cursor"]})
    assert [grid["id"] for grid in rest["items"]] == made[:1]
    assert service.ask("GET", "/grids?limit=many").status_code == 400
    assert service.ask("GET", "/grids?limit=0").status_code == 400


def test_the_sheet_shows_all_results(service):
    grid = start(service, {"seed": [1, 2], "shift": [3, 5]})
    follow(service, grid["id"])
    sheet = service.data("GET", f"/grids/{grid['id']}/sheet")
    again = service.data("GET", f"/grids/{grid['id']}/sheet")
    assert again["id"] == sheet["id"]
    data = service.ask("GET", sheet["uri"], key=None).content
    with av.open(io.BytesIO(data)) as video:
        stream = video.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (128, 96, 8)
        frames = [frame.to_ndarray(format="gray") for frame in video.decode(stream)]
    with av.open(io.BytesIO(small_video())) as video:
        wanted = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
    assert len(frames) == len(wanted) == 8
    for made, one in zip(frames, wanted, strict=True):
        for top in (0, 48):
            for left in (0, 64):  # above the label
                cell = made[top : top + 30, left : left + 64].astype(int)
                assert abs(cell - one[:30].astype(int)).mean() < 6


class Neighbour(ThreadingHTTPServer):
    """Another server on this machine: gives a picture after a while, and takes webhooks."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked, self.told = [], queue.Queue()
        self.url = f"http://127.0.0.1:{self.server_port}/a.png"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        time.sleep(0.3)  # the others come while this one is under way
        self.answer(small_picture())

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.server.told.put(json.loads(self.rfile.read(length)))
        self.answer(b"")

    def answer(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        pass


@pytest.fixture
def neighbour():
    server = Neighbour()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_file_from_elsewhere_is_fetched_once(service, neighbour):
    end = follow(service, start(service, {"seed": [1, 2, 3]}, input_image=neighbour.url)["id"])[-1]
    assert end["counts"]["completed"] == 3 and len(neighbour.asked) == 1
    assert len({job.values["input_image"] for job in service.executor.jobs}) == 1


def test_a_cancelled_task_leaves_the_fetch_to_the_others(service, neighbour):
    grid = start(service, {"seed": [1, 2]}, input_image=neighbour.url)
    service.data("POST", f"/tasks/{grid['items'][0]['task_id']}/cancel")
    end = follow(service, grid["id"])[-1]
    assert [item["status"] for item in end["items"]] == [12, 10]
    assert len(neighbour.asked) == 1


def test_every_task_of_a_grid_tells_the_webhook(service, neighbour):
    wanted = {**body(service, {"seed": [1, 2]}), "webhook": neighbour.url}
    grid = service.data("POST", "/grids", json=wanted)
    told = {neighbour.told.get(timeout=30)["id"] for _ in range(2)}
    assert told == {item["task_id"] for item in grid["items"]}
