"""Examples made before learning: what a teacher writes, and what is made of it."""

from tutelage.synthesis.answer import Answer as Answer
from tutelage.synthesis.balance import Balance as Balance
from tutelage.synthesis.costs import Budget as Budget
from tutelage.synthesis.costs import Prices as Prices
from tutelage.synthesis.decontaminate import Decontaminate as Decontaminate
from tutelage.synthesis.deduplicate import Deduplicate as Deduplicate
from tutelage.synthesis.evolve import Evolve as Evolve
from tutelage.synthesis.expand import Expand as Expand
from tutelage.synthesis.filter import Filter as Filter
from tutelage.synthesis.item import Dropped as Dropped
from tutelage.synthesis.item import Item as Item
from tutelage.synthesis.item_files import read_items as read_items
from tutelage.synthesis.judge import Judge as Judge
from tutelage.synthesis.local_writer import LocalWriter as LocalWriter
from tutelage.synthesis.pipeline import Pipeline as Pipeline
from tutelage.synthesis.prefer import Prefer as Prefer
from tutelage.synthesis.reason import Reason as Reason
from tutelage.synthesis.refine import Refine as Refine
from tutelage.synthesis.writers import openai as openai
