"""Versions of models by name: which one is in production, which was before, and on what grounds."""

from tutelage.deployment.registry.registry import Registry as Registry
from tutelage.deployment.registry.version import Event as Event
from tutelage.deployment.registry.version import Version as Version
