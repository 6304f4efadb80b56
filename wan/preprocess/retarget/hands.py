"""Hands that follow a retargeted body: scaled around their root, moved to the new wrist."""

from __future__ import annotations

import numpy as np

from ..pose.track import Array, Joint

HAND_SCORE = 0.4  # Wan2.2 retarget_pose.py, deal_hand_keypoints
_WRISTS = [Joint.RIGHT_WRIST, Joint.LEFT_WRIST]
# Noise of the arithmetic may leave a whole pixel a hair below itself, where it would be cut off.
_DECIMALS = 3


def move_hand(hand: Array, old_body: Array, new_body: Array, scale: float) -> Array:
    """Put a hand on the wrist it belonged to, the nearer one of its frame.

    Upstream decides once for both hands and displaces crossed ones by the distance of the wrists.

    Args:
        hand: [T, 21, 3] pixels of the driving video; point 0 is the root, whatever its score.
        old_body: [T, 20, 2] pixels of the driving video.
        new_body: [T, 20, 2] pixels of the result.
        scale: size of the hand in the result over that in the driving video.
    Returns:
        [T, 21, 3] whole pixels of the result; points scored below 0.4 are all zero.
    Source: Wan2.2 retarget_pose.py, get_scaled_pose; the choice of the wrist is ours.
    """
    root = hand[:, :1, :2]
    distance = np.linalg.norm(old_body[:, _WRISTS] - root, axis=-1)  # T 2
    nearer = np.array(_WRISTS)[distance.argmin(axis=1)]
    wrist = new_body[np.arange(len(hand)), nearer][:, None]
    moved = hand.copy()
    moved[..., :2] = np.trunc(np.round((hand[..., :2] - root) * scale + wrist, _DECIMALS))
    moved[hand[..., 2] < HAND_SCORE] = 0
    return moved
