"""The audit: numbers against the library, files good and bad, few labels and a million rows."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from w2s_lib import KL, ledger
from w2s_lib.audit import audit, main, picture, read


def pair(n=600, K=3, seed=0, student_noise=0.5):
    rng = np.random.default_rng(seed)
    truth = 2 * rng.normal(size=(n, K))
    labels = (truth + rng.gumbel(size=(n, K))).argmax(1)
    return labels, truth + 2 * rng.normal(size=(n, K)), truth + student_noise * rng.normal(size=(n, K))


def write_csv(path, labels, teacher, student, order=None):
    K = teacher.shape[1]
    names = ["label", *(f"{role}_{k}" for role in ("teacher", "student") for k in range(K))]
    table = np.column_stack([labels, teacher, student])
    order = range(len(names)) if order is None else order
    rows = [",".join(names[c] for c in order)]
    rows += [",".join("" if np.isnan(r[c]) else repr(float(r[c])) for c in order) for r in table]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_numbers_are_those_of_the_library():
    labels, teacher, student = pair()
    found, book = audit(labels, teacher, student), ledger(labels, teacher, student)
    assert found.book.gain == book.gain and found.labelled == found.inputs == 600
    assert found.student_accuracy.value == np.mean(student.argmax(1) == labels)
    p = KL.mean(student)
    assert found.student_entropy.value == pytest.approx(-(p * np.log(p)).sum(1).mean())
    assert found.unlabelled_misfit.value == pytest.approx(book.misfit.value)
    assert found.split.residual.value == pytest.approx(book.residual.value)
    assert "it beats its teacher" in found.reading()[0]
    swapped = audit(labels, student, teacher)
    assert "does worse" in swapped.reading()[0]
    probabilities = audit(labels, KL.mean(teacher), KL.mean(student), probabilities=True)
    assert probabilities.book.gain.value == pytest.approx(book.gain.value)


def test_calibration_error_is_zero_for_the_truth_and_not_for_an_over_confident_model():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    found = audit(labels, logits, 3 * logits)
    assert found.teacher_calibration < 0.02 < 0.2 < found.student_calibration


def test_missing_labels_count_for_the_misfit_alone():
    labels, teacher, student = pair()
    some = np.where(np.arange(600) < 100, labels, -1)
    found = audit(some, teacher, student)
    assert found.labelled == 100
    assert found.book.gain.value == pytest.approx(ledger(labels[:100], teacher[:100], student[:100]).gain.value)
    assert found.unlabelled_misfit.value == pytest.approx(ledger(labels, teacher, student).misfit.value)
    none = audit(np.full(600, np.nan), teacher, student)
    assert none.book is None and "only labels show the residual" in " ".join(none.reading())
    assert "misfit" in str(none) and "gain" not in none.as_dict()


def test_few_labels_give_wide_answers_that_cover():
    """20 labels: intervals of the gain cover that of 200,000 inputs in at least 90% of 200 draws, and are wide."""
    rng = np.random.default_rng(1)
    labels, teacher, student = pair(200_000, student_noise=1.8)
    gain = ledger(labels, teacher, student).gain.value
    hits, widths = 0, []
    for _ in range(200):
        rows = rng.choice(len(labels), 20, replace=False)
        low, high = audit(labels[rows], teacher[rows], student[rows]).book.gain.interval()
        hits += low < gain < high
        widths.append(high - low)
    assert hits >= 180 and np.median(widths) > 0.5
    assert "cannot tell" in audit(labels[:20], teacher[:20], student[:20]).reading()[0]


def test_equal_models_have_an_empty_ledger():
    labels, teacher, _ = pair()
    found = audit(labels, teacher, teacher)
    assert found.book.misfit.value == 0 and found.blend is None and found.agreement.value == 1


def test_files_give_what_arrays_give(tmp_path, capsys):
    labels, teacher, student = pair(200)
    some = np.where(np.arange(200) < 150, labels, np.nan)
    expected = str(audit(some, teacher, student))
    csv = write_csv(tmp_path / "pair.csv", some, teacher, student)
    mixed = write_csv(tmp_path / "mixed.csv", some, teacher, student, order=[3, 0, 6, 1, 5, 2, 4])
    np.savez(tmp_path / "pair.npz", labels=some, teacher=teacher, student=student)
    for path in (csv, mixed, tmp_path / "pair.npz"):
        assert main([str(path)]) == 0
        assert capsys.readouterr().out.strip() == expected.strip()
    main([str(csv), "--json"])
    out = json.loads(capsys.readouterr().out)
    assert out["labelled"] == 150 and out["gain"]["interval"][0] < out["gain"]["value"] < out["gain"]["interval"][1]
    write_csv(tmp_path / "p.csv", some, KL.mean(teacher), KL.mean(student))
    main([str(tmp_path / "p.csv"), "--probabilities", "--json"])
    assert json.loads(capsys.readouterr().out)["gain"]["value"] == pytest.approx(out["gain"]["value"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.__setitem__(3, r[3].replace(",", ",x", 1)), r"row 4, column teacher_0: 'x.*' is not a number"),
        (lambda r: r.__setitem__(150, r[150] + ",1"), r"row 151: 8 cells, the header has 7"),
        (lambda r: r.__setitem__(9, r[9].rpartition(",")[0] + ",inf"), r"row 10, column student_2: .*not finite"),
        (lambda r: r.__setitem__(9, r[9].rpartition(",")[0] + ","), r"row 10, column student_2: '' is not a number"),
        (lambda r: r.__setitem__(0, r[0].replace("student_2", "pupil_2")), r"row 1: the columns must be label, teach"),
        (lambda r: r.__setitem__(slice(1, None), []), r"has no rows below the header"),
        (lambda r: r.__setitem__(5, "7" + r[5][r[5].index(",") :]), r"labels: class labels must lie in 0\.\.2"),
    ],
)
def test_malformed_files_are_named(tmp_path, capsys, change, message):
    path = write_csv(tmp_path / "pair.csv", *pair(200))
    rows = path.read_text().splitlines()
    change(rows)
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(SystemExit) as stop:
        main([str(path)])
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_other_bad_input(tmp_path):
    labels, teacher, student = pair(50)
    for argument, call in {
        "student": lambda: audit(labels, teacher, student[:, :2]),
        "labels": lambda: audit(labels[:3], teacher, student),
        "y": lambda: audit(labels, teacher, student, probabilities=True),
    }.items():
        with pytest.raises(ValueError, match=rf"^{argument}: "):
            call()
    np.savez(tmp_path / "a.npz", labels=labels, teacher=teacher)
    with pytest.raises(ValueError, match="has no array named student"):
        read(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"must be a \.npz or a \.csv"):
        read(tmp_path / "a.txt")


def test_command_line():
    run = subprocess.run([sys.executable, "-m", "w2s_lib"], capture_output=True, text=True)
    assert run.returncode == 1 and "usage: python -m w2s_lib audit FILE" in run.stderr
    run = subprocess.run([sys.executable, "-m", "w2s_lib", "audit", "nowhere.csv"], capture_output=True, text=True)
    assert run.returncode == 2 and "nowhere.csv" in run.stderr


def test_picture_shows_the_ledger():
    import matplotlib.pyplot as plt

    figure = picture(audit(*pair()))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()][2:] == ["gain", "misfit", "residual"]
    plt.close(figure)


MILLION = """
import sys, time
from pathlib import Path
import numpy as np
from w2s_lib.audit import audit, read
def used():
    rows = Path("/proc/self/status").read_text().splitlines()
    return time.process_time(), next(int(x.split()[1]) for x in rows if x.startswith("VmHWM")) / 1e6

before, data = used(), read(sys.argv[1])
if sys.argv[1].endswith("npz"):
    data = [np.concatenate([x] * 1000) for x in data]
    before = used()
found = audit(*data)
print(found.inputs, *(b - a for a, b in zip(before, used())))
"""


@pytest.mark.parametrize(("classes", "limit"), [(2, 1.5), (10, 1.0)])
def test_a_million_rows(tmp_path, classes, limit):
    """Two classes as text, ten as arrays: under 10 s of CPU time, and at most `limit` GB more than was there before."""
    labels, teacher, student = pair(1000, classes)
    if classes == 2:
        path = write_csv(tmp_path / "pair.csv", labels, teacher, student)
        header, *rows = path.read_text().splitlines(keepends=True)
        path.write_text(header + "".join(rows) * 1000)
    else:
        path = tmp_path / "pair.npz"
        np.savez(path, labels=labels, teacher=teacher, student=student)
    run = subprocess.run([sys.executable, "-c", MILLION, str(path)], capture_output=True, text=True, check=True)
    print(run.stdout)
    inputs, seconds, gigabytes = (float(x) for x in run.stdout.split())
    assert inputs == 1e6 and seconds < 10 and gigabytes < limit
