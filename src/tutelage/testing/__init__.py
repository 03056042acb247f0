"""Contracts that a plug-in must keep, for users' own test suites."""

from tutelage.testing.contracts import objective_contracts as objective_contracts
from tutelage.testing.contracts import registered_objective as registered_objective
from tutelage.testing.probes import Probe as Probe
from tutelage.testing.probes import default_probe as default_probe
