from careflow_storage.usage import *  # noqa: F403  # all of it has moved
