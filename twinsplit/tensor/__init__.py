"""Representations and codecs of tensors on the wire: numpy and zstandard only (design sections 2 and 10).

Pictures (PNG, JPEG) are made and read by :mod:`twinsplit.model.payload`; here their bytes only pass.
"""

from twinsplit.tensor.codecs import compress, decompress
from twinsplit.tensor.header import EncodedTensor, TensorHeader
from twinsplit.tensor.representations import decode, encode

__all__ = ["EncodedTensor", "TensorHeader", "compress", "decode", "decompress", "encode"]
