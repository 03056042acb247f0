"""Teachers behind HTTP servers: as writers of text, and as tellers of likeliest tokens."""

from tutelage.teachers.remote.costs import Bill as Bill
from tutelage.teachers.remote.costs import Budget as Budget
from tutelage.teachers.remote.costs import Estimate as Estimate
from tutelage.teachers.remote.costs import Prices as Prices
from tutelage.teachers.remote.costs import Spent as Spent
from tutelage.teachers.remote.costs import estimate as estimate
from tutelage.teachers.remote.journal import Journal as Journal
from tutelage.teachers.remote.pace import Limits as Limits
from tutelage.teachers.remote.patience import Patience as Patience
from tutelage.teachers.remote.routes import Chat as Chat
from tutelage.teachers.remote.routes import Plain as Plain
from tutelage.teachers.remote.server import Server as Server
from tutelage.teachers.remote.teacher import RemoteTeacher as RemoteTeacher
from tutelage.teachers.remote.telling import Echo as Echo
from tutelage.teachers.remote.telling import PromptLogprobs as PromptLogprobs
from tutelage.teachers.remote.writer import OpenAIWriter as OpenAIWriter
