import json

import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.data import read_coco
from keras_lapkl.data.images import ImageError
from keras_lapkl.data.keypoints import KeypointError, croppable
from keras_lapkl.data.readers.coco import read_coco_names

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

    @pytest.mark.parametrize(
        "root",
        [
            {"id": 0, "name": "dog", "supercategory": "none"},
            {"id": 0, "name": "dog", "keypoints": None},
            {"id": "0", "name": "dog", "keypoints": [], "skeleton": []},
            {"id": 0, "name": "dog", "keypoints": ["nose"]},  # of no object
        ],
    )
    @pytest.mark.parametrize("category", ["dog", None])
    def test_root_categories(self, coco_file, root, category):
        dog = coco()["categories"][0]
        for categories in ([root, dog], [dog, root]):
            found = read_coco(coco_file(coco(categories=categories)), category=category)
            assert found.scheme.names == ("nose", "left_ear", "right_ear") and len(found) == 2

    def test_no_categories(self, coco_file):
        with pytest.raises(KeypointError, match="an empty list of categories"):
            read_coco(coco_file(coco(categories=[])))

    def test_a_root_category_without_any_names(self, coco_file):
        categories = [{"id": 0, "name": "all"}, {"id": 1, "name": "dog"}]
        found = read_coco(coco_file(coco(categories=categories)))
        assert found.scheme.name == "dog" and found.scheme.num_landmarks == 3
        assert "1 of a category that the file has not left out" in found.summary  # the cat

    @pytest.mark.parametrize(
        ("skeleton", "edges"),
        [
            ([[1, 2], [1, 3]], ((0, 1), (0, 2))),
            ([[0, 1], [0, 2]], ((0, 1), (0, 2))),
            ([["1", 2.0], ["1", "3"]], ((0, 1), (0, 2))),
            ([["nose", "left_ear"]], ((0, 1),)),
            ([], ()),
            (None, ()),
        ],
    )
    def test_skeletons(self, coco_file, caplog, skeleton, edges):
        categories = [{**coco()["categories"][0], "skeleton": skeleton}]
        found = read_coco(coco_file(coco(categories=categories)))
        assert found.scheme.edges == edges and "skeleton" not in caplog.text

    @pytest.mark.parametrize(
        "skeleton",
        [
            [[0, 3]],
            [[1, 4]],
            [[1, -2]],
            [[1, 2, 3]],
            [["nose", 1]],
            [["nose", "tail"]],
            "nose",
            [3],
        ],
    )
    def test_skeletons_that_are_left_out(self, coco_file, caplog, skeleton):
        categories = [{**coco()["categories"][0], "skeleton": skeleton}]
        found = read_coco(coco_file(coco(categories=categories)))
        assert found.scheme.edges == () and len(found) == 2
        assert caplog.text.count("its skeleton is left out") == 1

    def test_ids_as_text_and_as_numbers(self, coco_file):
        content = coco()
        for each in content["annotations"]:
            each["image_id"], each["category_id"] = (
                str(each["image_id"]),
                float(each["category_id"]),
            )
        found = read_coco(coco_file(content), category="dog")
        assert len(found) == 2 and found.paths[0].name == "a.png"

    @pytest.mark.parametrize("size", [("64", "48"), (64.0, 48.0), ("64.0", 48)])
    def test_sizes_as_text_or_float(self, coco_file, size):
        content = coco()
        content["images"][0].update(zip(("width", "height"), size, strict=True))
        found = read_coco(coco_file(content), category="dog")
        np.testing.assert_array_equal(found.sizes, [[64, 48], [0, 0]])
        with pytest.raises(ImageError, match="64x48 pixels"):
            found.check_size(0, (48, 64))

    @pytest.mark.parametrize(
        ("crowd", "count"), [("0", 2), (False, 2), (None, 2), ("1", 1), (1, 1)]
    )
    def test_crowds(self, coco_file, crowd, count):
        content = coco()
        mask = {"counts": "abc", "size": [48, 64]}
        content["annotations"][0].update(iscrowd=crowd, segmentation=mask)
        assert len(read_coco(coco_file(content), category="dog")) == count

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

    def test_folder_of_the_file_before_images(self, coco_file, tmp_path):
        """`images` may hold those of another split, which count from 1 too."""
        path = coco_file(name="val.json")
        for folder in ("images", "val"):
            (tmp_path / "root" / folder).mkdir(parents=True)
            for name in ("a.png", "b.png"):
                (tmp_path / "root" / folder / name).touch()
        found = read_coco(path, tmp_path / "root", category="dog")
        assert found.paths[0] == tmp_path / "root/val/a.png"

    def test_one_name_of_two_pictures(self, coco_file, tmp_path):
        """coco-annotator has the folders in `path` alone."""
        images = coco()["images"]
        images[1]["file_name"] = "a.png"
        path = coco_file(coco(images=images))
        message = "a picture of its own for each image id. Received: 'a.png' of ids 7, b. Where"
        with pytest.raises(KeypointError, match=message):
            read_coco(path, category="dog")
        for image, folder in zip(images, "xy", strict=True):
            image["path"] = f"/datasets/dogs/{folder}/a.png"
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "a.png").touch()
        found = read_coco(coco_file(coco(images=images)), category="dog")
        assert found.paths == (tmp_path / "x/a.png", tmp_path / "y/a.png")
        scheme = schemes.Scheme("dog", ("right_ear", "left_ear", "nose"))
        assert read_coco_names(path, None, scheme).pictures["b"] == str(tmp_path / "y/a.png")

    def test_one_name_of_a_picture_without_objects(self, coco_file, tmp_path):
        """Or with those of another category, or without labeled points."""
        images = [*coco()["images"], {"id": "c", "file_name": "a.png"}]
        others = [
            annotation(30, [5, 6, 2, 7, 8, 2], image_id="c", category_id=2),
            annotation(31, [0, 0, 0, 0, 0, 0, 0, 0, 0], image_id="c"),
        ]
        path = coco_file(coco(images=images, annotations=coco()["annotations"] + others))
        assert read_coco(path, category="dog").paths == (tmp_path / "a.png", tmp_path / "b.png")

    def test_a_record_of_the_picture_for_each_object(self, coco_file, tmp_path):
        (tmp_path / "cam").mkdir()
        (tmp_path / "cam/a.png").touch()
        for record in ({"file_name": "cam/a.png"}, {"file_name": "a.png", "path": "/d/cam/a.png"}):
            images = [{**each, **record} for each in coco()["images"]]
            found = read_coco(coco_file(coco(images=images)), category="dog")
            assert found.paths == (tmp_path / "cam/a.png",) * 2

    def test_paths_that_are_none(self, coco_file):
        for wrong in (["a.png"], "/d/b.png", None):
            images = [{**each, "file_name": "a.png", "path": wrong} for each in coco()["images"]]
            with pytest.raises(KeypointError, match=r"'a\.png' of ids 7, b"):
                read_coco(coco_file(coco(images=images)), category="dog")

    def test_missing_picture(self, coco_file, tmp_path):
        path = coco_file()
        (tmp_path / "b.png").unlink()
        with pytest.raises(
            FileNotFoundError, match=r"dogs\.json, annotation id 18: .*b\.png; 1 of"
        ):
            read_coco(path, category="dog")
        assert len(read_coco(path, category="dog", missing_ok=True)) == 2

    def test_a_missing_picture_does_not_move_the_others(self, coco_file, tmp_path):
        """Whichever it is: the first one too."""
        path = coco_file()
        (tmp_path / "images").mkdir()
        for here, missing in (("b.png", "a.png"), ("a.png", "b.png")):
            for name in ("a.png", "b.png"):
                (tmp_path / name).unlink(missing_ok=True)
                (tmp_path / "images" / name).unlink(missing_ok=True)
            (tmp_path / "images" / here).touch()
            with pytest.raises(FileNotFoundError, match=rf"images/{missing}; 1 of 2 are missing"):
                read_coco(path, category="dog")
            found = read_coco(path, category="dog", missing_ok=True)
            assert found.paths == (tmp_path / "images/a.png", tmp_path / "images/b.png")

    def test_names_of_results(self, coco_file, tmp_path):
        scheme = schemes.Scheme("dog", ("right_ear", "left_ear", "nose"))
        found = read_coco_names(coco_file(), None, scheme)
        assert found.pictures == {"7": str(tmp_path / "a.png"), "b": str(tmp_path / "b.png")}
        assert (found.category, found.order) == ("1", (2, 1, 0))

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
                {"categories": [{"id": i, "name": "dog", "keypoints": ["a"]} for i in (1, 2)]},
                "'dog' once, not twice.*ids 1, 2",
            ),
            ({"images": [{"id": i, "file_name": "a"} for i in (7, "7")]}, "image id 7 once"),
            ({"images": [{"id": True, "file_name": "a"}]}, "images with id and file_name"),
            (
                {"images": [{"id": 7, "file_name": "a.png", "width": "wide", "height": 5}]},
                "image id 7: expected a width in whole pixels.*'wide'",
            ),
            (
                {"images": [{"id": 7, "file_name": "a.png", "width": 64, "height": 48.5}]},
                "image id 7: expected a height in whole pixels.*'48.5'",
            ),
            (
                {"annotations": [annotation(5, [1, 2, 2] * 3, iscrowd="maybe")]},
                "annotation id 5: expected 0 or 1 as iscrowd",
            ),
            (
                {"annotations": [annotation(5, [1, 2, True] * 3)]},
                "annotation id 5: .* for keypoints",
            ),
            (
                {"annotations": [annotation(5, [1, 2, 2] * 3, bbox=["1"] * 4)]},
                "annotation id 5: expected 4 numbers of pixels for bbox",
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
                {"annotations": [annotation(5, [1, 2, 0.8] * 3)]},
                "annotation id 5: .* v of 0, 1 or 2",
            ),
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
            ('{"shapes": [], "imagePath": "a.png"}', "a file of labelme. Convert labels"),
            ('{"_via_img_metadata": {}}', "VGG Image Annotator"),
            ('[{"id": 1, "data": {}, "annotations": []}]', "an export of Label Studio"),
            ('[{"image_id": 1, "category_id": 1, "score": 1}]', "results, which are predictions"),
            ('{"scheme": {}, "pictures": []}', "predictions of lapkl"),
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
