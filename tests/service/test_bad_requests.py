"""What no client should send: each has its status and one readable message."""

import socket
import threading

import pytest
import requests
from serve_process import KEY

JSON = {"Content-Type": "application/json"}


def refused(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    found = answer.json()
    assert found["code"] == code and found["type"].endswith(f"/errors/{code}")
    assert found["status"] == status and found["detail"]
    return found


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"a": 1}}', b"[" * 100_000, b"nope"])
def test_a_body_that_is_no_json(service, body):
    refused(service.ask("POST", "/apps/run", data=body, headers=JSON), 400, "invalid_request")


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b'"app"', b"null"])
def test_a_body_that_is_no_object(service, body):
    refused(service.ask("POST", "/apps/run", data=body, headers=JSON), 400, "invalid_request")


WRONG = [
    ({}, {"app"}),
    ({"app": 5}, {"app"}),
    ({"app": "infsh/wan2-1-i2v", "webhook": 5, "setup": []}, {"webhook", "setup"}),
    ({"app": "infsh/wan2-1-i2v", "run_at": "soon"}, {"run_at"}),
    ({"app": "infsh/wan2-1-i2v", "session": "new", "session_timeout": 0}, {"session_timeout"}),
    ({"app": "infsh/wan2-1-i2v", "session_timeout": 9}, {"session_timeout"}),
    ({"app": "infsh/wan2-1-i2v", "input": []}, {"input"}),
    *(
        ({"app": "a/b", "metadata": {"priority": p}}, {"metadata"})
        for p in (11, -11, 1.5, "1", True)
    ),
    ({"app": "infsh/wan2-1-i2v", "input": "x", "webhook": "ftp://a"}, {"input", "webhook"}),
]


@pytest.mark.parametrize(("body", "fields"), WRONG)
def test_wrong_types_are_named_together(service, body, fields):
    found = refused(service.ask("POST", "/apps/run", json=body), 422, "validation_error")
    assert {error["field"] for error in found["errors"]} == fields


def test_input_and_webhook_are_named_together(service):
    body = {"app": "infsh/wan2-1-i2v", "input": {"fps": "x"}, "webhook": "http://169.254.169.254/"}
    found = refused(service.ask("POST", "/apps/run", json=body), 422, "validation_error")
    fields = {error["field"] for error in found["errors"]}
    assert fields == {"prompt", "input_image", "fps", "webhook"}


def test_a_huge_body_is_refused_before_it_is_read(make_service):
    service = make_service(max_body=100_000)
    refused(service.ask("POST", "/apps/run", data=b"x" * 200_000), 413, "limit_exceeded")

    def chunks():
        for _ in range(10_000):
            yield b" " * 100_000

    try:
        answer = service.ask("POST", "/apps/run", data=chunks())
    except requests.ConnectionError:
        return  # closed while we still sent: as good
    refused(answer, 413, "limit_exceeded")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("PATCH", "/apps/run"),
        ("GET", "/tasks/task_none"),
        ("GET", "/tasks/task_none/stream"),
        ("GET", "/files/file_none/content/a.png"),
        ("POST", "/tasks/%00/cancel"),
    ],
)
def test_what_is_not_there(service, method, path):
    refused(service.ask(method, path), 404, "not_found")


def test_a_role_that_is_none(service):
    task = service.run()
    answer = service.ask("GET", f"/tasks/{task['id']}/files?role=all")
    refused(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"files": []},
        {"files": [5]},
        {"files": [{"size": "big"}]},
        {"files": [{"filename": 5}]},
        {"files": [{"size": -1}]},
        {"files": [{}] * 101},
    ],
)
def test_wrong_declarations(service, body):
    refused(service.ask("POST", "/files", json=body), 400, "invalid_request")


def test_too_many_streams_of_one_key(make_service):
    service = make_service(max_streams=2)
    go_on = threading.Event()

    async def script(job, tell):
        import asyncio

        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return service.executor.completed(job)

    service.executor.script = script
    path = f"/tasks/{service.run()['id']}/stream"
    streams = [service.ask("GET", path, stream=True).iter_lines() for _ in range(2)]
    assert all(next(stream) for stream in streams)
    third = service.ask("GET", path, stream=True)
    assert third.status_code == 429  # or its body would not end
    refused(third, 429, "rate_limited")
    go_on.set()
    for stream in streams:
        assert list(stream)
    assert service.ask("GET", path).ok


def test_long_texts_and_rare_characters_come_back(service):
    prompt = "\U0001f600 \u4e2d\u6587 \u2028 \u0007 ' \" \\ " + "x" * 10_000
    end = service.wait(service.run(prompt=prompt)["id"])
    assert end["status"] == 10 and end["input"]["prompt"] == prompt


def test_a_request_that_is_cut_off_harms_nobody(service):
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        head = f"POST /infsh/apps/run HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
        connection.sendall(f"{head}Content-Length: 5000\r\n\r\n{{".encode())
    assert service.wait(service.run()["id"])["status"] == 10


def test_full_disk(make_service):
    service = make_service(min_free=10**18)
    answer = service.ask("POST", "/files", json={"files": [{"size": 5}]})
    refused(answer, 507, "out_of_space")
