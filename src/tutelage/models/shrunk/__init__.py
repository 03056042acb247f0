"""Students that begin as their teacher: fewer layers, less width, adapters, static vectors."""

from tutelage.models.shrunk.activations import WidthScores as WidthScores
from tutelage.models.shrunk.activations import width_scores as width_scores
from tutelage.models.shrunk.choosing import chosen_layers as chosen_layers
from tutelage.models.shrunk.folder import open_folder as open_folder
from tutelage.models.shrunk.influence import block_influence as block_influence
from tutelage.models.shrunk.layers import fewer_layers as fewer_layers
from tutelage.models.shrunk.leaving_out import loss_left_out as loss_left_out
from tutelage.models.shrunk.lora import has_adapters as has_adapters
from tutelage.models.shrunk.lora import merged as merged
from tutelage.models.shrunk.lora import with_lora as with_lora
from tutelage.models.shrunk.pieces import fewer_pieces as fewer_pieces
from tutelage.models.shrunk.static_encoder import StaticEncoder as StaticEncoder
from tutelage.models.shrunk.static_making import static_embeddings as static_embeddings
from tutelage.models.shrunk.static_making import token_counts as token_counts
from tutelage.models.shrunk.student import needs_batches as needs_batches
from tutelage.models.shrunk.student import shrunk as shrunk
from tutelage.models.shrunk.vocabulary import TokenMap as TokenMap
from tutelage.models.shrunk.vocabulary import fewer_tokens as fewer_tokens
from tutelage.models.shrunk.width import narrower as narrower
