"""What every command costs before it does anything."""

import json
import os
import subprocess
import sys

HEAVY = ("torch", "numpy", "pydantic", "yaml", "matplotlib", "onnx", "onnxruntime")


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_loads_nothing_heavy_and_answers_at_once():
    said = run(
        "import resource, sys\n"
        "from tutelage.cli.main import main\n"
        "sys.argv = ['tutelage', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('SECONDS', used.ru_utime + used.ru_stime)\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    assert "Distil neural networks" in said
    assert "LOADED []" in said
    # 0.13 s on an idle machine, of them 0.02 for Python itself; the bound is 0.3.
    assert float(said.split("SECONDS ")[1].split()[0]) < 0.6


def test_importing_the_package_loads_nothing_heavy():
    assert run(f"import sys, tutelage; print([n for n in {HEAVY!r} if n in sys.modules])") == "[]\n"


def test_methods_brings_all_rooms_itself():
    said = run(
        "import sys\n"
        "from tutelage.cli.main import main\n"
        "sys.argv = ['tutelage', 'methods', '--json']\n"
        "main()\n"
    )
    kinds = {row["kind"] for row in json.loads(said)}
    assert {"adapter", "augment", "data", "model", "objective", "optimizer", "schedule"} <= kinds


def test_a_recipe_that_is_not_there_is_told_before_torch_is_loaded():
    said = run(
        "import sys\n"
        "from tutelage.cli.main import main\n"
        "sys.argv = ['tutelage', 'run', 'nowhere.yaml']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    print(end.code, 'torch' in sys.modules)\n"
    )
    assert said == "2 False\n"
