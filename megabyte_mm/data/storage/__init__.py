"""Where encoded data lie: shards and their index, the cache, remote storage, prepared data."""
