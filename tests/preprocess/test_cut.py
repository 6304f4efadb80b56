"""The cut along edges, and the colours that it is told by."""

import itertools

import cv2
import numpy as np
import pytest
from wan_local.wan.preprocess.mask import cut
from wan_local.wan.preprocess.mask.cut import Colours, cut_person
from wan_local.wan.preprocess.mask.prior import Prior

BLUE, RED, GREY = (30, 40, 200), (200, 40, 30), (128, 128, 128)


def nothing_known(shape, odds=0.0):
    everywhere = np.ones(shape, bool)
    return Prior(np.full(shape, odds, np.float32), ~everywhere, everywhere)


def energy(labels, odds, picture):
    """What the cut is to minimise, from the formula: evidence, and 50 a border between likes."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)[0].astype(float)
    evidence = np.clip(odds / 12, -1, 1)
    seen = np.stack([np.round((evidence + 1) * 64), lab[:, 0], (lab[:, 1] + lab[:, 2]) // 2], 1)
    apart = (np.diff(seen, axis=0) ** 2).sum(1)
    near = 50 * np.exp(-apart / (2 * apart.mean()))
    against = np.where(labels, -odds, odds) / 2
    return 3 * against.sum() + near[labels[1:] != labels[:-1]].sum()


@pytest.mark.parametrize("seed", range(12))
def test_the_cut_is_the_best_of_all(seed):
    chance = np.random.default_rng(seed)
    picture = chance.integers(0, 256, (1, 11, 3), np.uint8)
    odds = chance.normal(0, 6, 11).clip(-12, 12)
    found = cut._cut(picture, odds[None], nothing_known((1, 11)))[0]
    all_labels = [np.array(one) for one in itertools.product((False, True), repeat=11)]
    energies = [energy(labels, odds, picture) for labels in all_labels]
    # shades are rounded to a 64th of 12, which each pixel's evidence may be off by half
    assert energy(found, odds, picture) <= min(energies) + 11 * 3 * 12 / 64 / 2


def test_what_is_sure_or_impossible_is_not_argued_with():
    picture, odds = np.full((9, 9, 3), 90, np.uint8), np.full((9, 9), -12.0)
    odds[:, 5:] = 12
    sure, possible = np.zeros((9, 9), bool), np.ones((9, 9), bool)
    sure[4, 1], possible[4, 7] = True, False
    found = cut._cut(picture, odds, Prior(odds, sure, possible))
    assert found[4, 1] and not found[4, 7] and found[0, 7] and not found[8, 1]


def test_nothing_possible_is_no_person():
    nothing = np.zeros((5, 6), bool)
    prior = Prior(np.zeros((5, 6), np.float32), nothing, nothing)
    assert not cut_person(np.zeros((5, 6, 3), np.uint8), prior, None, 1).any()


def test_colours_tell_on_which_side_they_were_seen():
    picture = np.zeros((10, 10, 3), np.uint8)
    picture[:, :5], picture[:, 5:] = RED, BLUE
    person = np.zeros((10, 10))
    person[:, :5] = 1
    colours = Colours.learn(picture, person, 1 - person)
    seen = colours.odds(np.array([[RED, BLUE, GREY]], np.uint8))[0]
    assert seen[0] > 2 and seen[1] < -2
    assert seen[2] == pytest.approx(0, abs=0.1)  # never seen: no word for either
    both = colours + Colours.learn(picture, 1 - person, person)
    assert both.odds(picture) == pytest.approx(0, abs=1e-6)


def test_newer_colours_count_by_their_share():
    red, blue = (np.full((8, 8, 3), colour, np.uint8) for colour in (RED, BLUE))
    ones, zeros = np.ones((8, 8)), np.zeros((8, 8))
    mixed = Colours.learn(red, ones, zeros).blend(Colours.learn(blue, ones, zeros), 0.25)
    assert mixed.person.sum() == pytest.approx(64)
    assert Colours.learn(blue, ones, zeros).person.ravel() @ mixed.person.ravel() == pytest.approx(
        0.25 * (Colours.learn(blue, ones, zeros).person ** 2).sum()
    )


def test_a_single_colour_without_variation_is_no_stronger_than_others():
    """A Gaussian over one exact colour is endlessly narrow, and so took a drawing's outline, of
    which it had seen some outside, for the background."""
    picture = np.full((40, 40, 3), GREY, np.uint8)
    picture[5:35, 5:35] = RED
    picture[8:32, 8:32] = np.random.default_rng(0).integers(60, 200, (24, 24, 3))
    odds = np.full((40, 40), -2.0, np.float32)
    odds[6:34, 6:34] = 1.5  # the outline's outer pixel is outside of what is likely
    found = cut_person(picture, Prior(odds, odds > 2, odds > -9), None, 2)
    assert found[5:35, 5:35].mean() > 0.98 and found.sum() < 950


def test_colours_of_the_frames_before_are_remembered():
    picture = np.full((20, 20, 3), GREY, np.uint8)
    picture[5:15, 5:15] = BLUE
    known = Colours.learn(np.full((9, 9, 3), BLUE, np.uint8), np.ones((9, 9)), np.zeros((9, 9)))
    # a first look at a prior that says nothing takes everything or nothing
    blind = cut_person(picture, nothing_known((20, 20), -0.5), None, 1)
    told = cut_person(picture, nothing_known((20, 20), -0.5), known, 1)
    wanted = np.zeros((20, 20), bool)
    wanted[5:15, 5:15] = True
    assert (told == wanted).all() and not (blind == wanted).all()
