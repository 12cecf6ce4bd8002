"""How good the continuations of a trained model are, beside the originals."""
