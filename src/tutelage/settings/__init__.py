"""Who learns what from whom: one file, one situation."""

from tutelage.settings.alone import Alone as Alone
from tutelage.settings.classic import Classic as Classic
