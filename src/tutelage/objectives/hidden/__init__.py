"""Hidden states of transformers, token by token, and embeddings of whole texts."""
