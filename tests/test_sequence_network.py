"""The sequence network: the original one layer by layer, its variants, cached and uncached training alike."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from sequence_fixtures import in_memory, tiny_config

from thermocancer import strategy
from thermocancer.classifiers.making import asked_for, load_fitted
from thermocancer.classifiers.sequence.family import SequenceFamily
from thermocancer.classifiers.sequence.network import SequenceClassifier
from thermocancer.classifiers.sequence.readers import FrameReaders
from thermocancer.config.learning import StrategySection
from thermocancer.data.cohort import ChangedCohort
from thermocancer.errors import Interrupted
from thermocancer.kinds import DIT, only_kind_of
from thermocancer.workspace import Workspace

ROWS = np.arange(8)


@pytest.fixture(scope="module", autouse=True)
def running():
    return strategy.set_up(StrategySection(backend="tensorflow"), 0)


def method(root, **options) -> SequenceClassifier:
    workspace = Workspace(root)
    config = tiny_config(workspace, **options)
    return SequenceClassifier("sequence", config, workspace, FrameReaders(config, workspace))


def train(method: SequenceClassifier, source, *, seed: int = 0):
    labels = np.array([exam.label for exam in source.exams])
    return method.fit(source, np.arange(len(labels)), labels, seed=seed, fold="test")


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> SequenceClassifier:
    """One method whose compiled head several tests train anew."""
    return method(tmp_path_factory.mktemp("shared"))


UNCACHED = {"dit__augment": 1, "dit__class_weights": True, "dit__channels": ["frame", "difference"]}


@pytest.fixture(scope="module")
def uncached(tmp_path_factory):
    """The network trained end to end, its frozen backbone computing every frame anew."""
    return train(method(tmp_path_factory.mktemp("uncached"), dit__cache=False, **UNCACHED), in_memory())


def test_the_original_network_layer_by_layer() -> None:
    from thermocancer.models.sequence import build_head

    model = build_head(10, 2048, reader="lstm", units=24, dropout=0.2)
    found = [(type(layer).__name__, tuple(layer.output.shape[1:]), layer.count_params()) for layer in model.layers]
    assert found == [
        ("InputLayer", (10, 2048), 0),
        ("BatchNormalization", (10, 2048), 4 * 2048),
        ("LSTM", (24,), 4 * 24 * (2048 + 24 + 1)),
        ("Dropout", (24,), 0),
        ("Dense", (8,), 24 * 8 + 8),
        ("Dropout", (8,), 0),
        ("Dense", (4,), 8 * 4 + 4),
        ("Dense", (1,), 5),
    ]
    activations = [layer.activation.__name__ for layer in model.layers if type(layer).__name__ == "Dense"]
    assert activations == ["linear", "linear", "sigmoid"]
    assert [layer.rate for layer in model.layers if type(layer).__name__ == "Dropout"] == [0.2, 0.2]


def test_the_original_optimiser(tmp_path) -> None:
    from thermocancer.classifiers.sequence.network import HeadSlot

    options = {"loss": "mse", "learning_rate": 1e-3}
    config = method(tmp_path, **{f"dit__{key}": value for key, value in options.items()}).config
    model = HeadSlot.build(config.dit, 10, 8).model
    optimizer = model.optimizer
    assert type(optimizer).__name__ == "AdamW"
    assert (float(optimizer.learning_rate), optimizer.weight_decay, optimizer.ema_momentum) == (
        pytest.approx(1e-3), 0.1, 0.8,
    )  # fmt: skip
    assert model.loss == "mean_squared_error"


@pytest.mark.parametrize("reader", ["lstm", "gru", "tcn", "attention"])
def test_every_head_sees_the_order_of_frames(reader: str) -> None:
    from thermocancer.models.layers import initialise
    from thermocancer.models.sequence import build_head

    model = build_head(5, 3, reader=reader, units=6, dropout=0.2)
    initialise(model, 1)
    frames = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    scores, backwards = np.asarray(model(frames)), np.asarray(model(frames[:, ::-1]))
    assert scores.shape == (2, 1)
    assert ((scores > 0) & (scores < 1)).all()
    assert (abs(scores - backwards) > 1e-6).all()


def test_time_in_the_batch_is_frame_by_frame() -> None:
    from thermocancer.models.backbones import build_backbone
    from thermocancer.models.sequence import build_head, join_backbone

    backbone, head = build_backbone("random", (8, 10)), build_head(3, 128, reader="gru", units=4, dropout=0.2)
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, 2, 8, 10, 3)).astype(np.float32)
    joined = join_backbone(backbone, head, channels=2)
    features = [[np.concatenate([backbone(image[None])[0] for image in frame]) for frame in exam] for exam in images]
    np.testing.assert_allclose(joined(images), head(np.array(features)), atol=1e-6)


def test_cached_features_give_the_scores_of_the_uncached_network(tmp_path, uncached) -> None:
    source = in_memory()
    cached = train(method(tmp_path, **UNCACHED), source)
    np.testing.assert_allclose(cached.decisions(source, ROWS), uncached.decisions(source, ROWS), atol=2e-3)
    assert [row["loss"] for row in cached.history] == pytest.approx([row["loss"] for row in uncached.history], abs=1e-3)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(shared) -> None:
    source = in_memory()
    first, again, other = train(shared, source), train(shared, source), train(shared, source, seed=1)
    assert all(np.array_equal(*pair) for pair in zip(first.weights, again.weights, strict=True))
    assert not np.array_equal(first.decisions(source, ROWS), other.decisions(source, ROWS))


class Stopping(ChangedCohort):
    """Sequences that send SIGTERM to this process when they are read for the 50th time."""

    reads = 0

    def frames(self, view, rows, indices=None):
        self.reads += 1
        if self.reads == 50:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().frames(view, rows, indices)


def test_interrupted_and_resumed_it_ends_with_the_same_weights(tmp_path, uncached) -> None:
    source, stopped = in_memory(), method(tmp_path, dit__cache=False, **UNCACHED)
    with pytest.raises(Interrupted):
        train(stopped, Stopping(source))
    assert list((tmp_path / "cache/fits").iterdir())
    resumed = train(stopped, source)
    assert all(np.array_equal(*pair) for pair in zip(uncached.weights, resumed.weights, strict=True))
    assert list(resumed.history) == list(uncached.history)
    assert not list((tmp_path / "cache/fits").iterdir())


def test_fine_tuning_changes_a_copy_of_the_backbone(tmp_path) -> None:
    source, tuning = in_memory(), method(tmp_path, dit__finetune=True, dit__epochs=2)
    model = train(tuning, source)
    before, after = tuning.readers.of("test").model.get_weights(), model.reader.model.get_weights()
    changed = [not np.array_equal(*pair) for pair in zip(before, after, strict=True)]
    assert changed == [False, False, False, False, True, True]
    assert model.reader.weights != tuning.readers.of("test").weights


def test_early_stopping_watches_patients_held_out(tmp_path, shared) -> None:
    source = in_memory(20)
    patient = method(tmp_path, dit__patience=2, dit__epochs=40)
    patient._slots.update(shared._slots)  # the same head, compiled already
    chance = np.random.default_rng(0).permutation([exam.label for exam in source.exams])
    model = patient.fit(source, np.arange(20), chance, seed=0, fold="test")
    assert "val_loss" in model.history[0]
    assert len(model.history) < 40


def test_a_saved_network_scores_alike(tmp_path, shared) -> None:
    source = in_memory()
    labels = np.array([exam.label for exam in source.exams])
    asked = asked_for(shared.config, shared.workspace)
    calibrated = SequenceFamily(only_kind_of(DIT)).calibrated(shared, asked)
    fitted = calibrated.fit(source, ROWS, labels, seed=0, fold="test")
    fitted.save(tmp_path / "model")
    loaded = load_fitted(tmp_path / "model", Workspace(tmp_path))
    np.testing.assert_allclose(loaded.scores(source, ROWS), fitted.scores(source, ROWS), atol=1e-6)
    assert loaded.threshold == fitted.threshold
    assert [row["epoch"] for row in fitted.history] == list(range(1, 13))


def test_it_learns_what_is_there(shared) -> None:
    source = in_memory(16)
    labels = np.array([exam.label for exam in source.exams])
    model = shared.fit(source, np.arange(10), labels[:10], seed=0, fold="test")
    scores = model.decisions(source, np.arange(10, 16))
    assert scores[labels[10:] == 1].min() > scores[labels[10:] == 0].max()
