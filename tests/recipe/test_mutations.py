"""Every wrong recipe ends with exit status 2 and one line that helps, and leaves nothing behind."""

import functools
import re

import mutated_files
import pytest
from mutations import everything

from tutelage.recipe import reading
from typed import typed

REMEDY = re.compile(
    r"Did you mean|Known: |should be|must be|expected|at least|at most|"
    r"starts at|is a share|unpack|move|See 'tutelage|"
    r"\b(write|give|add|set|choose|leave|remove|name|use|mend|keep|take|ask|bring|build|look|"
    r"check|number|convert|start|see|save|point|install|load|is needed|are needed)\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    mutated_files.make_all(folder)
    return folder


def faults(mutation, command, tmp_path, monkeypatch):
    """What is wrong with the answer to a wrong recipe: nothing, it is hoped."""
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(mutation.text, encoding="utf-8", errors="surrogatepass")
    words = [command, recipe, *(word for one in mutation.sets for word in ("--set", one))]
    before = sorted(tmp_path.rglob("*"))
    try:
        code, _, err = typed(monkeypatch, *words, *(["--out", out] if command == "run" else []))
    except Exception as error:  # a traceback, for the user
        return [f"{type(error).__name__}: {error}"]
    line = err.rstrip("\n")
    found = []
    if code != 2:
        found.append(f"exit status {code}")
    if not line.startswith("tutelage: ") or "\n" in line or not line.isprintable():
        found.append("not one line")
    if len(line) > 700:
        found.append(f"{len(line)} characters")
    if not line.endswith((".", "?")):
        found.append("no end")
    found += [f"does not name {word!r}" for word in mutation.says if word not in line]
    if not REMEDY.search(line):
        found.append("no remedy")
    if sorted(tmp_path.rglob("*")) != before:
        found.append("something was left behind")
    return [f"{', '.join(found)}: {err}"] if found else []


@pytest.fixture
def _read_once(monkeypatch):
    """Both commands read the same texts: the second time from memory, as YAML takes its time."""
    once = functools.cache(reading._loaded)
    monkeypatch.setattr(reading, "_loaded", lambda text: reading.copied(once(text)))


@pytest.mark.usefixtures("_read_once")
def test_every_mutated_recipe_is_refused_in_one_line(files, tmp_path, monkeypatch):
    mutations = everything(files)
    assert len(mutations) >= 200
    assert len({mutation.name for mutation in mutations}) == len(mutations)
    # One command for each, in turn: both see the same plan, and the slow test asks both.
    turns = [(each, each.entries[i % len(each.entries)]) for i, each in enumerate(mutations)]
    refused(turns, files, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.usefixtures("_read_once")
def test_every_mutated_recipe_is_refused_by_every_command(files, tmp_path, monkeypatch):
    turns = [(each, command) for each in everything(files) for command in each.entries]
    refused(turns, files, tmp_path, monkeypatch)


def refused(turns, files, tmp_path, monkeypatch):
    wrong = [
        f"{mutation.name} ({command}): {fault}"
        for mutation, command in turns
        for fault in faults(mutation, command, tmp_path, monkeypatch)
    ]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(turns)}:", *wrong])
    assert not (files / "executed").exists(), "code in a pickle was run"
