"""Every registered objective keeps every contract; a new one needs no line here."""

from collections.abc import Callable

import pytest

import tutelage.objectives  # noqa: F401  # fills the registry
from tutelage.core.registry import names
from tutelage.testing import objective_contracts, registered_objective

CASES = [
    pytest.param(contract, id=f"{name}: {sentence}")
    for name in names("objective")
    for sentence, contract in objective_contracts(registered_objective(name)).items()
]


@pytest.mark.parametrize("contract", CASES)
def test_keeps(contract: Callable[[], None]) -> None:
    contract()
