"""What is different where the data is text: tokens in place of classes."""

from tutelage.core.errors import RecipeError
from tutelage.data import Splits
from tutelage.evaluation.language import reads_tokens
from tutelage.recipe.sections import Recipe
from tutelage.recipe.tasked import tasks_of


def outputs_of(whole: Splits) -> int:
    """How many numbers a model of this data answers with: classes, or tokens of a vocabulary."""
    return whole.train.vocabulary if reads_tokens(whole.train) else len(whole.classes)


def check_text(recipe: Recipe) -> None:
    """Refuse what is not there for text yet, and read the tasks, before anything runs.

    Raises:
        TutelageError: One line naming the key: it is not for text, or a task's file is wrong.
    """
    refused = {
        "calibrate": (recipe.calibrate, "temperatures are fitted to labelled examples"),
        "compress": (recipe.compress is not None, "files are chosen by accuracy"),
        "control": (recipe.control, "the control is of labelled examples"),
        "outside": (bool(recipe.outside), "sets beside the data are of labelled examples"),
        "data.labels": (recipe.data.labels is not None, "every token is its own label"),
    }
    tasks_of(recipe.evaluation.tasks)
    for key, (asked, why) in refused.items():
        if asked:
            raise RecipeError(f"{key}: it is not for text ({why}): leave it out.")
