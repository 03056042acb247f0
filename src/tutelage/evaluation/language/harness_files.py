"""Tasks of the LM Evaluation Harness from YAML files: plain data about local files, and no code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError, suggest
from tutelage.data.paths import existing
from tutelage.evaluation.language.harness import EXTRA, HarnessTask, manager
from tutelage.models.foreign import library

_FORMS = ("json", "csv", "parquet", "text", "arrow")
_KEYS = (
    "task",
    "task_alias",
    "tag",
    "dataset_path",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "fewshot_config",
    "num_fewshot",
    "gen_prefix",
    "metric_list",
    "output_type",
    "generation_kwargs",
    "repeats",
    "filter_list",
    "metadata",
)


def harness_task(source: str, limit: int | None = None) -> HarnessTask:
    """A task of the harness, looked at before anything is asked.

    Args:
        source: A YAML file in the harness's own form, or the name of a task that the package
            brings. A file holds plain data: what would run code is refused (``!function``,
            ``include``, metrics of the hub), and ``dataset_path`` is json, csv, parquet, text or
            arrow with local ``data_files``, beside the YAML file or where the command is typed. A
            named task runs the package's own code, and its data may be fetched.
        limit: Questions that are asked, the first ones; None for all.

    Raises:
        NotInstalled: lm_eval is not here.
        DataError: One line: what is wrong, and what is expected.
    """
    library("lm_eval", EXTRA)
    if not source.endswith((".yaml", ".yml")):
        known = manager(True).all_tasks
        if source not in known:
            raise DataError(f"lm_eval has no task {source!r}. {suggest(source, known)}")
        return HarnessTask(source, limit=limit)
    path = existing(source, "the task")
    written = _read(path)
    _check_keys(written, path)
    _check_metrics(written.get("metric_list", []), path)
    options = written.get("dataset_kwargs")
    if written.get("dataset_path") not in _FORMS or not isinstance(options, Mapping):
        raise DataError(
            f"the task {path} has dataset_path {written.get('dataset_path')!r:.60}: write one of "
            f"{', '.join(_FORMS)}, and dataset_kwargs: {{data_files: FILE}}."
        )
    if set(options) != {"data_files"}:
        raise DataError(
            f"the task {path} has dataset_kwargs {sorted(map(str, options))}: write data_files "
            "alone."
        )
    made = {**written, "dataset_kwargs": {"data_files": _found(options["data_files"], path)}}
    return HarnessTask(str(written["task"]), made, limit)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        code = (
            " A tag such as !function would run code: leave it out." if "!function" in said else ""
        )
        raise DataError(f"the task {path} cannot be read ({said:.160}).{code}") from error
    if not isinstance(written, dict) or not isinstance(written.get("task"), str):
        raise DataError(f"the task {path} has no name: write task: NAME.")
    return written


def _check_keys(written: Mapping[str, Any], path: Path) -> None:
    for key in written:
        if key not in _KEYS:
            raise DataError(
                f"the task {path} has a key {key!r}, which is none of plain data here. "
                f"{suggest(str(key), _KEYS)}"
            )


def _check_metrics(metrics: Any, path: Path) -> None:
    """A metric that the package does not know would be fetched as code."""
    library("lm_eval.api.metrics", EXTRA)
    known = list(library("lm_eval.api.registry", EXTRA).metric_registry.keys())
    for each in metrics if isinstance(metrics, list) else [metrics]:
        name = each.get("metric") if isinstance(each, Mapping) else each
        if not isinstance(each, Mapping) or "hf_evaluate" in each or name not in known:
            raise DataError(
                f"the task {path} has the metric {name!r:.60}, which lm_eval does not bring: it "
                f"would be fetched. {suggest(str(name), known)}"
            )


def _found(files: Any, path: Path) -> Any:
    if isinstance(files, Mapping):
        return {str(split): _found(each, path) for split, each in files.items()}
    if isinstance(files, list):
        return [_found(each, path) for each in files]
    beside = path.parent / str(files)
    if beside.is_file():
        return str(beside.resolve())
    return str(existing(str(files), f"data_files of the task {path}:").resolve())
