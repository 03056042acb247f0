"""Answers kept on disk, so that a teacher is asked once."""

from tutelage.teachers.cache.cached import Cached as Cached
from tutelage.teachers.cache.counts import Counts as Counts
from tutelage.teachers.cache.counts import Filled as Filled
from tutelage.teachers.cache.fingerprint import teacher_hash as teacher_hash
from tutelage.teachers.cache.forms import Form as Form
from tutelage.teachers.cache.manifest import Views as Views
from tutelage.teachers.cache.records import as_kept as as_kept
