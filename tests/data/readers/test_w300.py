import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.data.pts import write_pts
from keras_lapkl.data.readers import w300
from keras_lapkl.data.readers.w300 import read_300w

STEMS = {
    "afw": ["1_1", "2 with space_1"],
    "helen/trainset": ["10_1", "10.5_1"],
    "lfpw/trainset": ["image_0001"],
    "helen/testset": ["20_1"],
    "lfpw/testset": ["image_0002", "image_0003"],
    "ibug": ["image_003_1"],
}


def add(root, stem, suffix=".jpg", offset=0):
    landmarks = np.arange(136).reshape(68, 2) + offset
    write_pts(root / f"{stem}.pts", landmarks)
    (root / f"{stem}{suffix}").touch()
    return landmarks


@pytest.fixture
def root(tmp_path):
    """The official layout, with a few faces; images are only looked for, not opened."""
    for folder, stems in STEMS.items():
        suffix = ".png" if folder == "lfpw/trainset" else ".jpg"
        for stem in stems:
            add(tmp_path, f"{folder}/{stem}", suffix)
    return tmp_path


@pytest.mark.parametrize("stem", ["../b", "/etc/b"])
def test_stems_that_lead_out_of_the_folder(root, tmp_path, stem):
    write_list(root, "train.txt", next(f"{f}/{s[0]}" for f, s in STEMS.items()), stem)
    with pytest.raises(ValueError, match="stems of train: expected a path below the folder"):
        read_300w(root, "train")


def write_list(root, name, *stems):
    (root / "splits").mkdir(exist_ok=True)
    (root / "splits" / name).write_text("\n".join(stems) + "\n\n")


def stems_of(root, annotations):
    return [path.relative_to(root).as_posix().rsplit(".", 1)[0] for path in annotations.paths]


def test_suffixes_in_upper_case(root):
    expected = read_300w(root, "challenge").landmarks
    for suffix in (".jpg", ".pts"):
        path = root / f"ibug/image_003_1{suffix}"
        path.rename(path.with_suffix(suffix.upper()))
    found = read_300w(root, "challenge")
    np.testing.assert_array_equal(found.landmarks, expected)
    assert found.paths[0].name == "image_003_1.JPG"


def test_official_counts():
    totals = {
        split: sum(w300.OFFICIAL_COUNTS[folder] for folder in folders)
        for split, folders in w300.OFFICIAL_FOLDERS.items()
    }
    assert totals == {"train": 3148, "common": 554, "challenge": 135, "full": 689}


@pytest.mark.parametrize(
    ("split", "folders", "summary"),
    [
        (
            "train",
            ("afw", "helen/trainset", "lfpw/trainset"),
            "300-W train: 5 of 3,148 official training faces (afw 2 of 337, helen/trainset 2 of "
            "2,000, lfpw/trainset 1 of 811)",
        ),
        (
            "common",
            ("helen/testset", "lfpw/testset"),
            "300-W common: 3 of 554 official common faces (helen/testset 1 of 330, lfpw/testset 2 "
            "of 224)",
        ),
        (
            "challenge",
            ("ibug",),
            "300-W challenge: 1 of 135 official challenge faces (ibug 1 of 135)",
        ),
        (
            "full",
            ("helen/testset", "lfpw/testset", "ibug"),
            "300-W full: 4 of 689 official full faces (helen/testset 1 of 330, lfpw/testset 2 of "
            "224, ibug 1 of 135)",
        ),
    ],
)
def test_official_folders(root, split, folders, summary):
    annotations = read_300w(root, split)
    expected = [f"{folder}/{stem}" for folder in folders for stem in sorted(STEMS[folder])]
    assert stems_of(root, annotations) == expected
    assert annotations.summary == summary
    assert annotations.name == f"300-W {split}"
    assert annotations.scheme is schemes.IBUG68 and annotations.boxes is None
    assert annotations.visible.all() and annotations.landmarks.dtype == np.float32


def test_landmarks_belong_to_their_image(root):
    landmarks = add(root, "ibug/image_003_1", offset=1000)
    np.testing.assert_array_equal(read_300w(root, "challenge").landmarks, [landmarks])
    np.testing.assert_array_equal(read_300w(root, "full").landmarks[-1], landmarks)


def test_mirrored_copies_are_left_out(root):
    add(root, "afw/1_1_mirror")
    assert len(read_300w(root, "train")) == 5


@pytest.mark.parametrize("suffix", [".JPG", ".png", ".PNG"])
def test_other_suffixes(root, suffix):
    add(root, "ibug/other", suffix)
    assert read_300w(root, "challenge").paths[-1].name == f"other{suffix}"


class TestLists:
    def test_list_decides(self, root):
        write_list(root, "train.txt", "afw/2 with space_1", "helen/trainset/10.5_1")
        write_list(root, "validation.txt", "afw/1_1")
        train, validation = read_300w(root, "train"), read_300w(root, "validation")
        assert stems_of(root, train) == ["afw/2 with space_1", "helen/trainset/10.5_1"]
        assert stems_of(root, validation) == ["afw/1_1"]
        assert train.summary == (
            "300-W train: 2 of 3,148 official training faces (afw 1 of 337, helen/trainset 1 of "
            "2,000, lfpw/trainset 0 of 811); 1 more held out for validation"
        )
        assert validation.summary.startswith("300-W validation: 1 of 3,148 official training faces")

    def test_what_validates_is_not_trained_on(self, root):
        everything = stems_of(root, read_300w(root, "train"))
        write_list(root, "validation.txt", "afw/1_1")
        train = read_300w(root, "train")
        assert stems_of(root, train) == [stem for stem in everything if stem != "afw/1_1"]
        assert len(train.paths) == len(everything) - 1
        assert train.summary.endswith("1 more held out for validation")

    def test_full_takes_the_list_of_common(self, root):
        write_list(root, "test_common.txt", "lfpw/testset/image_0003")
        assert stems_of(root, read_300w(root, "full")) == [
            "lfpw/testset/image_0003",
            "ibug/image_003_1",
        ]

    def test_own_list(self, root, tmp_path_factory):
        file = tmp_path_factory.mktemp("lists") / "mine.txt"
        file.write_bytes("\ufeffafw/1_1\r\nibug/image_003_1 \r\n".encode())
        annotations = read_300w(root, file)
        assert stems_of(root, annotations) == ["afw/1_1", "ibug/image_003_1"]
        assert annotations.summary == "300-W mine: 2 faces (afw 1, ibug 1)"
        assert stems_of(root, read_300w(root, str(file))) == stems_of(root, annotations)

    @pytest.mark.parametrize(
        ("stems", "message"),
        [
            ((), "at least one. Received: 0"),
            (("afw/1_1", "ibug/image_003_1", "afw/1_1"), r"each stem once.*1 \(afw/1_1\)"),
        ],
    )
    def test_malformed(self, root, stems, message):
        write_list(root, "train.txt", *stems)
        with pytest.raises(ValueError, match=r"train\.txt.*" + message):
            read_300w(root, "train")

    def test_missing_faces_are_counted_and_named(self, root):
        (root / "afw" / "1_1.pts").unlink()
        write_list(root, "train.txt", "afw/1_1", *(f"afw/gone {i}" for i in range(7)), "ibug/x")
        with pytest.raises(FileNotFoundError, match=r"9 \(afw/1_1, afw/gone 0, .*afw/gone 3, …\)"):
            read_300w(root, "train")


class TestRefused:
    def test_no_root(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            read_300w(tmp_path / "nowhere", "train")

    def test_unknown_split(self, root):
        with pytest.raises(ValueError, match=r"'challenge'.*Received: 'test'"):
            read_300w(root, "test")

    def test_validation_without_list(self, root):
        with pytest.raises(ValueError, match=r"validation\.txt.*one stem a line"):
            read_300w(root, "validation")

    def test_missing_folder(self, root):
        for path in (root / "ibug").iterdir():
            path.unlink()
        (root / "ibug").rmdir()
        with pytest.raises(FileNotFoundError, match="ibug/"):
            read_300w(root, "full")

    def test_empty_folder(self, root):
        for path in (root / "ibug").iterdir():
            path.unlink()
        with pytest.raises(FileNotFoundError, match=r"ibug.*no faces"):
            read_300w(root, "challenge")

    def test_image_without_landmarks(self, root):
        (root / "ibug" / "image_003_1.pts").unlink()
        with pytest.raises(FileNotFoundError, match="ibug/image_003_1"):
            read_300w(root, "challenge")

    def test_more_than_officially(self, root, monkeypatch):
        monkeypatch.setitem(w300.OFFICIAL_COUNTS, "afw", 1)
        with pytest.raises(ValueError, match=r"at most the 1 official.*Received: 2"):
            read_300w(root, "train")

    def test_other_number_of_points(self, root):
        write_pts(root / "ibug" / "image_003_1.pts", np.zeros((5, 2)))
        with pytest.raises(ValueError, match=r"image_003_1\.pts: expected 68"):
            read_300w(root, "challenge")


@pytest.mark.faces
@pytest.mark.parametrize(
    ("split", "summary"),
    [
        (
            "train",
            "300-W train: 1,809 of 3,148 official training faces (afw 314 of 337, helen/trainset "
            "770 of 2,000, lfpw/trainset 725 of 811); 200 more held out for validation",
        ),
        (
            "validation",
            "300-W validation: 200 of 3,148 official training faces (afw 23 of 337, helen/trainset "
            "100 of 2,000, lfpw/trainset 77 of 811)",
        ),
        (
            "common",
            "300-W common: 554 of 554 official common faces (helen/testset 330 of 330, "
            "lfpw/testset 224 of 224)",
        ),
    ],
)
def test_real_splits(faces, split, summary):
    assert read_300w(faces / "300w", split).summary == summary
