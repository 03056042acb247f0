"""The look at the data before the run: copies, doubtful labels, balance, broken files, a card."""

from tutelage.data.audit.audit import CHECKS as CHECKS
from tutelage.data.audit.audit import Audit as Audit
from tutelage.data.audit.audit import audit as audit
from tutelage.data.audit.broken import Files as Files
from tutelage.data.audit.broken import scan as scan
from tutelage.data.audit.card import data_card as data_card
from tutelage.data.audit.saying import of_files as of_files
