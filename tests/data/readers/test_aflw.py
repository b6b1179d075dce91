import numpy as np
import pytest
import scipy.io

from keras_lapkl import schemes
from keras_lapkl.data.cropping import crop_squares
from keras_lapkl.data.readers.aflw import read_aflw

N = 24_386


def content():
    rng = np.random.default_rng(0)
    names = np.empty((N, 1), object)
    names[:, 0] = [f"{i % 3}/image{i:05d}.jpg" for i in range(N)]
    return {
        "bbox": np.tile([10.0, 110.0, 20.0, 84.0], (N, 1)),
        "data": np.arange(N)[:, None] + np.arange(38) / 100,
        "mask_new": (rng.random((N, 19)) < 0.8).astype(np.uint8),
        "nameList": names,
        "ra": np.arange(N, 0, -1)[None],
    }


@pytest.fixture(scope="module")
def mat(tmp_path_factory):
    path = tmp_path_factory.mktemp("aflw") / "AFLWinfo_release.mat"
    scipy.io.savemat(path, content())
    return path


def test_order_coordinates_and_boxes(mat):
    train, test = read_aflw(mat, "train"), read_aflw(mat, "test")
    assert (len(train), len(test)) == (20_000, 4_386)
    # `ra` counts down from 24,386: the first training face is the last row.
    assert str(train.paths[0]) == f"{(N - 1) % 3}/image{N - 1:05d}.jpg"
    assert str(test.paths[-1]) == "0/image00000.jpg"
    k = int(np.flatnonzero(train.visible[0])[0])
    np.testing.assert_allclose(
        train.landmarks[0, k], [N - 1 + k / 100, N - 1 + (19 + k) / 100], rtol=1e-6
    )
    np.testing.assert_array_equal(train.boxes[0], [10, 20, 110, 84])
    assert train.scheme is schemes.AFLW19


def test_hidden_is_nan(mat):
    test = read_aflw(mat, "test")
    assert (np.isnan(test.landmarks).all(-1) == ~test.visible).all()


def test_annotations_only(mat, tmp_path):
    assert "annotations only" in read_aflw(mat).summary
    assert "annotations only" in read_aflw(mat, images=tmp_path).summary


def test_some_images_missing(mat, tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "image00000.jpg").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=r"4,385 of the 4,386"):
        read_aflw(mat, "test", images=tmp_path)


def test_missing_file_and_split(mat, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.mat"):
        read_aflw(tmp_path / "none.mat")
    with pytest.raises(ValueError, match="test"):
        read_aflw(mat, "validation")


@pytest.mark.parametrize("data", [b"", b"not matlab", b"MATLAB 5.0 MAT-file" + b"\0" * 200])
def test_no_matlab_file(tmp_path, data):
    path = tmp_path / "a.mat"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.mat"):
        read_aflw(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data", np.zeros((5, 38)), r"`data` of shape \(24386, 38\)"),
        ("bbox", None, "`bbox`"),
        ("ra", np.ones((1, N)), "once"),
    ],
)
def test_other_content(tmp_path, key, value, message):
    changed = content()
    if value is None:
        del changed[key]
    else:
        changed[key] = value
    scipy.io.savemat(tmp_path / "a.mat", changed)
    with pytest.raises(ValueError, match=message):
        read_aflw(tmp_path / "a.mat")


@pytest.mark.faces
def test_real_annotations(faces):
    path = faces / "aflw" / "AFLWinfo_release.mat"
    train, test = read_aflw(path), read_aflw(path, "test")
    visible = np.concatenate([train.visible, test.visible])
    assert len(visible) == N
    assert visible.sum(1).mean() == pytest.approx(15.1, abs=0.05)
    assert visible.all(1).mean() == pytest.approx(0.29, abs=0.01)
    boxes = crop_squares(train.landmarks, train.scheme, 3.0, train.visible, train.boxes)
    assert np.isfinite(boxes).all() and (boxes[:, 2] > 0).all()


@pytest.mark.faces
def test_names_lie_where_they_say(faces):
    """In upright faces the mean shape has brows over eyes over nose over mouth over chin."""
    train = read_aflw(faces / "aflw" / "AFLWinfo_release.mat")
    full = train.landmarks[train.visible.all(1)]
    mean = (full - full.mean(1, keepdims=True)).mean(0)
    x, y = mean.T
    assert y[:6].max() < y[6:12].min() and y[6:12].max() < y[12:15].min()
    assert y[12:15].max() < y[15:18].min() and y[15:18].max() < y[18]
    for row in (slice(0, 6), slice(6, 12), slice(12, 15), slice(15, 18)):
        assert (np.diff(x[row]) > 0).all()
