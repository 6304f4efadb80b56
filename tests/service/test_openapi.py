"""The document describes the service: every route is in it, and what it says holds."""

import pytest

schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from schemathesis.specs.openapi.checks import response_schema_conformance  # noqa: E402
from serve_process import KEY  # noqa: E402


def test_every_route_is_described(service):
    paths = service.ask("GET", "/openapi.json", key=None).json()["paths"]
    described = {(m.upper(), path) for path, operations in paths.items() for m in operations}
    left_out = {"/openapi.json", "/files/{file_id}/content", "/tasks/{task_id}/preview/{name}"}
    routes = {
        (route.method, route.path.removeprefix("/infsh"))
        for route in service.service.routes()
        if route.method in ("GET", "POST", "PUT", "DELETE")
    }
    pages = {path for _, path in routes if path in ("", "/") or "." in path.rpartition("/")[2]}
    assert {r for r in routes if r[1] not in left_out | pages} == described


def test_answers_are_as_described(service):
    """Random requests, good and bad: no error of the server, no answer that is not described."""
    service.wait(service.run()["id"])
    grid = service.data("POST", "/grids", json={**service.i2v(), "grid": {"seed": [1, 2]}})
    for item in grid["items"]:
        service.wait(item["task_id"])
    schema = schemathesis.openapi.from_url(service.base_url + "/openapi.json")
    tried = [try_out(result.ok(), service.base_url) for result in schema.get_all_operations()]
    assert len(tried) > 20 and sum(tried) > 200


def try_out(operation, base_url):
    """Send requests of one operation; how many."""
    tried = 0

    @settings(
        max_examples=15,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case):
        nonlocal tried
        tried += 1
        answer = case.call(headers={"Authorization": f"Bearer {KEY}"}, base_url=base_url)
        told = operation.label, answer.status_code, answer.content
        assert answer.status_code < 500, told
        assert str(answer.status_code) in operation.definition.raw["responses"], told
        if answer.status_code >= 400:
            assert answer.headers["content-type"][0].startswith("application/problem+json"), told
        elif answer.headers.get("content-type", [""])[0].startswith("application/json"):
            case.validate_response(answer, checks=[response_schema_conformance])

    check()
    return tried
