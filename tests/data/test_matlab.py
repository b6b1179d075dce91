import numpy as np
import pytest
import scipy.io

from keras_lapkl.data.matlab import read_matlab

TEXTS = np.array([["a.jpg"], ["é/顔.jpg"]], object)


@pytest.fixture
def saved(tmp_path):
    """Writes arrays by SciPy, and gives the path."""

    def save(arrays, **kwargs):
        scipy.io.savemat(tmp_path / "a.mat", arrays, **kwargs)
        return tmp_path / "a.mat"

    return save


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_numbers_are_what_scipy_reads(saved, compressed, dtype):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    path = saved({"x": values, "one": np.ones(1, dtype)}, do_compression=compressed)
    found = read_matlab(path, ["x", "one"])
    np.testing.assert_array_equal(found["x"], scipy.io.loadmat(path)["x"])
    assert found["one"].shape == (1, 1)


@pytest.mark.parametrize("compressed", [False, True])
def test_cells_of_text(saved, compressed):
    path = saved({"names": TEXTS, "other": {"a": 1}}, do_compression=compressed)
    np.testing.assert_array_equal(read_matlab(path, ["names"])["names"], TEXTS)


def test_what_is_not_asked_for_is_not_there(saved):
    assert read_matlab(saved({"x": np.ones(3)}), ["y"]) == {}


@pytest.mark.parametrize(
    "value", [{"a": 1}, "text", np.ones(3) * 1j, np.array([[np.ones(2)]], object)]
)
def test_other_kinds_are_refused(saved, value):
    with pytest.raises(ValueError, match=r"a\.mat: expected an intact MATLAB file"):
        read_matlab(saved({"x": value}), ["x"])


def test_cut_and_other_files_are_refused(saved, tmp_path):
    path = saved({"x": np.ones(100)})
    whole = path.read_bytes()
    for data in (whole[:-8], whole[:200], whole[:130]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="intact"):
            read_matlab(path, ["x"])
    for data in (b"", b"\x89HDF\r\n\x1a\n" + bytes(200)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"version 5 to 7\.2"):
            read_matlab(path, ["x"])
