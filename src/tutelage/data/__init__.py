"""The data room: sets, splits, augmentation and loaders; importing it fills the registry."""

from tutelage.data.arrays import npz as npz
from tutelage.data.augment import AbstractMixing as AbstractMixing
from tutelage.data.augment import AbstractTransform as AbstractTransform
from tutelage.data.augment import Augment as Augment
from tutelage.data.fashion import fashion_mnist as fashion_mnist
from tutelage.data.fashion_small import fashion_mnist_small as fashion_mnist_small
from tutelage.data.folders import image_folder as image_folder
from tutelage.data.lazy import Decoder as Decoder
from tutelage.data.lazy import LazySet as LazySet
from tutelage.data.loader import Loader as Loader
from tutelage.data.loading import load as load
from tutelage.data.mixing import Cutmix as Cutmix
from tutelage.data.mixing import Mixup as Mixup
from tutelage.data.sets import Examples as Examples
from tutelage.data.sets import TensorSet as TensorSet
from tutelage.data.splits import Sealed as Sealed
from tutelage.data.splits import Splits as Splits
from tutelage.data.splits import labelled as labelled
from tutelage.data.tables import csv as csv
from tutelage.data.tensors import from_dataset as from_dataset
from tutelage.data.tensors import from_tensors as from_tensors
from tutelage.data.transforms import Colour as Colour
from tutelage.data.transforms import Cutout as Cutout
from tutelage.data.transforms import Flip as Flip
from tutelage.data.transforms import Shift as Shift
