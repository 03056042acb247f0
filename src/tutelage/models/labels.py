"""Where a teacher counts the classes in another order than the data."""

from collections.abc import Sequence

from tutelage.core.errors import ModelError, suggest


def class_order(teacher_classes: Sequence[str], data_classes: Sequence[str]) -> list[int]:
    """For each class of the data, the number the teacher gives it (``Observed(classes=...)``).

    The teacher may know more classes than the data has, but must know all of the data's.

    Args:
        teacher_classes: Names in the order of the teacher's logits.
        data_classes: Names in the order of the data's class numbers.

    Returns:
        ``order`` with ``teacher_classes[order[i]] == data_classes[i]``.

    Raises:
        ModelError: The teacher does not know a class of the data, or a name comes twice.

    Example:
        >>> class_order(["cat", "dog", "emu"], ["dog", "cat"])
        [1, 0]
    """
    for whose, names in (("teacher", teacher_classes), ("data", data_classes)):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise ModelError(
                f"the {whose}'s classes name {twice[0]!r} twice: rename one, so that classes can "
                "be matched by name."
            )
    number = {name: index for index, name in enumerate(teacher_classes)}
    missing = [name for name in data_classes if name not in number]
    if missing:
        more = f" (and {len(missing) - 3} more)" if len(missing) > 3 else ""
        listed = ", ".join(map(repr, missing[:3]))
        raise ModelError(
            f"the teacher has no class {listed}{more} of the data: name its classes as the data "
            f"does. {suggest(missing[0], teacher_classes)}"
        )
    return [number[name] for name in data_classes]
