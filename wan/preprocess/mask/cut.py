"""The person in one frame: colours learned from where they may be, and a cut along the edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..pose.track import Array
from .prior import MOST_ODDS, Prior

_BINS = 32
"""Per colour channel."""
_UNSEEN = 0.5  # pixels that every colour has been seen in any case
_SHARPNESS = 3  # learning the person's colours, even odds count as an eighth of a pixel
_TRUST = 0.8  # in the first cut, against what was known before, for learning from it

_MOST_EVIDENCE = 12.0  # of colours and prior together, either way
_WEIGHT = 3.0  # of that evidence, against the edges' weight of up to 50 that OpenCV gives
_LEVELS = 64  # shades either side of even odds
_ANY = 1e6  # variance of what is not to count
_RIM = 8  # pixels around what is possible


@dataclass(frozen=True)
class Colours:
    """How many pixels of each colour the person and the background have, [32, 32, 32] each.

    Counts, smoothed over neighbouring colours, rather than a few Gaussians: a person wears more
    than five colours, and one colour without any variation, as in drawings and overexposed parts,
    makes a Gaussian so narrow that the likeliest side of it wins whatever the other evidence.
    """

    person: Array
    background: Array

    @classmethod
    def learn(cls, picture: Array, person: Array, background: Array) -> Colours:
        """Count the colours of a picture.

        Args:
            picture: [h, w, 3] uint8.
            person, background: [h, w], how much each pixel counts.
        """
        places = _colour_numbers(picture)
        return cls(_count(places, person), _count(places, background))

    def blend(self, newer: Colours, share: float) -> Colours:
        """Both, the newer ones with the given share."""
        return Colours(
            (1 - share) * self.person + share * newer.person,
            (1 - share) * self.background + share * newer.background,
        )

    def __add__(self, other: Colours) -> Colours:
        return Colours(self.person + other.person, self.background + other.background)

    def odds(self, picture: Array) -> Array:
        """[h, w] log odds that a colour is the person's rather than the background's."""
        used = max(1, np.count_nonzero(self.person + self.background > _UNSEEN))
        shares = [
            (counts + _UNSEEN) / (counts.sum() + _UNSEEN * used)
            for counts in (self.person, self.background)
        ]
        return np.log(shares[0] / shares[1]).ravel()[_colour_numbers(picture)]


def cut_person(picture: Array, prior: Prior, known: Colours | None, rounds: int) -> Array:
    """The person in one picture.

    Colours are learned from where the person may be and from `known`, the cut is made, and from
    the second round on they are learned from the cut.

    Args:
        picture: [h, w, 3] uint8.
        prior: where the person may be.
        known: colours of the frames before.
        rounds: 1 or more.
    Returns:
        [h, w] bool.
    """
    likely = 1 / (1 + np.exp(-np.clip(prior.odds, -_MOST_EVIDENCE, _MOST_EVIDENCE)))
    likely = np.where(prior.sure, 1.0, np.where(prior.possible, likely, 0.0))
    person, background = likely**_SHARPNESS, 1 - likely
    mask = prior.sure
    for _ in range(rounds):
        colours = Colours.learn(picture, person, background)
        colours = colours if known is None else colours + known
        odds = colours.odds(picture) + np.clip(prior.odds, -MOST_ODDS, MOST_ODDS)
        mask = _cut(picture, odds, prior)
        person = _TRUST * mask + (1 - _TRUST) * likely
        background = 1 - person
    return mask


def _cut(picture: Array, odds: Array, prior: Prior) -> Array:
    """The mask that fits the odds best and changes where the picture does.

    OpenCV's GrabCut finds it: it is given one colour channel that tells the odds and, for both
    sides, a fixed Gaussian over just that channel, so that the ratio of the two is the odds; the
    other channels, brightness and tint, only tell where edges are.
    """
    import cv2

    rows, columns = np.nonzero(prior.possible)
    if not len(rows):
        return prior.possible
    area = tuple(
        slice(max(0, places.min() - _RIM), places.max() + _RIM + 1) for places in (rows, columns)
    )
    evidence = np.clip(odds[area] / _MOST_EVIDENCE, -1, 1)
    lab = cv2.cvtColor(np.ascontiguousarray(picture[area]), cv2.COLOR_RGB2LAB)
    tint = ((lab[..., 1].astype(np.int16) + lab[..., 2]) // 2).astype(np.uint8)
    shade = np.round((evidence + 1) * _LEVELS).astype(np.uint8)

    labels = np.where(evidence > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[~prior.possible[area]] = cv2.GC_BGD
    labels[prior.sure[area]] = cv2.GC_FGD
    sides = _side(0), _side(2 * _LEVELS)
    seen = np.dstack([shade, lab[..., 0], tint])
    cv2.grabCut(seen, labels, None, *sides, 1, cv2.GC_EVAL_FREEZE_MODEL)
    mask = np.zeros(prior.possible.shape, bool)
    mask[area] = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return mask


def _side(shade: float) -> Array:
    """One side's colours as OpenCV keeps them: five Gaussians' weights, means and covariances.

    The log ratio of two Gaussians of the variance v around 0 and 2 n is (x - n) 2 n / v at x, and
    so the wanted weight times the evidence for this v.
    """
    variance = 2 * _LEVELS**2 / (_WEIGHT * _MOST_EVIDENCE)
    model = np.zeros((1, 65))
    model[0, 0] = 1
    model[0, 5:8] = shade, 128, 128
    model[0, 20:29] = np.diag([variance, _ANY, _ANY]).ravel()
    return model


def _colour_numbers(picture: Array) -> Array:
    """[h, w] number of each pixel's colour in the histogram."""
    coarse = picture.astype(np.int32) * _BINS >> 8
    return (coarse[..., 0] * _BINS + coarse[..., 1]) * _BINS + coarse[..., 2]


def _count(places: Array, weights: Array) -> Array:
    """A weighted histogram, a quarter of each colour given to its neighbours on either side."""
    counts = np.bincount(places.ravel(), weights.ravel(), _BINS**3).reshape((_BINS,) * 3)
    for axis in range(3):
        edges = [(1, 1) if axis == other else (0, 0) for other in range(3)]
        padded = np.moveaxis(np.pad(counts, edges, mode="edge"), axis, 0)
        spread = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        counts = np.moveaxis(spread, 0, axis)
    return counts
