"""The facts that can stop tracking. pymongo's own exceptions never leave the store modules."""


class TrackingError(Exception):
    """Anything that tracking raises on purpose."""


class TrackingUnavailable(TrackingError):
    """MongoDB is away or past the deadline: nothing was recorded, and asking again is safe."""


class StorageRefused(TrackingUnavailable):
    """MongoDB refuses a write until its operator changes what the message names."""


class MongoNotConfigured(TrackingError):
    """There is no MongoDB to use; the message is one sentence that says what to set."""
