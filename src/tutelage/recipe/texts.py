"""What of a recipe is not for text."""

from tutelage.core.errors import RecipeError
from tutelage.recipe.sections import Recipe


def check_text(recipe: Recipe) -> None:
    """Refuse what is not there for text yet, before anything runs.

    Raises:
        RecipeError: One line naming the key.
    """
    refused = {
        "calibrate": (recipe.calibrate, "temperatures are fitted to labelled examples"),
        "compress": (recipe.compress is not None, "files are chosen by accuracy"),
        "control": (recipe.control, "the control is of labelled examples"),
        "outside": (bool(recipe.outside), "sets beside the data are of labelled examples"),
        "data.labels": (recipe.data.labels is not None, "every token is its own label"),
    }
    for key, (asked, why) in refused.items():
        if asked:
            raise RecipeError(f"{key}: it is not for text ({why}): leave it out.")
