"""A model in the formats of other runtimes, each seen to answer as the model does."""
