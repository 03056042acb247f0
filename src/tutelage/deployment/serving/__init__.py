"""A package behind HTTP: answers in batches, sheds what it cannot bear, swaps versions in flight.

Nothing here imports torch: NumPy, ONNX Runtime, and uvicorn where the server starts.
"""
