"""What is kept between runs: found again, told apart, and made again, with a word, if it is damaged."""

from __future__ import annotations

import sqlite3
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_shared.encoder.cache import LatentCache
from captum_shared.store import TOLERANCE, Identity, Store, close

WHAT = Identity("e" * 64, ((1.0, -2.0), (0.0, 3.0)))
TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": torch.tensor([True, False]),
    "c": torch.ones(2, dtype=torch.bfloat16),
}


def kept_file(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def test_round_trip(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "folder")
    assert store.read("top", WHAT) is None
    store.write("top", WHAT, TENSORS, {"next": 3})
    found = Store(tmp_path / "new" / "folder").read("top", WHAT)
    assert found is not None
    assert found[1] == {"next": 3}
    assert all(
        torch.equal(found[0][name], value) and found[0][name].dtype == value.dtype for name, value in TENSORS.items()
    )
    store.write("top", WHAT, {"a": torch.zeros(1)})
    assert kept_file(tmp_path / "new" / "folder")  # replaced, not added


def test_another_kind_or_identity_is_not_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("top", WHAT, TENSORS)
    others = (
        WHAT.extended("k=5"),
        WHAT.joined(WHAT),
        Identity("f" * 64, WHAT.probe),
        Identity(WHAT.exact, ((1.0, -2.1), (0.0, 3.0))),
    )
    assert all(store.read("top", other) is None for other in others)
    assert store.read("fields", WHAT) is None


def test_rounding_does_not_part_what_belongs_together(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("top", WHAT, TENSORS, 1)
    rounded = Identity(WHAT.exact, ((1.0 + 1e-7, -2.0), (1e-7, 3.0)))
    found = store.read("top", rounded)
    assert found is not None
    store.write("top", rounded, TENSORS, 2)
    assert kept_file(tmp_path)
    again = store.read("top", WHAT)
    assert again is not None
    assert again[1] == 2


def test_computed_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> dict[str, Tensor]:
        calls.append(1)
        return TENSORS

    for _ in range(3):
        assert torch.equal(Store(tmp_path).tensors("x", WHAT, compute)["a"], TENSORS["a"])
    assert calls == [1]


DAMAGE: dict[str, Any] = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[:-3],
    "no header": lambda content: content[:5],
    "text": lambda content: b"not a file of tensors",
    "zeros": lambda content: bytes(len(content)),
    "more": lambda content: content + b"\0",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_named_and_made_again(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("top", WHAT, TENSORS)
    path = kept_file(tmp_path)
    path.write_bytes(DAMAGE[name](path.read_bytes()))
    with pytest.warns(UserWarning, match=f"{path.name} is damaged and will be remade") as caught:
        assert torch.equal(store.tensors("top", WHAT, lambda: TENSORS)["a"], TENSORS["a"])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.read("top", WHAT) is not None


@settings(max_examples=200)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(tmp_path_factory: Any, place: float, bit: int) -> None:
    """A flip is noticed, or changes nothing: white space in the header, say."""
    folder = tmp_path_factory.mktemp("store")
    Store(folder).write("top", WHAT, TENSORS, {"next": 3})
    content = bytearray(kept_file(folder).read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    kept_file(folder).write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = Store(folder).read("top", WHAT)
    if found is None:
        assert "is damaged" in str(caught[0].message)
    else:
        assert found[1] == {"next": 3}
        assert all(torch.equal(found[0][name], value) for name, value in TENSORS.items())


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tmp_path.joinpath(store._path("top", WHAT).name).mkdir()
    with pytest.raises(OSError, match=r"top_e+_\w+\.safetensors"):
        store.write("top", WHAT, TENSORS)


def test_close_by_hand() -> None:
    assert close([[1.0, 1000.0]], [[1.0 + 900 * TOLERANCE, 1000.0]])  # relative to the largest of the row
    assert not close([[1.0, 1000.0]], [[1.0 + 1100 * TOLERANCE, 1000.0]])
    assert not close([[1.0], [1000.0]], [[1.0 + 2 * TOLERANCE], [1000.0]])
    assert close([[float("nan"), float("inf")]], [[float("nan"), float("inf")]])
    assert not close([[float("nan")]], [[1.0]])
    assert not close([[float("inf")]], [[-float("inf")]])
    assert not close([[1.0, 2.0]], [[1.0], [2.0]])
    assert close([[0.0]], [[0.0]])


# The latents of images, in a database.


def latents(folder: Path, identity: Identity = WHAT, images: tuple[str, ...] = ("a", "b")) -> dict[str, Tensor]:
    return LatentCache(folder, identity).get(images)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    LatentCache(tmp_path, WHAT).put({"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.bfloat16)})
    return tmp_path


def test_latents_round_trip(cache: Path) -> None:
    found = latents(cache, images=("a", "b", "c"))
    assert list(found) == ["a", "b"]
    assert torch.equal(found["a"], torch.arange(3.0))
    assert found["b"].dtype == torch.bfloat16
    assert latents(cache, Identity(WHAT.exact, ((1.0 + 1e-7, -2.0), (0.0, 3.0)))).keys() == {"a", "b"}
    assert latents(cache, WHAT.extended("other")) == {}
    assert latents(cache, Identity(WHAT.exact, ((1.1, -2.0), (0.0, 3.0)))) == {}


def test_damaged_rows_are_said_and_made_again(cache: Path) -> None:
    with sqlite3.connect(cache / "latents.sqlite") as database:
        blob = bytearray(database.execute("SELECT z FROM kept WHERE image = 'a'").fetchone()[0])
        blob[-2] ^= 64
        database.execute("UPDATE kept SET z = ? WHERE image = 'a'", (bytes(blob),))
        database.execute("UPDATE kept SET checksum = NULL WHERE image = 'b'")
    with pytest.warns(
        UserWarning, match=r"latents kept in .*latents\.sqlite are damaged; they will be recomputed"
    ) as caught:
        assert latents(cache) == {}
    assert len(caught) == 1


@pytest.mark.parametrize(
    "content", [b"not a database", b"SQLite format 3\0" + bytes(200), None], ids=["text", "header", "torn"]
)
def test_a_damaged_database_is_set_aside(content: bytes | None, cache: Path) -> None:
    path = cache / "latents.sqlite"
    whole = path.read_bytes()
    content = whole[:1000] + b"\xff" * 8000 + whole[9000:] if content is None else content
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"latents\.sqlite is damaged .* set aside as latents\.sqlite\.damaged"):
        assert latents(cache) == {}
    LatentCache(cache, WHAT).put({"a": torch.zeros(3)})
    assert torch.equal(latents(cache)["a"], torch.zeros(3))
    assert (cache / "latents.sqlite.damaged").read_bytes() == content


def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "cache"
    opened = LatentCache(folder, WHAT)
    assert opened.images() == set()
    assert opened.get(["a"]) == {}
    assert list(tmp_path.iterdir()) == []
    opened.put({"a": torch.ones(3)})
    assert [path.name for path in folder.iterdir()] == ["latents.sqlite"]
    assert opened.get(["a"]).keys() == {"a"}
    store = Store(tmp_path / "b")
    assert store.read("square", WHAT) is None
    assert not (tmp_path / "b").exists()
    store.write("square", WHAT, {"x": torch.ones(2)})
    assert store.read("square", WHAT) is not None


def test_a_place_where_no_file_can_be_made_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"latents\.sqlite cannot be written: no file can be made in .*file$"):
        LatentCache(tmp_path / "file" / "cache", WHAT)


def test_an_empty_database_is_a_new_one(cache: Path) -> None:
    (cache / "latents.sqlite").write_bytes(b"")
    assert latents(cache) == {}


def test_a_database_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "latents.sqlite").mkdir()
    with pytest.raises(
        OSError, match=r"the latents kept in .*latents\.sqlite cannot be read or written: unable to open"
    ):
        latents(tmp_path)


def test_a_full_disk_under_the_database_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def connected(*args: Any, **options: Any) -> sqlite3.Connection:
        database = connect(*args, **options)
        database.execute("PRAGMA max_page_count = 1")  # the least that it can be: no page more
        return database

    monkeypatch.setattr(sqlite3, "connect", connected)
    with pytest.raises(OSError, match=r"latents\.sqlite cannot be read or written: database or disk is full"):
        LatentCache(cache, WHAT).put({str(k): torch.zeros(5000) for k in range(9)})
    monkeypatch.undo()
    assert latents(cache).keys() == {"a", "b"}
