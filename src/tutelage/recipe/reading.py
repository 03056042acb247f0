"""From a file, and ``--set`` on top of it, to plain data: YAML 1.2, no tags, no aliases."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tutelage.core.errors import RecipeError, suggest

Data = dict[str, Any]
_LARGEST = 1_000_000  # bytes; a recipe has some 20 lines
_DEEPEST = 50  # mappings and lists in each other
_SUFFIXES = (".yaml", ".yml")


class _Loader(yaml.SafeLoader):
    """YAML as its version 1.2 reads it: ``no`` is a word, ``1e-3`` a number, dates are words.

    What plain data does not need is refused: tags (which could name code), aliases (a few lines
    of which can stand for gigabytes), and a key that is there twice.
    """

    def __init__(self, stream: str):
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node; PyYAML's own method, with an eye on what is let in."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise RecipeError(
                f"line {line}: the alias *{event.anchor}: a recipe has no aliases: write the "
                "value out."
            )
        if event.tag not in (None, "!"):
            raise RecipeError(
                f"line {line}: the tag {event.tag}: a recipe is plain data without tags: remove it."
            )
        if self._depth > _DEEPEST:
            raise RecipeError(
                f"line {line}: more than {_DEEPEST} lists or mappings in each other: a recipe is "
                "flat; look for a bracket that is not closed."
            )
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than a word."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always: the reader above refuses them."""
        return True


_Loader.yaml_implicit_resolvers = {}
for _tag, _form, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL", "~nN"),
):
    for _each in (_Loader, _Dumper):
        _each.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$"), list(_first)
        )
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Data:
    made: Data = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise RecipeError(f"line {line}: a key is a mapping or a list: write a word.")
        key = key_node.value  # as it is written: 1, no and null are words here
        if key in made:
            raise RecipeError(f"line {line}: the key {key!r} is there twice: keep one of them.")
        made[key] = loader.construct_object(value_node, deep=True)
    return made


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > 4000:  # where Python itself refuses
        line = node.start_mark.line + 1
        raise RecipeError(
            f"line {line}: a number of {len(node.value)} digits: write a smaller one."
        )
    return int(node.value)  # decimal, as YAML 1.2 has it: 010 is ten


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def read(path: Path) -> Data:
    """The content of a recipe file; of a run's ``resolved.yaml`` the recipe in it.

    Raises:
        RecipeError: There is no such file, or it is no YAML mapping; one line, with the place.
    """
    try:
        text = _text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise RecipeError(
            f"{str(path)!r} cannot be read as text in UTF-8 ({reason or _first_line(error)}): "
            "name a recipe, a YAML file."
        ) from error
    try:
        content = parse(text)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    inner = content.get("recipe")
    return inner if isinstance(inner, dict) and "identity" in content else content


def _text(path: Path) -> str:
    if path.is_dir():
        near = [f"{path / each.name}" for each in path.iterdir() if each.suffix in _SUFFIXES]
        there = suggest(str(path), near) if near else "It holds none: check the path."
        raise RecipeError(f"{str(path)!r} is a folder: name a recipe. {there}")
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path()
        near = [each.name for each in folder.iterdir() if each.suffix in _SUFFIXES]
        there = f"In {str(folder)!r}: {suggest(path.name, near)}" if near else "Check its path."
        raise RecipeError(f"there is no recipe {str(path)!r}. {there}")
    if path.stat().st_size > _LARGEST:
        raise RecipeError(
            f"{str(path)!r} has {path.stat().st_size:,} bytes, and a recipe some 20 lines: name "
            "a recipe."
        )
    return path.read_text(encoding="utf-8")


def parse(text: str) -> Data:
    r"""The content of a recipe.

    >>> parse("recipe: 1\ntrain: {learning_rate: 1e-3, augment: [no]}")
    {'recipe': 1, 'train': {'learning_rate': 0.001, 'augment': ['no']}}
    """
    content = _loaded(text)
    if not isinstance(content, dict):
        raise RecipeError(
            f"a recipe is a mapping of sections (recipe, data, teacher, student, ...), "
            f"and this is {_kind(content)}."
        )
    return content


def written(content: Mapping[str, Any]) -> str:
    r"""Plain data as the text of a YAML file that `parse` reads back as it was.

    >>> written({"name": "1e5", "about": "no", "rate": 1e-5})
    "name: '1e5'\nabout: 'no'\nrate: 1.0e-05\n"
    """
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def assign(recipe: Data, assignments: Iterable[str]) -> Data:
    """A copy of ``recipe`` with every ``key.key=value`` put into it.

    A step of a key into a list of named things (objectives, augmentations) is their name, or
    their number from 0.

    >>> before = {"objective": [{"ce": {"weight": 0.5}}, {"kd": None}]}
    >>> assign(before, ["objective.kd.temperature=2", "train.epochs=3"])
    {'objective': [{'ce': {'weight': 0.5}}, {'kd': {'temperature': 2}}], 'train': {'epochs': 3}}
    """
    result: Data = copied(recipe)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not all(key.split(".")):
            raise RecipeError(f"--set {assignment!r}: write key=value, like train.epochs=3.")
        try:
            put(result, key, _loaded(value))
        except RecipeError as error:
            raise RecipeError(f"--set {assignment!r}: {error}") from error
    return result


def put(recipe: Data, key: str, value: Any) -> None:
    """Set the value at a dotted ``key``, in place.

    Raises:
        RecipeError: The key leads through something that has no parts.
    """
    place: Any = recipe
    *path, last = key.split(".")
    for step in path:
        place = _into(place, step)
    if isinstance(place, list):
        index = _index(place, last)
        place[index] = value if last.isdigit() else {last: value}
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise _no_parts(place, last)


def copied(value: Any) -> Any:
    """A copy of plain data, down to its leaves."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    return [copied(each) for each in value] if isinstance(value, list) else value


def _into(place: Any, step: str) -> Any:
    if isinstance(place, list):
        index = _index(place, step)
        entry = place[index]
        if isinstance(entry, str):
            place[index] = entry = {entry: {}}
        if not isinstance(entry, dict) or len(entry) != 1:
            return entry
        return _into(entry, next(iter(entry)))
    if not isinstance(place, dict):
        raise _no_parts(place, step)
    if isinstance(place.get(step), str):  # `model: lenet` takes options as `model: {lenet: {}}`
        place[step] = {place[step]: {}}
    if place.get(step) is None or isinstance(place.get(step), bool):
        place[step] = {}
    return place[step]


def _index(entries: list[Any], step: str) -> int:
    known = [_name(entry) for entry in entries]
    if step.isdigit() and int(step) < len(entries):
        return int(step)
    if step not in known:
        names = [name for name in known if name]
        raise RecipeError(f"nothing is called {step!r} there. {suggest(step, names)}")
    if known.count(step) > 1:
        first = known.index(step)
        raise RecipeError(
            f"{known.count(step)} entries are called {step!r}: write their number from 0 "
            f"instead, {first} for the first."
        )
    return known.index(step)


def _no_parts(place: Any, step: str) -> RecipeError:
    return RecipeError(
        f"{step!r} leads into {place!r:.60}, which has no parts: set the key before it, as a whole."
    )


def _loaded(text: str) -> Any:
    """Any YAML value as plain data."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RecipeError(f"{place}this is no YAML ({error.problem}): mend the line.") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"this is no YAML ({_first_line(error)}): mend it.") from error


def _name(entry: Any) -> str | None:
    if isinstance(entry, Mapping) and len(entry) == 1:
        return str(next(iter(entry)))
    return entry if isinstance(entry, str) else None


def _kind(content: Any) -> str:
    return "empty: write them" if content is None else f"a {type(content).__name__}: write them"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
