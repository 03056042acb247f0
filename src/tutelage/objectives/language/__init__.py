"""What a language model's student answers, without ever writing all logits down."""
