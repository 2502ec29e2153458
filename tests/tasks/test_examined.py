"""The detections of a run or a file, with the test set that they are of."""

import json

import numpy as np
import pytest
import torch

from detector.errors import UserError
from detector.evaluation.build import EVALUATORS
from detector.evaluation.results import read_results
from detector.tasks import examined
from detector.tasks.examined import examine_file, examine_run, load_truth, read_metrics

CATEGORIES = [{"id": 5, "name": "cat"}, {"id": 2, "name": "dog"}]


@pytest.fixture
def truth(tmp_path):
    """truth(name, ids): a set of some images without objects, and the entry that names it."""

    def write(name, ids=(7, 3)):
        images = [{"id": i, "file_name": f"{i}.jpg", "height": 20, "width": 30} for i in ids]
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"images": images, "annotations": [], "categories": CATEGORIES}))
        return f"{tmp_path / name}:{path}"

    return write


def rows(*pairs):
    return json.dumps([{"image_id": i, "category_id": k, "bbox": [1, 2, 3, 4], "score": 0.5} for i, k in pairs])


@pytest.fixture
def run(tmp_path):
    """run(entries, name, images): a run's folder that was tested on one of the entries. ap: in metrics.json."""

    def write(entries, name="val", images=2, folder="run", ap=-1.0, **config):
        path = tmp_path / folder
        path.mkdir(parents=True)
        measured = {"data": {"name": name, "images": images}, "config": {"DATASETS.TEST": entries, **config}}
        (path / "metrics.json").write_text(json.dumps({"AP": ap, "measured": measured}))
        (path / "results.json").write_text(rows((3, 5), (7, 2), (7, 5)))
        return path

    return write


def test_of_a_run(truth, run):
    folder = run([truth("val")])
    found = examine_run(str(folder))
    assert (found.name, found.run, found.measured["data"]["images"]) == ("run", folder, 2)
    assert (found.source.name, found.source.folder) == ("val", folder.parent / "val")
    assert found.found.image.tolist() == [0, 0, 1]
    assert found.found.labels.tolist() == [0, 1, 1]


def test_of_the_newest_test_of_a_real_run(tiny):
    from detector.tasks.detection import train

    cfg = tiny("SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()")
    train(cfg)
    found = examine_run(cfg.OUTPUT_DIR)
    assert (found.name, found.source.name, len(found.source.index)) == ("out", "val", 3)
    assert found.source.folder.is_dir()
    written = json.loads((found.run / "results.json").read_text())
    assert len(found.found.scores) == len(written)


def test_several_test_sets_are_told_apart_by_their_names(truth, run):
    entries = [truth("first", (1,)), truth("val")]
    assert examine_run(run(entries)).source.name == "val"
    with pytest.raises(UserError, match=r"the test set other is none of .*first.*val"):
        examine_run(run(entries, "other", folder="b"))
    # another one of them that is gone does not matter, the one that was tested does
    (run(entries, folder="c").parent / "first.json").unlink()
    assert examine_run(run(entries, folder="d")).source.name == "val"
    with pytest.raises(FileNotFoundError, match=r"first\.json"):
        examine_run(run(entries, "first", folder="e"))


def test_sets_of_one_name_are_counted(truth, run, tmp_path):
    """As `build_test_datasets` counts them, also where one of them is gone."""
    entries = [truth("val"), truth("deep/val"), truth("val_2")]
    homes = ["val", "deep/val", "val_2"]
    for name, home in zip(("val", "val_2", "val_2_2"), homes, strict=True):
        source = examine_run(run(entries, name, folder=f"run/{name}")).source
        assert (source.name, source.folder) == (name, tmp_path / home)
    (tmp_path / "val.json").unlink()
    assert examine_run(tmp_path / "run" / "val_2").source.folder == tmp_path / "deep" / "val"
    with pytest.raises(FileNotFoundError, match=r"val\.json"):
        examine_run(tmp_path / "run" / "val")


def test_each_of_several_tests_has_a_folder_of_its_own(truth, run, tmp_path):
    inner = run([truth("val")], folder="run/val")
    run([truth("test")], "test", folder="run/test")
    with pytest.raises(
        UserError, match=f"RUN {tmp_path / 'run'} was tested on test, val: write {tmp_path / 'run'}/test"
    ):
        examine_run(inner.parent)
    assert examine_run(inner).source.name == "val"


def test_a_folder_of_runs_is_no_run(truth, run, tmp_path):
    names = [f"fcos_net{k}_seed0" for k in range(6)]
    for name in names:
        run([truth("val")], folder=f"compared/{name}")
        (tmp_path / "compared" / name / "config.yaml").write_text("")
    folder = tmp_path / "compared"
    (folder / names[0] / "metrics.json").unlink()  # not tested: no example
    with pytest.raises(UserError) as caught:
        examine_run(folder)
    shown = f"{', '.join(names[:4])} and 2 others"
    assert str(caught.value) == (f"RUN {folder} is no run, but holds {shown}: name one of them, as {folder}/{names[1]}")
    for path in folder.glob("*/metrics.json"):
        path.unlink()
    with pytest.raises(UserError, match=rf"is no run, but holds .* name one of them, as {folder}/{names[0]}"):
        examine_run(folder)
    (folder / "config.yaml").write_text("")  # a run after all, beside whose files others lie
    with pytest.raises(FileNotFoundError, match=r"holds no metrics\.json and no results\.json: `detector test"):
        examine_run(folder)


def test_many_test_sets_are_not_all_named(truth, run, tmp_path):
    for k in range(7):
        run([truth("val")], folder=f"run/set{k}")
    with pytest.raises(UserError, match=r"was tested on set0, set1, set2, set3 and 3 others: write \S*/set0$"):
        examine_run(tmp_path / "run")


def test_one_set_under_another_name_or_root_is_found(truth, run, tmp_path):
    truth("val")
    found = examine_run(run(["val:val.json"], "renamed", **{"DATASETS.ROOT": str(tmp_path)}))
    assert found.source.name == "val"


def test_a_run_without_detections(truth, run, tmp_path):
    with pytest.raises(FileNotFoundError, match="RUN nowhere: there is no such folder"):
        examine_run("nowhere")
    folder = run([truth("val")])
    with pytest.raises(UserError, match=r"RUN .*results\.json is a file; write the run's folder, or --results"):
        examine_run(folder / "results.json")
    (folder / "results.json").unlink()
    with pytest.raises(FileNotFoundError, match=rf"holds no results\.json: `detector test {folder}` makes them"):
        examine_run(folder)
    (folder / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no metrics\.json and no results\.json: `detector test"):
        examine_run(folder)


def test_a_test_set_that_changed(truth, run):
    with pytest.raises(UserError, match=r"is of 5 images of val, which has 2 now; `detector test .*run` measures anew"):
        examine_run(run([truth("val")], images=5))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"{", "is no JSON"),
        (b'{"a": "\xff"}', "is no JSON"),
        (b"[]", "does not say what was measured"),
        (b'{"AP": 0.5}', "does not say what was measured"),
        (b'{"measured": {"data": {"name": "val"}}}', "does not say what was measured"),
    ],
)
def test_a_file_that_says_nothing(tmp_path, content, match):
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{match}.*`detector test {tmp_path}` writes it anew"):
        read_metrics(path)


@pytest.mark.parametrize("config", [{"DATASETS.TEST": []}, {"DATASETS.TEST": "val"}, {"DATASETS.ROOT": 3}])
def test_a_config_that_names_no_test_set(tmp_path, config):
    with pytest.raises(UserError, match="does not say which test set was measured; write --results FILE --truth"):
        examined.tested(
            {"data": {"name": "val", "images": 2}, "config": {"DATASETS.TEST": ["val"], **config}}, tmp_path
        )


def test_without_the_key_the_test_set_is_the_default(tmp_path):
    said = {"data": {"name": "coco_2017_val", "images": 5000}, "config": {"DATASETS.ROOT": str(tmp_path)}}
    with pytest.raises(FileNotFoundError, match="val2017"):
        examined.tested(said, tmp_path)


def write_voc(folder, pictures):
    """A folder in VOC's layout, without a list of classes; pictures: the class of the object in each."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for picture, label in pictures.items():
        place = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
        (folder / "Annotations" / f"{picture}.xml").write_text(
            f"<annotation><filename>{picture}.jpg</filename><size><width>20</width><height>20</height></size>"
            f"<object><name>{label}</name><bndbox>{place}</bndbox></object></annotation>"
        )
    (folder / "ImageSets/Main/test.txt").write_text("\n".join(pictures))
    return f"voc:{folder}:test"


@pytest.mark.parametrize(("key", "whole"), [("AP/", "AP"), ("VOC/AP50/", "VOC/AP")])
def test_classes_are_those_that_results_were_written_with(tmp_path, key, whole):
    """A folder without a list has the classes that occur; a model knows more, and its ids stand in the results."""
    entry = write_voc(tmp_path / "set", {"a": "dog", "b": "dog"})
    run = tmp_path / "run"
    run.mkdir()
    measured = {"data": {"name": "set_test", "images": 2}, "config": {"DATASETS.TEST": [entry]}}
    metrics = {whole: 0.0, f"{key}cat": -1.0, f"{key}dog": 0.0, "measured": measured}
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "results.json").write_text(rows(("a", 2), ("b", 1)))
    found = examine_run(run)
    assert (found.source.index.classes, found.source.index.category_ids) == (["cat", "dog"], [1, 2])
    assert found.source.index.labels.tolist() == [1, 1]
    assert found.found.labels.tolist() == [1, 0]
    write_voc(tmp_path / "set", {"a": "dog", "b": "bird"})
    with pytest.raises(UserError, match=r"is of the classes 'cat', 'dog', and .* has 'bird' now; `detector test"):
        examine_run(run)


def test_a_listed_class_that_the_model_has_besides(truth, run):
    folder = run([truth("val")])
    content = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({"AP/bird": -1.0, "AP/cat": -1.0, "AP/dog": -1.0, **content}))
    (folder / "results.json").write_text(rows((7, 6), (7, 5), (7, 2)))
    found = examine_run(folder)
    assert (found.source.index.classes, found.source.index.category_ids) == (["bird", "cat", "dog"], [6, 5, 2])
    assert found.found.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("objects", [True, False])
def test_crowds_are_objects_where_they_were_measured_as_such(truth, run, tmp_path, objects):
    entry = truth("val")
    content = json.loads((tmp_path / "val.json").read_text())
    box = {"bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 1}
    content["annotations"] = [{"id": 1, "image_id": 7, "category_id": 5, **box}]
    (tmp_path / "val.json").write_text(json.dumps(content))
    config = {"ap": 0.5, "DATASETS.CROWDS": "objects"} if objects else {}  # the second of two detections is right
    assert examine_run(run([entry], **config)).source.index.crowd.tolist() == [not objects]


@pytest.fixture
def measured_run(truth, run, tmp_path):
    """measured_run("coco", ..): a run with the numbers of these evaluators, and of one that is not ours."""

    def write(*names):
        entry = truth("val")
        objects = [
            {"id": i, "image_id": image, "category_id": k, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
            for i, (image, k) in enumerate([(7, 5), (3, 5), (3, 2)])
        ]
        (tmp_path / "val.json").write_text(
            json.dumps({**json.loads((tmp_path / "val.json").read_text()), "annotations": objects})
        )
        folder = run([entry])
        source = load_truth(entry, "")
        metrics = {"mine/AP": 0.25}
        for name in names:
            evaluator = EVALUATORS[name](source)
            image, xywh, labels, scores = read_results(folder / "results.json", source.index)
            boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
            for place, image_id in enumerate((7, 3)):
                mine = image == place
                found = {"boxes": boxes[mine], "labels": labels[mine], "scores": scores[mine]}
                evaluator.add(
                    [{key: torch.from_numpy(value) for key, value in found.items()}], [{"image_id": image_id}]
                )
            metrics |= evaluator.compute()
        content = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**metrics, "measured": content["measured"]}))
        return folder

    return write


@pytest.mark.parametrize(
    ("evaluators", "what"), [(["coco"], "AP"), (["voc"], "VOC/AP"), (["voc", "coco"], "AP"), ([], None)]
)
def test_numbers_are_those_of_the_detections_and_the_truth(measured_run, tmp_path, evaluators, what):
    folder = measured_run(*evaluators)
    assert len(examine_run(folder).found.scores) == 3
    results, path = (folder / "results.json").read_text(), tmp_path / "val.json"
    (folder / "results.json").write_text(rows((3, 5)))
    if what is None:  # nothing that could be measured again
        assert len(examine_run(folder).found.scores) == 1
        return
    told = rf"^{folder}/metrics\.json has {what} 0\.\d{{4}} where results\.json .* 0\.\d{{4}} .* of {path}: "
    with pytest.raises(UserError, match=f"{told}one of the three was changed .*; `detector test {folder}` measures"):
        examine_run(folder)
    (folder / "results.json").write_text(results)
    examine_run(folder)
    path.write_text(path.read_text().replace("[1, 2, 3, 4]", "[1, 2, 9, 4]", 1))
    with pytest.raises(UserError, match=told):
        examine_run(folder)


def test_numbers_of_one_class_alone(measured_run):
    folder = measured_run("coco")
    content = json.loads((folder / "metrics.json").read_text())
    content |= {"AP/cat": content["AP/cat"] + 1e-9, "AP/dog": 0.75}
    (folder / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"has AP/dog 0\.7500 where"):
        examine_run(folder)
    for rounded in (None, "0.1"):  # written by something else
        (folder / "metrics.json").write_text(json.dumps({**content, "AP/dog": rounded}))
        examine_run(folder)


@pytest.mark.parametrize(("asked", "refused"), [(["mine"], False), (["mine", "coco"], True), (["auto"], True)])
def test_an_evaluator_that_is_not_ours_may_have_our_names(truth, run, asked, refused):
    folder = run([truth("val")], ap=0.25, **{"TEST.EVALUATOR": asked})
    if refused:
        with pytest.raises(UserError, match=r"has AP 0\.2500 where"):
            examine_run(folder)
    else:
        examine_run(folder)


def test_of_several_tests_the_run_is_the_remedy(measured_run, tmp_path):
    folder = measured_run("coco")
    (folder / "config.yaml").write_text("")
    inner = folder / "val"
    inner.mkdir()
    (folder / "metrics.json").rename(inner / "metrics.json")
    (inner / "results.json").write_text("[]")
    with pytest.raises(UserError, match=rf"`detector test {folder}` measures anew"):
        examine_run(inner)


@pytest.mark.parametrize(("file", "name"), [("net.json", "net"), ("deep/results.json", "deep")])
def test_of_a_file(truth, tmp_path, file, name):
    truth("val")
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(rows((3, 5)))
    found = examine_file(path, str(tmp_path / "val.json"), "")
    assert (found.name, found.run, found.measured) == (name, None, {})
    assert (found.source.name, found.source.folder, found.found.image.tolist()) == ("val", tmp_path, [1])


def test_a_truth_is_a_file_or_an_entry(truth, tmp_path):
    entry = truth("val")
    assert load_truth(str(tmp_path / "val.json"), "").folder == tmp_path
    assert load_truth(entry, "").folder == tmp_path / "val"
    assert load_truth("val:val.json", tmp_path).folder == tmp_path / "val"
    with pytest.raises(FileNotFoundError, match=r"--truth none\.json: there is no such file of annotations"):
        load_truth("none.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        load_truth("val:none.json", tmp_path)
    with pytest.raises(KeyError, match="unknown dataset 'none'"):
        load_truth("none", tmp_path)
