"""The look at a recipe's data, or at a source, before the run: ``tutelage audit``."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError, RecipeError, TutelageError, suggest
from tutelage.core.finding import Finding
from tutelage.core.registry import names
from tutelage.data import LazySet, Splits
from tutelage.data.archives import Tree, open_tree
from tutelage.data.audit import Audit, Files, audit, data_card, of_files, scan
from tutelage.data.images import SUFFIXES, ImageDecoder
from tutelage.evaluation.report import write_whole
from tutelage.recipe import schema
from tutelage.recipe.auditing_page import page
from tutelage.recipe.reading import assign, parse, read
from tutelage.recipe.sections import DataSection, Named

Told = Callable[[str], None]
FILES = ("audit.json", "DATA_CARD.md", "audit.html")


def source_of(what: str, changes: list[str]) -> Named:
    """The data source that is meant.

    Args:
        what: A recipe's path; or a source's name; or ``{name: {option: value}}`` in YAML.
        changes: ``key=value``: of the recipe, or of the source's options.

    Raises:
        RecipeError: It is none of these.
    """
    import tutelage.data  # noqa: F401  # its names on their shelf

    known = names("data")
    if what in known or what.lstrip().startswith("{"):
        written: Any = {what: {}} if what in known else parse(what)
        if len(written) != 1:
            raise RecipeError(f"audit: got {what!r}, expected one source: {{name: options}}.")
        ((name, options),) = written.items()
        inner = assign({name: options or {}}, [f"{name}.{change}" for change in changes])
        return _named(inner)
    path = Path(what)
    if not path.exists() and path.suffix not in (".yaml", ".yml"):
        raise RecipeError(
            f"audit: there is no recipe and no source {what!r}. {suggest(what, known)}"
        )
    content = assign(read(path), changes)
    data = content.get("data")
    if not isinstance(data, Mapping) or "source" not in data:
        raise RecipeError(f"{what}: data.source: it is missing: name a source there.")
    return _named(data["source"])


def look(source: Named, told: Told = lambda _: None) -> Audit:
    """Audit a source. Broken files are listed, all of them, and the rest is looked at without them.

    The test split is opened here, in a process of its own, and chooses nothing.

    Raises:
        TutelageError: The source is wrong, or cannot be read at all.
    """
    if source.name != "image_folder":
        return audit(schema.build("data", source, "source"), told=told)
    options = schema.checked("data", source, "source")
    if "path" not in options:
        schema.build("data", source, "source")  # says what is missing
    tree = open_tree(options["path"], "image_folder path")
    told(f"reading {len(tree.files):,} files")
    found = scan(tree, options.get("channels", 3))
    if not found.sizes:
        raise DataError(f"{str(tree.path)!r} holds no whole image: check the path.")
    with tempfile.TemporaryDirectory() as spare:
        place = _sound(tree, found, Path(spare)) if found.broken else str(tree.path)
        try:
            whole = schema.build("data", _at(source, place), "source")
            made = audit(whole, files=_files(_at(source, place)), scanned=found, told=told)
        except TutelageError as error:
            return _refused(source, found, str(error).replace(place, str(tree.path)))
    origin = {**made.facts["origin"], "path": str(tree.path)}
    return replace(made, facts={**made.facts, "origin": origin})


def write(made: Audit, folder: Path) -> list[Path]:
    """Write ``audit.json``, ``DATA_CARD.md`` and ``audit.html`` into a folder."""
    found = made.as_dict()
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    contents = (text, data_card(found) if "splits" in made.facts else None, page(found))
    written = []
    for name, content in zip(FILES, contents, strict=True):
        if content is not None:
            write_whole(folder / name, content)
            written.append(folder / name)
    return written


def _named(written: Any) -> Named:
    try:
        return DataSection(source=written).source
    except ValueError as error:
        raise RecipeError(
            f"source: got {written!r:.80}, expected a name or {{name: {{option: value}}}}."
        ) from error


def _at(source: Named, path: str) -> Named:
    return Named(name=source.name, options={**source.options, "path": path})


def _sound(tree: Tree, found: Files, spare: Path) -> str:
    """A folder with only the whole images of a tree; returns its path."""
    root = spare / "sound"
    for name in tree.files:
        if name in found.broken or not name.lower().endswith(SUFFIXES):
            continue
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if tree.path.is_dir():
            place.symlink_to((tree.path / name).resolve())
        else:
            place.write_bytes(tree.read(name))
    return str(root)


def _files(source: Named) -> dict[int, str]:
    """The file of each example number, from a second, lazy look at the same source."""
    options = {**source.options, "in_memory": False}
    lazy = schema.build("data", Named(name=source.name, options=options), "source")
    assert isinstance(lazy, Splits)
    named: dict[int, str] = {}
    for each in (lazy.train, lazy.validation, lazy.test.open("the names of its files")):
        if isinstance(each, LazySet) and isinstance(each.decoder, ImageDecoder):
            files = each.decoder.files
            pairs = zip(each.ids.tolist(), each.positions.tolist(), strict=True)
            named |= {number: files[position] for number, position in pairs}
    return named


def _refused(source: Named, found: Files, why: str) -> Audit:
    """The audit of files whose source cannot be loaded, even without the broken ones."""
    refused = Finding("warning", f"The source cannot be loaded as it is: {why}")
    return Audit(
        source.name,
        {"origin": {"source": source.name, **source.options}},
        {"files": vars(found)},
        {"files": (refused, *of_files(found))},
    )
