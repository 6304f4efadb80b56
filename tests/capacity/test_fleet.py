"""Waiting and the number of servers, against formulas that have a closed form."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wan_local.wan.capacity.fleet import (
    SHARE,
    Demand,
    chance_to_wait,
    late_share,
    mean_wait,
    servers_needed,
)
from wan_local.wan.errors import InputError


def test_one_server_waits_as_often_as_it_works():
    assert chance_to_wait(1, 0.3) == pytest.approx(0.3)


def test_erlang_c_by_its_sum():
    servers, load = 7, 5.5
    top = load**servers / math.factorial(servers) * servers / (servers - load)
    below = sum(load**k / math.factorial(k) for k in range(servers))
    assert chance_to_wait(servers, load) == pytest.approx(top / (below + top))


def test_one_server_is_pollaczek_and_khinchine():
    demand = Demand(jobs_per_hour=3600 * 0.01, wait=0, variation=0.5)
    used = 0.01 * 60
    expected = used * 60 / (1 - used) * (1 + 0.5**2) / 2
    assert mean_wait(1, demand, 60) == pytest.approx(expected)


def test_more_than_can_be_served_waits_for_ever():
    demand = Demand(jobs_per_hour=61, wait=60, variation=1)
    assert mean_wait(1, demand, 60) == math.inf
    assert late_share(1, demand, 60) == 1


@given(st.floats(1, 5000), st.floats(0, 600), st.floats(0, 2), st.floats(5, 3000))
def test_the_fewest_servers_that_are_enough(rate, wait, variation, service):
    demand = Demand(rate, wait, variation)
    count = servers_needed(demand, service)
    assert late_share(count, demand, service) <= 1 - SHARE
    assert count == 1 or late_share(count - 1, demand, service) > 1 - SHARE
    assert count > rate / 3600 * service


@pytest.mark.parametrize(
    "values", [(0, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (math.nan, 1, 1)]
)
def test_numbers_without_meaning_are_refused(values):
    with pytest.raises(InputError, match="jobs-per-hour"):
        Demand(*values)


def test_there_is_an_end_to_it():
    with pytest.raises(InputError, match="more than 100000 GPUs"):
        servers_needed(Demand(1e9, 60, 1), 3600)
