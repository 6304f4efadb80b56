"""Pictures under the nodes that measure and cut, on the stand-in and on every real ComfyUI."""

import numpy as np
from PIL import Image
from shipped_graphs import random_weights


def test_pose_and_mask_show_what_they_found(host):
    prompt = random_weights("wan_replacement")
    by_class = {n["class_type"]: (key, n["inputs"]) for key, n in prompt.items()}
    by_class["WanLocalReadDrivingVideo"][1].update(
        fps=4, frame_limit=9, size_mode="area", width=320, height=448
    )
    wanted = {"WanLocalPoseExtract", "WanLocalMaskDilate"}
    by_class["WanLocalAnimateSampler"][1].update(sampling_steps=1, clip_len=9)
    result = host.run(prompt)
    assert result.status == "success", result.error
    assert len(result.outputs) == 1  # the video; the pictures are for the page only
    for kind in wanted:
        entries = result.ui[by_class[kind][0]]["images"]
        assert len(entries) == 4
        for entry in entries:
            assert entry["type"] == "temp"
            picture = np.asarray(
                Image.open(host.base / "temp" / entry["subfolder"] / entry["filename"])
            )
            assert max(picture.shape[:2]) <= 384 and picture.shape[2] == 3
            if kind == "WanLocalMaskDilate":  # red where the person was
                reddish = (picture[..., 0].astype(int) - picture[..., 1:].max(-1)) > 60
                assert 0.1 < reddish.mean() < 0.95
            else:
                assert picture.std() > 10
