import itertools

import cv2
import numpy as np
import pytest

from keras_lapkl.data.cropping import crop_squares
from keras_lapkl.data.synthetic import clips
from keras_lapkl.evaluation import tracking_scores
from keras_lapkl.schemes import AFLW19, IBUG68

MAKERS = (clips.synthetic_clip, lambda **kwargs: clips.photo_clip(*dotted(), **kwargs))


def dotted():
    """A gray photo with a white dot at each of 68 landmarks, (256, 256, 3)."""
    y, x = np.divmod(np.arange(68), 9)
    landmarks = np.stack([70.0 + 14 * x, 70.0 + 14 * y], -1)
    landmarks[48:] += (0, 3)
    photo = np.full((256, 256, 3), 90, np.uint8)
    for point in landmarks:
        cv2.circle(photo, [int(v) for v in point], 3, (255, 255, 255), -1, cv2.LINE_AA)
    return photo, landmarks


@pytest.mark.parametrize("make", MAKERS)
def test_a_clip_follows_from_its_seed(make):
    first, again, other = make(seed=3), make(seed=3), make(seed=4)
    np.testing.assert_array_equal(first.landmarks, again.landmarks)
    np.testing.assert_array_equal(first.draw(20), again.draw(20))
    assert len(first) != len(other) or (first.landmarks != other.landmarks).any()
    frames = dict(itertools.islice(first.frames(), 5))
    assert list(frames) == first.times[:5].tolist()
    np.testing.assert_array_equal(frames[first.times[2]], first.draw(2))  # in any order
    assert first.draw(0).shape == (320, 320, 3) and first.draw(0).dtype == np.uint8


@pytest.mark.parametrize("make", MAKERS)
def test_motions_and_stillness_take_turns(make):
    clip = make(seed=1, rate=20.0)
    starts = [0, *(np.flatnonzero(clip.motions[1:] != clip.motions[:-1]) + 1)]
    names = clip.motions[starts].tolist()
    facial = ("talk", "blink") if make is clips.synthetic_clip else ()
    assert sorted(names[1::2]) == sorted(
        each for each in clips.MOTIONS if each not in ("talk", "blink") or each in facial
    )
    assert set(names[::2]) == {clips.STILL}
    lengths = np.diff([*starts, len(clip)])
    assert (lengths >= 20).all() and (lengths <= 40).all()
    np.testing.assert_allclose(np.diff(clip.times), 1 / 20)


@pytest.mark.parametrize("make", MAKERS)
def test_the_face_stays_in_the_frame_and_moves_smoothly(make):
    for seed in range(5):
        clip = make(seed=seed)
        assert clip.landmarks.min() > 0 and clip.landmarks.max() < 319
        squares = crop_squares(clip.landmarks, IBUG68, 1)
        assert squares[:, 2].min() > 30 and squares[:, 2].max() < 80
        ways = np.linalg.norm(np.diff(squares[:, :2], axis=0), axis=-1) / squares[1:, 2]
        assert ways.max() < 0.45
        still = clip.motions[1:] == clips.STILL
        assert ways[still].max() < 0.02 and ways[~still].max() > 0.1


def test_a_photos_landmarks_are_where_the_picture_shows_them():
    clip = clips.photo_clip(*dotted(), seed=2)
    for name in ("still", "walk", "jump", "shake", "turn", "zoom"):
        i = np.flatnonzero(clip.motions == name)[15]
        bright = clip.draw(i).astype(float).mean(-1) - 110
        for x, y in clip.landmarks[i]:
            left, top = round(x) - 5, round(y) - 5
            part = np.maximum(bright[top : top + 11, left : left + 11], 0)
            part[[0, -1]] = part[:, [0, -1]] = 0
            rows, columns = np.indices(part.shape)
            middle = (part * columns).sum() / part.sum(), (part * rows).sum() / part.sum()
            np.testing.assert_allclose((left + middle[0], top + middle[1]), (x, y), atol=0.6)


def test_heads_keep_their_looks_and_move_their_faces():
    clip = clips.synthetic_clip(seed=5, motions=("talk", "blink"))
    still = np.flatnonzero(clip.motions == clips.STILL)[:2]
    change = np.abs(clip.draw(still[0]).astype(int) - clip.draw(still[1]))
    assert np.median(change) < 10  # noise alone
    rest = clip.landmarks[still[0]]
    talk = np.ptp(clip.landmarks[clip.motions == "talk"] - rest, axis=0)
    assert talk[48:, 1].max() > 3 * talk[36:48, 1].max()
    lids = clip.landmarks[clip.motions == "blink"]
    gap = lids[:, [41, 40, 47, 46], 1] - lids[:, [37, 38, 43, 44], 1]
    assert (gap.min(0) < 0.2 * gap.max(0)).all()


def test_the_board_hides_part_of_the_face():
    clip = clips.synthetic_clip(seed=5, motions=("cover",))
    covered = np.flatnonzero(clip.motions == "cover")
    before = clip.draw(covered[0] - 1).astype(int)
    change = np.abs(clip.draw(covered[len(covered) // 2]) - before).mean(-1) > 40
    assert 0.03 < change.mean() < 0.3


def test_another_scheme():
    photo, landmarks = dotted()
    clip = clips.photo_clip(photo, landmarks[:19], AFLW19, motions=("walk",))
    assert clip.landmarks.shape[1:] == (19, 2)
    assert tracking_scores.evaluate(clip, clip.landmarks)["nme"] == 0


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("wrong", [{"motions": ("fly",)}, {"motions": ()}, {"rate": 0.5}])
def test_bad_arguments(make, wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
        make(**wrong)
