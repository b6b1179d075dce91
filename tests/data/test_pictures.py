import re
import unicodedata

import pytest

from keras_lapkl.data import pictures


@pytest.fixture
def folder(tmp_path):
    """Of pictures, beside one that no name may lead to."""
    for name in ("photos/a b.png", "photos/x/1.png", "photos/x/2.png", "photos/y%20z.png", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("a b.png", "a b.png"),
        ("x/../x/1.png", "x/../x/1.png"),
        ("y%20z.png", "y%20z.png"),
        ("x\\1.png", "x/1.png"),
        ("C:\\Users\\ann\\x\\1.png", "x/1.png"),
        ("a%20b.png", "a b.png"),
        ("/home/ann/upload/1/a%20b.png", "a b.png"),
        ("/home/ann/photos/x/1.png", "x/1.png"),
        ("https://host.example/d/a%20b.png?width=64", "a b.png"),
        ("s3://bucket/x/2.png", "x/2.png"),
        ("file:///d/x/2.png", "x/2.png"),
        ("/data/local-files/?d=d/x/2.png", "x/2.png"),
        ("/data/local-files/?d=x%5C2.png", "x/2.png"),
        ("d%5Cx%5C2.png", "x/2.png"),
        ("upload/x/1.png", "x/1.png"),
        ("../x/1.png", "x/1.png"),
        ("X/1.PNG", "x/1.png"),
        ("A B.png", "a b.png"),
        ("D:\\Photos\\A B.PNG", "a b.png"),
        ("c.png", None),
        ("../c.png", None),
        ("../C.PNG", None),
        ("X", None),
        ("x", None),
        ("1.png", None),
        ("a" * 5000, None),
        ("a\0b.png", None),
        ("..", None),
        ("", None),
    ],
)
def test_names(folder, name, below):
    found = pictures.find_pictures([name], [folder])
    assert found == {name: below and (folder, below)}


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_that_look_alike(tmp_path, forms):
    """macOS decomposes the accents in the names of files."""
    on_disk, given = (unicodedata.normalize(form, "fráme ü.png") for form in forms)
    (tmp_path / on_disk).touch()
    assert pictures.find_pictures([given], [tmp_path]) == {given: (tmp_path, on_disk)}


def test_case_where_others_are_found_as_they_are(folder, caplog):
    found = pictures.find_pictures(["x/1.png", "x/2.PNG"], [folder])
    assert found == {"x/1.png": (folder, "x/1.png"), "x/2.PNG": (folder, "x/2.png")}
    assert "by a similar name: 'x/2.PNG' is " in caplog.text


def test_in_the_folder_of_others_only_suffixes_differ_in_case(folder):
    """There, another name is another picture that has no labels."""
    (folder / "x/b.png").touch()
    found = pictures.find_pictures(["x/1.png", "x/B.png", "x/b.PNG"], [folder])
    assert found["x/B.png"] is None and found["x/b.PNG"] == (folder, "x/b.png")


def test_case_is_not_guessed_where_two_files_would_do(folder):
    (folder / "x/3.Png").touch()
    (folder / "x/3.png").touch()
    found = pictures.find_pictures(["x/3.PNG", "x/3.png"], [folder])
    assert found == {"x/3.PNG": None, "x/3.png": (folder, "x/3.png")}
    assert pictures.find_pictures(["x/1.png", "x/1.PNG"], [folder])["x/1.PNG"] is None


def test_each_folder_in_turn_for_each_picture(folder):
    found = pictures.find_pictures(["a b.png", "1.png"], [folder, folder / "x"])
    assert found == {"a b.png": (folder, "a b.png"), "1.png": (folder / "x", "1.png")}


def test_one_file_is_not_the_picture_of_two_names(folder):
    names = ["p/x/1.png", "q/x/1.png", "p/x/2.png"]
    found = pictures.find_pictures(names, [folder])
    assert found == {names[0]: None, names[1]: None, names[2]: (folder, "x/2.png")}
    found = pictures.find_pictures(["x/1.png", "other/x/1.png"], [folder])
    assert found["other/x/1.png"] is None
    found = pictures.find_pictures(["x/1.png", "./x/1.png"], [folder])
    assert None not in found.values()


def test_pictures_of_two_cameras_are_not_those_of_one(tmp_path, caplog):
    for i in range(4):
        (tmp_path / f"{i:04}.png").touch()
    names = ["/lab/camA/0000.png", "/lab/camA/0002.png", "/lab/camB/0001.png"]
    assert set(pictures.find_pictures(names, [tmp_path]).values()) == {None}
    assert "3 pictures of other folders, such as '/lab/camA/0000.png', would" in caplog.text
    assert "into a folder of its name" in caplog.text
    found = pictures.find_pictures(names[:2], [tmp_path])
    assert found == {name: (tmp_path, name[-8:]) for name in names[:2]}
    (tmp_path / "camB").mkdir()
    (tmp_path / "camB/0001.png").touch()
    found = pictures.find_pictures(names, [tmp_path])
    assert [each and each[1] for each in found.values()] == [
        "0000.png",
        "0002.png",
        "camB/0001.png",
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("p/ann.png", "q/bob.png"),
        ("p/20240101120000.png", "q/20240101120059.png"),
        ("p/000000000009.jpg", "q/000000000139.jpg"),
        ("p/ab12cd34-IMG_0001.jpg", "q/ff01ab77-IMG_0002.jpg"),
        ("p/p_1.png", "q/q_2.png"),
        ("train2017/1.png", "val/2.png"),
        ("/home/ann/p/1.png", "C:\\bob\\p\\2.png"),
    ],
)
def test_pictures_of_two_folders_whose_names_tell_them_apart(tmp_path, names):
    ends = [re.split(r"[/\\]", name)[-1] for name in names]
    for end in ends:
        (tmp_path / end).touch()
    found = pictures.find_pictures(names, [tmp_path])
    assert found == {name: (tmp_path, end) for name, end in zip(names, ends, strict=True)}


def test_of_two_folders_the_one_of_nearly_all(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}.png").touch()
    names = [f"/pics/{i}.png" for i in range(19)] + ["/old/19.png?t=a/b"]
    found = pictures.find_pictures(names, [tmp_path])
    assert [place is None for place in found.values()] == 19 * [False] + [True]


def test_a_missing_picture_is_not_looked_for_above_the_folder_of_the_others(folder):
    found = pictures.find_pictures(["x/1.png", "x/a b.png"], [folder])
    assert found["x/a b.png"] is None


def test_guesses_are_told_once(folder, caplog):
    pictures.find_pictures(["p/x/1.png", "p\\x\\2.png", "a b.png"], [folder])
    assert caplog.text.count("2 of 3 pictures are not where") == 1
    caplog.clear()
    pictures.find_pictures(["a b.png", "gone.png"], [folder])
    assert not caplog.text


def test_expected_places(folder):
    def expected(*names):
        folders = [folder, folder / "x"]
        return pictures.expected_places(pictures.find_pictures(names, folders), folders)

    assert expected("1.png", "2.png", "a b.png", "3.png")["3.png"] == folder / "x/3.png"
    assert expected("3.png") == {"3.png": folder / "3.png"}
    assert expected("/d/a b.png", "/d/gone.png")["/d/gone.png"] == folder / "gone.png"
    with pytest.raises(ValueError, match="below the folder"):
        expected("a b.png", "/d/gone.png")
    # No picture is taken for one of another name.
    doubtful = ("/q/a b.png", "/r/a b.png", "/s/../a b.png")
    places = expected("/d/x/2.png", "a b.png", *doubtful)
    assert [places[name] for name in doubtful] == [
        *(folder / "q/a b.png", folder / "r/a b.png", folder / "s/a b.png")
    ]
    (folder / "q").mkdir()
    (folder / "q/a b.png").touch()
    places = expected("/d/x/2.png", "q/a b.png", "/q/a b.png")
    assert places["/q/a b.png"] == folder / "missing/q/a b.png"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a\\b.png", "backslashes"),
        ("C:\\b.png", "backslashes"),
        ("a%20b.png", "percent-encoded"),
        ("https://a/b%20c.png", "URL"),
        ("/a/b.png", "absolute"),
        ("100%.png", ""),
        ("a/b.png", ""),
    ],
)
def test_cause(name, what):
    assert (what in pictures.cause(name)) and bool(pictures.cause(name)) == bool(what)
