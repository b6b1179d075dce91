import json

import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.data import read_coco
from keras_lapkl.data.keypoints import KeypointError, croppable

NAN = float("nan")


def coco(**changes):
    """A COCO file of a dog and a cat category; two dogs in one picture, a cat in another."""
    content = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 64, "height": 48},
            {"id": "b", "file_name": "b.png"},
        ],
        "annotations": [
            annotation(17, [1, 2, 2, 30, 40, 1, 0, 0, 0], bbox=[0, 1, 40, 45]),
            annotation(18, [5, 6, 1, 7, 8, 1, 9, 9, 1], image_id="b"),
            annotation(19, [5, 6, 2, 7, 8, 2], image_id="b", category_id=2),
            annotation(20, [0, 0, 0, 0, 0, 0, 0, 0, 0], num_keypoints=3),
            annotation(21, [1, 2, 2, 3, 4, 2, 5, 6, 2], iscrowd=1),
            {"id": 22, "image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5]},
        ],
        "categories": [
            {
                "id": 1,
                "name": "dog",
                "keypoints": ["nose", "left_ear", "right_ear"],
                "skeleton": [[1, 2], [1, 3]],
            },
            {"id": 2, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": []},
            {"id": 3, "name": "tree"},
        ],
    }
    return {**content, **changes}


def annotation(number, keypoints, **changes):
    return {
        "id": number,
        "image_id": 7,
        "category_id": 1,
        "keypoints": keypoints,
        "bbox": [1, 2, 30, 20],
        **changes,
    }


@pytest.fixture
def coco_file(tmp_path):
    """Writes a COCO file, of pictures that are there."""

    def write(content=None, name="dogs.json"):
        for picture in ("a.png", "b.png"):
            (tmp_path / picture).touch()
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content or coco()))
        return path

    return write


class TestCOCO:
    def test_a_box_of_negative_size(self, coco_file):
        content = coco()
        content["annotations"][0]["bbox"] = [1, 1, -5, 5]
        with pytest.raises(KeypointError, match=r"annotation id .*: expected a bbox x, y, width"):
            read_coco(coco_file(content), category="dog")

    @pytest.mark.parametrize("name", ["/etc/a.png", "../a.png"])
    def test_names_that_lead_out_of_the_folder(self, coco_file, name):
        content = coco()
        content["images"][1]["file_name"] = name
        with pytest.raises(KeypointError, match=r"dogs\.json: expected a path below the folder"):
            read_coco(coco_file(content), category="dog")

    def test_what_is_read(self, coco_file, tmp_path):
        found = read_coco(coco_file(), category="dog")
        assert found.paths == (tmp_path / "a.png", tmp_path / "b.png")
        np.testing.assert_array_equal(
            found.landmarks, [[[1, 2], [30, 40], [NAN, NAN]], [[5, 6], [7, 8], [9, 9]]]
        )
        np.testing.assert_array_equal(found.visible, [[True, True, False], [True] * 3])
        # The corner of the first pixel is at -0.5.
        np.testing.assert_array_equal(
            found.boxes, [[-0.5, 0.5, 39.5, 45.5], [0.5, 1.5, 30.5, 21.5]]
        )
        np.testing.assert_array_equal(found.sizes, [[64, 48], [0, 0]])
        assert found.summary == (
            "coco dogs: 2 objects in 2 images, 2.5 of 3 points labeled on average; 2 without a "
            "labeled point left out; 1 crowds left out"
        )

    def test_category_makes_the_scheme(self, coco_file):
        assert read_coco(coco_file(), category="dog").scheme == schemes.Scheme(
            "dog", ("nose", "left_ear", "right_ear"), (0, 2, 1), edges=((0, 1), (0, 2))
        )
        cat = read_coco(coco_file(), category="cat")
        assert cat.scheme == schemes.Scheme("cat", ("nose", "tail")) and len(cat) == 1

    def test_category_by_the_scheme(self, coco_file):
        scheme = schemes.Scheme("dog", ("right_ear", "left_ear", "nose"), crop_from="box")
        found = read_coco(coco_file(), scheme=scheme)
        assert found.scheme == scheme
        np.testing.assert_array_equal(found.landmarks[1], [[9, 9], [7, 8], [5, 6]])

    def test_the_only_one_with_keypoints(self, coco_file):
        one = [each for each in coco()["categories"] if each["name"] != "cat"]
        assert read_coco(coco_file(coco(categories=one))).scheme.name == "dog"

    def test_without_names(self, coco_file):
        bare = coco(categories=[{"id": 1, "name": "dog"}])
        found = read_coco(coco_file(bare))
        assert found.scheme == schemes.Scheme("dog", ("point_0", "point_1", "point_2"))

    @pytest.mark.parametrize("folder", ["images", "dogs_small2017", "small2017"])
    def test_folders_of_pictures(self, coco_file, tmp_path, folder):
        path = coco_file(name="dogs_small2017.json")
        (tmp_path / "root" / folder).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            (tmp_path / name).rename(tmp_path / "root" / folder / name)
        found = read_coco(path, tmp_path / "root", category="dog")
        assert found.paths[0] == tmp_path / "root" / folder / "a.png"

    def test_missing_picture(self, coco_file, tmp_path):
        path = coco_file()
        (tmp_path / "b.png").unlink()
        with pytest.raises(
            FileNotFoundError, match=r"dogs\.json, annotation id 18: .*b\.png; 1 of"
        ):
            read_coco(path, category="dog")
        assert len(read_coco(path, category="dog", missing_ok=True)) == 2

    def test_box_that_is_needed(self, coco_file):
        flat = annotation(30, [1, 2, 2, 3, 4, 2, 0, 0, 0], bbox=[1, 1, 0, 5])
        path = coco_file(coco(annotations=[flat]))
        with pytest.raises(KeypointError, match="annotation id 30: expected a box"):
            croppable(read_coco(path, category="dog", crop_from="box"))
        assert read_coco(path, category="dog").boxes is None

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"categories": [{"name": "dog"}]}, "categories with id, name"),
            ({"categories": [{"id": 1, "name": "dog", "keypoints": "nose"}]}, "list of keypoints"),
            ({"categories": 2 * [{"id": 1, "name": "dog"}]}, "'dog' once, not twice"),
            ({"categories": []}, "`category`.*one of .*'dog'"),
            (
                {"categories": [{"id": 1, "name": "dog", "keypoints": ["a", "a", "b"]}]},
                "point names must differ",
            ),
            (
                {
                    "categories": [
                        {"id": 1, "name": "dog", "keypoints": ["a", "b", "c"], "skeleton": [[0, 1]]}
                    ]
                },
                r"skeleton pairs of 1..3.*'0,1'",
            ),
            ({"images": [{"id": 7}]}, "images with id and file_name"),
            ({"images": 2 * [{"id": 7, "file_name": "a"}]}, "image id 7 once, not twice"),
            ({"annotations": [{"id": 1}]}, "image_id and category_id.* at index 0"),
            ({"annotations": []}, "labeled keypoints. Received: none in 0"),
            (
                {"annotations": [annotation(5, [1, 2])]},
                "annotation id 5: .* 2 numbers, no multiple",
            ),
            ({"annotations": [annotation(5, [1, 2, 2])]}, "annotation id 5: expected 3 keypoints"),
            ({"annotations": [annotation(5, [1, 2, 3] * 3)]}, "annotation id 5: .* v of 0, 1 or 2"),
            (
                {"annotations": [annotation(5, [1, 2, -1] * 3)]},
                "annotation id 5: .* v of 0, 1 or 2",
            ),
            (
                {"annotations": [annotation(5, [1, NAN, 2] * 3)]},
                "annotation id 5: .* for keypoints",
            ),
            ({"annotations": [annotation(5, [10**400] * 9)]}, "annotation id 5: .* for keypoints"),
            ({"annotations": [annotation(5, "12")]}, "annotation id 5: .* for keypoints"),
            ({"annotations": [annotation(5, ["1"] * 9)]}, "annotation id 5: .* for keypoints"),
            (
                {"annotations": [annotation(5, [1, 2, 2] * 3, bbox=[1, 2, 3])]},
                "annotation id 5: expected 4 numbers of pixels for bbox",
            ),
            (
                {"annotations": [annotation(5, [1, 2, 2] * 3, image_id=8)]},
                "annotation id 5: expected an image_id of `images`. Received: '8'",
            ),
            (
                {"annotations": [annotation(5, [1, 2, 2] * 3, image_id=[7])]},
                "annotation id 5: expected an image_id",
            ),
            (
                {"annotations": [annotation(i, [0.1, 0.2, 2, 1, 1, 2, 0, 0, 0]) for i in (1, 2)]},
                "4 points in 0..1, like fractions",
            ),
        ],
    )
    def test_malformed(self, coco_file, change, message):
        with pytest.raises(KeypointError, match=r"dogs\.json.*" + message):
            read_coco(coco_file(coco(**change)), category="dog")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is not valid JSON"),
            ("[1", "is not valid JSON"),
            ("[" * 100_000, "is not valid JSON"),
            ("[1, 2]", "expected a COCO keypoint file.*'1,2'"),
            ("null", "expected a COCO keypoint file.*'None'"),
            ('{"images": [], "annotations": {}}', r"Received: keys \['annotations', 'images'\]"),
        ],
    )
    def test_no_coco(self, coco_file, text, message):
        with pytest.raises(KeypointError, match=r"dogs\.json.*" + message):
            read_coco(coco_file(text))

    def test_categories_are_listed(self, coco_file):
        with pytest.raises(KeypointError, match=r"one of \['cat', 'dog'\]. Received: None"):
            read_coco(coco_file())
        with pytest.raises(KeypointError, match=r"one of \['cat', 'dog'\]. Received: 'horse'"):
            read_coco(coco_file(), category="horse")
