"""The fusion network: the original study's layers, and a recipe that trains, stops, saves and loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fuse_fixtures import cohort, config_for, labels_of

from thermocancer.classifiers.calibrated import CalibratedFitted
from thermocancer.classifiers.crossval import cross_validate
from thermocancer.classifiers.making import load_fitted, make_classifier
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError, DataError
from thermocancer.models.fusion import build_fusion
from thermocancer.workspace import VIEWS, Workspace

THREE = ("Frontal", "Right", "Left")
V1, V2 = (120, 160, 32), (60, 80, 32)


def conv(inputs: int, filters: int) -> int:
    return 9 * inputs * filters + filters


def dense(inputs: int, width: int) -> int:
    return (inputs + 1) * width


def branch(code: tuple[int, int, int], filters: tuple[int, ...], width: int) -> int:
    """Parameters of one branch, from the study's table: a pooling between two convolutions."""
    height, wide, channels = code
    total = 0
    for number, count in enumerate(filters):
        if number:
            height, wide = height // 2, wide // 2
        total += conv(channels, count)
        channels = count
    return total + dense(height * wide * channels, width)


def expected(code: tuple[int, int, int], views: tuple[str, ...]) -> int:
    table = {"Frontal": ((16, 8, 4), 400), "Left": ((8, 4, 2), 200), "Right": ((8, 4, 2), 200)}
    table |= {"Left45": ((3, 1), 200), "Right45": ((3, 1), 200)}
    joined = sum(table[view][1] for view in views)
    total, width = sum(branch(code, *table[view]) for view in views), joined
    for each in (600, 300, 150, 80, 40, 20, 10, 1):
        total += dense(width, each)
        width = each
    return total


@pytest.mark.parametrize("code", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("views", [("Frontal",), THREE, VIEWS], ids=["1 view", "3 views", "5 views"])
def test_parameters_are_the_original_networks(code: tuple[int, int, int], views: tuple[str, ...]) -> None:
    model = build_fusion(dict.fromkeys(views, code))
    assert model.count_params() == expected(code, views)
    assert [each.name for each in model.inputs] == list(views)


def test_layers_are_those_of_the_study() -> None:
    model = build_fusion(dict.fromkeys(VIEWS, V2))
    layers = {layer.name: layer for layer in model.layers}
    assert layers["Frontal_conv_3"].output.shape == (None, 15, 20, 4)
    assert layers["Left_conv_3"].output.shape == (None, 15, 20, 2)
    assert layers["Right45_conv_2"].output.shape == (None, 30, 40, 1)
    assert layers["joined"].output.shape == (None, 1200)
    assert layers["dropout"].rate == 0.2
    assert [layers[f"dense_{number}"].units for number in range(1, 8)] == [600, 300, 150, 80, 40, 20, 10]
    assert layers["score"].activation.__name__ == "sigmoid"
    relu = [layer for name, layer in layers.items() if "conv" in name or "dense" in name]
    assert all(layer.activation.__name__ == "relu" for layer in relu)


def test_what_it_cannot_join_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such view"):
        build_fusion({"Back": V2})
    with pytest.raises(ConfigError, match="too small"):
        build_fusion({"Frontal": (3, 4, 32)})
    with pytest.raises(ConfigError, match="needs a view"):
        build_fusion({})


def test_it_trains_in_each_fold_and_loads_again(tmp_path: Path) -> None:
    source, workspace = cohort(15, THREE), Workspace(tmp_path)
    config = config_for(workspace, fuse__untrained=True, fuse__epochs=2)
    recipe = make_classifier(config, workspace, name="network", views=THREE)
    rows, labels = np.arange(12), labels_of(source)[:12]
    fitted = recipe.fit(source, rows, labels, seed=3, fold="1.1")
    assert [entry["epoch"] for entry in fitted.history] == [1, 2]
    assert "val_loss" in fitted.history[0]
    assert isinstance(fitted, CalibratedFitted)
    assert fitted.inner is not None
    held = {source.exams[row].patient for row in fitted.inner.rows}
    assert 0 < len(held) < 12
    everyone = np.arange(len(source.exams))
    scores = fitted.scores(source, everyone)
    assert ((scores > 0) & (scores < 1)).all()
    assert fitted.scores(source, np.array([5])) == pytest.approx(scores[5])
    fitted.save(tmp_path / "model")
    loaded = load_fitted(tmp_path / "model", workspace)
    assert loaded.scores(source, everyone) == pytest.approx(scores, abs=1e-6)
    assert not list((tmp_path / "cache" / "fits").glob("*"))  # nothing is left of the checkpoints
    again = recipe.fit(source, rows, labels, seed=3, fold="1.1")
    assert np.array_equal(again.scores(source, everyone), scores)
    (tmp_path / "model" / "network.keras").write_bytes(b"no model")
    with pytest.raises(DataError, match="cannot be read"):
        load_fitted(tmp_path / "model", workspace)


def test_a_match_of_what_chooses_the_epoch_does_not_teach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the outer folds: a neighbour in time, of the other class, would teach the wrong answer to the date."""
    from thermocancer.data.matching import keep_matches_apart
    from thermocancer.training import fit

    plain, workspace = cohort(18, second_visits=0), Workspace(tmp_path)
    days = {"date_ordinal": np.arange(18.0) // 3 * 100, "room_celsius": np.full(18, 21.0)}
    source, parts = replace(plain, measured=days), {}
    config = config_for(workspace, fuse__untrained=True, fuse__epochs=1, cohort__match="choose", cohort__match_days=50)

    def seen(model: object, examples: object, *, validation: object, **_: object) -> None:
        parts.update(taught=examples.rows, held=validation.rows)
        raise StopIteration

    monkeypatch.setattr(fit, "fit_resumable", seen)
    recipe = make_classifier(config, workspace, name="network", views=("Frontal",))
    with pytest.raises(StopIteration):
        recipe.fit(source, np.arange(18), labels_of(source), seed=3, fold="1.1")
    (apart,) = keep_matches_apart(source, [Fold("1", np.arange(18), parts["held"])], config.cohort)
    matches = set(range(18)) - set(apart.train.tolist()) - set(parts["held"].tolist())
    assert matches
    assert not matches & set(parts["taught"].tolist())


def test_under_the_thesis_protocol_the_test_part_gives_the_validation_curve(tmp_path: Path) -> None:
    source, workspace = cohort(12), Workspace(tmp_path)
    config = config_for(workspace, fuse__untrained=True, fuse__epochs=1, split__protocol="thesis")
    fold = Fold("test", np.arange(8), np.arange(8, 14))
    recipe = make_classifier(config, workspace, name="network", views=("Frontal",), watched={"test": fold.test})
    result = cross_validate(recipe, source, [fold], seed=0, disjoint=False)
    assert result.thresholds == {"test": 0.5}
    assert "val_accuracy" in result.history[0]
    assert not result.inner


def test_the_table_of_layers_is_the_networks_and_the_diagram_shows_every_box_and_arrow() -> None:
    from xml.etree import ElementTree

    from thermocancer.models.summary import diagram, layers_of, read_table, table_of

    model = build_fusion(dict.fromkeys(("Frontal", "Left", "Right", "Left45", "Right45"), (16, 20, 32)))
    layers = layers_of(model)
    assert sum(each.parameters for each in layers) == model.count_params()
    by_name = {each.name: each for each in layers}
    assert set(by_name["joined"].after) == {
        f"{view}_dense" for view in ("Frontal", "Left", "Right", "Left45", "Right45")
    }
    assert by_name["joined"].output == "1200"
    first = by_name["Frontal_conv_1"]
    assert (first.kind, first.output, first.after) == ("Conv2D 3x3, relu", "16 x 20 x 16", ("Frontal",))
    assert first.parameters == 3 * 3 * 32 * 16 + 16
    assert by_name["Left45_pool_1"].kind == "MaxPooling2D 2x2"
    assert read_table(table_of(layers)) == layers
    drawn = ElementTree.fromstring(diagram("fusion <five>", layers))
    tags = [each.tag.rpartition("}")[2] for each in drawn.iter()]
    assert tags.count("rect") == len(layers)
    assert tags.count("line") == sum(len(each.after) for each in layers)
    places = [(each.get("x"), each.get("y")) for each in drawn.iter() if each.tag.endswith("rect")]
    assert len(set(places)) == len(places), "one box hides another"
