"""Models written here, one family a file, each registered under its name."""

from tutelage.models.zoo.convnext import convnext as convnext
from tutelage.models.zoo.gpt import GPT as GPT
from tutelage.models.zoo.gpt import gpt as gpt
from tutelage.models.zoo.gru import gru as gru
from tutelage.models.zoo.lenet import lenet as lenet
from tutelage.models.zoo.mlp import mlp as mlp
from tutelage.models.zoo.mobilenetv2 import mobilenetv2 as mobilenetv2
from tutelage.models.zoo.parts import Network as Network
from tutelage.models.zoo.resnet import resnet as resnet
from tutelage.models.zoo.shufflenetv2 import shufflenetv2 as shufflenetv2
from tutelage.models.zoo.vgg import vgg as vgg
from tutelage.models.zoo.vit import vit as vit
from tutelage.models.zoo.wrn import wrn as wrn
