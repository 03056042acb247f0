"""What language models know of the next token, and what a student kept of its teacher's."""

from tutelage.evaluation.language.figures import TokenFigures as TokenFigures
from tutelage.evaluation.language.figures import beside as beside
from tutelage.evaluation.language.figures import figures_of as figures_of
from tutelage.evaluation.language.reading import read_tokens as read_tokens
from tutelage.evaluation.language.reading import reads_tokens as reads_tokens
from tutelage.evaluation.language.report import Absent as Absent
from tutelage.evaluation.language.report import LanguageReport as LanguageReport
from tutelage.evaluation.language.report import MeasuredLanguage as MeasuredLanguage
from tutelage.evaluation.language.table import Beside as Beside
from tutelage.evaluation.language.table import TokenTable as TokenTable
