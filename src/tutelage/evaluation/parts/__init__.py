"""The parts of a report, one file each; importing this puts them on their shelf."""

from tutelage.evaluation.parts.accuracy import Accuracy as Accuracy
from tutelage.evaluation.parts.attacks import Attacks as Attacks
from tutelage.evaluation.parts.backdoor import Backdoor as Backdoor
from tutelage.evaluation.parts.calibration import Calibration as Calibration
from tutelage.evaluation.parts.corruption import Corruption as Corruption
from tutelage.evaluation.parts.cost import Cost as Cost
from tutelage.evaluation.parts.explanations import Explanations as Explanations
from tutelage.evaluation.parts.fairness import Fairness as Fairness
from tutelage.evaluation.parts.fidelity import Fidelity as Fidelity
from tutelage.evaluation.parts.flips import Flips as Flips
from tutelage.evaluation.parts.lost import Lost as Lost
from tutelage.evaluation.parts.membership import Membership as Membership
from tutelage.evaluation.parts.ood import OutOfDistribution as OutOfDistribution
from tutelage.evaluation.parts.poisoning import Poisoning as Poisoning
from tutelage.evaluation.parts.slices import Slices as Slices
