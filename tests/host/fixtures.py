"""Fixtures: `host` (each host in turn) and `stand_in` (ours only).

Hosts start when first asked for, once per test session, and all are ended at its end.
"""

import pytest

from .hosts import HostError, find_checkouts

NO_CHECKOUT = "no ComfyUI checkout found; set COMFYUI_PATH or place one in ~/comfy/ComfyUI*"


def host_params():
    """ "stand-in", then each real checkout; a skipped entry with the reason where none is."""
    found = find_checkouts()
    real = [pytest.param(path, id=path.name, marks=pytest.mark.comfy) for path in found]
    if not real:
        marks = [pytest.mark.comfy, pytest.mark.skip(reason=NO_CHECKOUT)]
        real = [pytest.param(None, id="ComfyUI", marks=marks)]
    return [pytest.param("stand-in", id="stand-in"), *real]


class HostPool:
    """The hosts of this session. A host that died is started anew for the next test.

    One that could not start is not tried again: each try takes many seconds.
    """

    def __init__(self):
        self._hosts = {}
        self._failures = {}

    def get(self, where):
        if where in self._failures:
            pytest.fail(f"this host did not start:\n{self._failures[where]}", pytrace=False)
        host = self._hosts.get(where)
        if host is None or not host.alive():
            if host is not None:
                host.close()
            try:
                host = self._hosts[where] = self._make(where)
            except HostError as error:
                self._failures[where] = error
                raise
        host.activate()
        return host

    @staticmethod
    def _make(where):
        if where == "stand-in":
            from .standin_host import StandInHost

            return StandInHost()
        from .real_host import RealHost

        return RealHost(where)

    def close(self):
        for host in self._hosts.values():
            host.close()


@pytest.fixture(scope="session")
def host_pool():
    """Starts hosts on demand."""
    pool = HostPool()
    yield pool
    pool.close()


# Session scope makes pytest run all tests of one host together.
@pytest.fixture(scope="session", params=host_params())
def _host_place(request):
    return request.param


@pytest.fixture
def host(_host_place, host_pool):
    """Each host in turn: the stand-in and every ComfyUI found."""
    return host_pool.get(_host_place)


@pytest.fixture
def stand_in(host_pool):
    """The stand-in with the pack's nodes, for what only it can be asked (state, threads)."""
    return host_pool.get("stand-in")


__all__ = ["_host_place", "host", "host_pool", "stand_in"]
