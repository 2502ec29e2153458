"""The benchmark of distillation: equal budgets, withheld labels, and the gain that it is there to show."""

import json
from pathlib import Path

import pytest

from detector.data.image_folder import open_train_and_val


@pytest.fixture(scope="module")
def distil(load_benchmark):
    return load_benchmark("distil")


def test_both_students_have_the_same_budget_and_one_of_them_a_tenth_of_the_labels(
    distil, tmp_path, monkeypatch, capsys
):
    """Without a training: what each of them would have had."""
    seen = {}

    def noted(recipe, resume):
        train_set, val_set = open_train_and_val(Path(recipe.data), recipe.crop, recipe.seed, recipe.unlabelled)
        files = [train_set.path(i).read_bytes() for i in range(len(train_set))]
        seen[Path(recipe.output).name] = recipe, train_set, files, len(val_set)
        Path(recipe.output).mkdir(parents=True)
        return {"top1": {"teacher": 90.0, "alone_3": 40.0, "alone_5": 55.0}.get(Path(recipe.output).name, 50.0)}

    monkeypatch.setattr(distil, "train_classifier", noted)
    monkeypatch.setattr(distil, "TESTED", 1)
    words = ["--pictures", "20", "--seeds", "3,5", "--epochs", "2", "--distill", "kl", "--output", str(tmp_path)]
    distil.main(words)
    assert list(seen) == ["teacher", "alone_3", "taught_3", "alone_5", "taught_5"]
    (teacher, whole, everything, tests), (alone, tenth, few, _), (taught, joined, mixed, _) = list(seen.values())[:3]
    assert (len(whole), len(tenth), len(joined), tests) == (160, 160, 160, 8)
    assert (whole.num_labelled, tenth.num_labelled, joined.num_labelled) == (160, 160, 16)
    assert sorted(mixed) == sorted(everything)
    assert len(set(everything)) == 160
    assert set(few) == set(mixed[:16])
    assert all(few.count(content) == 10 for content in few)
    assert not any(name in str(joined.path(i)) for name in distil.TEXTURES for i in range(16, 160))
    differing = {name for name, value in vars(alone).items() if vars(taught)[name] != value}
    assert differing == {"data", "output", "teacher", "teacher_weight", "distill", "unlabelled"}
    assert (teacher.epochs, alone.seed, taught.seed, taught.distill) == (2, 3, 3, "kl")
    assert taught.teacher_weight == str(tmp_path / "teacher" / "weights.pth")
    assert capsys.readouterr().out.splitlines()[-1] == "a gain in 1 of 2 seeds"
    content = json.loads((tmp_path / "distil.json").read_text())
    assert content["teacher"] == 90
    assert [row["gain"] for row in content["runs"]] == [10, -5]

    seen.clear()  # what is there is not trained again
    distil.main(words)
    assert not seen


def test_wrong_words_are_named(distil, tmp_path):
    with pytest.raises(SystemExit, match="error: --seeds 0 1: write whole numbers with commas"):
        distil.main(["--seeds", "0 1", "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: --pictures is 25; it must be a multiple of 10"):
        distil.main(["--pictures", "25", "--output", str(tmp_path)])


@pytest.mark.slow
def test_a_teacher_gains_in_every_seed_where_nine_tenths_of_the_labels_are_withheld(distil, tmp_path):
    """Minutes: seven trainings of 200 steps."""
    distil.main(["--output", str(tmp_path)])
    runs = json.loads((tmp_path / "distil.json").read_text())["runs"]
    assert [run["seed"] for run in runs] == [0, 1, 2]
    assert all(run["gain"] > 5 for run in runs)
