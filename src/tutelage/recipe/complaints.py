"""Pydantic's complaints in the words of the house: key, value, what to do, in one line."""

from typing import Any

from pydantic import BaseModel, ValidationError

from tutelage.core.errors import RecipeError, suggest

_FORMS = {
    "auto|cpu|cuda": "auto, cpu, cuda, or cuda:N for the GPU of that number",
    "A-Za-z0-9": "letters, digits, '.', '_' and '-' only, a letter or digit first",
}


def short(value: Any) -> str:
    """A value as it may stand in one line.

    >>> short("x" * 100)[-10:]
    'xxxxxxx...'
    """
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint about a recipe, and how many others there are.

    A key that should not be there comes before one that is missing: it may be that one, misspelt.
    """
    found = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    # A wrong key of `train` is wrong in every section that is merged over it as well.
    others = {(each["type"], each["loc"][-1:], repr(each["input"])) for each in found}
    more = len(others) - 1
    told = f" {more} more key{'s are' if more > 1 else ' is'} wrong." if more else ""
    steps = [str(step) for step in found[0]["loc"]]
    return f"{'.'.join(steps) or 'recipe'}: {_complaint(found[0], steps, model)}{told}"


def _complaint(first: Any, steps: list[str], model: type[BaseModel]) -> str:
    shown = short(first["input"])
    match first["type"]:
        case "extra_forbidden":
            near = suggest(steps[-1], _keys(model, steps))
            if "server" in steps:  # it may be a secret, in a wrong place
                return f"there is no such key. {near}"
            return f"there is no such key (its value: {shown}). {near}"
        case "missing":
            return "this key is needed and is not there: add it."
        case "value_error":
            return f"{first['ctx']['error']}."
        case "string_pattern_mismatch":
            form = next(f for sign, f in _FORMS.items() if sign in first["ctx"]["pattern"])
            return f"got {shown}: write {form}."
        case "model_type" | "dict_type":
            return f"got {shown}: write a mapping of keys and values here."
        case "list_type":
            return f"got {shown}: write a list here, like [{shown}]."
        case "too_short":
            return f"got {shown}: write at least one entry."
        case _:
            expected = first["msg"][0].lower() + first["msg"][1:]
            return f"got {shown}: {expected.replace('input ', 'this ')}."


def _keys(model: type[BaseModel], steps: list[str]) -> list[str]:
    for step in steps[:-1]:
        field = model.model_fields.get(step)
        if field is None:
            break
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        found = [a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)]
        if not found:
            break
        model = found[0]
    return list(model.model_fields)


def refuse_halves(value: Any, path: list[str]) -> None:
    """Half a character (a lone surrogate) cannot be written to any file."""
    if isinstance(value, dict):
        for key, each in value.items():
            refuse_halves(key, path)
            refuse_halves(each, [*path, str(key)])
    elif isinstance(value, list):
        for index, each in enumerate(value):
            refuse_halves(each, [*path, str(index)])
    elif isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
        place = ascii(".".join(path) or "recipe").strip("'")
        raise RecipeError(f"{place}: got {value!r:.80}, half a character: write the whole one.")
