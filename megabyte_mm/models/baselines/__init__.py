"""The models that MEGABYTE is compared with: a byte Transformer and PerceiverAR."""
