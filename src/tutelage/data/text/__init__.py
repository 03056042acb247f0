"""Text: tokenizers, sets of tokens, loaders, and the sources that make them."""

from tutelage.data.text.aligned import AlignedTexts as AlignedTexts
from tutelage.data.text.aligned import aligned_batch as aligned_batch
from tutelage.data.text.aligned import aligned_rows as aligned_rows
from tutelage.data.text.alignment import align as align
from tutelage.data.text.bpe import bpe_tokenizer as bpe_tokenizer
from tutelage.data.text.chat_source import chat as chat
from tutelage.data.text.corpus import corpus as corpus
from tutelage.data.text.library import LibraryTokenizer as LibraryTokenizer
from tutelage.data.text.packing import Packed as Packed
from tutelage.data.text.packing import pack as pack
from tutelage.data.text.pair_set import PairSet as PairSet
from tutelage.data.text.pair_source import seq2seq as seq2seq
from tutelage.data.text.plain import ByteTokenizer as ByteTokenizer
from tutelage.data.text.plain import CharacterTokenizer as CharacterTokenizer
from tutelage.data.text.pretrained import hf_tokenizer as hf_tokenizer
from tutelage.data.text.sentence_set import SentenceSet as SentenceSet
from tutelage.data.text.sentence_source import sentences as sentences
from tutelage.data.text.shift import next_tokens as next_tokens
from tutelage.data.text.token_loader import TokenLoader as TokenLoader
from tutelage.data.text.token_set import TokenSet as TokenSet
from tutelage.data.text.tokenizing import restored as restored
from tutelage.data.text.tokenizing import tokenizer_of as tokenizer_of
