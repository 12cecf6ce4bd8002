"""Encoded data as shards: their reader and writer, the cache, prepared data, and local and remote storage."""
