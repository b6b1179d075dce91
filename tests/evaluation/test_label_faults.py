import pathlib

import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.evaluation import label_faults


def annotated(count, scheme=schemes.IBUG68):
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (count, scheme.num_landmarks, 2)).astype(np.float32)
    points[:, 3:4] = np.nan
    paths = tuple(pathlib.Path(f"{i}.png") for i in range(count))
    return Annotations("faces", scheme, paths, points, np.isfinite(points).all(-1))


def test_each_fault_is_what_it_is_called_and_in_a_face_of_its_own():
    sound = annotated(300)
    faulty, faults = label_faults.inject(sound, share=0.01, seed=4)
    assert [fault.kind for fault in faults] == ["shifted"] * 3 + ["swapped"] * 3 + ["mirrored"] * 3
    touched = {fault.face for fault in faults}
    changed = np.abs(np.nan_to_num(faulty.landmarks) - np.nan_to_num(sound.landmarks)).sum(-1) > 0
    assert set(np.flatnonzero(changed.any(1))) == touched and len(touched) == 9
    for kind, face in ((fault.kind, fault.face) for fault in faults):
        before, after = sound.landmarks[face], faulty.landmarks[face]
        if kind == "shifted":
            extent = np.ptp(before[sound.known[face]], axis=0).max()
            moved = np.linalg.norm(after - before, axis=-1)
            np.testing.assert_allclose(moved[sound.known[face]], 0.1 * extent, rtol=1e-4)
            assert np.isnan(moved[3])
        elif kind == "swapped":
            one, other = np.flatnonzero(changed[face])
            np.testing.assert_array_equal(after[[one, other]], before[[other, one]])
        else:
            np.testing.assert_array_equal(after, before[list(schemes.IBUG68.flip)])
            assert not faulty.visible[face, 13] and faulty.visible[face, 3]
    again, same = label_faults.inject(sound, share=0.01, seed=4)
    assert same == faults
    np.testing.assert_array_equal(again.landmarks, faulty.landmarks)


def test_without_mirror_pairs_no_names_are_mirrored():
    scheme = schemes.get({"name": "dots", "num_landmarks": 5})
    _, faults = label_faults.inject(annotated(30, scheme))
    assert [fault.kind for fault in faults] == ["shifted", "swapped"]


@pytest.mark.parametrize(
    ("count", "share", "message"),
    [(30, 0.5, "must be in"), (30, 0.0, "must be in"), (2, 0.3, "expected 3 faces")],
)
def test_refused(count, share, message):
    with pytest.raises(ValueError, match=message):
        label_faults.inject(annotated(count), share)


def test_one_point_has_none_to_exchange_with():
    scheme = schemes.get({"name": "dot", "num_landmarks": 1})
    with pytest.raises(ValueError, match="one point can't be exchanged"):
        label_faults.inject(annotated(30, scheme))


def test_counts_of_what_is_found():
    faults = tuple(
        label_faults.Fault(kind, face) for kind, face in (("shifted", 7), ("swapped", 50))
    )
    ranking = np.roll(np.arange(100), -7)  # 7 is first, 50 at place 43
    counted = label_faults.found(faults, ranking)
    assert counted == {
        "places": 3,
        "found": {"all": 1, "shifted": 1, "swapped": 0},
        "of": {"all": 2, "shifted": 1, "swapped": 1},
    }
    assert label_faults.report(counted) == (
        "The first 3 have 1 of 2 injected faults, 50%: 1 of 1 shifted, 0 of 1 swapped."
    )
