"""What a learner was trained on is refused as a test, by names where they tell, else by examples."""

from __future__ import annotations

import numpy as np
import pytest

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.picturetasks import PictureTasks
from quickstudy.data.seen import Seen, Used
from quickstudy.data.source import Origin, Place, TaskShape, place
from quickstudy.data.store import ArrayStore
from quickstudy.errors import InputError

OWN, PUBLISHED = place("images", "/somewhere/own"), place("published")


def store(names: str, seed: int = 0) -> ArrayStore:
    """Each class has three pictures of its own; the second of class "a" is that of the first of class "b"."""
    drawn = {
        name: np.random.default_rng([seed, ord(name)]).integers(0, 256, (3, 4, 4), dtype=np.uint8) for name in names
    }
    if "a" in drawn and "b" in drawn:
        drawn["a"][1] = drawn["b"][0]
    return ArrayStore.from_classes(drawn)


def tasks(names: str, split: str, where: Place | None, kind: type[ClassTasks] = PictureTasks) -> ClassTasks:
    kept = store("abcdef")
    return kind(kept, kept.numbers(names), data="d", split=split, way=1, shot=1, query=1, seed=0, place=where)


def seen_of(trained: ClassTasks, validated: ClassTasks | None = None) -> Seen:
    def used(source: ClassTasks) -> Used:
        assert source.origin is not None
        return Used(frozenset(source.origin.names), np.concatenate([*source.origin.examples.values()]))

    assert trained.origin is not None
    parts = {"trained": used(trained)} | ({} if validated is None else {"validated": used(validated)})
    return Seen("runs/x", trained.shape, trained.origin.place, parts)


def test_by_names_in_one_place() -> None:
    seen = seen_of(tasks("ac", "train", OWN), tasks("d", "validation", OWN))
    for split, wrong in (("test", "c"), ("test", "d"), ("validation", "c")):
        with pytest.raises(InputError, match=rf"runs/x on '{wrong}': it was (trained|validated) on them \(split\.json"):
            seen.check(tasks(f"{wrong}f", split, OWN))
        with pytest.raises(InputError, match=rf"runs/x on '{wrong}': it was"):
            seen.check(tasks(f"{wrong}f", f"vinyals/{split}", OWN))
    seen.check(tasks("df", "vinyals/validation", OWN))
    seen.check(tasks("ef", "test", OWN))
    seen.check(tasks("df", "validation", OWN))
    seen.check(tasks("ac", "train", OWN))
    for elsewhere in (place("images", "/somewhere/else"), PUBLISHED):
        seen.check_names(Origin(elsewhere, ("a", "c")), "test")  # other classes of these names


def test_by_names_of_the_data_sets_that_one_is_made_of() -> None:
    made, part = place("mini"), place("glyphs")
    shape = TaskShape((1, 4, 4), "classes", 1)

    def seen(where: Place, *names: str) -> Seen:
        return Seen("runs/x", shape, where, {"trained": Used(frozenset(names))})

    with pytest.raises(InputError, match=r"runs/x on 'A': it was trained on them"):
        seen(made, "glyphs/A", "digits/1").check_names(Origin(part, ("A", "B")), "test")
    with pytest.raises(InputError, match=r"runs/x on 'glyphs/A': it was trained on them"):
        seen(part, "A").check_names(Origin(made, ("glyphs/A", "digits/A")), "test")
    seen(made, "glyphs/A", "digits/B").check_names(Origin(part, ("B",)), "test")
    seen(part, "A").check_names(Origin(made, ("glyphs/B", "digits/A", "A")), "test")
    seen(made, "glyphs/A").check_names(Origin(part, ("A",)), "train")
    for own in (place("glyphs", "/somewhere/own"), place("other")):
        seen(made, "glyphs/A").check_names(Origin(own, ("A",)), "test")


def test_by_examples_wherever_they_lie() -> None:
    seen = seen_of(tasks("bc", "train", OWN), tasks("d", "validation", OWN))
    for where in (place("images", "/somewhere/else"), PUBLISHED):
        with pytest.raises(InputError, match=r"on 'c': it was trained on the same examples \(3 of 3 of 'c'\)"):
            seen.check(tasks("cf", "test", where))
        with pytest.raises(InputError, match=r"on 'd': it was validated on the same examples"):
            seen.check(tasks("df", "test", where))
        seen.check(tasks("df", "validation", where))
        seen.check(tasks("ef", "test", where))
    with pytest.raises(InputError, match=r"on 'a': it was trained on the same examples \(1 of 3 of 'a'\)"):
        seen.check(tasks("af", "test", OWN))


def test_published_data_stays_as_it_is() -> None:
    seen_of(tasks("bc", "train", PUBLISHED)).check(tasks("af", "test", PUBLISHED))


def test_what_keeps_nothing_is_not_compared() -> None:
    seen_of(tasks("ab", "train", OWN)).check(tasks("ab", "test", None))
    plain = tasks("ab", "test", OWN, ClassTasks).origin
    assert plain is not None and plain.names == ("a", "b") and plain.examples == {}, "read in a way of its own"


def test_pictures_of_one_value_are_no_sign() -> None:
    blank = ArrayStore.from_classes({"a": np.zeros((2, 4, 4), np.uint8), "b": store("b").images})
    assert len(blank.digests(0)) == 0 and len(set(blank.digests(1).tolist())) == 3
    assert np.array_equal(blank.digests(1), store("cb").digests(1))


def test_the_same_folder_by_another_way(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("own")
    link = folder.with_name("link")
    link.symlink_to(folder)
    assert place("images", link) == place("images", folder) == place("images", f"{folder}/../{folder.name}")
    assert place("images", folder) != place("sounds", folder)


def test_the_shape() -> None:
    seen = Seen("runs/x", TaskShape((1, 8, 8), "classes", 5), OWN, {})
    with pytest.raises(InputError, match=r"examples of shape \[1, 8, 8\], and theirs is \[1, 4, 4\] \(classes\)"):
        seen.check(tasks("ab", "train", OWN))
