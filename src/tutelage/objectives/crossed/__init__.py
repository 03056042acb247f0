"""Teacher and student with tokenizers of their own: answers compared where both cut the text."""
