import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from keras_lapkl.data.pts import read_pts, write_pts

POINTS = "1 1\n2.5 3\n-4 1e2\n"
LANDMARKS = [[0, 0], [1.5, 2], [-5, 99]]


@pytest.fixture
def read(tmp_path):
    """Reads text or bytes as a `.pts` file."""

    def read_text(content, num_landmarks=None):
        path = tmp_path / "a face.pts"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_pts(path, num_landmarks)

    return read_text


class TestRead:
    @pytest.mark.parametrize(
        "text",
        [
            "version: 1\nn_points: 3\n{\n" + POINTS + "}\n",
            "n_points:3\nVersion :1\n{\n" + POINTS + "}",
            "N_POINTS :  3\n{\n" + POINTS + "}",
            "image: some face.jpg\nn_points: 3\n" + POINTS,
            "{\n" + POINTS + "}",
            POINTS,
            POINTS.strip(),
            POINTS.replace(" ", "\t"),
            POINTS.replace(" ", ", "),
            POINTS.replace("\n", "  \n\n"),
            "\n \n  version: 1  \n\n n_points: 3 \n { \n" + POINTS + " } \n \n",
        ],
    )
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_forms(self, read, text, end, mark):
        landmarks = read(mark + text.replace("\n", end), 3)
        assert landmarks.dtype == np.float32
        np.testing.assert_array_equal(landmarks, np.float32(LANDMARKS))

    def test_one_is_taken_off_before_rounding(self, read):
        assert read("1.00000001 1\n")[0, 0] == np.float32(1e-8)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "one or more points. Received: 0"),
            ("version: 1\nn_points: 0\n{\n}\n", "one or more points. Received: 0"),
            ("n_points: 4\n{\n" + POINTS + "}", "4 points, as n_points says. Received: 3"),
            ("n_points: 2\n{\n" + POINTS + "}", "2 points, as n_points says. Received: 3"),
            ("n_points: 3\n{\n1 1\n", "'}' as the last line. Received: 1, then the end"),
            ("n_points: many\n", "line 1: expected a whole number.*'many'"),
            ("n_points: -3\n", "line 1: expected a whole number.*'-3'"),
            ("n_points: " + "9" * 5000, "line 1: expected a whole number"),
            ("1 1\n2\n", "line 2: expected two numbers.*'2'"),
            ("1 1\n\n2 3 4\n", "line 3: expected two numbers.*'2 3 4'"),
            ("1,5 2,5\n", "line 1: expected two numbers.*'1,5 2,5'"),
            ("1 1\nx y\n", "line 2: expected two numbers.*'x y'"),
            ("1 1\nversion: 1\n", "line 2: expected two numbers.*'version: 1'"),
            ("1 1\n}\n", "line 2: expected two numbers.*'}'"),
            ("{\n{\n1 1\n}\n", "line 2: expected two numbers.*'{'"),
            ("{\n1 1\n}\n2 2\n", "line 4: expected nothing after '}'.*'2 2'"),
            ("1 nan\n", "line 1: expected finite.*'1 nan'"),
            ("1 1\n1 -inf\n", "line 2: expected finite"),
            ("1 1e300\n", "line 1: expected finite"),
        ],
    )
    def test_malformed(self, read, text, message):
        with pytest.raises(ValueError, match=r"a face\.pts.*" + message):
            read(text)

    def test_other_count(self, read):
        with pytest.raises(ValueError, match=r"a face\.pts: expected 68 points\. Received: 3"):
            read(POINTS, 68)

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none\.pts"):
            read_pts(tmp_path / "none.pts")

    @given(
        st.one_of(
            st.binary(),
            st.text(),
            st.text("0123456789.,-+eE_ {}\r\n\tnif:points"),
            st.lists(st.sampled_from(["n_points: 1", "{", "}", "1 1", "nan 1", "1", "version: 1"])),
        )
    )
    def test_anything_gives_points_or_an_error(self, tmp_path_factory, content):
        if isinstance(content, list):
            content = "\n".join(content)
        if isinstance(content, str):
            content = content.encode()
        path = tmp_path_factory.getbasetemp() / "any.pts"
        path.write_bytes(content)
        try:
            landmarks = read_pts(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert landmarks.shape[1:] == (2,) and np.isfinite(landmarks).all()


class TestWrite:
    def test_file(self, tmp_path):
        write_pts(tmp_path / "new" / "a.pts", [[0, 1.5], [-3, 1e3]])
        assert (tmp_path / "new" / "a.pts").read_text() == (
            "version: 1\nn_points: 2\n{\n1.000000 2.500000\n-2.000000 1001.000000\n}\n"
        )
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.pts"]

    @given(
        hnp.arrays(
            np.float32,
            st.tuples(st.integers(1, 70), st.just(2)),
            elements=st.floats(-1e5, 1e5, width=32),
        )
    )
    def test_round_trip(self, tmp_path_factory, landmarks):
        path = tmp_path_factory.getbasetemp() / "round trip.pts"
        write_pts(path, landmarks)
        np.testing.assert_allclose(read_pts(path, len(landmarks)), landmarks, rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        ("landmarks", "message"),
        [
            (np.zeros((0, 2)), r"\(0, 2\)"),
            (np.zeros((3, 3)), r"\(3, 3\)"),
            (np.zeros(4), r"\(4,\)"),
            ([[0, 0], [1, np.nan]], "finite.* at 1, 1 such"),
            ([[np.inf, 0], [1e300, 0]], "finite.* at 0, 2 such"),
        ],
    )
    def test_refused_and_nothing_written(self, tmp_path, landmarks, message):
        with pytest.raises(ValueError, match=message):
            write_pts(tmp_path / "a.pts", landmarks)
        assert not list(tmp_path.iterdir())


@pytest.mark.faces
def test_real_files_round_trip(faces, tmp_path):
    paths = sorted((faces / "300w" / "lfpw" / "testset").glob("*.pts"))[:40]
    assert len(paths) == 40
    for path in paths:
        landmarks = read_pts(path, 68)
        write_pts(tmp_path / "a.pts", landmarks)
        np.testing.assert_allclose(read_pts(tmp_path / "a.pts"), landmarks, rtol=0, atol=1e-6)
